#!/bin/bash
# Writes requirements.lock anew from pyproject.toml: newest allowed releases, with hashes. Review the difference, then run setup.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../lib.sh
. "$here/../lib.sh"

tools=$cache/lock-tools
[ -x "$repo/.venv/bin/python" ] || die "there is no .venv yet; run vagrant/provision/setup.sh first"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/anew-lock.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
if ! "$tools/bin/pip-compile" --version >/dev/null 2>&1; then
  say "fetching pip-tools into $tools"
  "$repo/.venv/bin/python" -m venv --clear "$tools"
  "$tools/bin/python" -m pip install --quiet --disable-pip-version-check pip-tools || die "pip could not install pip-tools; its lines are above"
fi
# What builds libvirt-python is pinned with the rest.
printf 'setuptools>=68\nwheel\n' >"$tmp/build.in"
cd "$repo"
"$tools/bin/pip-compile" --quiet --upgrade --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
  --no-emit-trusted-host --strip-extras --all-extras --allow-unsafe -o "$tmp/lock" pyproject.toml "$tmp/build.in" >"$tmp/log" 2>&1 ||
  { tail -n 15 "$tmp/log" >&2; die "pip-compile failed; its last lines are above"; }
grep -v -e '^#' -e '^$' "$tmp/lock" >requirements.lock
say "requirements.lock has $(grep -c == requirements.lock) packages"
