#!/bin/bash
# Makes a Debian host of vagrant's a hypervisor for anew: libvirt and QEMU, for its user `vagrant`. Run as root, on that host.
#   Afterwards a fleet file reaches it as qemu+ssh://vagrant@ADDRESS/system.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
packages=(libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils dnsmasq-base)
dpkg-query -W -f '${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | grep -c '^installed$' | grep -qx ${#packages[@]} ||
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${packages[@]}"; }
usermod -aG libvirt vagrant
systemctl enable --now libvirtd
for again in 1 2 3 4 5 6 7 8 9 10; do
  ! virsh -q -c qemu:///system list >/dev/null 2>&1 || exit 0
  sleep "$again"
done
echo "libvirt was started and does not answer; on this host, systemctl status libvirtd says why" >&2
exit 1
