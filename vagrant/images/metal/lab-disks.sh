#!/bin/bash
# Makes the installed disks that tests start machines from: grub.raw and sdboot.raw, with the lab's login and host keys.
# Usage: lab-disks.sh --image DIR --out DIR     Nothing is done if the disks there were made from the same image and recipe.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../../lib.sh
. "$here/../../lib.sh"

[ "$# ${1-} ${3-}" = '4 --image --out' ] || die "usage: lab-disks.sh --image DIR --out DIR"
image=$2 out=$4
[ -s "$image/image.toml" ] || die "there is no image in \"$image\"; run make lab-metal"
# The fast profile, a short dead-man, an address without DHCP; the rest makes the kernel bearable without KVM.
extra='anew.init=/usr/lib/anew/fast-init anew.deadman=120 anew.address=10.0.2.15/24 mitigations=off no_timer_check'
mkdir -p "$out"
exec 9>"$out/lock"
flock 9
for key in login host; do [ -s "$out/$key" ] || ssh-keygen -q -t ed25519 -N '' -C "anew lab $key" -f "$out/$key"; done
stamp=$(printf '%s %s %s' "$(key_of "$here"/*disk*.sh)" "$(sha "$image/image.toml")" "$(cat "$out"/*.pub)" | sha256sum | cut -c1-16)
[ "$(cat "$out/made" 2>/dev/null)" != "$stamp" ] || exit 0
rm -f "$out/made"
started=$(date +%s) children=()
for boot in grub sdboot; do
  "$here/disk.sh" --image "$image" --out "$out/$boot.raw" --boot $boot --name rack1 --authorized-key "$out/login.pub" \
    --host-key "$out/host" --extra "$extra" &
  children+=($!)
done
for child in "${children[@]}"; do wait "$child" || die "a disk could not be made; see above"; done
echo "$stamp" >"$out/made"
say "disks of bare-metal hosts made in $(($(date +%s) - started)) s"
