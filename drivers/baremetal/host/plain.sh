# --- a plain host, whose root is locked in place

# lock_line MODE : /etc/fstab with the root's option changed, all other lines as they were.
lock_line() {
  awk -v want="$1" '
    $1 !~ /^#/ && $2 == "/" {
      count = split($4, options, ","); kept = want
      for (i = 1; i <= count; i++) if (options[i] != "ro" && options[i] != "rw" && options[i] != "") kept = kept "," options[i]
      $4 = kept
    }
    { print }' "$2"
}

do_lock() {
  begin "$VERB $MODE"
  [ "$BACKEND" = none ] || fail wrong-state "this host's root comes from an image and is not locked by hand"
  fstab=$R/etc/fstab
  awk '$1 !~ /^#/ && $2 == "/" { found = 1 } END { exit !found }' "$fstab" 2>/dev/null ||
    fail wrong-state "/etc/fstab has no line for /, so a lock would not last"
  case $(root_words) in overlay*) fail wrong-state "the root is an overlay: what is written there is gone with the next boot" ;; esac
  if [ "$MODE" = read-only ]; then lock_root; else unlock_root; fi
}

root_is() { case $(root_words) in "$1"*) ;; *) return 1 ;; esac; }

# Below the sandbox there is no mount, so a test can never lock the machine that it runs on.
remount() { mount -o "remount,$1" "$R/" 2>/dev/null; }

# The file first, since it cannot be written afterwards; if the root stays writable it gets its text back.
lock_root() {
  text=$(lock_line ro "$fstab")
  if root_is read-only; then
    [ "$text" != "$(cat "$fstab")" ] || return 0
    remount rw || fail failed "the root cannot be made writable to change /etc/fstab"
  fi
  [ -e "$STATE/fstab" ] || store "$STATE/fstab" "$(cat "$fstab")"
  store "$fstab" "$text"
  store "$STATE/epoch" "$EPOCH"
  sync
  remount ro && return
  store "$fstab" "$(cat "$STATE/fstab")"
  rm -f "$STATE/fstab"
  fail failed "the root stays writable, since something is open for writing there; writers tells what"
}

unlock_root() {
  if root_is read-only; then remount rw || fail failed "the root cannot be made writable; the kernel's log says why"; fi
  if [ -e "$STATE/fstab" ]; then
    store "$fstab" "$(cat "$STATE/fstab")"
    rm -f "$STATE/fstab"
  elif [ "$(lock_line rw "$fstab")" != "$(lock_line ro "$fstab")" ] && ! fstab_writable; then
    store "$fstab" "$(lock_line rw "$fstab")"
  fi
  store "$STATE/epoch" "$EPOCH"
}

fstab_writable() { awk '$1 !~ /^#/ && $2 == "/" && $4 ~ /(^|,)ro(,|$)/ { exit 1 }' "$fstab"; }

