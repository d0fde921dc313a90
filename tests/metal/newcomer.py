"""A machine as it comes out of its box: a blank disk, booted from a live medium (the Debian image, with a FAT tool put in).

`live` says from what it boots next: the medium, with a host key of the medium's own, or the disk. `own` is anew's key, `login` a person's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.guest import new_key
from tests.metal.machines import SSH_PORT, Firmware, Identity, Machine

MEDIUM = Path(__file__).resolve().parents[2] / ".cache/lab/images/debian/1"
LIVE_INIT = """#!/bin/sh
# Process 1 of the live medium: modules, an address, sshd.
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs -o mode=755 run /run; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /run/sshd
mount -t devpts devpts /dev/pts
for module in virtio_net virtio_rng squashfs vfat nls_cp437 nls_ascii; do modprobe $module; done
card=$(ls /sys/class/net | grep -v '^lo$' | head -n 1)
ip link set lo up
ip addr add 10.0.2.15/24 dev "$card"
ip link set "$card" up
exec /usr/sbin/sshd -D -e -o UsePAM=no -o HostKey=/etc/ssh/live
"""


class Newcomer(Machine):
    """One machine; the disk's serial number is its name, as with all machines here."""

    def __init__(self, number: int, folder: Path, *, mib: int = 640, firmware: Firmware = "bios") -> None:
        self.number, self.folder, self.address = number, folder, f"127.0.10.{number}"
        self.firmware, self.memory = firmware, 512
        self.disk, self.log = folder / "disk.raw", folder / "serial.log"
        self.process, self.pid_file = None, folder / "pid"
        self.medium, self.login, self.known_hosts = folder / "medium.raw", folder / "login", folder / "known_hosts"
        self.live = True
        self.disk.touch()
        os.truncate(self.disk, mib * 2**20)
        self.own = folder / "anew"
        (folder / "keys").write_text(f"{new_key(self.login)}\n{new_key(self.own)}\n")
        self.identity = Identity(f"rack{number}", "", new_key(folder / "live"))
        self._make_medium()
        self.pin(self.identity.host_key)

    def pin(self, host_key: str) -> None:
        """The host key that these tests expect from now on."""
        self.known_hosts.write_text(f"[{self.address}]:{SSH_PORT} {host_key}\n")

    def _make_medium(self) -> None:
        subprocess.run(["cp", "--sparse=always", str(MEDIUM / "root.raw"), str(self.medium)], check=True)
        (self.folder / "init").write_text(LIVE_INIT)
        commands = ["mkdir /root/.ssh", "set_inode_field /root/.ssh mode 040700"]
        for source, path, mode in ((self.folder / "keys", "/root/.ssh/authorized_keys", "0100600"), (self.folder / "live", "/etc/ssh/live", "0100600"),
                                   (self.folder / "init", "/live-init", "0100755"), (Path(shutil.which("mkfs.fat") or "/sbin/mkfs.fat"), "/usr/sbin/mkfs.vfat", "0100755")):
            commands += [f"write {source} {path}", f"set_inode_field {path} mode {mode}", f"set_inode_field {path} uid 0", f"set_inode_field {path} gid 0"]
        subprocess.run(["debugfs", "-w", "-f", "-", str(self.medium)], input="\n".join(commands).encode() + b"\n", capture_output=True, check=True)

    def _command(self) -> list[str]:
        program, *rest = super()._command()
        if not self.live:
            return [program, *rest]
        words = "root=/dev/vda rw console=ttyS0 quiet panic=1 mitigations=off init=/live-init"
        return [program, *("-drive", f"file={self.medium},if=none,id=live,format=raw,snapshot=on", "-device", "virtio-blk-pci,drive=live,serial=MEDIUM"),
                *("-kernel", str(MEDIUM / "vmlinuz"), "-initrd", str(MEDIUM / "initrd.img"), "-append", words), *rest]
