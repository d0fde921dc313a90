# --- slots: what is the same for every backend

# read_back DEVICE SIZE SHA : whether the slot holds what was written, read from the disk and not from memory.
read_back() {
  blockdev --flushbufs "$1" 2>/dev/null
  [ "$(head -c "$2" "$1" 2>/dev/null | sum_of)" = "$3" ]
}

# peek DEVICE FILE : the first line of a file of the image in a slot; "" if it cannot be mounted.
mount_slot() { mkdir -p "$RUN/slot" && mount -o ro,nosuid,nodev,noexec "$1" "$RUN/slot" 2>/dev/null; }

image_id_of() {
  mount_slot "$1" || { echo -; return; }
  found=$(first_line "$RUN/slot/usr/lib/anew/image-id")
  umount "$RUN/slot"
  if is_word "$found" 96 '._+:-'; then echo "$found"; else echo -; fi
}

do_install() {
  # An install is not cut by a connection that is: nobody may be there to read, the record tells how it ended.
  trap '' PIPE HUP
  begin "$VERB $SHA $DIGEST $VERSION"
  need_slots
  if load_record "$IDLE" && [ "$r_digest" = "$DIGEST" ] && [ "$r_state" = staged ]; then return 0; fi
  ! on_trial || fail wrong-state "the booted slot is on trial, and the other is what it falls back to"
  bundle=$BUNDLES/$SHA.bundle
  [ -f "$bundle" ] || fail wrong-state "bundle $SHA is not here whole"
  # It may have lain there for months. One that rotted would count as brought for ever.
  [ "$(sum_of <"$bundle")" = "$SHA" ] || {
    rm -f "$bundle"
    fail bad-bytes "the bundle is not what was brought any more, this host's disk changed it; it was removed, bring it again"
  }
  "${BACKEND}_check_bundle"
  load_record "$IDLE"
  r_number=- r_digest=$DIGEST r_version=$VERSION r_image_id=- r_state=writing r_born=- r_op=$OP r_rollout=- r_armed_boot=-
  r_bundle=$SHA
  save_record "$IDLE"
  "${BACKEND}_install"
  r_image_id=$found_id r_state=staged r_number=- r_digest=$DIGEST r_version=$VERSION r_born=- r_op=$OP r_rollout=-
  r_armed_boot=- r_bundle=$SHA
  save_record "$IDLE"
  drop_bundles
}

do_arm() {
  begin "$VERB $NUMBER $DIGEST"
  need_slots
  if load_record "$BOOTED" && [ "$r_op" = "$OP" ] && [ "$r_number" = "$NUMBER" ]; then return 0; fi
  need_record "$IDLE"
  [ "$r_digest" = "$DIGEST" ] || fail wrong-state "slot $IDLE holds $r_digest"
  case $r_state in
    staged) ;;
    armed)
      [ "$r_op" = "$OP" ] && [ "$r_number" = "$NUMBER" ] || fail wrong-state "slot $IDLE is armed by operation $r_op"
      [ "$r_armed_boot" = "$BOOT_ID" ] || fail wrong-state "incarnation $NUMBER was tried, and the host came back from it"
      ;;
    *) fail wrong-state "slot $IDLE is $r_state, not staged" ;;
  esac
  ! on_trial || fail wrong-state "the booted slot is on trial; bless it, or let it fall back, first"
  "${BACKEND}_can_arm"
  name_booted
  need_record "$IDLE"
  r_number=$NUMBER r_state=armed r_born=$BORN r_op=$OP r_rollout=$ROLLOUT r_armed_boot=$BOOT_ID
  # The record first: a slot that boots without one would be on trial and nobody's.
  save_record "$IDLE"
  "${BACKEND}_next_boot" "$IDLE" trial
}

# name_booted : what ran before the first rollout is incarnation 0, and is told from a blank slot by its record.
name_booted() {
  load_record "$BOOTED" && return
  r_number=0 r_digest=- r_version=$(version_words) r_image_id=$IMAGE_ID r_state=blessed r_born=- r_op=- r_rollout=-
  r_armed_boot=- r_bundle=-
  is_word "$r_version" 64 '._+-' || r_version=-
  save_record "$BOOTED"
}

do_activate() {
  begin "$VERB $NUMBER"
  need_slots
  ! holds "$BOOTED" || return 0
  need_record "$IDLE"
  need_number "$IDLE"
  # `blessed` and idle: what ran before the trial that runs now.
  case $r_state in kept | blessed) ;; *) fail wrong-state "incarnation $NUMBER is $r_state, not kept" ;; esac
  "${BACKEND}_next_boot" "$IDLE" kept
}

do_bless() {
  begin "$VERB $NUMBER"
  need_slots
  if ! on_trial && [ "$NUMBER" = 0 ]; then name_booted; fi
  need_record "$BOOTED"
  need_number "$BOOTED"
  case $r_state in armed | kept | blessed) ;; *) fail wrong-state "incarnation $NUMBER is $r_state" ;; esac
  # Incarnation 0 was not written by anew: its owner may change it.
  [ "$NUMBER" = 0 ] || [ "$r_image_id" = "$IMAGE_ID" ] ||
    fail wrong-state "slot $BOOTED runs image id $IMAGE_ID, and incarnation $NUMBER was written with $r_image_id"
  "${BACKEND}_bless"
  if [ "$IMAGE_ID" != - ]; then store "$STATE/blessed/$IMAGE_ID" "$NUMBER $OP"; fi
  r_state=blessed
  r_image_id=$IMAGE_ID
  save_record "$BOOTED"
  if load_record "$IDLE" && [ "$r_state" = blessed ]; then
    r_state=kept
    save_record "$IDLE"
  fi
  stop_deadman
}

# Last of all: until here a host that hangs falls back. The V lets the watchdog stop when it is closed.
stop_deadman() {
  on_trial || return 0
  if [ "$(deadman)" != none ]; then
    { printf V >"$R/dev/watchdog"; } 2>/dev/null || fail failed "the dead-man does not stop: /dev/watchdog cannot be written"
  fi
  rm -f "$R/run/anew-trial"
}

do_reject() {
  begin "$VERB $NUMBER"
  need_slots
  need_record "$IDLE"
  need_number "$IDLE"
  "${BACKEND}_reject"
  r_state=rejected
  save_record "$IDLE"
}

do_forget() {
  begin "$VERB $NUMBER"
  need_slots
  ! holds "$BOOTED" || fail wrong-state "incarnation $NUMBER runs in slot $BOOTED"
  load_record "$IDLE"
  case $? in 1) return 0 ;; 2) need_record "$IDLE" ;; esac
  need_number "$IDLE"
  # Armed and not yet tried: it is taken out of the way first, or the next boot would try what nobody knows.
  if [ "$r_state" = armed ] && [ "$r_armed_boot" = "$BOOT_ID" ]; then "${BACKEND}_reject"; fi
  { rm -f "$STATE/slots/$IDLE" && flush "$STATE/slots"; } || write_failed "$STATE/slots/$IDLE"
}

do_reboot() {
  begin "$VERB $OLD_BOOT"
  if [ "$OLD_BOOT" != "$BOOT_ID" ]; then
    say boot_id "$BOOT_ID"
    return 0
  fi
  sync
  # It keeps the lock: nobody begins anything on a host that goes down. A unit that will not stop is given 60 s.
  (
    trap '' HUP TERM
    sleep 1
    if [ -d "$R/run/systemd/system" ]; then
      systemctl reboot
      sleep 60
    fi
    for key in s u b; do
      echo "$key" >>"$R/proc/sysrq-trigger"
      sleep 1
    done
  ) </dev/null >/dev/null 2>&1 4>&- &
}

do_repair() {
  begin "$VERB"
  need_slots
  case $(env_state) in ok | -) return 0 ;; esac
  "${BACKEND}_repair"
  [ "$(env_state)" = ok ] || fail failed "the boot environment could not be made anew"
}

