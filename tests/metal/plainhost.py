"""A plain Debian host in a box: the root of the Debian image on a loop device, its own mounts and processes, a real sshd.

Not a machine (no kernel of its own), but what is done to its root is done by the real kernel to a real ext4.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.lab.daemonlab import DaemonLab
from tests.lab.guest import new_key, wait_until

IMAGE = Path(__file__).resolve().parents[2] / ".cache/lab/images/debian/1/root.raw"
PORT = 2622
"""Of each box's sshd, on a loopback address of its own."""
BOX = """set -e
mount -o loop "$1/root.raw" "$1/root"
mount -t proc proc "$1/root/proc"
mount -t tmpfs -o mode=755 run "$1/root/run"
mount -t tmpfs tmp "$1/root/tmp"
mount --rbind /dev "$1/root/dev"
mkdir -p "$1/root/run/sshd"
exec chroot "$1/root" /usr/sbin/sshd -D -e -o Port="$2" -o ListenAddress="$3" -o HostKey=/etc/ssh/box -o UsePAM=no -o PidFile=none
"""


class PlainHost:
    """`name`, where it answers, and what a test does in it behind anew's back."""

    def __init__(self, name: str, folder: Path, address: str) -> None:
        self.name, self.folder, self.address = name, folder, address
        self.root = folder / "root"
        self.login, self.key = folder / "login", folder / "box"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Its disk, with keys of its own in it."""
        login, host_key = new_key(self.login), new_key(self.key)
        self.host_key = " ".join(host_key.split()[:2])
        self.root.mkdir()
        subprocess.run(["cp", "--sparse=always", str(IMAGE), str(self.folder / "root.raw")], check=True)
        for path, text, mode in (("/etc/ssh/box", self.key.read_text(), "0100600"), ("/root/.ssh/authorized_keys", login + "\n", "0100600"),
                                 ("/etc/fstab", "# the root of a plain host\n/dev/vda / ext4 defaults,errors=remount-ro 0 1\n", "0100644")):
            self._put(path, text, mode)

    def _put(self, path: str, text: str, mode: str) -> None:
        """A file into the image, without mounting it here."""
        (self.folder / "put").write_text(text)
        commands = f"mkdir {os.path.dirname(path)}\nrm {path}\nwrite {self.folder / 'put'} {path}\nset_inode_field {path} mode {mode}\n"
        commands += f"set_inode_field {path} uid 0\nset_inode_field {path} gid 0\nset_inode_field {os.path.dirname(path)} mode 040700\n" if ".ssh" in path else ""
        subprocess.run(["debugfs", "-w", "-f", "-", str(self.folder / "root.raw")], input=commands.encode(), capture_output=True, check=True)

    def start(self) -> None:
        """Boot it, so to say: mounts are made anew, as /etc/fstab says for the root."""
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", BOX, "box", str(self.folder), str(PORT), self.address],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.ssh("true").returncode == 0, 120.0, f"the first login; {(self.folder / 'sshd.log').read_text()[-500:]}")

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command in the box, by OpenSSH."""
        known = self.folder / "known"
        known.write_text(f"box {self.host_key}\n")
        options = ["BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={known}", "HostKeyAlias=box", "ConnectTimeout=10"]
        return subprocess.run(["ssh", "-F", "none", *(part for option in options for part in ("-o", option)), "-i", str(self.login), "-p", str(PORT),
                               f"root@{self.address}", command], capture_output=True, text=True, timeout=60, check=False)

    def said(self, command: str) -> str:
        """Its standard output; it must succeed."""
        done = self.ssh(command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def root_options(self) -> str:
        """The kernel's word: the root's mount options."""
        return next(line.split()[3] for line in self.said("cat /proc/self/mounts").splitlines() if line.split()[1] == "/" and line.split()[2] == "ext4")

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)  # --kill-child takes all in the box along, and its mounts with them
            self._process.wait(30)


class PlainLab(DaemonLab):
    """A daemon over plain hosts in the pool `plain`."""

    def __init__(self, hosts: Sequence[PlainHost]) -> None:
        super().__init__(f"plain-{os.getpid()}-{os.urandom(2).hex()}")
        self.hosts: Mapping[str, PlainHost] = {host.name: host for host in hosts}
        images = self.folder / "images"
        images.mkdir()
        lines = ["[fleet]", f'name = "{self.name}"', "[images.plain]", f'path = "{images}"']
        for host in hosts:
            lines += [f"[machines.{host.name}]", f'address = "{host.address}"', f"port = {PORT}", f'key = "{host.login}"', f'host_key = "{host.host_key}"']
        names = ", ".join(f'"{host.name}"' for host in hosts)
        lines += ["[pools.plain]", 'driver = "baremetal"', f"machines = [{names}]", 'image = "plain"', 'mode = "manual"',
                  "[[pools.plain.health]]", f'tcp = {{ port = {PORT}, expect = "SSH-" }}']
        self.fleet.write_text("\n".join(lines) + "\n")

    def close(self) -> None:
        """End the daemon; the hosts end with their fixture."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def plain_host(name: str, address: str) -> Iterator[PlainHost]:
    """One for the block."""
    if os.geteuid() != 0:
        pytest.skip("a host in a box needs root rights for its mounts; the tests that need none have run")
    if not IMAGE.exists():
        pytest.fail(f"{IMAGE} is missing; run: make image-debian")
    folder = Path(tempfile.mkdtemp(prefix=f"anew-plain-{os.getpid()}-", dir="/tmp"))
    host = PlainHost(name, folder, address)
    try:
        host.prepare()
        host.start()
        yield host
    finally:
        host.stop()
        shutil.rmtree(folder, ignore_errors=True)
