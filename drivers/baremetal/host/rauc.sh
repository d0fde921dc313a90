# --- backend rauc: RAUC with GRUB. The image must have activate-installed=false (docs/host-protocol.md)

rauc_words() { timeout 15 rauc -c "$CONF" status --detailed --output-format=json; }

# rauc_load : its status as NAME='VALUE' lines; read with sed, never evaluated.
rauc_load() {
  timeout 20 rauc -c "$CONF" status --detailed --output-format=shell >"$TMP" 2>/dev/null ||
    fail not-ready "rauc does not answer yet; its service may still be starting"
  # Just after its start the service answers, and does not know yet what runs.
  [ "$(rauc_value SYSTEM_BOOTED_BOOTNAME)" = "$BOOTED" ] || fail not-ready "rauc does not know yet that slot $BOOTED runs"
}

rauc_value() { sed -n "s/^RAUC_$1='\\(.*\\)'\$/\\1/p" "$TMP" | head -n 1; }
rauc_index() { sed -n "s/^RAUC_SLOT_BOOTNAME_\\([0-9]*\\)='$1'\$/\\1/p" "$TMP" | head -n 1; }

# rauc_primary : the slot that boots next, as A or B; "" if RAUC cannot tell.
rauc_primary() {
  name=$(rauc_value BOOT_PRIMARY)
  count=0
  for word in $(rauc_value SYSTEM_SLOTS); do
    count=$((count + 1))
    if [ "$word" = "$name" ]; then rauc_value "SLOT_BOOTNAME_$count"; fi
  done
}

rauc_mark() {
  timeout 30 rauc -c "$CONF" status "$1" "$2" >/dev/null 2>&1 || fail failed "rauc status $1 $2 did not succeed"
}

rauc_check_bundle() {
  grep -q '^activate-installed=false$' "$CONF" ||
    fail no-backend "system.conf lacks activate-installed=false: an install would make the slot the one that boots"
  # RAUC can mark nothing in a torn environment, and an install must mark its slot bad before it writes.
  case $(env_state) in
    ok | -) ;;
    *)
      rauc_repair
      say repaired env
      ;;
  esac
  rauc_load
  rauc -c "$CONF" info --output-format=shell "$bundle" >"$TMP" 2>/dev/null ||
    fail bad-bytes "the bundle's signature does not hold against this host's keyring"
  wanted=$(sed -n "s/^RAUC_IMAGE_DIGEST_0='\\([0-9a-f]*\\)'\$/\\1/p" "$TMP")
}

rauc_install() {
  said=$(rauc_run) || {
    case $said in *'Already processing'*) fail busy "rauc is still at another install" ;; esac
    fail failed "rauc install: $said"
  }
  rauc_load
  index=$(rauc_index "$IDLE")
  device=$(rauc_value "SLOT_DEVICE_$index")
  sum=$(rauc_value "SLOT_STATUS_CHECKSUM_SHA256_$index")
  size=$(rauc_value "SLOT_STATUS_CHECKSUM_SIZE_$index")
  is_hex "$sum" 64 && is_number "$size" && [ "$sum" = "$wanted" ] || fail failed "rauc does not say what it wrote to slot $IDLE"
  read_back "$device" "$size" "$sum" || {
    rauc_mark mark-bad other
    fail bad-bytes "slot $IDLE reads back otherwise than it was written"
  }
  [ "$(rauc_primary)" != "$IDLE" ] || fail failed "rauc made slot $IDLE the one that boots, against activate-installed=false"
  found_id=$(image_id_of "$device")
}

# rauc_run : progress goes to the standard output of the verb (4), RAUC's last words to the caller.
rauc_run() {
  { rauc -c "$CONF" install "$bundle" 2>&1; echo "ended $?"; } | {
    words='it said nothing' ended=1
    while IFS= read -r line; do
      # shellcheck disable=SC2086 # its words
      set -- $line
      case ${1:-} in
        ended) ended=$2 ;;
        *%) if is_number "${1%\%}"; then printf 'progress %s\n' "${1%\%}" >&4; fi ;;
        LastError:) words=$line ;;
        *rror* | *ailed*) [ "$words" != 'it said nothing' ] || words=$line ;;
      esac
    done
    printf '%s' "$words"
    exit "$ended"
  }
}

# need_env : without it there is no try to spend, so what is tried would boot for ever.
need_env() { case $(env_state) in ok | -) ;; *) fail wrong-state "the boot environment is $(env_state): repair it first" ;; esac; }

rauc_can_arm() {
  need_env
  rauc_load
  [ "$(rauc_value "SLOT_BOOT_STATUS_$(rauc_index "$BOOTED")")" = good ] ||
    fail not-ready "the booted slot's own try is not given back yet"
}

rauc_next_boot() {
  rauc_load
  if [ "$(rauc_primary)" = "$1" ]; then return 0; fi
  rauc_mark mark-active other
  rauc_load
  [ "$(rauc_primary)" = "$1" ] || fail failed "rauc did not make slot $1 the one that boots next"
}

rauc_bless() {
  rauc_load
  rauc_mark mark-good booted
  rauc_load
  if [ "$(rauc_primary)" != "$BOOTED" ]; then rauc_mark mark-active booted; fi
  rauc_load
  [ "$(rauc_primary)" = "$BOOTED" ] || fail failed "rauc does not make slot $BOOTED the one that boots"
}

rauc_reject() {
  rauc_load
  rauc_mark mark-bad other
}

grubenv() { sed -n 's/^grubenv=//p' "$CONF" | head -n 1; }

# env_of FILE : ok, empty, torn or missing. GRUB takes it only with its first line, at exactly 1024 bytes.
env_of() {
  if [ ! -f "$1" ]; then echo missing
  elif [ "$(size_of "$1")" = 0 ]; then echo empty
  elif [ "$(size_of "$1")" = 1024 ] && [ "$(first_line "$1")" = '# GRUB Environment Block' ] &&
    grub-editenv "$1" list 2>/dev/null | grep -q '^ORDER=.'; then echo ok
  else echo torn
  fi
}

env_state() {
  if [ "$BACKEND" = rauc ] && grep -q '^bootloader=grub$' "$CONF"; then env_of "$(grubenv)"; else echo -; fi
}

# What runs is called good, unless it is on trial: then its try is spent and the other one is what comes next.
rauc_repair() {
  env=$(grubenv)
  good=0
  if load_record "$IDLE"; then case $r_state in kept | blessed) good=1 ;; esac; fi
  set -- "ORDER=$BOOTED $IDLE" "${BOOTED}_OK=1" "${BOOTED}_TRY=0" "${IDLE}_OK=$good" "${IDLE}_TRY=0"
  if on_trial; then set -- "ORDER=$IDLE $BOOTED" "${BOOTED}_OK=1" "${BOOTED}_TRY=1" "${IDLE}_OK=1" "${IDLE}_TRY=0"; fi
  # What only the image knows (extra=) is in the copy that grub.cfg keeps beside it.
  if [ "$(env_of "$env.spare")" = ok ]; then
    extra=$(grub-editenv "$env.spare" list | sed -n 's/^extra=//p')
    [ -z "$extra" ] || set -- "$@" "extra=$extra"
  fi
  {
    rm -f "$env.new" && grub-editenv "$env.new" create && grub-editenv "$env.new" set "$@" && flush "$env.new" &&
      mv -f "$env.new" "$env" && flush "${env%/*}"
  } 2>/dev/null || fail failed "$env cannot be written"
}

