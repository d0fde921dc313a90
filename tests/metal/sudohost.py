"""A host that anew gets into as docs/metal.md says: a user of its own, the real helper at its real place, the real sudo and sshd.

It is this machine with mounts of its own: users, sudoers, programs and all that the helper writes lie in memory and end with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.metal.machines import wait_until
from tests.metal.sshd import HELPER, key
from tests.ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "metal.md"
USER = "anew"
NEEDED = ("unshare", "sshd", "sudo", "visudo", "useradd", "ssh")
BOX = """set -e
b=$1/box
mkdir "$b"
mount -t tmpfs box "$b"
for dir in /etc /usr/bin; do
  mkdir -p "$b/up$dir" "$b/work$dir"
  mount -t overlay box -o lowerdir="$dir",upperdir="$b/up$dir",workdir="$b/work$dir" "$dir"
done
for dir in /home /run /var/lib; do mount -t tmpfs -o mode=755 box "$dir"; done
mount -t proc proc /proc
mkdir /run/sshd
printf '@includedir /etc/sudoers.d\\nDefaults env_reset, use_pty\\n' >/etc/sudoers
rm -rf /etc/sudoers.d && mkdir -m 755 /etc/sudoers.d
install -m 0755 "$1/helper" /usr/bin/anew-host
"""
THEN = 'exec "$(command -v sshd)" -D -e -f "$1/sshd_config"\n'


def commands() -> str:
    """What the page has a person do as root on the machine, `AAAA…` aside."""
    found = re.search(r"\*\*A user of its own.*?\n```\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, "docs/metal.md says no more how to let anew in"
    return found[1]


@dataclass(frozen=True)
class SudoHost:
    """One that runs."""

    folder: Path
    port: int
    host_key: str

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def ssh(self, login: Path, command: str = "", *options: str) -> subprocess.CompletedProcess[str]:
        """A session as somebody else would open it who has this key."""
        (self.folder / "known").write_text(f"box {self.host_key}\n")
        fixed = ("BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={self.folder / 'known'}", "HostKeyAlias=box", "ConnectTimeout=20")
        words = ["ssh", "-F", "none", *(part for option in fixed for part in ("-o", option)), "-i", str(login), "-p", str(self.port), *options]
        return subprocess.run([*words, f"{USER}@127.0.0.1", *([command] if command else [])], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
                              check=False)


@contextlib.contextmanager
def sudo_host(steps: str) -> Iterator[SudoHost]:
    """A host on which root has run `steps`, a shell's."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if os.geteuid() != 0 or (lacking := [name for name in NEEDED if shutil.which(name, path=path) is None]):
        pytest.skip("needs root" if os.geteuid() else f"not installed: {', '.join(lacking)}")
    folder = Path(tempfile.mkdtemp(prefix="anew-sudo-"))  # not below a folder that only root may enter
    try:
        shutil.copy(HELPER, folder / "helper")
        host = SudoHost(folder, free_port(), key(folder, "host"))
        (folder / "sshd_config").write_text(f"ListenAddress 127.0.0.1:{host.port}\nHostKey {folder}/host\nPidFile none\nUsePAM yes\nUseDNS no\nLogLevel VERBOSE\n"
                                            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n")
        with open(folder / "log", "ab") as log:
            process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", BOX + steps + "\n" + THEN, "box", str(folder)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"})
        try:
            wait_until(lambda: process.poll() is not None or "Server listening" in host.log(), 60.0, "sshd listens", host.log)
            assert process.poll() is None, host.log()
            yield host
        finally:
            process.kill()  # --kill-child takes all in the box along, and its mounts with them
            process.wait(30)
    finally:
        shutil.rmtree(folder)
