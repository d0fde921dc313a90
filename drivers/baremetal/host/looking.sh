# --- verbs that look

root_words() {
  awk '$2 == "/" { t = $3; o = $4 }
    END { if (t == "") t = "unknown"
      print (t == "overlay" ? "overlay" : o ~ /^ro(,|$)/ ? "read-only" : "writable"), t }' "$R/proc/self/mounts" 2>/dev/null
}

version_words() {
  version=$(first_line "$R/usr/lib/anew/version")
  [ -n "$version" ] || version=$(os_word VERSION_ID)
  echo "${version:--}"
}

os_word() { sed -n "s/^$1=//p" "$R/etc/os-release" 2>/dev/null | head -n 1 | tr -d "\"'" | cut -c 1-128; }

deadman() {
  if ! on_trial; then echo off; return; fi
  seconds=$(first_line "$R/run/anew-trial")
  if is_number "$seconds"; then echo "$seconds"; else echo none; fi
}

lock_words() {
  if [ ! -e "$RUN/lock" ] || flock -s -n "$RUN/lock" true; then echo free; else holder; fi
}

do_observe() {
  say backend "$BACKEND"
  say boot_id "$BOOT_ID"
  seen=$(first_line "$R/proc/uptime")
  say uptime "${seen%%.*}"
  say clock "$(date +%s)"
  say image_id "$IMAGE_ID"
  say version "$(version_words)"
  say os "$(os_word PRETTY_NAME)"
  say root "$(root_words)"
  if on_trial; then say trial yes; else say trial no; fi
  say deadman "$(deadman)"
  say booted "$BOOTED"
  say data_free "$(data_free)"
  say data "$(data_mode)"
  seen=$(first_line "$STATE/epoch")
  if is_number "$seen"; then say epoch "$seen"; else say epoch 0; fi
  say env "$(env_state)"
  seen=$(first_line "$STATE/server")
  if is_uuid "$seen"; then say server "$seen"; else say server -; fi
  say lock "$(lock_words)"
  observe_slots
  observe_bundles
  [ "$BACKEND" = none ] && return
  "${BACKEND}_words" >"$TMP" 2>/dev/null || fail not-ready "$BACKEND does not answer yet; its service may still be starting"
  section "$BACKEND" "$TMP"
}

observe_slots() {
  for slot in A B; do
    load_record "$slot"
    case $? in 0) say "slot.$slot" "$record" ;; 2) say "slot.$slot" 'state=torn' ;; esac
  done
}

observe_bundles() {
  ls "$BUNDLES" 2>/dev/null | head -n 64 | while IFS= read -r name; do
    is_hex "${name%.*}" 64 || continue
    case $name in
      *.bundle) say bundle "${name%.*} $(size_of "$BUNDLES/$name") complete" ;;
      *.part) say bundle "${name%.*} $(size_of "$BUNDLES/$name") part" ;;
    esac
  done
}

do_have() {
  if [ -f "$BUNDLES/$SHA.bundle" ]; then
    say size "$(size_of "$BUNDLES/$SHA.bundle")"
    say state complete
  elif [ -f "$BUNDLES/$SHA.part" ]; then
    # Of one moment: the part may grow while it is read.
    size=$(size_of "$BUNDLES/$SHA.part")
    say size "$size"
    say state part
    say sha_so_far "$(head -c "$size" "$BUNDLES/$SHA.part" | sum_of)"
  else
    say size 0
    say state none
  fi
}

# newest_crash : the kernel's last words, if this machine keeps any; systemd moves them off the firmware's store.
newest_crash() {
  for dir in "$R/sys/fs/pstore" "$R/var/lib/systemd/pstore"; do
    find "$dir" -type f -name '*dmesg*' 2>/dev/null | sort | tail -n 1
  done | tail -n 1
}

# The boot that failed last, told by three witnesses: at most 1.3 KiB of each, so that none crowds out the others.
do_lastwords() {
  crash=$(newest_crash)
  {
    if [ -f "$STATE/trail.last" ]; then
      echo '== trail of the boot before'
      tail -c 1300 "$STATE/trail.last"
    fi
    echo '== journal of the boot before'
    timeout 6 journalctl -q -b -1 -n 60 --no-pager 2>/dev/null | tail -c 1300
    if [ -n "$crash" ]; then
      echo '== kernel'
      tail -c 1300 "$crash"
    fi
  } >"$TMP" 2>/dev/null
  tail -c 4096 "$TMP" >"$TMP.cut" && mv -f "$TMP.cut" "$TMP"
  section words "$TMP"
}

# Of every process: what is open for writing on the root's own file system (the link's own mode tells), deleted files too.
do_writers() {
  (
    set +f
    cat "$R/proc/self/mounts"
    echo '= files'
    for dir in "$R"/proc/[0-9]*; do
      [ -e "$dir/fd" ] || continue
      echo "= ${dir##*/} $(first_line "$dir/comm")"
      ls -l "$dir/fd" 2>/dev/null
    done
  ) | awk '
    !files && $1 == "=" { for (m in mode) if (mode[m] !~ /^ro(,|$)/ && from[m] ~ /^\//) print "mount - " m; files = 1; next }
    !files { mode[$2] = $4; from[$2] = $1; next }
    $1 == "=" { pid = $2; name = substr($0, length($1 $2) + 3); next }
    $1 ~ /^l.w/ && (at = index($0, " -> ")) {
      path = substr($0, at + 4)
      if (path !~ /^\// || path ~ /^\/memfd:/) next
      for (m in mode) if (m != "/" && index(path "/", m "/") == 1) next
      print name " " pid " " path
    }' | tr -c ' -~\n' '?' | sort -u | head -c 65536 >"$TMP"
  section writers "$TMP"
}

