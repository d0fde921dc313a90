#!/bin/bash
# Makes an installed disk of a bare-metal host: layout.sfdisk, a boot loader, slot A with the image, its record, /data.
# Usage: disk.sh --image DIR --out FILE --name NAME --authorized-key FILE --host-key FILE [--boot grub|sdboot] [--extra WORDS]
#                [--ca FILE] [--server UUID] [--slot-size 192MiB] [--esp-size 64MiB] [--size 1GiB]
#   The disk boots under BIOS and UEFI (grub), or under UEFI only (sdboot). --extra: words for the kernel's command line, kept in
#   the boot environment. --ca: who signed the bundle; the lab's own authority if not told. --host-key none --server none: a disk
#   that many hosts are copied from; each makes its own host key at its first boot. No root rights are needed.
set -euo pipefail
export LC_ALL=C TZ=UTC MTOOLS_SKIP_CHECK=1
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../lib.sh
. "$here/../../lib.sh"

image='' out='' name='' login='' host_key='' boot=grub extra='' ca=$cache/metal/keys/ca.pem server='' slot_size=192MiB esp_size=64MiB size=1GiB
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || die "$1 wants a value"
  case $1 in
    --image) image=$2 ;;
    --out) out=$2 ;;
    --name) name=$2 ;;
    --authorized-key) login=$2 ;;
    --host-key) host_key=$2 ;;
    --boot) boot=$2 ;;
    --extra) extra=$2 ;;
    --ca) ca=$2 ;;
    --server) server=$2 ;;
    --slot-size) slot_size=$2 ;;
    --esp-size) esp_size=$2 ;;
    --size) size=$2 ;;
    *) die "unknown option \"$1\"; the head of this file lists them" ;;
  esac
  shift 2
done
[[ $name =~ ^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$ ]] || die "--name \"$name\": a host name of small letters, digits and dashes"
[[ $boot =~ ^(grub|sdboot)$ ]] || die "--boot \"$boot\" is neither grub nor sdboot"
[[ $extra =~ ^[A-Za-z0-9\ ._=/,:-]*$ ]] || die "--extra \"$extra\": words of letters, digits and . _ = / , : - only"
[ -n "$out" ] || die "--out FILE is missing"
for file in "$image/image.toml" "$image/root.raucb" "$login" "$host_key" "$ca"; do [ "$file" = none ] || [ -s "$file" ] || die "there is no \"$file\""; done
need sfdisk mkfs.fat mke2fs mmd mcopy grub-editenv rauc unsquashfs ssh-keygen
work=$(mktemp -d "${TMPDIR:-/tmp}/anew-disk.XXXXXX")
trap 'rm -rf "$work"' EXIT
disk=$work/disk.raw

# place_of NAME : first sector and number of sectors of a partition.
place_of() { sed -n "s/.*start= *\([0-9]*\), size= *\([0-9]*\),.*name=\"$1\".*/\1 \2/p" <<<"$table"; }

# guid_of NAME : its unique id, in small letters.
guid_of() { sed -n "s/.*uuid=\([0-9A-Fa-f-]*\),.*name=\"$1\".*/\1/p" <<<"$table" | tr A-F a-f; }

# put FILE NAME : the file's bytes to the start of a partition.
put() { dd if="$1" of="$disk" bs=1M seek="$(($(place_of "$2" | cut -d' ' -f1) * 512))" oflag=seek_bytes conv=notrunc,sparse status=none; }

lay_out() {
  truncate -s "${size/iB/}" "$disk"
  sed -e "s/@esp@/$esp_size/" -e "s/@slot@/$slot_size/" "$boot_dir/layout.sfdisk" | sfdisk -q "$disk"
  table=$(sfdisk -d "$disk")
}

fill_esp() {
  local sectors esp=$work/esp cmdline
  read -r _ sectors < <(place_of ESP)
  truncate -s $((sectors * 512)) "$esp"
  mkfs.fat -F 16 -n ESP "$esp" >/dev/null
  mmd -i "$esp" ::/EFI ::/EFI/BOOT
  if [ "$boot" = grub ]; then
    mcopy -i "$esp" "$boot_dir/grubx64.efi" ::/EFI/BOOT/BOOTX64.EFI
    grub-editenv "$work/grubenv" create
    grub-editenv "$work/grubenv" set ORDER="A B" A_OK=1 A_TRY=0 B_OK=0 B_TRY=0 extra="$extra"
    mmd -i "$esp" ::/grub
    mcopy -i "$esp" "$boot_dir/grub.cfg" "$work/grubenv" ::/grub/
    mcopy -i "$esp" "$work/grubenv" ::/grub/grubenv.spare
    dd if="$boot_dir/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
    dd if="$boot_dir/core.img" of="$disk" bs=512 seek=2048 conv=notrunc status=none
  else
    mmd -i "$esp" ::/loader ::/loader/entries ::/anew ::/anew/A ::/anew/B
    mcopy -i "$esp" "$boot_dir/systemd-bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
    printf 'timeout 0\neditor no\n' >"$work/loader.conf"
    # shellcheck source=/dev/null
    cmdline=$(. "$work/files/boot/cmdline" && echo "$cmdline")
    printf 'rauc.slot=A anew.root=%s %s%s\n' "$(guid_of rootA)" "$cmdline" "${extra:+ $extra}" >"$work/options"
    printf 'title anew A\nsort-key anew\nversion 1\nlinux /anew/A/vmlinuz\ninitrd /anew/A/initrd.img\noptions %s\n' \
      "$(cat "$work/options")" >"$work/anew-A.conf"
    mcopy -i "$esp" "$work/options" ::/anew/A/
    mcopy -i "$esp" "$work/loader.conf" ::/loader/
    mcopy -i "$esp" "$work/anew-A.conf" ::/loader/entries/
    mcopy -i "$esp" "$work/files/boot/vmlinuz" "$work/files/boot/initrd.img" ::/anew/A/
  fi
  put "$esp" ESP
}

fill_data() {
  local sectors data=$work/data id digest born
  id=$(cat "$work/files/usr/lib/anew/image-id")
  # The image's digest as the catalogue of this repository computes it.
  digest=$("$repo/.venv/bin/python" -c 'import sys; from fleet.images.manifest import read_manifest; print(read_manifest(sys.argv[1]).ref.digest)' "$image")
  born=$(date +%s)
  mkdir -p "$data"/anew/{slots,blessed,bundles} "$data"/state/etc/ssh/authorized_keys "$data/rauc"
  printf 'number=1 digest=%s version=%s image_id=%s state=blessed born=%s op=- rollout=- armed_boot=- bundle=%s\n' \
    "$digest" "$(cat "$work/files/usr/lib/anew/version")" "$id" "$born" "$(sha "$image/root.raucb")" >"$data/anew/slots/A"
  : >"$data/anew/blessed/$id"
  [ -n "$server" ] || server=$(cat /proc/sys/kernel/random/uuid)
  [ "$server" = none ] || echo "$server" >"$data/anew/server"
  echo 0 >"$data/anew/epoch"
  echo "$name" >"$data/state/etc/hostname"
  cp "$login" "$data/state/etc/ssh/authorized_keys/root"
  if [ "$host_key" != none ]; then
    cp "$host_key" "$data/state/etc/ssh/ssh_host_ed25519_key"
    chmod 600 "$data/state/etc/ssh/ssh_host_ed25519_key"
    ssh-keygen -y -f "$host_key" >"$data/state/etc/ssh/ssh_host_ed25519_key.pub"
  fi
  chmod 700 "$data/state" "$data/anew"
  read -r _ sectors < <(place_of data)
  truncate -s $((sectors * 512)) "$work/data.img"
  E2FSPROGS_LIBMAGIC_SUPPRESS=1 mke2fs -q -t ext4 -L data -E root_owner=0:0 -d "$data" "$work/data.img" >/dev/null
  # Files of whoever runs this must be root's on the host.
  [ "$(id -u)" = 0 ] || find "$data" -mindepth 1 -printf 'sif /%P uid 0\nsif /%P gid 0\n' | debugfs -w -f - "$work/data.img" >/dev/null 2>&1
  put "$work/data.img" data
}

rauc extract --keyring="$ca" "$image/root.raucb" "$work/bundle" >"$work/log" 2>&1 ||
  { tail -n 3 "$work/log" >&2; die "the bundle of $image cannot be read or is not signed under $ca: see above"; }
unsquashfs -q -n -d "$work/files" "$work/bundle/rootfs.img" /boot /usr/lib/anew >/dev/null
boot_dir=$work/files/usr/lib/anew/boot
lay_out
read -r _ sectors < <(place_of rootA)
[ "$(stat -c %s "$work/bundle/rootfs.img")" -le $((sectors * 512)) ] || die "the image is larger than a slot of $slot_size"
put "$work/bundle/rootfs.img" rootA
fill_esp
fill_data
mkdir -p "$(dirname "$out")"
cp --sparse=always "$disk" "$out.half"
mv "$out.half" "$out"
