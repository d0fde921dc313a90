"""Real OpenSSH servers on loopback, for measurements: every address of 127.0.30.0/23 that is asked for is a host.

sshd listens on at most 16 addresses, so a few processes share the hosts between them. All have one throw-away host key and
one throw-away client key; nobody else gets in, and whatever is run there is run as the user who measures. The program
`anew-host` on their PATH prints one fixed answer (docs/host-protocol.md): what a host does to answer is no part of a
measurement of the control side.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

A_PROCESS = 16
"""What sshd.c allows in one process (MAX_LISTEN_SOCKS)."""
COMMAND = "anew-host observe"
RAUC = '{"compatible":"anew-bench","variant":"","booted":"A","boot_primary":"rootfs.0","slots":[' + ",".join(
    f'{{"rootfs.{n}":{{"class":"rootfs","device":"/dev/disk/by-partlabel/root{n}","type":"raw","bootname":"{name}","state":"{state}",'
    f'"boot_status":"good","slot_status":{{"bundle":{{"version":"{n + 1}"}},"checksum":{{"sha256":"{n}{"a" * 63}","size":163577856}}}}}}}}'
    for n, (name, state) in enumerate((("A", "booted"), ("B", "inactive")))) + "]}"
ANSWER = f"""anew-host 1
backend rauc
boot_id 7f0c2a52-8a25-4a0e-9c0e-0f6f7d1c6a11
uptime 81
clock 1795312345
image_id bench-1-9f31c2ab
version 1
os Debian GNU/Linux 12 (bookworm)
root read-only squashfs
trial no
deadman off
booted A
data_free 412000000
data writable
epoch 7
env ok
server 1f0e4b9a-2f0e-4f43-a3dd-1f8a3b7e9f10
lock free
slot.A number=1 digest=sha256:{"a" * 64} version=1 image_id=bench-1-9f31c2ab state=blessed born=1795311111 op=0123456789abcdef rollout=- armed_boot=- bundle={"b" * 64}
bundle {"b" * 64} 41943040 complete
--- rauc {len(RAUC)}
{RAUC}
ok
"""


class Missing(RuntimeError):
    """What this machine lacks, as a sentence."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Hosts that answer, and how they are reached. `host_key`: "TYPE BASE64" of all of them."""

    addresses: tuple[str, ...]
    port: int
    user: str
    client_key: str
    host_key: str
    known_hosts: str


@contextlib.contextmanager
def hosts(count: int, folder: Path) -> Iterator[Hosts]:
    """`count` hosts that are up; they end with the block. `folder` must exist and be private. Raises Missing."""
    program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None or shutil.which("ssh-keygen") is None:
        raise Missing("there is no OpenSSH server here; install openssh-server")
    if not 0 < count <= 500:
        raise ValueError("1 to 500 hosts")
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(folder / name)], check=True, timeout=60)
    addresses = tuple(f"127.0.{30 + n // 250}.{1 + n % 250}" for n in range(count))
    made = _described(folder, addresses)
    with contextlib.ExitStack() as running:
        for first in range(0, count, A_PROCESS):
            running.enter_context(_sshd(program, folder, first, made))
        for address in addresses:
            _wait_for(address, made.port)
        yield made


def _described(folder: Path, addresses: tuple[str, ...]) -> Hosts:
    port = _free_port(addresses[0])
    kind, body, *_ = (folder / "host.pub").read_text(encoding="ascii").split()
    known = "".join(f"[{address}]:{port} {kind} {body}\n" for address in addresses)
    (folder / "known_hosts").write_text(known, encoding="ascii")
    for name in ("bin", "home"):  # an empty home: start-up files of the user's shell are no part of this
        (folder / name).mkdir()
    (folder / "answer").write_text(ANSWER, encoding="ascii")
    helper = folder / "bin" / "anew-host"
    helper.write_text(f"#!/bin/sh\nexec cat {folder}/answer\n", encoding="ascii")
    helper.chmod(0o755)
    return Hosts(addresses, port, getpass.getuser(), str(folder / "client"), f"{kind} {body}", str(folder / "known_hosts"))


def _free_port(address: str) -> int:
    with socket.socket() as one:
        one.bind((address, 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def _sshd(program: str, folder: Path, first: int, made: Hosts) -> Iterator[None]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it locks its unprivileged half up
    config = folder / f"sshd_config.{first}"
    listening = "".join(f"ListenAddress {address}:{made.port}\n" for address in made.addresses[first:first + A_PROCESS])
    config.write_text(f"""{listening}HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowUsers {made.user}
PermitRootLogin prohibit-password
MaxStartups 1000:30:2000
MaxSessions 100
LoginGraceTime 300
UseDNS no
PrintMotd no
LogLevel ERROR
SetEnv PATH={folder}/bin:/usr/local/bin:/usr/bin:/bin HOME={folder}/home
""", encoding="ascii")
    extra = ["-o", "PerSourcePenalties=no"]  # since OpenSSH 9.8; older ones do not know the word
    known = subprocess.run([program, "-t", "-f", str(config), *extra], capture_output=True, timeout=60).returncode == 0
    with open(folder / f"sshd.{first}.log", "wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(config), *(extra if known else [])], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(address: str, port: int, patience: float = 30.0) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection((address, port), timeout=5) as one:
                one.recv(64)
                return
        except OSError:
            if time.monotonic() > until:
                raise Missing(f"sshd does not answer at {address}:{port}; is there a rule against loopback addresses?") from None
            time.sleep(0.05)


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    """A private folder with a short name: the sockets of OpenSSH's masters have at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        yield Path(folder)
