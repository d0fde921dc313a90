#!/bin/bash
# Makes a Debian guest with real cloud-init, of the release this machine runs. A minute or two; then from the cache.
# Usage: build.sh --out DIR [--version V] [--no-cache]
#   DIR/V (V is 1 if not told) is the image folder: an ext4 disk without partitions, its kernel and initramfs started directly.
#   Newer packages come with "make clean". Root rights are needed (sudo is used): files of the guest belong to root.
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../lib.sh
. "$here/../../lib.sh"

version=1 out='' use_cache=1
while [ $# -gt 0 ]; do
  case $1 in
    --version) version=${2-}; shift ;;
    --out) out=${2-}; shift ;;
    --no-cache) use_cache=0 ;;
    *) die "unknown option \"$1\"; usage: build.sh --out DIR [--version V] [--no-cache]" ;;
  esac
  [ $# -eq 0 ] || shift
done
[[ $version =~ ^[0-9]+[a-z0-9.-]*$ ]] || die "--version \"$version\": a number first, then small letters, digits, dots and dashes"
[ -n "$out" ] || die "--out DIR is missing"

suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-}") || true
[ -n "$suite" ] || die "this recipe makes a guest of the running Debian release, and this machine runs no Debian release"
packages=systemd-sysv,udev,linux-image-cloud-amd64,initramfs-tools,openssh-server,qemu-guest-agent,cloud-init,iproute2,kmod,busybox
mapfile -t recipe < <(find "$here" -type f ! -name '*.md' | sort)
key=$(printf '%s %s %s' "$(key_of "${recipe[@]}")" "$suite" "$version" | sha256sum | cut -c1-16)
made=$cache/debian/$key
work=''
trap '[ -z "$work" ] || as_root rm -rf "$work"' EXIT

# The sources of this machine that serve the suite, so that a mirror or proxy set up here is used here too.
sources() { grep -ls "$suite" /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources || true; }

make_root() {
  local files
  mapfile -t files < <(sources)
  [ ${#files[@]} -gt 0 ] || die "no file under /etc/apt names the suite $suite; is the package source of this machine set up?"
  apt-config dump Acquire | grep -E '::(http|https|Check|Retries)' >"$work/apt.conf" || true
  as_root env TMPDIR="$work" mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
    --aptopt="$work/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --customize-hook="copy-in $here/files/etc /" --customize-hook="$here/customize.sh \"\$1\"" \
    "$suite" "$work/root" "${files[@]}" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "mmdebstrap failed: see its lines above"; }
}

# Kernel and initramfs leave the root: they are started directly, and would only make the disk larger.
make_disk() {
  local dest=$1 blocks
  as_root sh -c 'cat "$1"/boot/vmlinuz-* >"$2/vmlinuz"; cat "$1"/boot/initrd.img-* >"$2/initrd.img"; rm -f "$1"/boot/* "$1"/vmlinuz* "$1"/initrd.img*' \
    take "$work/root" "$dest"
  as_root dpkg-query --admindir="$work/root/var/lib/dpkg" -W -f '${Package} ${Version}\n' >"$dest/packages.txt"
  blocks=$(($(as_root du -s --block-size=1M "$work/root" | cut -f1) * 13 / 10 + 64))
  as_root env E2FSPROGS_FAKE_TIME="$epoch" mke2fs -q -t ext4 -L root -U 5f5bd0a4-7a65-4d5e-8a61-616e65770001 -E hash_seed=5f5bd0a4-7a65-4d5e-8a61-616e65770001 \
    -d "$work/root" "$dest/root.raw" "${blocks}M" >/dev/null
  as_root chown "$(id -u):$(id -g)" "$dest"/*
  chmod 644 "$dest"/*
}

write_manifest() {
  local dest=$1 file
  {
    printf 'family = "debian"\nversion = "%s"\nbuilt_at = %s\nkind = "raw"\nroot = "root.raw"\n' "$version" "$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)"
    printf 'boot = { kernel = "vmlinuz", initrd = "initrd.img", cmdline = "%s" }\n' "root=/dev/vda rw console=ttyS0 quiet panic=1 no_timer_check mitigations=off"
    printf 'packages = "packages.txt"\nsource = "vagrant/images/debian, suite %s"\n\n[files]\n' "$suite"
    for file in initrd.img packages.txt root.raw vmlinuz; do file_entry "$dest" $file; done
  } >"$dest/image.toml"
}

mkdir -p "$cache/debian" "$out"
exec 9>"$cache/debian/lock"
flock 9
if [ $use_cache = 1 ] && [ -e "$made/image.toml" ] && cmp -s "$made/image.toml" "$out/$version/image.toml"; then exit 0; fi
if [ $use_cache = 0 ] || [ ! -e "$made/image.toml" ]; then
  need mmdebstrap mke2fs
  started=$(date +%s)
  epoch=$started
  say "making debian/$version ($suite) with mmdebstrap; this takes a minute or two"
  work=$(mktemp -d "$cache/debian/work.XXXXXX")
  chmod 755 "$work"
  mkdir "$work/made"
  make_root
  make_disk "$work/made"
  write_manifest "$work/made"
  rm -rf "$made"
  mv "$work/made" "$made"
  find "$cache/debian" -mindepth 1 -maxdepth 1 -type d ! -name "$key" -exec rm -rf {} + 2>/dev/null || true
  say "image debian/$version made in $(($(date +%s) - started)) s"
fi
half=$(mktemp -d "$out/.$version.XXXXXX")
cp --reflink=auto --sparse=always "$made"/* "$half/"
chmod 755 "$half"
rm -rf "${out:?}/$version"
mv "$half" "$out/$version"
