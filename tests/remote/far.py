"""Another machine on loopback: a real OpenSSH server, and a real daemon on simulated servers behind it.

Whose SSH configuration is read is a test's own: an `ssh` before the others in PATH reads that file, as a wrapper of a person might.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drivers.identity import IdentityStore
from tests.cli.running import DEADLINE, PROGRAM, Ended, environment
from tests.engine.daemons import FLEET, Home
from tests.metal.sshd import Sshd, key, sshd

SFTP = "Subsystem sftp internal-sftp"


class Far:
    """`home`: the daemon over there, also reached without SSH; `person`: the folder of who calls it, with keys and a configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder, FLEET)
        self.person = folder / "person"
        (self.person / "bin").mkdir(parents=True)
        self.public = key(self.person, "mine")
        wrapper = self.person / "bin" / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {self.person}/config "$@"\n')
        wrapper.chmod(0o755)
        self.server: Sshd | None = None

    @property
    def socket(self) -> str:
        return str(self.folder / "s")

    @contextmanager
    def sshd(self, more: str = SFTP, name: str = "host") -> Iterator[Sshd]:
        """An SSH server that lets the person in as anybody, and is known to the person."""
        with sshd(self.folder / name, IdentityStore(str(self.folder / "none")), more=more, authorized=f"{self.public}\n") as server:
            (self.folder / name / "authorized").chmod(0o644)
            self.know(server, server.host_key)
            self.server = server
            self.configure(server)
            yield server

    def know(self, server: Sshd, *keys: str, mark: str = "") -> None:
        """What known_hosts says of it."""
        (self.person / "known").write_text("".join(f"{mark}[127.0.0.1]:{server.port} {one}\n" for one in keys))

    def configure(self, server: Sshd, more: str = "", identity: str = "mine", agent: str = "none") -> None:
        """~/.ssh/config, with the server as `control`."""
        (self.person / "config").write_text(f"""{more}
Host control
  User root
Host control inner
  HostName 127.0.0.1
  Port {server.port}
  IdentityFile {self.person}/{identity}
  IdentitiesOnly yes
  IdentityAgent {agent}
  UserKnownHostsFile {self.person}/known
  GlobalKnownHostsFile none
""")

    def surroundings(self, **more: str) -> dict[str, str]:
        """The environment of the person."""
        return {**environment(None, HOME=str(self.person), **more), "PATH": f"{self.person}/bin:{os.environ['PATH']}"}

    def anew(self, *arguments: str, on: str = "control", socket: str | None = None, **more: str) -> Ended:
        """A command of the person, without a terminal."""
        where = ["--socket", self.socket if socket is None else socket] if socket != "" else []
        done = subprocess.run([sys.executable, "-c", PROGRAM, "--on", on, *where, *arguments], env=self.surroundings(**more), stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=DEADLINE, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def far() -> Iterator[Far]:
    """With the daemon running, and everybody let through to its socket: what they may is for the daemon to say."""
    with tempfile.TemporaryDirectory(prefix="anew-far-") as folder:
        os.chmod(folder, 0o755)
        made = Far(Path(folder))
        try:
            made.home.start()
            os.chmod(made.socket, 0o666)
            yield made
        finally:
            made.home.close()
