# --- the verb

main() {
  # The first line comes before anything can go wrong, but not twice when the verb runs through sudo.
  if [ $# -eq 0 ]; then
    # shellcheck disable=SC2086 # words, split on spaces only; set -f keeps them from being globbed
    IFS=' ' && set -- ${SSH_ORIGINAL_COMMAND:-} && IFS=' 	
'
    case ${1:-} in
      anew-host | /usr/bin/anew-host) shift ;;
      *)
        echo 'anew-host 1'
        fail usage "the line must be: anew-host VERB ARGUMENTS"
        ;;
    esac
  fi
  if [ -z "$R" ] && [ "$(id -u)" -ne 0 ]; then through_sudo "$@"; fi
  echo 'anew-host 1'
  VERB=${1:-}
  [ $# -eq 0 ] || shift
  take_all "$@"
  case $0:$VERB in
    *anew-host:* | *:observe | *:have | *:lastwords | *:writers | *:lock | *:layout) ;;
    *) fail no-helper "$VERB needs /usr/bin/anew-host on the host itself" ;;
  esac
  case $VERB in upload | layout) ;; *) exec </dev/null ;; esac
  detect
  mkdir -p "$RUN" 2>/dev/null || fail failed "$RUN cannot be written"
  trap 'rm -f "$TMP"' EXIT
  trap 'exit 143' HUP INT TERM
  exec 4>&1
  "do_$VERB"
  echo ok
}

# A user with a sudo rule: the same words again, as root.
through_sudo() {
  case $0 in
    *anew-host)
      if [ -z "${SUDO_UID:-}" ]; then
        sudo -n /usr/bin/anew-host "$@"
        status=$?
        case $status in 0 | [2-5]) exit "$status" ;; esac
      fi
      ;;
  esac
  echo 'anew-host 1'
  fail failed "$(id -un) is not root, and sudo does not run /usr/bin/anew-host for it without a password"
}

main "$@"; exit
