#!/bin/bash
# The part of build.sh that needs root rights: files of an image belong to root and to system users.
# Usage: compose.sh tree WORK      WORK/base.tar, WORK/kernel, WORK/ca.pem  ->  WORK/tree, WORK/packages
#        compose.sh root WORK TREE DEST EPOCH VERSION IMAGE-ID FLAVOUR   ->  DEST/rootfs.img
set -euo pipefail
export LC_ALL=C TZ=UTC
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../lib.sh
. "$here/../../lib.sh"

# keep_modules FROM TO : the modules that an image of this lab can use; the rest would be the larger part of it.
keep_modules() {
  local module file
  while read -r module; do
    case $module in '' | '#'*) continue ;; esac
    for file in $(modprobe -d "$1" -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" {print $2}'); do
      install -D -m 644 "$file" "$2/lib/modules/$release/${file#*/"$release"/}"
    done
  done < <(cat "$here/modules" "$here/modules.root"; cut -d' ' -f1 "$here/watchdogs")
  cp "$1/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$2/lib/modules/$release/"
  depmod -b "$2" "$release"
}

# trim : what a host that is never changed from within has no use for.
trim() {
  local pattern
  while read -r pattern; do
    case $pattern in '' | '#'*) continue ;; esac
    # shellcheck disable=SC2086 # patterns are meant to be expanded, below the tree only
    (cd "$tree" && rm -rf -- $pattern)
  done <"$here/trimmed"
  drop_libraries
}

# drop_libraries : those that nothing left in the tree is linked with; round after round, as libraries need libraries.
# Kept without being named by anybody: name services, PAM, OpenSSL's modules, and what systemd opens by itself when it needs it.
drop_libraries() {
  local lib needed dropped=1 dir=$tree/usr/lib/x86_64-linux-gnu
  while [ $dropped -gt 0 ]; do
    dropped=0
    # readelf complains of scripts, which need none.
    needed=$(find "$tree/usr" -type f \( -perm -u+x -o -name '*.so*' \) -print0 | { xargs -0 readelf -d 2>/dev/null || true; } |
      sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u)
    for lib in "$dir"/lib*.so.*; do
      [ -e "$lib" ] || continue
      case ${lib##*/} in libnss_* | libcryptsetup* | libkmod* | libgcc_s*) continue ;; esac
      is_needed "${lib##*/}" || { rm -f "$lib" && dropped=$((dropped + 1)); }
    done
  done
  find "$dir" -xtype l -name 'lib*' -delete
}

# is_needed FILE : a library is asked for by its soname, which is a link to the file or the file itself.
is_needed() {
  local name
  [ -L "$dir/$1" ] && { grep -qxF "$1" <<<"$needed" || return 1; return 0; }
  for name in "$1" $(find "$dir" -maxdepth 1 -lname "$1" -printf '%f '); do grep -qxF "$name" <<<"$needed" && return 0; done
  return 1
}

configure() {
  local unit units=$tree/etc/systemd/system
  cp -r "$here"/root/. "$tree/"
  chmod -R go-w "$tree"/usr/lib/anew "$tree"/etc
  mkdir -p "$tree"/{data,efi,boot} "$tree/usr/lib/anew/boot"
  cp "$work/ca.pem" "$tree/usr/lib/anew/"
  install -m 755 "$helper" "$tree/usr/bin/anew-host"
  cp "$work"/boot/* "$here/layout.sfdisk" "$here/grub.cfg" "$tree/usr/lib/anew/boot/"
  cp "$work/packages" "$tree/usr/lib/anew/packages"
  sed -e 's/^bootloader=grub$/bootloader=noop/' -e '/^grubenv=/d' "$tree/etc/rauc/system.conf" >"$tree/usr/lib/anew/rauc-sdboot.conf"
  : >"$tree/etc/machine-id"
  printf '127.0.0.1 localhost\n' >"$tree/etc/hosts"
  sed -i 's/^root:[^:]*:/root:*:/' "$tree/etc/shadow"
  while read -r unit; do ln -sfn /dev/null "$units/$unit"; done <"$here/masked"
  mkdir -p "$units/multi-user.target.wants"
  for unit in anew-give-back anew-web; do ln -sfn "../$unit.service" "$units/multi-user.target.wants/$unit.service"; done
  ln -sfn /lib/systemd/system/systemd-networkd.service "$units/multi-user.target.wants/systemd-networkd.service"
  ln -sfn /lib/systemd/system/multi-user.target "$units/default.target"
}

initrd() {
  local dir=$work/initrd module file
  mkdir -p "$dir"/{bin,proc,sys,dev,run,sysroot,modules}
  cp "$(find "$tree" -path '*bin/busybox' -type f -print -quit)" "$dir/bin/busybox"
  install -m 755 "$here/initrd-init" "$dir/init"
  while read -r module; do
    for file in $(modprobe -d "$tree" -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" {print $2}'); do
      [ -e "$dir/modules/${file##*/}" ] || { cp "$file" "$dir/modules/" && basename "$file" .ko >>"$dir/modules/order"; }
    done
  done <"$here/modules"
  # Only those that this kernel has. watchdog.ko is what the others stand on.
  while read -r module parameter; do
    file=$(find "$tree/lib/modules/$release" -name "$module.ko" -print -quit)
    [ -n "$file" ] && cp "$file" "$dir/modules/" && echo "$module $parameter" >>"$dir/modules/watchdogs"
  done <"$here/watchdogs" || true
  # What the others stand on, and what keeps the last words of a kernel in the firmware's variables.
  find "$tree/lib/modules/$release" \( -name watchdog.ko -o -name efi-pstore.ko \) -exec cp {} "$dir/modules/" \;
  grep -q . "$dir/modules/watchdogs" || die "this kernel has no watchdog that the initramfs could arm"
  find "$dir" -exec touch -h -d @1793491200 {} +
  (cd "$dir" && find . | sort | cpio -o -H newc -R 0:0 --reproducible --quiet) | lz4 -l -9 -q >"$tree/boot/initrd.img"
}

make_tree() {
  local release
  mkdir "$tree"
  tar -C "$tree" --exclude='./dev/*' -xf "$work/base.tar"
  { dpkg-query --admindir="$tree/var/lib/dpkg" -W -f '${Package} ${Version}\n'; cat "$work/kernel-package"; } | sort >"$work/packages"
  trim
  release=$(basename "$work"/kernel/lib/modules/*)
  depmod -b "$work/kernel" "$release"
  keep_modules "$work/kernel" "$tree"
  configure
  cp "$work/kernel/boot/vmlinuz-$release" "$tree/boot/vmlinuz"
  initrd
}

# A flavour differs from the good image in one thing.
spoil() {
  local root=$1 flavour=$2 program
  case $flavour in
    good) ;;
    no-sshd) rm -f "$root/usr/sbin/sshd" ;;
    panic | hang)
      for program in "$root/usr/lib/systemd/systemd" "$root/usr/lib/anew/fast-init"; do
        rm -f "$program"
        install -m 755 "$here/flavours/$flavour" "$program"
      done
      ;;
    dies-after:*)
      rm -f "$root/usr/lib/anew/web"
      sed "s/@seconds@/${flavour#*:}/" "$here/flavours/dies-after" >"$root/usr/lib/anew/web"
      chmod 755 "$root/usr/lib/anew/web"
      ;;
    *) die "no such flavour: $flavour" ;;
  esac
}

# Stored, not packed: GRUB and an emulated processor read it faster so. The bundle is what is packed.
make_root() {
  local from=$1 dest=$2 epoch=$3 version=$4 id=$5 flavour=$6 root=$work/root
  cp -al "$from" "$root"
  rm -f "$root/usr/lib/os-release"
  printf '%s\n' "$version" >"$root/usr/lib/anew/version"
  printf '%s\n' "$id" >"$root/usr/lib/anew/image-id"
  sed '/^IMAGE_/d' "$from/usr/lib/os-release" >"$root/usr/lib/os-release"
  printf 'IMAGE_ID=metal\nIMAGE_VERSION=%s\n' "$version" >>"$root/usr/lib/os-release"
  spoil "$root" "$flavour"
  mksquashfs "$root" "$dest/rootfs.img" -noappend -no-progress -quiet -no-xattrs -comp gzip -noI -noD -noF -noX \
    -mkfs-time "$epoch" -all-time "$epoch" >/dev/null
  chmod 644 "$dest/rootfs.img"
  rm -rf "$root"
}

need depmod modprobe lz4 cpio mksquashfs dpkg-query readelf
verb=$1 work=$2 tree=$2/tree helper=${ANEW_HELPER:-$repo/drivers/baremetal/anew-host}
shift 2
case $verb in
  tree) make_tree ;;
  root) make_root "$@" ;;
esac
