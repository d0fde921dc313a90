#!/bin/sh
# The helper on a host: the verbs of docs/host-protocol.md, nothing else. POSIX sh, for dash and busybox. Rules:
# - What comes from outside is a word of a grammar before it is used: never evaluated, never globbed (set -f).
# - Nothing is changed before the epoch was compared under the lock. Every verb may be called again, also after a cut.
# - Files are written aside, synced, renamed. A record that does not parse is refused, not guessed at.
# - All is read before anything runs (the last line calls main), so that it can also be carried on standard input.
# - One file on a host; written in the parts of drivers/baremetal/host and put together by drivers/baremetal/carried.py.
# - `:` and `exec` are not given a redirection that may fail: dash would leave without a last line.
# shellcheck disable=SC2317,SC2034 # functions are called by composed names; a verb's arguments are for its function
# shellcheck disable=SC2010,SC2012 # names in our own folders are matched against a grammar after ls
# shellcheck disable=SC2015,SC2020 # A && B || fail is meant: both must hold; tr is given sets
set -u -f
IFS=' 	
'
LC_ALL=C
export LC_ALL
umask 022

# A sandbox for tests; never for who comes over SSH or through sudo.
R=''
if [ -n "${ANEW_HOST_ROOT:-}" ] && [ -z "${SSH_CONNECTION:-}${SSH_CLIENT:-}${SUDO_UID:-}" ]; then
  R=$ANEW_HOST_ROOT
else
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  export PATH
fi
RUN=$R/run/anew
TMP=$RUN/out.$$
CONF=$R/etc/rauc/system.conf

# --- what it prints

# fail CODE SENTENCE : the last line, and the exit that belongs to it.
fail() {
  case $1 in
    usage) status=2 ;;
    stale-epoch | not-ours | wrong-state | wrong-disk | not-blank | no-helper) status=3 ;;
    busy | not-ready) status=4 ;;
    *) status=5 ;;
  esac
  printf 'error %s %s\n' "$1" "$(printable 400 "$2")"
  exit "$status"
}

printable() { printf "%.$1s" "$2" | tr -c ' -~' '?'; }

# say KEY VALUE : what is printable already passes as it is, for forks are what an observation costs a slow host.
say() {
  case $2 in *[!\ -~]*) set -- "$1" "$(printable 512 "$2")" ;; esac
  printf '%s %.512s\n' "$1" "$2"
}

# section NAME FILE : at most 256 KiB of it, raw.
section() {
  size=$(head -c 262144 "$2" | wc -c)
  printf -- '--- %s %d\n' "$1" "$size"
  head -c 262144 "$2"
  printf '\n'
}

# --- grammar

is_number() {
  case $1 in
    0) ;;
    '' | *[!0-9]* | 0* | ????????????????*) return 1 ;;
  esac
}

is_hex() {
  case $1 in *[!0-9a-f]*) return 1 ;; esac
  [ ${#1} -eq "$2" ]
}

# is_word TEXT LONGEST CHARACTERS : begins with a letter or digit, goes on with those and CHARACTERS.
is_word() {
  case $1 in '' | [!A-Za-z0-9]* | *[!A-Za-z0-9$3]*) return 1 ;; esac
  [ ${#1} -le "$2" ]
}

is_uuid() {
  case $1 in ????????-????-????-????-????????????) ;; *) return 1 ;; esac
  is_hex "$(printf '%s' "$1" | tr -d -)" 32
}

is_digest() { [ "${1#sha256:}" != "$1" ] && is_hex "${1#sha256:}" 64; }

is_url() {
  [ ${#1} -le 400 ] || return 1
  case $1 in *[!]A-Za-z0-9._~:/?=%@+,[-]*) return 1 ;; http://[A-Za-z0-9[]*) ;; *) return 1 ;; esac
}

# grammar_of VERB : the kinds of its arguments.
grammar_of() {
  case $1 in
    observe | lastwords | writers) ;;
    have) echo sha ;;
    upload) echo epoch op sha size offset ;;
    patch) echo epoch op old new size delta ;;
    pull) echo epoch op sha size url ;;
    install) echo epoch op sha digest version ;;
    arm) echo epoch op number digest born rollout ;;
    activate | bless | reject | forget) echo epoch op number ;;
    reboot) echo epoch op boot_id ;;
    repair) echo epoch op ;;
    lock) echo epoch op mode ;;
    layout) echo epoch op serial sha size digest version name ;;
    *) return 1 ;;
  esac
}

# take KIND VALUE : into its variable, if it is of the grammar.
take() {
  case $1 in
    epoch) is_number "$2" && EPOCH=$2 ;;
    op) is_hex "$2" 16 && OP=$2 ;;
    sha | new) is_hex "$2" 64 && SHA=$2 ;;
    delta) is_hex "$2" 64 && DELTA=$2 ;;
    old) { [ "$2" = - ] || is_hex "$2" 64; } && OLD=$2 ;;
    size) is_number "$2" && SIZE=$2 ;;
    offset) is_number "$2" && OFFSET=$2 ;;
    number) is_number "$2" && NUMBER=$2 ;;
    born) is_number "$2" && BORN=$2 ;;
    digest) is_digest "$2" && DIGEST=$2 ;;
    version) is_word "$2" 64 '._+-' && VERSION=$2 ;;
    rollout) { [ "$2" = - ] || is_hex "$2" 8 || is_hex "$2" 16; } && ROLLOUT=$2 ;;
    boot_id) is_uuid "$2" && OLD_BOOT=$2 ;;
    url) is_url "$2" && URL=$2 ;;
    mode) { [ "$2" = read-only ] || [ "$2" = writable ]; } && MODE=$2 ;;
    serial) is_word "$2" 64 '._:-' && SERIAL=$2 ;;
    name) is_word "$2" 63 '-' && NAME=$2 ;;
    *) false ;;
  esac
}

take_all() {
  kinds=$(grammar_of "$VERB") || fail usage "no such verb; docs/host-protocol.md has the list"
  for kind in $kinds; do
    [ $# -gt 0 ] || fail usage "$VERB lacks its argument $kind"
    take "$kind" "$1" || fail usage "$VERB takes its argument $kind otherwise than it was given"
    shift
  done
  [ $# -eq 0 ] || fail usage "$VERB takes no more than: $kinds"
}

