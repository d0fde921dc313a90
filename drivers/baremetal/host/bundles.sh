# --- bundles

# lock_bundle : the lock of this SHA. Who asks last wins: a reader whose controller died would hold it for hours.
lock_bundle() {
  # An image has password hashes in it: nobody else reads along.
  { mkdir -p "$BUNDLES" && chmod 700 "$BUNDLES"; } 2>/dev/null || write_failed "$BUNDLES"
  true >>"$RUN/bundle.$SHA" || fail failed "$RUN cannot be written"
  exec 8>>"$RUN/bundle.$SHA"
  flock -n 8 && return
  reader=$(first_line "$RUN/bundle.$SHA")
  if is_number "$reader" && [ "$(first_line "/proc/$reader/comm")" = head ]; then kill "$reader" 2>/dev/null; fi
  flock -w 5 8 || fail busy "this bundle is being written by another session"
}

# finish_bundle : the part is whole: prove it and give it its name.
finish_bundle() {
  flush "$part"
  if [ "$(sum_of <"$part")" != "$SHA" ]; then
    rm -f "$part"
    fail bad-bytes "what came is not $SHA; it was removed"
  fi
  { mv -f "$part" "$BUNDLES/$SHA.bundle" && flush "$BUNDLES"; } || write_failed "$part"
}

do_upload() {
  begin "$VERB $SHA $OFFSET"
  [ ! -f "$BUNDLES/$SHA.bundle" ] || return 0
  lock_bundle
  part=$BUNDLES/$SHA.part
  size=$(size_of "$part")
  [ "$OFFSET" -eq "$size" ] || fail not-ready "$size bytes of it are here, so it goes on at $size and not at $OFFSET"
  [ "$SIZE" -ge "$size" ] || { rm -f "$part"; fail bad-bytes "more than $SIZE bytes of it were here; they were removed"; }
  need_space $((SIZE + SIZE / 10 - OFFSET))
  release
  # Kept first: a shell gives what it starts in the background another standard input.
  exec 3<&0
  head -c $((SIZE - OFFSET)) <&3 2>/dev/null >>"$part" &
  printf '%s\n' "$!" >"$RUN/bundle.$SHA"
  wait "$!"
  ended=$?
  size=$(size_of "$part")
  if [ "$size" -lt "$SIZE" ]; then
    [ "$ended" -lt 128 ] || fail busy "another session sends this bundle now"
    [ "$ended" -eq 0 ] || write_failed "$part"
    fail not-ready "$size of $SIZE bytes are here"
  fi
  finish_bundle
}

# drop_bundles : all but the one just installed and the booted one's; parts only if nobody writes them.
drop_bundles() {
  keep=-
  if load_record "$BOOTED"; then keep=$r_bundle; fi
  rm -rf "$BUNDLES/extract"
  ls "$BUNDLES" 2>/dev/null | while IFS= read -r name; do
    case ${name%.*} in "$SHA" | "$keep") continue ;; esac
    is_hex "${name%.*}" 64 || continue
    [ ! -e "$RUN/bundle.${name%.*}" ] || flock -n "$RUN/bundle.${name%.*}" true || continue
    rm -f "$BUNDLES/$name"
  done
}

# do_patch : a delta, or a plainly compressed bundle. Never more than SIZE bytes come out, whatever the delta says.
do_patch() {
  trap '' PIPE HUP
  begin "$VERB $OLD $SHA $DELTA"
  delta=$BUNDLES/$DELTA.bundle
  if [ ! -f "$BUNDLES/$SHA.bundle" ]; then
    [ -f "$delta" ] || fail wrong-state "delta $DELTA is not here whole"
    set --
    if [ "$OLD" != - ]; then
      [ -f "$BUNDLES/$OLD.bundle" ] || fail wrong-state "bundle $OLD, which the delta goes upon, is not here"
      set -- "--patch-from=$BUNDLES/$OLD.bundle"
    fi
    command -v zstd >/dev/null || no_help failed "zstd is not installed on this host"
    lock_bundle
    part=$BUNDLES/$SHA.part
    rm -f "$part"
    free=$(data_free)
    [ "$free" -ge $((SIZE + SIZE / 10)) ] ||
      no_help no-space "$((SIZE + SIZE / 10)) bytes are needed beside the delta, and $free are free on the data partition"
    # --long=31: a delta's window is as long as the old bundle, and zstd must be allowed the memory for it.
    zstd -d -q -c --long=31 "$@" "$delta" 2>/dev/null | head -c "$SIZE" 2>/dev/null >"$part" || write_failed "$part"
    finish_bundle
  fi
  rm -f "$delta"
}

# no_help CODE SENTENCE : the delta goes, for the plain form that comes then needs its room.
no_help() {
  rm -f "$delta"
  fail "$1" "$2; the delta was removed"
}

# do_pull : from a peer or a mirror, over plain HTTP: the SHA is what makes it right. Goes on where it was cut.
do_pull() {
  begin "$VERB $SHA"
  [ ! -f "$BUNDLES/$SHA.bundle" ] || return 0
  lock_bundle
  part=$BUNDLES/$SHA.part
  size=$(size_of "$part")
  need_space $((SIZE + SIZE / 10 - size))
  release
  if [ "$size" -lt "$SIZE" ]; then fetch; fi
  size=$(size_of "$part")
  [ "$size" -ge "$SIZE" ] || fail not-ready "$size of $SIZE bytes came from $URL"
  finish_bundle
}

# fetch : a server that sends more than was announced is cut off; the limit is in blocks of 512 bytes.
fetch() (
  ulimit -f $((SIZE / 512 + 1))
  if command -v curl >/dev/null; then
    exec curl -q -g -f -s --proto =http --noproxy '*' --max-redirs 0 --connect-timeout 10 --speed-limit 1000 --speed-time 30 \
      -C - -o "$part" "$URL" 2>/dev/null
  fi
  if ! wget --version 2>/dev/null | grep -q GNU; then exec wget -q -c -O "$part" "$URL" 2>/dev/null; fi
  exec wget --no-config -q -c -t 1 -T 30 --max-redirect=0 --no-proxy -O "$part" "$URL" 2>/dev/null
)

