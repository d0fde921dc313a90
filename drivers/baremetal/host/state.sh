# --- files, state, records

flush() { sync "$@" 2>/dev/null || sync; }
size_of() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }
sum_of() { sha256sum | cut -c 1-64; }

# data_mode : whether the file system that bundles and records are on can be written.
data_mode() {
  at=$(df -P "$DATA" 2>/dev/null | awk 'NR == 2 { print $NF }')
  if [ ! -d "$DATA" ] || [ -z "$at" ]; then echo absent; return; fi
  # On an A/B host /data is a folder of the image too: without its partition it is not there.
  if [ -z "$R" ] && [ "$at" = / ] && [ "$STATE" = /data/anew ]; then echo absent; return; fi
  awk -v at="$at" '$2 == at { o = $4 } END { print o ~ /^ro(,|$)/ ? "read-only" : "writable" }' /proc/self/mounts
}

data_free() { df -Pk "$DATA" 2>/dev/null | awk 'NR == 2 { n = $4 } END { printf "%.0f\n", n * 1024 }'; }

need_space() {
  [ "$(data_free)" -ge "$1" ] || fail no-space "$1 bytes are needed and $(data_free) are free on the data partition"
}

write_failed() {
  [ "$(data_mode)" = writable ] || fail read-only-data "the data partition cannot be written: $(data_mode)"
  [ "$(data_free)" -gt 8192 ] || fail no-space "the data partition is full, $1 could not be written"
  fail failed "$1 could not be written"
}

# store PATH TEXT : the file is the old one or the new one, whatever is cut when.
store() {
  {
    mkdir -p "${1%/*}" && printf '%s\n' "$2" >"$1.new" && flush "$1.new" && mv -f "$1.new" "$1" && flush "${1%/*}"
  } 2>/dev/null || { rm -f "$1.new" 2>/dev/null; write_failed "$1"; }
}

# first_line FILE : "" unless it ends with a line end.
first_line() { if [ -f "$1" ] && IFS= read -r line <"$1"; then printf '%s' "$line"; fi; }

field() {
  case $1 in
    number | born) [ "$2" = - ] || is_number "$2" ;;
    digest) [ "$2" = - ] || is_digest "$2" ;;
    version) [ "$2" = - ] || is_word "$2" 64 '._+-' ;;
    image_id) [ "$2" = - ] || is_word "$2" 96 '._+:-' ;;
    state) case $2 in writing | staged | armed | blessed | kept | rejected) ;; *) return 1 ;; esac ;;
    op) [ "$2" = - ] || is_hex "$2" 16 ;;
    rollout) [ "$2" = - ] || is_hex "$2" 8 || is_hex "$2" 16 ;;
    armed_boot) [ "$2" = - ] || is_uuid "$2" ;;
    bundle) [ "$2" = - ] || is_hex "$2" 64 ;;
    *) false ;;
  esac
}

# load_record SLOT : 0 and r_… are set; 1 there is none; 2 it does not parse.
load_record() {
  r_number=- r_digest=- r_version=- r_image_id=- r_state='' r_born=- r_op=- r_rollout=- r_armed_boot=- r_bundle=-
  [ -e "$STATE/slots/$1" ] || return 1
  record=$(first_line "$STATE/slots/$1")
  [ -n "$record" ] && [ ${#record} -le 600 ] || return 2
  # shellcheck disable=SC2086 # split into its words
  set -- $record
  [ $# -eq 10 ] || return 2
  for word in "$@"; do
    value=${word#*=}
    field "${word%%=*}" "$value" || return 2
    case $word in
      number=*) r_number=$value ;; digest=*) r_digest=$value ;; version=*) r_version=$value ;;
      image_id=*) r_image_id=$value ;; state=*) r_state=$value ;; born=*) r_born=$value ;; op=*) r_op=$value ;;
      rollout=*) r_rollout=$value ;; armed_boot=*) r_armed_boot=$value ;; bundle=*) r_bundle=$value ;;
    esac
  done
  [ -n "$r_state" ] || return 2
}

save_record() {
  set -- "$1" "number=$r_number digest=$r_digest version=$r_version image_id=$r_image_id state=$r_state" \
    "born=$r_born op=$r_op rollout=$r_rollout armed_boot=$r_armed_boot bundle=$r_bundle"
  store "$STATE/slots/$1" "$2 $3"
}

need_record() {
  load_record "$1"
  case $? in
    1) fail wrong-state "slot $1 has no record" ;;
    2) fail wrong-state "the record of slot $1 does not parse; install the slot again" ;;
  esac
}

need_number() { [ "$r_number" = "$NUMBER" ] || fail wrong-state "slot $1 holds incarnation $r_number, not $NUMBER"; }

# holds SLOT : whether it holds incarnation NUMBER.
holds() { load_record "$1" && [ "$r_number" = "$NUMBER" ]; }

# --- who may act: the lock, the epoch, the log

holder() {
  found=$(first_line "$RUN/lock")
  if is_hex "$found" 16; then echo "$found"; else echo 0000000000000000; fi
}

begin() {
  [ "$(data_mode)" = writable ] || plain_read_only || fail read-only-data "the data partition is $(data_mode): $DATA"
  { mkdir -p "$RUN" && true >>"$RUN/lock"; } 2>/dev/null || fail failed "$RUN cannot be written"
  exec 9>>"$RUN/lock"
  flock -w 5 9 || fail busy "operation $(holder) holds this host"
  printf '%s\n' "$OP" >"$RUN/lock"
  fence
  log="$STATE/log"
  printf '%s %s %s %s\n' "$(date +%s)" "$EPOCH" "$OP" "$*" >>"$log" 2>/dev/null
  if [ "$(wc -l <"$log" 2>/dev/null || echo 0)" -gt 400 ]; then store "$log" "$(tail -n 200 "$log")"; fi
}

# A plain host whose root was locked: its state is read-only as well, so a new epoch is remembered for this boot.
plain_read_only() { [ "$BACKEND" = none ] && [ "$VERB" = lock ] && EPOCH_FILE=$RUN/epoch; }

fence() {
  newest=0
  for file in "$STATE/epoch" "$RUN/epoch"; do
    [ -e "$file" ] || continue
    seen=$(first_line "$file")
    is_number "$seen" || fail wrong-state "$file holds no number; look at it, and write the epoch of the right controller there"
    [ "$seen" -le "$newest" ] || newest=$seen
  done
  [ "$EPOCH" -ge "$newest" ] || fail stale-epoch "epoch $newest has this host, and $EPOCH was sent"
  [ "$EPOCH" -eq "$newest" ] && [ -e "$EPOCH_FILE" ] || store "$EPOCH_FILE" "$EPOCH"
}

release() { exec 9>&-; }

# --- where this host is

cmdline() { tr ' ' '\n' <"$R/proc/cmdline" 2>/dev/null | sed -n "s/^$1=//p" | tail -n 1; }

detect() {
  BACKEND=none
  for ESP in "$R/efi" "$R/boot/efi" "$R/boot"; do
    ENTRIES=$ESP/loader/entries
    [ ! -d "$ENTRIES" ] || break
  done
  if [ -e "$R/run/ostree-booted" ] && command -v bootc >/dev/null 2>&1; then BACKEND=bootc
  elif grep -Eq '^bootloader=(grub|uboot|barebox|efi)$' "$CONF" 2>/dev/null; then BACKEND=rauc
  elif [ -d "$ENTRIES" ] && [ -e "$CONF" ]; then BACKEND=sdboot
  fi
  DATA=$R/data
  STATE=$DATA/anew
  case $BACKEND in none | bootc) DATA=$R/var/lib STATE=$R/var/lib/anew ;; esac
  BUNDLES=$STATE/bundles
  EPOCH_FILE=$STATE/epoch
  BOOTED=$(cmdline rauc.slot)
  [ -n "$BOOTED" ] || BOOTED=$(cmdline anew.slot)
  [ "$BACKEND" != bootc ] || BOOTED=$(bootc_booted)
  case $BOOTED in A) IDLE=B ;; B) IDLE=A ;; *) BOOTED=- IDLE=- ;; esac
  BOOT_ID=$(first_line "$R/proc/sys/kernel/random/boot_id")
  IMAGE_ID=$(first_line "$R/usr/lib/anew/image-id")
  [ "$BACKEND" != bootc ] || IMAGE_ID=$(bootc_digest booted)
  is_word "$IMAGE_ID" 96 '._+:-' || IMAGE_ID=-
}

need_slots() {
  [ "$BACKEND" != none ] || fail no-backend "this host has no RAUC, no systemd-boot with two slots and no bootc"
  [ "$BOOTED" != - ] || fail no-backend "it is not known which slot runs: the kernel's command line has no rauc.slot=A or B"
}

on_trial() { [ -e "$R/run/anew-trial" ]; }

