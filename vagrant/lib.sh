# Shared by the shell of the lab: messages, root rights, cached Debian packages. Sourced, never run.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by those that source this
cache=${ANEW_CACHE:-$repo/.cache}
PATH=$PATH:/usr/sbin:/sbin # an ordinary user's has neither mke2fs nor libvirtd

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# Runs a command as root: directly, or through sudo; a sudo that needs a password asks for it only on a terminal.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif ! command -v sudo >/dev/null; then
    die "root rights are needed for \"$*\", you are $(id -un) and there is no sudo; run this as root once"
  elif [ -t 0 ] || sudo -n true 2>/dev/null; then
    sudo "$@"
  else
    die "root rights are needed for \"$*\", and sudo wants a password but there is no terminal to ask on; run this from a terminal, or as root once"
  fi
}

# need COMMAND... : or say at once which one is missing, and what brings it.
need() {
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null || die "$command is not installed; run vagrant/provision/setup.sh first"
  done
}

# True when apt knows any package at all; a machine made from a container image has no lists yet.
have_lists() { compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; }

refresh_lists() {
  say "reading the package lists anew (apt-get update)"
  as_root apt-get update -qq || die "apt-get update failed: see its lines above; is there a network, and is the package source right?"
}

# The candidate version of one package, or nothing.
candidate() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ && $2 != "(none)" {print $2}'; }

# All packages that the named ones need, themselves included, sorted.
closure() {
  LC_ALL=C apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances "$@" | awk '/^[a-z0-9]/ {print $1}' | sort -u
}

# download DIR PACKAGE... : their .deb files into DIR; a list that names a file the mirror has dropped is read anew, once.
download() {
  local dir=$1
  shift
  mkdir -p "$dir"
  (cd "$dir" && apt-get download -qq -o APT::Sandbox::User=root "$@") && return
  refresh_lists
  (cd "$dir" && apt-get download -qq -o APT::Sandbox::User=root "$@") ||
    die "apt-get could not download: $*"
}

sha() { sha256sum "$1" | cut -d' ' -f1; }

# file_entry DIR NAME : one line of image.toml's [files].
file_entry() { printf '"%s" = { sha256 = "%s", size = %d }\n' "$2" "$(sha "$1/$2")" "$(stat -c %s "$1/$2")"; }

# key_of FILE... : one hash over names (relative to the repository) and contents.
key_of() { (cd "$repo" && sha256sum -- "${@#"$repo"/}" | sha256sum | cut -c1-16); }
