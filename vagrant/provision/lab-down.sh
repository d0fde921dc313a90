#!/bin/bash
# lab-down.sh FLEET: removes what a lab fleet leaves in libvirt once its servers are gone: staged images, console logs, and
# the storage pool anew-FLEET with its folder. Refuses while a domain of the pool's servers still uses a file of it. Data
# disks are named and kept: removing them is a person's decision.
set -euo pipefail
fleet=${1:?which fleet}
pool=anew-$fleet
virsh="virsh -q -c qemu:///system"
$virsh pool-info "$pool" >/dev/null 2>&1 || exit 0
$virsh pool-refresh "$pool" >/dev/null 2>&1 || true
in_use=$($virsh list --all --name | while read -r domain; do
  [ -z "$domain" ] || $virsh dumpxml "$domain" | grep -o "/anew/$fleet/[^'\"]*" || true
done | head -1)
if [ -n "$in_use" ]; then
  echo "lab-down: a domain still uses $in_use; remove it first, then run this again" >&2
  exit 1
fi
folder=$($virsh pool-dumpxml "$pool" | sed -n 's:.*<path>\(.*\)</path>.*:\1:p')
$virsh vol-list "$pool" | awk 'NF {print $1}' | while read -r volume; do
  case $volume in
    anew-image-*|anew-console-*|anew-seed-*|anew-overlay-*|anew-part-*) $virsh vol-delete "$volume" --pool "$pool" >/dev/null ;;
    *) echo "lab-down: kept $folder/$volume, which holds data; delete it yourself if nobody needs it" ;;
  esac
done
$virsh pool-destroy "$pool" >/dev/null 2>&1 || true
$virsh pool-undefine "$pool" >/dev/null
rmdir "$folder" 2>/dev/null || true
