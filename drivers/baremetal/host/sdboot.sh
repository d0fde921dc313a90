# --- backend sdboot: systemd-boot. An entry's name counts its tries; the highest version that has a try left boots.
# No variable of the firmware is written: what boots next is told by files alone.

sd_entry() { ls "$ENTRIES" 2>/dev/null | grep -E "^anew-$1(\\+[0-9]+(-[0-9]+)?)?\\.conf\$" | sort -r | head -n 1; }
sd_version() { sed -n 's/^version //p' "$ENTRIES/$1" 2>/dev/null | grep -E '^[0-9]{1,9}$' | head -n 1; }

# sd_spent NAME : no try is left, so it is taken only if there is nothing else.
sd_spent() { case $1 in *+0.conf | *+0-*.conf) ;; *) return 1 ;; esac; }

# sd_primary : the slot that boots next.
sd_primary() {
  first=''
  best=-1
  for slot in A B; do
    entry=$(sd_entry "$slot")
    [ -n "$entry" ] && ! sd_spent "$entry" || continue
    version=$(sd_version "$entry")
    if [ "${version:-0}" -gt "$best" ]; then best=${version:-0} first=$slot; fi
  done
  echo "$first"
}

sdboot_words() {
  [ -d "$ENTRIES" ] || return 1
  for slot in A B; do sd_entry "$slot"; done
  [ "$BOOTED" = - ] || echo "selected anew-$BOOTED.conf"
  first=$(sd_primary)
  [ -z "$first" ] || echo "default $(sd_entry "$first")"
}

# sd_write SLOT SUFFIX : the slot's entry, above the other, under its new name; the old name goes last.
sd_write() {
  old=$(sd_entry "$1")
  top=0
  for slot in A B; do
    version=$(sd_version "$(sd_entry "$slot")")
    [ "${version:-0}" -le "$top" ] || top=$version
  done
  store "$ENTRIES/anew-$1$2.conf" "title anew $1
sort-key anew
version $((top + 1))
linux /anew/$1/vmlinuz
initrd /anew/$1/initrd.img
options $(first_line "$ESP/anew/$1/options")"
  if [ -n "$old" ] && [ "$old" != "anew-$1$2.conf" ]; then rm -f "$ENTRIES/$old" && flush "$ENTRIES"; fi
}

sd_remove() {
  entry=$(sd_entry "$1")
  [ -n "$entry" ] || return 0
  { rm -f "$ENTRIES/$entry" && flush "$ENTRIES"; } 2>/dev/null || fail failed "$ENTRIES/$entry cannot be removed"
}

sdboot_check_bundle() {
  command -v unsquashfs >/dev/null ||
    fail no-backend "there is no unsquashfs here, with which RAUC unpacks a bundle; install squashfs-tools in the image"
  rauc -c "$CONF" info "$bundle" >/dev/null 2>&1 ||
    fail bad-bytes "the bundle's signature does not hold against this host's keyring"
  sd_device "$IDLE"
}

# sd_device SLOT : its partition, into $device. What the initrd named is of the disk that booted; a label alone must be the only one.
sd_device() {
  device=$R/run/anew/disk/root$1
  if [ ! -e "$device" ]; then
    device=$R/dev/disk/by-partlabel/root$1
    [ -e "$device" ] || fail failed "there is no partition root$1"
    [ "$(blkid -c /dev/null -t "PARTLABEL=root$1" -o device 2>/dev/null | wc -l)" -le 1 ] ||
      fail wrong-disk "more than one partition is called root$1; rename those that are not of the disk that booted, or take their disk out"
  fi
  device=$(readlink -f "$device")
  # A killed install may have left it mounted there.
  umount "$RUN/slot" 2>/dev/null
  number=$(first_line "$R/sys/class/block/${device##*/}/dev")
  where=$(awk -v number="$number" -v device="$device" '
    $3 == number || index($0, " " device " ") { print $5; exit }' "$R/proc/self/mountinfo" 2>/dev/null)
  [ -z "$where" ] || fail wrong-disk "root$1 ($device) is mounted on $where, so it is no idle slot"
}

manifest() {
  awk -v key="$1" '
    /^\[/ { on = $0 == "[image.rootfs]" }
    on && index($0, key "=") == 1 { print substr($0, length(key) + 2) }' "$2"
}

sdboot_install() {
  # First of all the slot stops being one that could boot: from here on it is half written.
  sd_remove "$IDLE"
  from=$BUNDLES/extract
  rm -rf "$from"
  need_space "$(size_of "$bundle")"
  rauc -c "$CONF" extract "$bundle" "$from" >/dev/null 2>&1 || {
    rm -rf "$from"
    fail bad-bytes "rauc cannot unpack the bundle"
  }
  sum=$(manifest sha256 "$from/manifest.raucm")
  size=$(manifest size "$from/manifest.raucm")
  image=$(manifest filename "$from/manifest.raucm")
  is_hex "$sum" 64 && is_number "$size" && is_word "$image" 64 '._-' ||
    fail bad-bytes "the bundle's manifest names no image for rootfs"
  echo 'progress 40'
  dd if="$from/$image" of="$device" bs=1048576 conv=fsync,notrunc 2>/dev/null ||
    fail failed "the image cannot be written to slot $IDLE"
  echo 'progress 80'
  read_back "$device" "$size" "$sum" || fail bad-bytes "slot $IDLE reads back otherwise than it was written"
  rm -rf "$from"
  sd_kernel
  echo 'progress 100'
}

# sd_kernel : kernel and initrd of the slot go beside the loader, which reads nothing but the ESP.
sd_kernel() {
  mount_slot "$device" || fail failed "the image in slot $IDLE cannot be mounted"
  there=$ESP/anew/$IDLE
  found_id=$(first_line "$RUN/slot/usr/lib/anew/image-id")
  is_word "$found_id" 96 '._+:-' || found_id=-
  own=$(first_line "$RUN/slot/usr/lib/anew/cmdline")
  {
    mkdir -p "$there" && cp "$RUN/slot/boot/vmlinuz" "$there/vmlinuz" && cp "$RUN/slot/boot/initrd.img" "$there/initrd.img" &&
      flush "$there/vmlinuz" "$there/initrd.img"
  } 2>/dev/null
  ended=$?
  umount "$RUN/slot"
  [ "$ended" -eq 0 ] || fail no-space "kernel and initrd of slot $IDLE do not fit on the boot partition"
  store "$there/options" "$(sd_options "$own")"
}

# sd_options OWN : the image's own command line, else that of the boot that runs, with this slot's name and id.
sd_options() {
  id=$(blkid -s PARTUUID -o value "$device" 2>/dev/null)
  rest=$1
  [ -n "$rest" ] || rest=$(tr ' ' '\n' <"$R/proc/cmdline" | grep -Ev '^(rauc\.slot|anew\.(slot|root|env)|initrd|BOOT_IMAGE)=' | tr '\n' ' ')
  printable 1024 "rauc.slot=$IDLE ${id:+anew.root=$id }${rest% }"
}

sdboot_can_arm() { [ -s "$ESP/anew/$IDLE/options" ] || fail wrong-state "slot $IDLE has no kernel on the boot partition"; }

sdboot_next_boot() {
  entry=$(sd_entry "$1")
  case $2:$entry in
    trial:"anew-$1+1.conf") ;;
    trial:*) sd_write "$1" +1 ;;
    *) [ "$(sd_primary)" = "$1" ] || sd_write "$1" '' ;;
  esac
  [ "$(sd_primary)" = "$1" ] || fail failed "slot $1 did not become the one that boots next"
}

sdboot_bless() {
  if [ "$(sd_entry "$BOOTED")" != "anew-$BOOTED.conf" ] || [ "$(sd_primary)" != "$BOOTED" ]; then sd_write "$BOOTED" ''; fi
}

sdboot_reject() { sd_remove "$IDLE"; }

