# --- backend bootc: its verbs as far as they go. What is switched to is staged and taken at the next shutdown, whoever
# orders that; it has no try of its own, so a trial falls back only if its image queues a rollback when it boots.
# A record's image_id is the deployment's digest: by it the letter of what is booted is known.

bootc_words() { timeout 6 bootc status --format=json; }

# bootc_digest WHICH : the image's digest of the staged, booted or rollback deployment; "" if there is none.
bootc_digest() {
  bootc_words 2>/dev/null | tr -d ' \n' | tr '{},' '\n\n\n' | awk -F '"' -v which="$1" '
    $2 == "status" { on = 1 }
    on && ($2 == "staged" || $2 == "booted" || $2 == "rollback") { at = $2 }
    on && $2 == "imageDigest" && at == which && $4 ~ /^sha256:[0-9a-f]+$/ { print $4; exit }'
}

bootc_queued() { bootc_words 2>/dev/null | tr -d ' \n' | grep -q '"rollbackQueued":true'; }

bootc_booted() {
  digest=$(bootc_digest booted)
  for slot in A B; do
    if load_record "$slot" && [ "$r_image_id" = "$digest" ]; then echo "$slot"; return; fi
  done
  # Nothing of ours has booted yet; else somebody else brought what runs, and no letter is its.
  if load_record A; then echo -; else echo A; fi
}

bootc_check_bundle() {
  [ "$(size_of "$bundle")" -le 1024 ] || fail bad-bytes "a bundle for bootc is two lines: transport= and reference="
  transport=$(sed -n 's/^transport=//p' "$bundle" | head -n 1)
  reference=$(sed -n 's/^reference=//p' "$bundle" | head -n 1)
  case $transport in
    registry | oci | oci-archive | containers-storage) ;;
    *) fail bad-bytes "the bundle names no transport of bootc" ;;
  esac
  is_word "${reference#/}" 256 './_:@+-' || fail bad-bytes "the bundle names no image that bootc could switch to"
}

bootc_install() {
  timeout 1800 bootc switch --transport "$transport" "$reference" >/dev/null 2>&1 ||
    fail failed "bootc switch did not succeed"
  found_id=$(bootc_digest staged)
  is_digest "$found_id" || fail failed "bootc names no staged deployment after its switch"
}

bootc_can_arm() { [ "$(bootc_digest staged)" = "$r_image_id" ] || fail wrong-state "what bootc has staged is not what was installed"; }

bootc_next_boot() {
  [ "$2" = kept ] || return 0
  [ -n "$(bootc_digest rollback)" ] || fail wrong-state "bootc holds no deployment to go back to"
  bootc_turn yes
}

# bootc_turn YES : a rollback is queued or not queued. Its verb toggles, and removes what is staged.
bootc_turn() {
  for attempt in 1 2; do
    if bootc_queued; then now=yes; else now=no; fi
    if [ "$now" = "$1" ] && [ -z "$(bootc_digest staged)" ]; then return 0; fi
    timeout 120 bootc rollback >/dev/null 2>&1 || fail failed "bootc rollback did not succeed, attempt $attempt"
  done
  if bootc_queued; then now=yes; else now=no; fi
  [ "$now" = "$1" ] || fail failed "bootc did not change what boots next"
}

bootc_bless() { if bootc_queued; then bootc_turn no; fi; }
bootc_reject() { if bootc_queued || [ -n "$(bootc_digest staged)" ]; then bootc_turn no; fi; }

