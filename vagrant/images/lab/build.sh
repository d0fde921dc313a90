#!/bin/bash
# Makes one version of the lab image (family "web"): a read-only root, kernel and initramfs from Debian packages, in seconds.
# Usage: build.sh --version V --out DIR [--flavour good|panic|no-sshd|dies-after:SECONDS] [--no-cache] [--refresh]
#   DIR/V is the image folder. The same recipe and packages give the same bytes. --no-cache makes everything again (the
#   packages stay); --refresh looks for newer packages. README.md beside this file says what a guest of this image does.
set -euo pipefail
unset SOURCE_DATE_EPOCH
export LC_ALL=C TZ=UTC
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../lib.sh
. "$here/../../lib.sh"

version='' flavour=good out='' use_cache=1 refresh=0
while [ $# -gt 0 ]; do
  case $1 in
    --version) version=${2-}; shift ;;
    --flavour) flavour=${2-}; shift ;;
    --out) out=${2-}; shift ;;
    --no-cache) use_cache=0 ;;
    --refresh) refresh=1 ;;
    *) die "unknown option \"$1\"; usage: build.sh --version V --out DIR [--flavour good|panic|no-sshd|dies-after:SECONDS]" ;;
  esac
  [ $# -eq 0 ] || shift
done
[[ $version =~ ^[0-9]+[a-z0-9.-]*$ ]] || die "--version \"$version\": a number first, then small letters, digits, dots and dashes"
[[ $flavour =~ ^(good|panic|no-sshd|dies-after:[0-9]+)$ ]] || die "--flavour \"$flavour\" is none of good, panic, no-sshd, dies-after:SECONDS"
[ -n "$out" ] || die "--out DIR is missing"

roots=(dropbear-bin qemu-guest-agent e2fsprogs)
number=${version%%[!0-9]*}
epoch=$((1793491200 + 86400 * 10#$number)) # 2026-11-01 and a day for each version: the date of the recipe, not of the build
mapfile -t recipe < <(find "$here" "$here/../../lib.sh" -type f ! -name '*.md' | sort)
debs=$cache/debs/lab
work=''
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

# Packages, once: their names, versions and hashes are in the folder's "list", which the key covers.
fetch() {
  local new=$debs.new kernel deb libraries
  [ $refresh = 1 ] || [ ! -s "$debs/list" ] || return 0
  have_lists || refresh_lists
  kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends:/ {print $2; exit}')
  [ -n "$kernel" ] || die "apt knows no linux-image-cloud-amd64; this recipe needs Debian 12 or later on amd64"
  say "fetching $kernel and what the guest needs"
  rm -rf "$new"
  mapfile -t libraries < <(closure "${roots[@]}" | grep -E '^z?lib')
  download "$new" "$kernel" busybox-static tree "${roots[@]}" "${libraries[@]}"
  for deb in "$new"/*.deb; do
    printf '%s %s %s\n' "$(dpkg-deb -W --showformat='${Package} ${Version}' "$deb")" "${deb##*/}" "$(sha "$deb")"
  done | sort >"$new/list"
  rm -rf "$debs"
  mv "$new" "$debs"
}

# unpack NAME-PATTERN DIR : the one cached package of that name, checked against the list.
unpack() {
  local name file want
  read -r name _ file want < <(grep -E "^$1 " "$debs/list") || die "$debs/list names no package $1; run with --refresh"
  [ "$(sha "$debs/$file")" = "$want" ] || die "$debs/$file is not what was fetched; run with --refresh"
  dpkg-deb -x "$debs/$file" "$2"
  used+=("$name")
}

# install_binary FILE DEST : with every library it loads, found among the unpacked packages only.
install_binary() {
  local tree=$work/tree line lib
  install -D "$1" "$base/root/$2"
  while read -r line; do
    lib=$(awk '/=> \// {print $3}' <<<"$line")
    [ -n "$lib" ] || continue
    [[ $lib = "$tree"/* ]] || die "$1 needs ${lib##*/}, which no fetched package holds; run with --refresh"
    install -D -m 755 "$(readlink -f "$lib")" "$base/root/usr/lib/x86_64-linux-gnu/${lib##*/}"
    needed+=("$(basename "$(readlink -f "$lib")")")
  done < <("$loader" --library-path "$tree/lib/x86_64-linux-gnu:$tree/usr/lib/x86_64-linux-gnu" --list "$1")
}

# add_module NAME : into the initramfs, after the modules it depends on; one built into the kernel is no file.
add_module() {
  local file needs name=${1//-/_}
  file=$(find "$kernel_tree" \( -name "$name.ko*" -o -name "${name//_/-}.ko*" \) -print -quit)
  [ -n "$file" ] && [ ! -e "$ir/modules/$name.ko" ] || return 0
  case $file in
    *.xz) xz -dc "$file" >"$ir/modules/$name.ko" ;;
    *) cp "$file" "$ir/modules/$name.ko" ;;
  esac
  for needs in $(tr '\0' '\n' <"$ir/modules/$name.ko" | sed -n 's/^depends=//p' | tr , ' '); do add_module "$needs"; done
  echo "$name" >>"$ir/modules/order"
}

kernel_and_initramfs() {
  local ir=$base/initramfs kernel_tree=$work/kernel module
  unpack 'linux-image-[0-9][^ ]*' "$kernel_tree"
  cp "$kernel_tree"/boot/vmlinuz-* "$base/vmlinuz"
  mkdir -p "$ir"/{bin,modules,proc,sys,dev,newroot}
  cp "$busybox" "$ir/bin/"
  install -m 755 "$here/initramfs-init" "$ir/init"
  while read -r module; do add_module "$module"; done <"$here/modules"
  find "$ir" -exec touch -h -d @1793491200 {} +
  (cd "$ir" && find . | sort | cpio -o -H newc -R 0:0 --reproducible --quiet) >"$base/initrd.img"
  rm -rf "$ir"
}

# What all versions share: kernel, initramfs, a root without a name.
make_base() {
  local used=() needed=() applet busybox deb lib link loader package_file
  mkdir -p "$base/root" "$work/tree"
  while read -r package_file _; do
    case $package_file in linux-image-* | tree) ;; *) unpack "$package_file" "$work/tree" ;; esac
  done <"$debs/list"
  used=() # what was unpacked is not what is used: counted anew from here
  loader=$(find "$work/tree" -name 'ld-linux-x86-64.so.2' -print -quit)
  [ -x "$loader" ] || die "libc6 was not fetched; run with --refresh"
  busybox=$(find "$work/tree" -path '*bin/busybox' -type f -print -quit)
  [ -x "$busybox" ] || die "busybox-static was not fetched; run with --refresh"
  kernel_and_initramfs

  mkdir -p "$base"/root/{dev,proc,sys,run,tmp,var,root,data,usr/{bin,sbin,lib/x86_64-linux-gnu,lib64},etc/anew}
  for link in bin sbin lib lib64; do ln -s usr/$link "$base/root/$link"; done
  install -D "$(readlink -f "$loader")" "$base/root/usr/lib64/ld-linux-x86-64.so.2"
  cp "$busybox" "$base/root/usr/bin/"
  for applet in $("$busybox" --list); do
    case $applet in busybox | mke2fs | init | shutdown) ;; *) ln -s busybox "$base/root/usr/bin/$applet" ;; esac
  done
  ln -s ../bin/busybox "$base/root/usr/sbin/init"
  for applet in poweroff reboot halt; do ln -s ../bin/busybox "$base/root/usr/sbin/$applet"; done
  for applet in usr/sbin/dropbear usr/sbin/qemu-ga usr/bin/dropbearkey; do install_binary "$work/tree/$applet" $applet; done
  install_binary "$(find "$work/tree" -name dropbearconvert -type f -print -quit)" usr/bin/dropbearconvert
  install_binary "$(find "$work/tree" -path '*sbin/mke2fs' -print -quit)" usr/sbin/mkfs.ext4
  cp "$work/tree/etc/mke2fs.conf" "$base/root/etc/"
  cp -r "$here"/root/sbin "$here"/root/lib "$base/root/usr/"
  cp -r "$here"/root/etc/. "$base/root/etc/"
  static_etc "$base/root/etc"

  mkdir "$base/extra"
  unpack tree "$base/extra"
  used=("${used[0]}" busybox-static "${roots[@]}" libc6)
  for lib in "${needed[@]}"; do
    deb=$(for_library "$lib") && used+=("$deb")
  done
  printf '%s\n' "${used[@]}" | sort -u | while read -r deb; do awk -v p="$deb" '$1 == p {print $1, $2}' "$debs/list"; done >"$base/packages"
}

# for_library FILE : which fetched package brought it.
for_library() {
  local name file
  while read -r name _ file _; do
    [[ $name =~ ^z?lib ]] || continue
    [ -e "$base/.$name" ] || dpkg-deb -c "$debs/$file" >"$base/.$name"
    if grep -q "/$1\$" "$base/.$name"; then echo "$name"; return; fi
  done <"$debs/list"
  return 1
}

static_etc() {
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$1/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/group"
  printf '/bin/sh\n' >"$1/shells"
  printf '127.0.0.1 localhost\n' >"$1/hosts"
  printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$1/nsswitch.conf"
  ln -s /run/resolv.conf "$1/resolv.conf"
  ln -s /proc/self/mounts "$1/mtab"
}

# make_version DEST : one image folder from the base.
make_version() {
  # no_timer_check: on a busy machine without KVM the kernel's count of timer ticks comes out wrong, and it panics at boot.
  # An image that is broken on purpose is dated a month back, so that no plan goes to it unless it is named.
  local built=$epoch
  [ "$flavour" = good ] || built=$((epoch - 30 * 86400))
  local root=$work/root dest=$1 cmdline='console=ttyS0 quiet panic=1 no_timer_check mitigations=off'
  cp -a "$base/root" "$root"
  mkdir -p "$dest"
  { cat "$base/packages"; echo "anew-lab $version"; } >"$dest/packages.txt"
  if [ $((10#$number)) -ge 2 ]; then
    install -D "$base/extra/usr/bin/tree" "$root/usr/bin/tree"
    awk '$1 == "tree" {print $1, $2}' "$debs/list" >>"$dest/packages.txt"
    printf 'This is version %s of the lab image.\n' "$version" >"$root/etc/motd"
  fi
  sort -o "$dest/packages.txt" "$dest/packages.txt"
  printf 'ID=anew-lab\nNAME="anew lab"\nPRETTY_NAME="anew lab image, version %s"\nVERSION_ID=%s\nIMAGE_ID=web\nIMAGE_VERSION=%s\n' \
    "$version" "$version" "$version" >"$root/etc/os-release"
  echo "${flavour/:/ }" >"$root/etc/anew/flavour"
  if [ "$flavour" = panic ]; then rm "$root/usr/sbin/init"; install -m 755 "$here/panic-init" "$root/usr/sbin/init"; fi
  chmod -R go-w,a+rX "$root"
  mksquashfs "$root" "$dest/root.squashfs" -all-root -noappend -no-progress -quiet -no-xattrs -comp lz4 \
    -mkfs-time $epoch -all-time $epoch >/dev/null
  cp "$base/vmlinuz" "$base/initrd.img" "$dest/"
  {
    printf 'family = "web"\nversion = "%s"\nbuilt_at = %s\nkind = "squashfs"\nroot = "root.squashfs"\n' \
      "$version" "$(date -u -d @$built +%Y-%m-%dT%H:%M:%SZ)"
    printf 'boot = { kernel = "vmlinuz", initrd = "initrd.img", cmdline = "%s" }\n' "$cmdline"
    # No key of the recipe in here: an edited comment must not make a catalogued version look altered.
    printf 'packages = "packages.txt"\nsource = "vagrant/images/lab, flavour %s"\n\n[files]\n' "$flavour"
    for file in initrd.img packages.txt root.squashfs vmlinuz; do file_entry "$dest" $file; done
  } >"$dest/image.toml"
}

# place FROM : copies, so that whoever spoils an image folder does not spoil the cache; appears whole or not at all.
place() {
  local half
  mkdir -p "$out"
  half=$(mktemp -d "$out/.$version.XXXXXX")
  cp --reflink=auto "$1"/* "$half/"
  chmod 755 "$half"
  rm -rf "${out:?}/$version"
  mv "$half" "$out/$version"
}

mkdir -p "$cache/debs" "$cache/lab"
exec 9>"$cache/lab/lock"
flock 9
fetch
key=$(key_of "${recipe[@]}")
key=$(printf '%s %s' "$key" "$(sha "$debs/list")" | sha256sum | cut -c1-16)
mkdir -p "$out"
if [ $use_cache = 1 ]; then
  made=$cache/lab/$key/${version}+${flavour/:/-} base=$cache/lab/$key/base
  if cmp -s "$made/image.toml" "$out/$version/image.toml"; then exit 0; fi
else
  made='' base=''
fi
if [ ! -e "$made/image.toml" ]; then
  need cpio mksquashfs dpkg-deb
  started=$(date +%s)
  work=$(mktemp -d "${TMPDIR:-/tmp}/anew-lab.XXXXXX")
  [ -n "$base" ] || base=$work/base
  if [ ! -e "$base/packages" ]; then
    rm -rf "$base"
    make_base
    # Bases of older recipes are of no more use.
    [ $use_cache = 0 ] || find "$cache/lab" -mindepth 1 -maxdepth 1 -type d -name '????????????????' ! -name "$key" -exec rm -rf {} +
  fi
  make_version "$work/made"
  if [ $use_cache = 1 ]; then
    rm -rf "$made"
    mv "$work/made" "$made"
  else
    made=$work/made
  fi
  say "image web/$version ($flavour) made in $(($(date +%s) - started)) s"
fi
place "$made"
