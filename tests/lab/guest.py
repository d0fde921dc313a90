"""A guest of the lab image under plain QEMU, for tests of the image itself: no libvirt, loopback only."""

from __future__ import annotations

import base64
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.ports import free_port

REPO = Path(__file__).resolve().parents[2]
BUILD = REPO / "vagrant" / "images" / "lab" / "build.sh"
BOOT_DEADLINE = 180.0
"""Seconds a boot may take; six when idle without KVM, the rest is for a busy machine."""


def build(out: Path, version: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the recipe for one version; the caller judges the exit code."""
    command = [str(BUILD), "--version", version, "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def wait_until(condition: Callable[[], bool], deadline: float, what: str) -> None:
    """Poll until the condition holds; fails the test after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline:.0f} s"
        time.sleep(0.1)


def new_key(path: Path) -> str:
    """Make an ed25519 key pair without passphrase; returns the public line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip()


def identity(path: Path, login: Path, host: Path, *more: str) -> Path:
    """Write the fw_cfg blob of README.md: a name, who may log in, the server's SSH key, and any further lines."""
    lines = [
        "hostname=web-1",
        "instance-id=web-1.2",
        "authorized-keys=" + base64.b64encode(login.with_suffix(".pub").read_bytes()).decode(),
        "host-key=" + base64.b64encode(host.read_bytes()).decode(),
        *more,
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


class Guest:
    """One running QEMU; a context manager that ends exactly the process it started."""

    def __init__(self, image: Path, scratch: Path, *, blob: Path | None = None, data: Path | None = None) -> None:
        self.port = free_port()
        self.log = scratch / f"{image.name}-{self.port}.log"
        boot = tomllib.loads((image / "image.toml").read_text())["boot"]
        more: list[str] = []
        if data is not None:
            more += ["-drive", f"file={data},if=none,id=d,format=raw"]
            more += ["-device", "virtio-blk-pci,drive=d,serial=state"]
        if blob is not None:
            more += ["-fw_cfg", f"name=opt/org.anew/identity,file={blob}"]
        self.process = subprocess.Popen(
            [*self._machine(image, boot), *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _machine(self, image: Path, boot: dict[str, str]) -> list[str]:
        return [
            *("qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-m", "192", "-nodefaults"),
            *("-display", "none", "-no-reboot", "-serial", f"file:{self.log}"),
            *("-kernel", str(image / boot["kernel"]), "-initrd", str(image / boot["initrd"])),
            *("-append", boot["cmdline"]),
            *("-drive", f"file={image / 'root.squashfs'},if=none,id=r,format=raw,readonly=on"),
            *("-device", "virtio-blk-pci,drive=r", "-device", "virtio-rng-pci"),
            *("-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", "virtio-net-pci,netdev=n"),
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=30)

    def console(self) -> str:
        """All that the serial console has said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for(self, text: str) -> None:
        """Until the console says `text`."""
        wait_until(lambda: text in self.console() or self.process.poll() is not None, BOOT_DEADLINE, repr(text))
        assert text in self.console(), self.console()[-2000:]

    def wait_end(self) -> None:
        """Until the machine has ended by itself."""
        wait_until(lambda: self.process.poll() is not None, BOOT_DEADLINE, "the end of the machine")

    def banner(self) -> bytes:
        """What port 22 says first; empty when nobody is behind the forwarded port."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                return connection.recv(64)
        except OSError:
            return b""

    def ssh(self, login: Path, known_hosts: Path, command: str) -> subprocess.CompletedProcess[str]:
        """Run one command as root, with the server's key pinned."""
        options: Sequence[str] = (
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "ConnectTimeout=25",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={known_hosts}",
            "HostKeyAlias=web-1",
        )
        flags = [part for option in options for part in ("-o", option)]
        line = ["ssh", "-F", "none", *flags, "-i", str(login), "-p", str(self.port), "root@127.0.0.1", command]
        return subprocess.run(line, capture_output=True, text=True, timeout=90, check=False)
