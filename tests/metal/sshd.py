"""Real OpenSSH servers on loopback, each with a sandbox in which the real `anew-host` keeps its bundles.

The helper takes its sandbox from nobody who comes over SSH, so a wrapper stands before it that hides where the call comes from.
What sshd logs is kept: a test can say that no authentication was tried.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from drivers.identity import IdentityStore
from tests.ports import free_port

HELPER = Path(__file__).parents[2] / "drivers" / "baremetal" / "anew-host"
DEADLINE = 120.0
"""Seconds for an sshd to listen, and to end: both take a moment where the machine is not busy elsewhere."""


@dataclass(frozen=True, slots=True)
class Sshd:
    """A host that runs. `host_key`: "TYPE BASE64" of what it shows first; `root`: its sandbox; `pid`: of the sshd that listens."""

    port: int
    host_key: str
    folder: Path
    user: str
    pid: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def bundles(self) -> Path:
        return self.root / "var/lib/anew/bundles"

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def verbs(self) -> list[str]:
        """The lines that reached the helper."""
        path = self.folder / "verbs"
        return path.read_text().splitlines() if path.exists() else []


def key(folder: Path, name: str, kind: str = "ed25519") -> str:
    """Make a key pair; "TYPE BASE64" of it."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", str(folder / name)], check=True, timeout=60)
    return public(folder / name)


def public(path: Path) -> str:
    """ "TYPE BASE64" of a private key's neighbour."""
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def certify(folder: Path, name: str, principals: str) -> str:
    """Sign the host key `host` with a CA made here; the CA's "TYPE BASE64"."""
    authority = key(folder, name)
    subprocess.run(["ssh-keygen", "-q", "-s", str(folder / name), "-I", "rack", "-h", "-n", principals, str(folder / "host.pub")], check=True, timeout=60)
    return authority


@contextlib.contextmanager
def sshd(folder: Path, store: IdentityStore, *, port: int = 0, more: str = "", authorized: str | None = None) -> Iterator[Sshd]:
    """A host that lets anew's client key in (or `authorized`). A host key that `folder` has already is used."""
    program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        pytest.skip("there is no OpenSSH server here; install openssh-server")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "host").exists():
        key(folder, "host")
    (folder / "authorized").write_text(store.client_public() + "\n" if authorized is None else authorized)
    made = Sshd(port or free_port(), public(folder / "host"), folder, getpass.getuser())
    _sandbox(made)
    config = folder / "sshd_config"
    certificate = f"HostCertificate {folder}/host-cert.pub\n" if (folder / "host-cert.pub").exists() else ""
    config.write_text(f"""ListenAddress 127.0.0.1:{made.port}
HostKey {folder}/host
{certificate}AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100:30:200
UseDNS no
PrintMotd no
LogLevel VERBOSE
SetEnv PATH={folder}/bin:/usr/local/bin:/usr/bin:/bin HOME={folder}/home
{more}
""")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(made.port, process, folder)
        yield replace(made, pid=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        finally:
            process.kill()


def _sandbox(made: Sshd) -> None:
    for name in ("proc/sys/kernel/random", "run", "var/lib", "usr/lib/anew", "etc"):
        (made.root / name).mkdir(parents=True, exist_ok=True)
    (made.root / "proc/self").mkdir(exist_ok=True)
    (made.root / "proc/cmdline").write_text("quiet\n")
    (made.root / "proc/sys/kernel/random/boot_id").write_text("7f0c2a52-8a25-4a0e-9c0e-0f6f7d1c6a11\n")
    for name in ("bin", "home"):  # an empty home: start-up files of the user's shell are no part of this
        (made.folder / name).mkdir(exist_ok=True)
    wrapper = made.folder / "bin" / "anew-host"
    wrapper.write_text(f"""#!/bin/sh
echo "$*" >>{made.folder}/verbs
exec env -u SSH_CONNECTION -u SSH_CLIENT -u SSH_ORIGINAL_COMMAND ANEW_HOST_ROOT={made.root} ANEW_HOST_PATH=1 sh {HELPER} "$@"
""")
    wrapper.chmod(0o755)


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"sshd ended: {(folder / 'log').read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)  # noqa: TID251 - the server is a process, it tells nobody when it listens
    raise AssertionError("sshd does not listen")
