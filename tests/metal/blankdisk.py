"""A live system's view of one disk: the real installer program on a loop device, with a made-up /sys that gives it a serial number.

Real: the program under dash and busybox sh, sfdisk, mkfs, mounts, the loop device with its partitions, the lab's bundle.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from drivers.baremetal.install import orders, program
from drivers.baremetal.protocol import Frame, parse
from fleet.images.manifest import read_manifest
from tests.metal.machines import IMAGES

SERIAL, NAME, OP = "DISK-0001", "rack7", "00000000000000aa"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKd3Vd0PvPaXxUYbS7hZzY0JYcM2TqPZ1m0tqGm7dP1S test"
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"]}
NEEDED = ("sfdisk", "mkfs.vfat", "mkfs.ext4", "blkid", "wipefs", "blockdev", "losetup", "partx", "ssh-keygen", "dash", "busybox", "flock")
DISK, BLOCK = "vdx", 64 * 1024


def missing() -> str:
    """Why this cannot run here, "" if it can."""
    if os.geteuid() != 0:
        return "loop devices and mounts need root rights"
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


@dataclass(frozen=True)
class Given:
    """The bundle as its manifest names it."""

    path: Path
    sha: str
    size: int
    digest: str
    version: str


def bundle(folder: Path, version: str = "1") -> Given:
    """A copy, since the lab's may be made anew meanwhile."""
    shutil.copytree(IMAGES / version, folder / version)
    image = read_manifest(str(folder / version))
    file = image.files[image.root]
    return Given(folder / version / file.name, file.sha256, file.size, image.ref.digest, version)


class Live:
    """One live system with one disk. `device` is its loop device."""

    def __init__(self, folder: Path, mib: int) -> None:
        self.root, self.file = folder / "live", folder / "disk.raw"
        self.file.touch()
        os.truncate(self.file, mib * 2**20)
        for name in ("proc/self", "dev", "run/anew", "var/lib", f"sys/block/{DISK}/holders"):
            (self.root / name).mkdir(parents=True)
        self.attach()
        self.install = self.root / f"run/anew/install-{OP}"

    def attach(self) -> None:
        """The disk appears, as at a boot."""
        self.device = subprocess.run(["losetup", "-fP", "--show", str(self.file)], check=True, capture_output=True, text=True).stdout.strip()
        sys = self.root / f"sys/block/{DISK}"
        (sys / "serial").write_text(f"  {SERIAL}\n")
        (sys / "dev").write_text((Path("/sys/block") / self.device[5:] / "dev").read_text())
        for number in ("", "1", "2", "3", "4", "5"):
            node = self.root / "dev" / f"{DISK}{number}"
            node.unlink(missing_ok=True)
            node.symlink_to(f"{self.device}p{number}" if number else self.device)
        (self.root / "proc/self/mountinfo").write_text("22 1 0:21 / / rw - overlay overlay rw\n")
        (self.root / "proc/swaps").write_text("Filename Type Size Used Priority\n")

    def detach(self) -> None:
        """The power goes: nothing is mounted any more."""
        for place in ("esp", "data", "root", "bundle"):
            with suppress(subprocess.CalledProcessError):
                subprocess.run(["umount", str(self.root / "run/anew/layout" / place)], check=True, capture_output=True)
        subprocess.run(["partx", "-d", self.device], check=False, capture_output=True)  # kernels without GPT were told of them by partx
        subprocess.run(["losetup", "-d", self.device], check=False)

    def put(self, text: bytes) -> None:
        """Program and orders into its memory."""
        self.install.mkdir(mode=0o700, exist_ok=True)
        (self.install / "program").write_bytes(program())
        (self.install / "orders").write_bytes(text)

    def start(self, given: Given, shell: str = "dash", *, serial: str = SERIAL, epoch: int = 1, text: bytes | None = None,
              wrap: Path | None = None, sha: str = "") -> subprocess.Popen[bytes]:
        """The installer, which waits for its standard input."""
        self.put(orders(1795300000.5, [KEY]) if text is None else text)
        path = f"{wrap}:{os.environ['PATH']}" if wrap else os.environ["PATH"]
        words = [str(self.install / "program"), "layout", str(epoch), OP, serial, sha or given.sha, str(given.size), given.digest, given.version, NAME]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SSH_") and key != "SUDO_UID"}
        return subprocess.Popen([*SHELLS[shell], *words], env={**kept, "PATH": path, "ANEW_HOST_ROOT": str(self.root)},
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def lay(self, given: Given, shell: str = "dash", *, bytes_given: int | None = None, serial: str = SERIAL, epoch: int = 1, text: bytes | None = None,
            wrap: Path | None = None, sha: str = "") -> tuple[int, Frame]:
        """Run the installer to its end; `bytes_given` of the bundle reach it (all, if None)."""
        process = self.start(given, shell, serial=serial, epoch=epoch, text=text, wrap=wrap, sha=sha)
        with given.path.open("rb") as file:
            output, _ = process.communicate(file.read(-1 if bytes_given is None else bytes_given), timeout=240)
        return process.returncode, parse(output, NAME)

    def fingerprint(self) -> str:
        """Of every byte of the disk that is not zero, and where it is."""
        with open(self.device, "r+b") as disk:
            os.fsync(disk.fileno())
        found = hashlib.sha256()
        with self.file.open("rb") as file:
            end, at = os.fstat(file.fileno()).st_size, 0
            while at < end:
                try:
                    data = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break  # nothing but holes from here on
                begin = max(at, data // BLOCK * BLOCK)  # file systems begin and end extents where they like
                at = -(-os.lseek(file.fileno(), data, os.SEEK_HOLE) // BLOCK) * BLOCK
                file.seek(begin)
                for place in range(begin, at, BLOCK):
                    if (block := file.read(min(BLOCK, at - place))).strip(b"\0"):
                        found.update(f"{place} ".encode() + block)
        return found.hexdigest()

    def write(self, offset: int, data: bytes) -> None:
        """Behind everybody's back, into the disk."""
        with open(self.device, "r+b") as file:
            file.seek(offset)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def partition(self, number: int) -> str:
        """Its device; a kernel without GPT forgets it whenever the table was read again."""
        node = f"{self.device}p{number}"
        if not os.path.exists(node):
            subprocess.run(["partx", "-u", self.device], check=True, capture_output=True)
        return node

    @contextmanager
    def mounted(self, number: int, kind: str) -> Iterator[Path]:
        """A partition, read-only."""
        at = self.root / f"look{number}"
        at.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", kind, "-o", "ro", self.partition(number), str(at)], check=True)
        try:
            yield at
        finally:
            subprocess.run(["umount", str(at)], check=True)


@contextmanager
def live(folder: Path, mib: int = 1024) -> Iterator[Live]:
    """One for the block."""
    system = Live(folder, mib)
    try:
        yield system
    finally:
        system.detach()
