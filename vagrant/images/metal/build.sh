#!/bin/bash
# Makes one version of the bare-metal image (family "metal"): Debian 12 with a read-only root in a signed RAUC bundle.
# Usage: build.sh --version V --out DIR [--flavour good|panic|no-sshd|hang|dies-after:SECONDS] [--keys DIR] [--no-cache] [--refresh]
#   DIR/V is the image folder. --keys DIR holds ca.pem, sign.pem and sign.key of your own; without it a throw-away authority
#   is made in the cache. --no-cache makes all but the packages again; --refresh looks for newer packages. Root rights are
#   needed (sudo is used). docs/metal-image.md says what an image must have, README.md what this one is.
set -euo pipefail
unset SOURCE_DATE_EPOCH
export LC_ALL=C TZ=UTC
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../lib.sh
. "$here/../../lib.sh"

usage='usage: build.sh --version V --out DIR [--flavour good|panic|no-sshd|hang|dies-after:SECONDS] [--keys DIR]'
version='' flavour=good out='' keys='' use_cache=1 refresh=0
while [ $# -gt 0 ]; do
  case $1 in
    --version) version=${2-}; shift ;;
    --flavour) flavour=${2-}; shift ;;
    --out) out=${2-}; shift ;;
    --keys) keys=${2-}; shift ;;
    --no-cache) use_cache=0 ;;
    --refresh) refresh=1 ;;
    *) die "unknown option \"$1\"; $usage" ;;
  esac
  [ $# -eq 0 ] || shift
done
[[ $version =~ ^[0-9]+[a-z0-9.-]*$ ]] || die "--version \"$version\": a number first, then small letters, digits, dots and dashes"
[[ $flavour =~ ^(good|panic|no-sshd|hang|dies-after:[0-9]+)$ ]] || die "--flavour \"$flavour\" is none of good, panic, no-sshd, hang, dies-after:SECONDS"
[ -n "$out" ] || die "--out DIR is missing"

suite=bookworm
packages=systemd-sysv,udev,dbus,openssh-server,rauc,rauc-service,squashfs-tools,grub-common,iproute2,kmod,e2fsprogs,fdisk,dosfstools,curl,zstd,busybox-static
number=${version%%[!0-9]*}
epoch=$((1793491200 + 86400 * 10#$number)) # 2026-11-01 and a day for each version: the date of the recipe, not of the build
# An image that is broken on purpose is dated a month back, so that no plan goes to it unless it is named.
built=$epoch
[ "$flavour" = good ] || built=$((epoch - 30 * 86400))
helper=$repo/drivers/baremetal/anew-host
[ -e "$helper" ] || helper=$here/stub-host
store=$cache/metal
work=''
trap '[ -z "$work" ] || as_root rm -rf "$work"' EXIT

# The sources of this machine that serve the suite, so that a mirror or proxy set up here is used here too.
sources() { grep -ls "$suite" /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources || true; }

# Packages, once: a tar of the installed base, and the kernel unpacked but never installed (its scripts would make an initramfs).
fetch() {
  local files kernel new=$store/base.new
  key=$(printf '%s %s' "$packages" "$suite" | sha256sum | cut -c1-16)
  base=$store/base-$key
  [ $refresh = 1 ] || [ ! -s "$base/list" ] || return 0
  need mmdebstrap dpkg-deb
  have_lists || refresh_lists
  mapfile -t files < <(sources)
  [ ${#files[@]} -gt 0 ] || die "no file under /etc/apt names the suite $suite; this recipe makes a Debian 12 host"
  say "fetching Debian packages for the bare-metal image; half a minute to a few, once"
  as_root rm -rf "$new"
  mkdir -p "$new"
  kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends:/ {print $2; exit}')
  [ -n "$kernel" ] || die "apt knows no linux-image-cloud-amd64; this recipe needs Debian 12 or later on amd64"
  download "$new" "$kernel"
  apt-config dump Acquire | grep -E '::(http|https|Check|Retries)' >"$new/apt.conf" || true
  as_root env TMPDIR="$new" mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" --aptopt="$new/apt.conf" \
    --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    "$suite" "$new/base.tar" "${files[@]}" >"$new/log" 2>&1 || { tail -n 20 "$new/log" >&2; die "mmdebstrap failed: see its lines above"; }
  as_root chmod 644 "$new/base.tar"
  (cd "$new" && sha256sum base.tar ./*.deb) >"$new/list"
  as_root rm -rf "$base"
  mv "$new" "$base"
}

# The authority that bundles are signed under: the user's, or one of this cache folder that nobody else must ever trust.
authority() {
  local file new=$store/keys.new
  if [ -n "$keys" ]; then
    for file in ca.pem sign.pem sign.key; do [ -s "$keys/$file" ] || die "--keys $keys: there is no $file"; done
    return
  fi
  keys=$store/keys
  [ -s "$keys/sign.pem" ] && return
  need openssl
  rm -rf "$new"
  (umask 077 && mkdir -p "$new")
  (
    cd "$new"
    exec 2>log
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout ca.key -out ca.pem -subj "/O=anew/CN=throw-away authority of a lab"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout sign.key -out sign.csr -subj "/O=anew/CN=bundles of a lab"
    printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=emailProtection\n' >extensions
    openssl x509 -req -in sign.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile extensions -out sign.pem
  ) || { tail -n 5 "$new/log" >&2; die "openssl could not make the lab's keys: see its lines above"; }
  rm -rf "$keys"
  mv "$new" "$keys"
}

# little VALUE BYTES : VALUE in little-endian bytes.
little() {
  local value=$1 count=$2 text=''
  for ((; count > 0; count--)); do
    text+=$(printf '\\x%02x' $((value & 255)))
    value=$((value >> 8))
  done
  printf '%b' "$text"
}

# boot_files DEST : loaders as they are written to a disk of layout.sfdisk, so that a first install needs only dd and cp.
# boot.img's place of core.img, and core.img's list of its own sectors, are what grub-bios-setup would fill in.
boot_files() {
  local dest=$1 sectors modules=(part_gpt fat squash4 linux loadenv normal echo test configfile regexp reboot minicmd probe sleep terminal serial)
  mkdir -p "$dest"
  grub-mkimage -O i386-pc -p '(,gpt2)/grub' -o "$dest/core.img" "${modules[@]}" biosdisk
  grub-mkimage -O x86_64-efi -p '/grub' -o "$dest/grubx64.efi" "${modules[@]}"
  cp /usr/lib/systemd/boot/efi/systemd-bootx64.efi "$dest/"
  head -c 440 /usr/lib/grub/i386-pc/boot.img >"$dest/boot.img"
  sectors=$((($(stat -c %s "$dest/core.img") + 511) / 512))
  [ $sectors -lt 2048 ] || die "GRUB's core.img does not fit in the first partition"
  little 2048 8 | dd of="$dest/boot.img" bs=1 seek=$((0x5c)) conv=notrunc status=none
  printf '\x90\x90' | dd of="$dest/boot.img" bs=1 seek=$((0x66)) conv=notrunc status=none
  { little 2049 8; little $((sectors - 1)) 2; little $((0x820)) 2; } | dd of="$dest/core.img" bs=1 seek=$((0x1f4)) conv=notrunc status=none
}

# make_tree DEST : what all versions share.
make_tree() {
  say "making the bare-metal base"
  mkdir "$work/boot" "$work/kernel"
  (cd "$base" && sha256sum --quiet -c list) || die "$base is not what was fetched; run with --refresh"
  ln -s "$base/base.tar" "$work/base.tar"
  dpkg-deb -x "$base"/linux-image-*.deb "$work/kernel"
  dpkg-deb -W --showformat='${Package} ${Version}\n' "$base"/linux-image-*.deb >"$work/kernel-package"
  cp "$keys/ca.pem" "$work/ca.pem"
  boot_files "$work/boot"
  as_root env ANEW_HELPER="$helper" "$here/compose.sh" tree "$work"
  as_root rm -rf "$1"
  mkdir -p "$1"
  mv "$work/tree" "$1/tree"
  as_root mv "$work/packages" "$1/packages"
}

# make_version DEST : one image folder.
make_version() {
  local dest=$1 bundle=$work/bundle file id
  id=metal-$version-$(printf '%s %s %s' "$key" "$version" "$flavour" | sha256sum | cut -c1-8)
  mkdir -p "$dest" "$bundle"
  as_root "$here/compose.sh" root "$work" "$shared/tree" "$bundle" $epoch "$version" "$id" "$flavour"
  { cat "$shared/packages"; echo "anew-metal $version"; } | sort >"$dest/packages.txt"
  printf '[update]\ncompatible=anew-metal\nversion=%s\n\n[bundle]\nformat=verity\n\n[image.rootfs]\nfilename=rootfs.img\n' \
    "$version" >"$bundle/manifest.raucm"
  rauc --cert="$keys/sign.pem" --key="$keys/sign.key" --mksquashfs-args='-comp zstd -Xcompression-level 5' \
    bundle "$bundle" "$dest/root.raucb" >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; die "rauc could not make the bundle: see its lines above"; }
  {
    printf 'family = "metal"\nversion = "%s"\nbuilt_at = %s\nkind = "rauc"\nroot = "root.raucb"\n' \
      "$version" "$(date -u -d @$built +%Y-%m-%dT%H:%M:%SZ)"
    # No key of the recipe in here: an edited comment must not make a catalogued version look altered.
    printf 'packages = "packages.txt"\nsource = "vagrant/images/metal, flavour %s"\n\n[files]\n' "$flavour"
    for file in packages.txt root.raucb; do file_entry "$dest" $file; done
  } >"$dest/image.toml"
}

# place FROM : copies, so that whoever spoils an image folder does not spoil the cache; appears whole or not at all.
place() {
  local half
  half=$(mktemp -d "$out/.$version.XXXXXX")
  cp --reflink=auto "$1"/* "$half/"
  chmod 755 "$half"
  rm -rf "${out:?}/$version"
  mv "$half" "$out/$version"
}

mkdir -p "$store" "$out"
exec 9>"$store/lock"
flock 9
fetch
authority
mapfile -t recipe < <(find "$here" "$here/../../lib.sh" "$helper" -type f ! -name '*.md' ! -name disk.sh | sort)
key=$(printf '%s %s %s' "$(key_of "${recipe[@]}")" "$(sha "$base/list")" "$(cat "$keys/ca.pem" "$keys/sign.pem" | sha256sum)" | sha256sum | cut -c1-16)
shared=$store/tree-$key
made=$store/made-$key/${version}+${flavour/:/-}
if [ $use_cache = 1 ] && [ -e "$made/image.toml" ] && cmp -s "$made/image.toml" "$out/$version/image.toml"; then exit 0; fi
if [ $use_cache = 0 ] || [ ! -e "$made/image.toml" ]; then
  need mksquashfs rauc grub-mkimage
  started=$(date +%s)
  work=$(mktemp -d "$store/work.XXXXXX")
  chmod 755 "$work"
  if [ $use_cache = 0 ] || [ ! -e "$shared/packages" ]; then
    make_tree "$shared"
    # What older recipes made is of no more use.
    find "$store" -mindepth 1 -maxdepth 1 \( -name 'tree-*' -o -name 'made-*' \) ! -name "*-$key" | while read -r old; do as_root rm -rf "$old"; done
  fi
  make_version "$work/made"
  rm -rf "$made"
  mkdir -p "${made%/*}"
  mv "$work/made" "$made"
  say "image metal/$version ($flavour) made in $(($(date +%s) - started)) s"
fi
place "$made"
