#!/bin/bash
# Sets this machine and this folder up: Debian packages that are missing, then the virtual environment .venv from the lock.
# Usage: setup.sh [--demo | --bench | --check]
#   --demo   only what simulated servers need: no libvirt, and nothing from Debian but Python
#   --bench  the programs too that the benches compare the terminal UI with
#   --check  says what is missing (exit 1), and changes nothing
#   With nothing to do it ends within milliseconds and asks no package server. Package sources, proxies and indexes are those
#   that this machine has configured. Works on Debian 12 and later (amd64), as root or as a user with sudo.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../lib.sh
. "$here/../lib.sh"

# What for: virtual machines; making images; bare-metal images and disks; the program on a host in its tests; building
# libvirt-python; pictures, terminals and wrong wall clocks of the tests, and the Vagrantfile which one of them checks.
packages=(
  qemu-system-x86 ipxe-qemu qemu-utils libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu dnsmasq-base
  squashfs-tools cpio xz-utils e2fsprogs mmdebstrap openssh-client
  rauc grub-common grub-pc-bin grub-efi-amd64-bin systemd-boot-efi ovmf mtools dosfstools fdisk kmod lz4 zstd openssl
  busybox dbus-daemon curl wget sudo
  python3-venv libvirt-dev gcc binutils pkg-config make procps
  librsvg2-bin tmux faketime chromium vagrant vagrant-libvirt
)
mode=${1-}
case $mode in
  '' | --check) ;;
  --demo) packages=(python3-venv) ;;
  --bench) packages+=(htop btop) ;;
  *) die "unknown option \"$mode\"; usage: setup.sh [--demo | --bench | --check]" ;;
esac
venv=$repo/.venv
lock=$repo/requirements.lock
stamp=$venv/.anew-lock

missing_packages() {
  command -v dpkg-query >/dev/null || die "this is no Debian system: install the equivalents of: ${packages[*]}"
  dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | awk '$2 == "installed" {print $1}' |
    sort >"$1"
  printf '%s\n' "${packages[@]}" | sort | comm -23 - "$1" | tr '\n' ' '
}

install_packages() {
  have_lists || refresh_lists
  say "installing Debian packages that are missing: $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >"$log" 2>&1 && return
  # A mirror drops old files: with lists read anew the names are right again.
  refresh_lists
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2; die "apt-get could not install: $* (its last lines are above)"; }
}

# The first Python that is new enough and can make virtual environments; the one of Debian is asked last, it always can.
choose_python() {
  local python
  for python in "${PYTHON:-python3}" /usr/bin/python3; do
    if "$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$python"
      return
    fi
  done
  die "no Python 3.11 or newer with venv found; Debian 12 and later have it (package python3-venv), or set PYTHON=/path/to/python3"
}

make_venv() {
  local python pins=$tmp/pins wants=$tmp/wants
  if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    python=$(choose_python)
    say "making the virtual environment .venv with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
  fi
  say "installing the pinned Python packages into .venv"
  cp "$lock" "$wants"
  if [ "$mode" = --demo ]; then
    block libvirt-python >"$tmp/without"
    grep -vxFf "$tmp/without" "$lock" >"$wants"
  elif [ ! -e "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]; then
    install_packages python3-dev # libvirt-python is built from source, against this Python
  fi
  # What builds the packages that come as source is pinned too, and so must be there first.
  block 'setuptools|wheel' >"$pins"
  pip_install --require-hashes --no-deps -r "$pins"
  pip_install --require-hashes --no-build-isolation -r "$wants"
  pip_install --no-deps --no-build-isolation -e "$repo"
  printf '%s\n' "$wanted${mode:+ demo}" >"$stamp"
}

# block NAMES : the lines of these packages in the lock, each with its hashes.
block() { awk -v names="^($1)==" '$0 ~ names {on = 1} on {print} on && !/\\$/ {on = 0}' "$lock"; }

# Whether .venv holds what the lock says; a full one is also good for the demo.
fresh() {
  local stamped
  [ -x "$venv/bin/python" ] && stamped=$(cat "$stamp" 2>/dev/null) &&
    { [ "$stamped" = "$wanted" ] || [ "$mode $stamped" = "--demo $wanted demo" ]; }
}

pip_install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2; die "pip could not install into .venv (its last lines are above); network and index are those of this machine's pip configuration"; }
}

# Members of the group may use libvirt; root may anyway.
join_group() {
  if [ "$(id -u)" = 0 ] || id -nG "$(id -un)" | grep -qw libvirt || ! getent group libvirt >/dev/null; then return; fi
  say "adding $(id -un) to the group libvirt, so that no root rights are needed to use virtual machines"
  as_root usermod -aG libvirt "$(id -un)"
}

tmp=$(mktemp -d "${TMPDIR:-/tmp}/anew-setup.XXXXXX")
log=$tmp/log
trap 'rm -rf "$tmp"' EXIT
missing=$(missing_packages "$tmp/installed")
# The settings of the checkers, from [tool.pytest on, change nothing that is installed.
wanted=$({ cat "$lock"; sed '/^\[tool\.pytest/,$d' "$repo/pyproject.toml"; } | sha256sum | cut -d' ' -f1)
if [ "$mode" = --check ]; then
  [ -z "$missing" ] || say "missing Debian packages: $missing"
  fresh || say "the virtual environment .venv is missing or older than the lock"
  [ -z "$missing" ] && fresh
  exit
fi
# shellcheck disable=SC2086 # a list of names
[ -z "$missing" ] || install_packages $missing
[ "$mode" = --demo ] || join_group
fresh || make_venv
