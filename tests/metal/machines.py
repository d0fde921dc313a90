"""Real machines for the tests of bare metal: plain QEMU with firmware, boot loader and two slots, no libvirt.

- Machine N answers at 127.0.10.N, SSH on port 2222 and HTTP on port 8080, so all machines have the same ports, as real ones do.
- Each has a disk of its own, copied from the lab's (`make lab-metal`) and given a name, a host key and a UUID; nothing is
  mounted for that. The data partition of a machine that is off can be read, and written, from outside.
- `kill9` is a power cut: QEMU ends without any word to the guest. Writes that QEMU was given before survive, as with a disk
  that has no cache of its own.
- A machine belongs to this process; one that a killed test run left is ended when its number is used again, by its pid file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from fleet.images.manifest import read_manifest

REPO = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("ANEW_CACHE", REPO / ".cache"))
IMAGES = CACHE / "lab" / "images" / "metal"
DISKS = CACHE / "lab" / "disks"
RUNNING = CACHE / "lab" / "machines"
SSH_PORT = 2222
WEB_PORT = 8080
BOOT_DEADLINE = 300.0
"""Seconds a boot may take: 15 to 20 on an idle machine without KVM, the rest is for a busy one."""
LOGIN_TIMEOUT = 40
"""Seconds for one login: the key exchange alone takes some on an emulated processor, and each attempt forks sshd anew."""

Boot = Literal["grub", "sdboot"]
Firmware = Literal["bios", "uefi"]
_SECTOR = 512


class NotMade(Exception):
    """What the lab needs is not there; the text says what to run."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one machine from another: its host name, its server's UUID, its host key (the public line)."""

    name: str
    server: str
    host_key: str


def lab_files(boot: Boot = "grub") -> tuple[Path, Path]:
    """The disk to start from and the login key. Raises NotMade."""
    disk, login = DISKS / f"{boot}.raw", DISKS / "login"
    if not (DISKS / "made").exists() or not disk.exists():
        raise NotMade(f"{disk} is not there; run: make lab-metal")
    return disk, login


class Machine:
    """One machine; a context manager that ends exactly the process it started."""

    def __init__(self, number: int, folder: Path, *, boot: Boot = "grub", firmware: Firmware = "bios", name: str = "", memory: int = 384, deadman: int = 0) -> None:
        """`number` is 1 to 250; `folder` is the machine's own; `memory` is in MiB; `deadman`, if given, is the dead-man's seconds. Raises NotMade."""
        base, self.login = lab_files(boot)
        self.number = number
        self.folder = folder
        self.address = f"127.0.10.{number}"
        self.firmware: Firmware = "uefi" if boot == "sdboot" else firmware
        self.memory = memory
        self.disk = folder / "disk.raw"
        self.log = folder / "serial.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.pid_file = RUNNING / f"{number}.pid"
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", str(base), str(self.disk)], check=True)
        self.identity = self._identify(name or f"rack{number}")
        if deadman and boot == "grub":
            self._set_deadman(deadman)
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(f"[{self.address}]:{SSH_PORT} {self.identity.host_key}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill9()

    # --- power

    def start(self) -> None:
        """Power on; does nothing if it is on. Returns at once, long before the host answers."""
        if self.running:
            return
        self._end_stale()
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        RUNNING.mkdir(parents=True, exist_ok=True)
        self.pid_file.write_text(f"{self.process.pid} {os.getpid()}\n")

    def kill9(self) -> None:
        """Cut the power; does nothing if it is off."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=60)
        self.process = None
        self.pid_file.unlink(missing_ok=True)

    @property
    def running(self) -> bool:
        """Whether the power is on."""
        return self.process is not None and self.process.poll() is None

    def _end_stale(self) -> None:
        """End what a killed test run left under this number. What a run that goes on uses is left alone: two runs cannot share a number."""
        with contextlib.suppress(FileNotFoundError):
            pid, owner = (int(word) for word in self.pid_file.read_text().split())
            if f"{self.address}:{SSH_PORT}" not in _command_line(pid):
                return
            assert not _command_line(owner), f"machine {self.number} is in use by process {owner}; choose another number"
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not _command_line(pid), 30, f"the end of process {pid}")

    def _command(self) -> list[str]:
        forwards = f"hostfwd=tcp:{self.address}:{SSH_PORT}-:22,hostfwd=tcp:{self.address}:{WEB_PORT}-:8080"
        return [
            *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max,-la57"),
            *("-smp", "1", "-m", str(self.memory), "-nodefaults", "-display", "none", "-vga", "none"),
            *("-serial", f"file:{self.log}", "-device", "virtio-rng-pci"),
            *("-drive", f"file={self.disk},if=none,id=d,format=raw,cache=writeback"),
            *("-device", f"virtio-blk-pci,drive=d,serial={self.identity.name}"),
            *("-netdev", f"user,id=n,restrict=on,{forwards}", "-device", "virtio-net-pci,netdev=n,romfile="),
            *(self._flash() if self.firmware == "uefi" else []),
        ]

    def _flash(self) -> list[str]:
        """OVMF, with variables of this machine's own that outlive a power cut."""
        folder = Path("/usr/share/OVMF")
        size = "_4M" if (folder / "OVMF_CODE_4M.fd").exists() else ""
        variables = self.folder / "variables.fd"
        if not variables.exists():
            shutil.copyfile(folder / f"OVMF_VARS{size}.fd", variables)
        code = f"if=pflash,format=raw,readonly=on,file={folder / f'OVMF_CODE{size}.fd'}"
        return ["-drive", code, "-drive", f"if=pflash,format=raw,file={variables}"]

    # --- from outside, over SSH

    def ssh(self, command: str, *, stdin: bytes = b"", timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run one command as root, with the machine's host key pinned; exit code 255 means that no login was had."""
        options = ["BatchMode=yes", "IdentitiesOnly=yes", f"ConnectTimeout={LOGIN_TIMEOUT}", "StrictHostKeyChecking=yes",
                   f"UserKnownHostsFile={self.known_hosts}", "LogLevel=ERROR", "Ciphers=aes128-gcm@openssh.com"]
        flags = [part for option in options for part in ("-o", option)]
        line = ["ssh", "-F", "none", *flags, "-i", str(self.login), "-p", str(SSH_PORT), f"root@{self.address}", command]
        try:
            done = subprocess.run(line, input=stdin, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired as late:
            return subprocess.CompletedProcess(line, 255, "", f"no answer within {late.timeout:.0f} s")
        return subprocess.CompletedProcess(line, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def said(self, command: str, *, timeout: float = 120) -> str:
        """What a command printed that must succeed."""
        done = self.ssh(command, timeout=timeout)
        assert done.returncode == 0, f"{command!r} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}"
        return done.stdout.strip()

    def wait_up(self, *, other_than: str = "", deadline: float = BOOT_DEADLINE) -> str:
        """Until it answers with a boot id that is not `other_than`; returns the boot id."""
        found = ""

        def answers() -> bool:
            nonlocal found
            assert self.running, f"QEMU has ended by itself\n{self.last_lines()}"
            if not self.greets():
                return False
            found = self.ssh("cat /proc/sys/kernel/random/boot_id", timeout=LOGIN_TIMEOUT + 20).stdout.strip()
            return found not in ("", other_than)

        wait_until(answers, deadline, f"{self.identity.name} answers SSH", more=self.last_lines)
        return found

    def greets(self) -> bool:
        """Whether sshd says its banner within seconds. QEMU accepts the connection also when nobody listens in the guest."""
        try:
            with socket.create_connection((self.address, SSH_PORT), timeout=6) as connection:
                return connection.recv(64).startswith(b"SSH-2.0")
        except OSError:
            return False

    def boot(self) -> float:
        """Power on and wait for SSH; returns the seconds that took."""
        began = time.monotonic()
        self.start()
        self.wait_up()
        return time.monotonic() - began

    def last_lines(self) -> str:
        """The end of the serial console."""
        return self.log.read_text(errors="replace")[-1500:] if self.log.exists() else ""

    # --- the disk of a machine that is off

    def read_data(self, path: str) -> str:
        """A file of the data partition, such as `anew/trail`; empty if there is none. Only while the power is off."""
        assert not self.running, "the disk of a running machine belongs to it"
        return self._debugfs(f"cat /{path}")

    def peek_data(self, path: str) -> str:
        """The same of a copy: the journal of the machine's own disk is left for the machine itself to replay."""
        disk = self.disk
        self.disk = self.folder / "peek.raw"
        try:
            subprocess.run(["cp", "--reflink=auto", "--sparse=always", str(disk), str(self.disk)], check=True)
            return self.read_data(path)
        finally:
            self.disk.unlink(missing_ok=True)
            self.disk = disk

    def write_data(self, path: str, text: str, mode: str = "0100644") -> None:
        """Put a file there, owned by root. Only while the power is off."""
        assert not self.running, "the disk of a running machine belongs to it"
        source = self.folder / "put"
        source.write_text(text)
        commands = self.folder / "commands"
        commands.write_text(f"rm /{path}\nwrite {source} /{path}\nsif /{path} mode {mode}\nsif /{path} uid 0\nsif /{path} gid 0\n")
        self._debugfs("-f", str(commands))
        source.unlink()

    def damage_file(self, path: str, size: int) -> None:
        """Cut a file of the ESP, such as `grub/grubenv`, to `size` bytes: what a power cut while it is written leaves."""
        assert not self.running, "the disk of a running machine belongs to it"
        kept = self._take(path)
        os.truncate(kept, size)
        self._put(kept, path)

    def plant(self, image: Path, number: int) -> None:
        """Put an image into slot B, armed to be tried once as incarnation `number`: what install and arm do, in a second. Off, GRUB."""
        assert not self.running, "the disk of a running machine belongs to it"
        unpacked = self.folder / "unpacked"
        authority = CACHE / "metal" / "keys" / "ca.pem"
        subprocess.run(["rauc", "extract", f"--keyring={authority}", str(image / "root.raucb"), str(unpacked)], capture_output=True, check=True)
        start = self._start("rootB")
        subprocess.run(["dd", f"if={unpacked / 'rootfs.img'}", f"of={self.disk}", "bs=1M", f"seek={start}", "oflag=seek_bytes",
                        "conv=notrunc,sparse", "status=none"], check=True)
        shutil.rmtree(unpacked)
        reference = read_manifest(str(image)).ref
        self.write_data("anew/slots/B", f"number={number} digest={reference.digest} version={reference.version} image_id=- state=armed born=0 "
                                        f"op={number:016x} rollout=- armed_boot=- bundle=-\n")
        environment = self._take("grub/grubenv")
        subprocess.run(["grub-editenv", str(environment), "set", "ORDER=B A", "B_OK=1", "B_TRY=0"], check=True)
        self._put(environment, "grub/grubenv")

    def _take(self, path: str) -> Path:
        """A copy of a file of the ESP."""
        kept = self.folder / "kept"
        self._mcopy("-n", f"::{path}", str(kept))
        return kept

    def _put(self, source: Path, path: str) -> None:
        self._mcopy(str(source), f"::{path}")

    def _mcopy(self, *words: str) -> None:
        esp = f"{self.disk}@@{self._start('ESP')}"
        subprocess.run(["mcopy", "-o", "-i", esp, *words], check=True, env={**os.environ, "MTOOLS_SKIP_CHECK": "1"})

    def _set_deadman(self, seconds: int) -> None:
        environment = self._take("grub/grubenv")
        said = subprocess.run(["grub-editenv", str(environment), "list"], capture_output=True, text=True, check=True).stdout
        extra = next(line.removeprefix("extra=") for line in said.splitlines() if line.startswith("extra="))
        extra = re.sub(r"anew\.deadman=\d+", f"anew.deadman={seconds}", extra)
        subprocess.run(["grub-editenv", str(environment), "set", f"extra={extra}"], check=True)
        self._put(environment, "grub/grubenv")

    def _start(self, partition: str) -> int:
        """Where a partition begins, in bytes."""
        table = subprocess.run(["/usr/sbin/sfdisk", "-d", str(self.disk)], capture_output=True, text=True, check=True).stdout
        found = re.search(rf'start= *(\d+),.*name="{partition}"', table)
        assert found, f"no partition {partition} in {self.disk}"
        return int(found[1]) * _SECTOR

    def _debugfs(self, request: str, *more: str) -> str:
        words = [request, *more] if request == "-f" else ["-R", request]
        at = f"{self.disk}?offset={self._start('data')}"
        # debugfs does not replay the journal; whoever boots this disk does, and so must who reads it.
        subprocess.run(["/usr/sbin/e2fsck", "-p", at], capture_output=True, check=False)
        done = subprocess.run(["/usr/sbin/debugfs", "-w", *words, at], capture_output=True, text=True, check=True)
        return done.stdout

    def _identify(self, name: str) -> Identity:
        key = self.folder / "host_key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True)
        public = key.with_suffix(".pub").read_text().strip()
        identity = Identity(name, str(uuid.uuid4()), public)
        self.write_data("state/etc/hostname", name + "\n")
        self.write_data("anew/server", identity.server + "\n")
        self.write_data("state/etc/ssh/ssh_host_ed25519_key", key.read_text(), "0100600")
        self.write_data("state/etc/ssh/ssh_host_ed25519_key.pub", public + "\n")
        return identity


def _command_line(pid: int) -> str:
    """Of a process that runs; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], deadline: float, what: str, more: Callable[[], str] = str) -> None:
    """Poll until the condition holds; fails the test after `deadline` seconds, with what `more` says."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline:.0f} s\n{more()}"
        time.sleep(0.5)
