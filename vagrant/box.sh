#!/bin/bash
# Makes the box of the Vagrantfile's bare-metal hosts from this project's own recipe: version 1 of the metal image on a disk with
# two slots and data, packed for vagrant-libvirt as CACHE/vagrant/anew-metal.box. Usage: box.sh [--size 4GiB]
#   Nothing is done if the box was made from the same image, keys and recipe. Its hosts have neither host key nor UUID: each
#   makes its own key at its first boot. Logging in: root with CACHE/vagrant/login, which vagrant uses, and anew may.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=lib.sh
. "$here/lib.sh"

size=4GiB
if [ "${1-}" = --size ] && [ $# = 2 ]; then size=$2; elif [ $# -gt 0 ]; then die "usage: box.sh [--size 4GiB]"; fi
[[ $size =~ ^[0-9]{1,4}GiB$ ]] || die "--size \"$size\": whole gibibytes, such as 4GiB"
need qemu-img ssh-keygen tar
image=$cache/lab/images/metal/1 login=$cache/vagrant/login box=$cache/vagrant/anew-metal.box
[ -s "$image/image.toml" ] || "$here/images/metal/build.sh" --version 1 --out "${image%/1}"
mkdir -p "${box%/*}"
exec 9>"${box%/*}/lock"
flock 9
[ -s "$login" ] || ssh-keygen -q -t ed25519 -N '' -C 'anew lab login' -f "$login"
stamp=$(printf '%s %s %s %s' "$(key_of "$here/box.sh" "$here/images/metal/disk.sh")" "$(sha "$image/image.toml")" "$(cat "$login.pub")" "$size" |
  sha256sum | cut -c1-16)
if [ -s "$box" ] && [ "$(cat "$box.made" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
rm -f "$box.made"
work=$(mktemp -d "${box%/*}/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
started=$(date +%s)
"$here/images/metal/disk.sh" --image "$image" --out "$work/disk.raw" --name metal --authorized-key "$login.pub" --host-key none \
  --server none --size "$size" --slot-size 512MiB
qemu-img convert -q -O qcow2 "$work/disk.raw" "$work/box.img"
printf '{"provider": "libvirt", "format": "qcow2", "virtual_size": %d}\n' "${size%GiB}" >"$work/metadata.json"
# What every user of the box needs; all else is the Vagrantfile's beside this script.
printf 'Vagrant.configure("2") do |config|\n  config.ssh.username = "root"\n  config.ssh.insert_key = false\nend\n' >"$work/Vagrantfile"
tar -C "$work" -S -czf "$work/box" metadata.json Vagrantfile box.img
mv "$work/box" "$box"
echo "$stamp" >"$box.made"
say "$box made in $(($(date +%s) - started)) s: $(($(stat -c %s "$box") / 1048576)) MiB; vagrant up reads it by itself"
say "a box that vagrant has taken already is kept by it: vagrant box remove anew-metal, before the next vagrant up"
