"""A machine's file tree in which the real `anew-host` runs, with the real RAUC, GRUB tool, flock and zstd around it.

Real: the program under dash and busybox sh; RAUC 1.8 with its service on a D-Bus of its own; signed bundles; grub-editenv;
loop mounts. Pretended: /proc's words about the boot, the partitions (files), and a boot, which is a change of those words
and of RAUC's idea of what is booted. Where a test needs a tool that stalls or fails, it puts a wrapper first on PATH.
Bundles for the GRUB backend are of RAUC's plain format, since its verity format needs the device mapper of a real machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from drivers.baremetal.protocol import Frame, parse

HELPER = Path(__file__).parents[2] / "drivers/baremetal/anew-host"
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"]}
NEEDED = ("rauc", "dbus-daemon", "grub-editenv", "flock", "zstd", "dash", "busybox", "openssl", "mksquashfs", "curl", "wget")
OP, OTHER_OP = "00000000000000aa", "00000000000000bb"
BOOTS = ("22222222-0000-4000-8000-00000000000{}").format
BUS = """<busconfig><type>system</type><listen>unix:path={0}</listen><auth>EXTERNAL</auth><policy context="default">
<allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>"""
CONF = """[system]
compatible=anew-test
bootloader=grub
grubenv={root}/efi/grub/grubenv
data-directory={root}/data/rauc
mountprefix={root}/run/rauc
bundle-formats=plain verity
activate-installed=false

[keyring]
path={keys}/ca.pem

[slot.rootfs.0]
device={root}/dev/disk/by-partlabel/rootA
type=raw
bootname=A

[slot.rootfs.1]
device={root}/dev/disk/by-partlabel/rootB
type=raw
bootname=B
"""


def missing() -> str:
    """Why this cannot run here, "" if it can."""
    if os.geteuid() != 0:
        return "the helper is root's: run as root"
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=60)


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A signed bundle, its file's name among the host's, and what its image's slot must begin with."""

    path: Path
    image: bytes

    @property
    def sha(self) -> str:
        return sha(self.path)

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.image).hexdigest()}"


def make_keys(where: Path) -> Path:
    """A certificate that signs itself: keyring and signer in one."""
    where.mkdir(parents=True)
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=test", "-keyout", where / "ca.key", "-out", where / "ca.pem")
    return where


def make_image(where: Path, version: str) -> Path:
    """A squashfs such as a slot holds: an id, a kernel, an initrd, and some bytes that do not pack."""
    tree = where / f"tree-{version}"
    for name, text in (("usr/lib/anew/image-id", f"web-{version}"), ("boot/vmlinuz", f"kernel {version}"), ("boot/initrd.img", f"initrd {version}")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text + "\n")
    (tree / "usr/bytes").write_bytes(hashlib.shake_256(version[:1].encode()).digest(300_000) + version.encode())
    run("mksquashfs", tree, where / f"{version}.img", "-noappend", "-quiet", "-no-progress")
    return where / f"{version}.img"


def make_bundle(where: Path, keys: Path, version: str, *, form: str = "plain", compatible: str = "anew-test") -> Bundle:
    """A bundle of `make_image`, signed with these keys."""
    work = where / f"{version}-{form}-{compatible}-{keys.name}"
    work.mkdir(parents=True)
    shutil.move(make_image(where, version), work / "rootfs.img")
    image = (work / "rootfs.img").read_bytes()
    of_form = "" if form == "plain" else f"[bundle]\nformat={form}\n"
    (work / "manifest.raucm").write_text(f"[update]\ncompatible={compatible}\nversion={version}\n{of_form}[image.rootfs]\nfilename=rootfs.img\n")
    path = work.with_suffix(".raucb")
    run("rauc", "bundle", f"--cert={keys}/ca.pem", f"--key={keys}/ca.key", work, path)
    return Bundle(path, image)


@dataclass(slots=True)
class Sandbox:
    """One host. `shell` is a key of SHELLS. `boot` counts boots: it is in the boot id."""

    root: Path
    shell: str
    keys: Path
    boot: int = 0
    env: dict[str, str] = field(default_factory=dict)
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("proc/sys/kernel/random", "proc/self", "run/rauc", "data/rauc", "efi/grub", "etc/rauc", "usr/lib/anew", "dev/disk/by-partlabel",
                     "var/lib", "wrap"):
            (self.root / name).mkdir(parents=True)
        self.write("etc/rauc/system.conf", CONF.format(root=self.root, keys=self.keys))
        self.write("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\n')
        self.write("usr/lib/anew/image-id", "web-0\n")
        self.write("usr/lib/anew/version", "0\n")
        for slot in "AB":
            with (self.root / f"dev/disk/by-partlabel/root{slot}").open("wb") as file:
                file.truncate(4 * 1024 * 1024)
        self.env = {"PATH": f"{self.root}/wrap:{os.environ['PATH']}", "ANEW_HOST_ROOT": str(self.root),
                    "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.root}/bus"}
        self.grubenv(ORDER="A B", A_OK="1", A_TRY="0", B_OK="0", B_TRY="0", new="1")
        self.words("A")

    def start(self) -> None:
        """RAUC's service, on a bus of this sandbox's own."""
        self.write("bus.conf", BUS.format(self.root / "bus"))
        self._children.append(subprocess.Popen(["dbus-daemon", f"--config-file={self.root}/bus.conf", "--nofork"], stderr=subprocess.DEVNULL))
        self.until(lambda: (self.root / "bus").exists())
        self.serve("A")

    def stop(self) -> None:
        """Ends what this sandbox started."""
        while self._children:
            child = self._children.pop()
            child.kill()
            child.wait()

    def serve(self, slot: str) -> None:
        """RAUC's service anew, in its belief that `slot` is booted; the one before ends."""
        while len(self._children) > 1:
            child = self._children.pop()
            child.kill()
            child.wait()
        self._children.append(subprocess.Popen(["rauc", f"--conf={self.root}/etc/rauc/system.conf", f"--override-boot-slot={slot}", "service"],
                                               env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        self.until(lambda: f"BOOTED_BOOTNAME='{slot}'" in subprocess.run(["rauc", "status", "--output-format=shell"], env=self.env, capture_output=True,
                                                                        text=True, check=False).stdout)

    def until(self, done: Callable[[], bool]) -> None:
        """Polls for at most 120 s: the machine may be busy."""
        end = time.monotonic() + 120
        while not done():
            assert time.monotonic() < end, "it did not come to pass within 120 s"
            time.sleep(0.01)

    def words(self, slot: str, *, trial: str | None = None) -> None:
        """What /proc and the initrd say after a boot of `slot`; `trial`: what the initrd wrote of its dead-man."""
        self.boot += 1
        self.write("proc/cmdline", f"quiet anew.root=x rauc.slot={slot} anew.env=first\n")
        self.write("proc/sys/kernel/random/boot_id", f"{BOOTS(self.boot)}\n")
        self.write("proc/uptime", "81.25 100.00\n")
        self.write("proc/self/mounts", "/dev/sda3 / squashfs ro,relatime 0 0\ntmpfs /run tmpfs rw 0 0\n")
        if trial is not None:
            self.write("run/anew-trial", trial + "\n")
        else:
            (self.root / "run/anew-trial").unlink(missing_ok=True)

    def reboots(self, slot: str, *, trial: str | None = None, image: str = "") -> None:
        """A boot of `slot` as grub.cfg and the initrd do it: the try is spent; on trial it stays so, else it is given back."""
        self.words(slot, trial=trial)
        self.grubenv(**{f"{slot}_TRY": "0" if trial is None else "1"})
        if image:
            self.write("usr/lib/anew/image-id", f"web-{image}\n")
        self.serve(slot)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def grubenv(self, new: str = "", **values: str) -> dict[str, str]:
        """Sets values with the real tool, and reads all."""
        path = self.root / "efi/grub/grubenv"
        if new:
            run("grub-editenv", path, "create")
        if values:
            run("grub-editenv", path, "set", *(f"{key}={value}" for key, value in values.items()))
        listed = subprocess.run(["grub-editenv", path, "list"], capture_output=True, text=True, check=True).stdout
        return dict(line.split("=", 1) for line in listed.splitlines())

    def record(self, slot: str) -> dict[str, str]:
        """A slot's record, {} if there is none."""
        path = self.root / f"data/anew/slots/{slot}"
        return dict(word.split("=", 1) for word in path.read_text().split()) if path.exists() else {}

    def slot(self, name: str) -> Path:
        return self.root / f"dev/disk/by-partlabel/root{name}"

    def bundle(self, found: Bundle, suffix: str = "bundle") -> Path:
        return self.root / f"data/anew/bundles/{found.sha}.{suffix}"

    def lacks(self, tool: str) -> None:
        """A PATH with all but this tool."""
        for name in os.environ["PATH"].split(":"):
            for path in Path(name).glob("*"):
                link = self.root / "wrap" / path.name
                if path.name != tool and not link.exists():
                    link.symlink_to(path)
        self.env["PATH"] = str(self.root / "wrap")

    def wrap(self, name: str, script: str) -> None:
        """A wrapper first on PATH; in it `real` is the real tool's path."""
        path = self.root / "wrap" / name
        path.write_text(f"#!/bin/sh\nreal={shutil.which(name)}\n{script}\n")
        path.chmod(0o755)

    def argv(self, *words: str) -> list[str]:
        return [*SHELLS[self.shell], str(HELPER), *words]

    def popen(self, *words: str) -> subprocess.Popen[bytes]:
        """The verb, with pipes to it, in a session of its own so that all of it can be killed."""
        return subprocess.Popen(self.argv(*words), env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                start_new_session=True)

    def say(self, *words: str, data: bytes = b"", argv: list[str] | None = None, env: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Exit code and all it printed."""
        done = subprocess.run(argv or self.argv(*words), env={**self.env, **(env or {})}, input=data, capture_output=True, timeout=60, check=False)
        return done.returncode, done.stdout

    def ask(self, *words: str, data: bytes = b"") -> Frame:
        """The answer, read by the controller's own parser; the exit code must belong to it."""
        status, output = self.say(*words, data=data)
        frame = parse(output, "test")
        assert status == exit_of(frame.code), (status, output)
        return frame

    def does(self, verb: str, *words: str, epoch: int = 7, op: str = OP, data: bytes = b"") -> str:
        """A verb that acts: the code of its answer, "" for ok."""
        return self.ask(verb, str(epoch), op, *words, data=data).code

    def uploads(self, bundle: Bundle) -> None:
        assert self.does("upload", bundle.sha, str(bundle.size), "0", data=bundle.path.read_bytes()) == ""

    def installs(self, bundle: Bundle, version: str = "1", *, op: str = OP) -> str:
        return self.does("install", bundle.sha, bundle.digest, version, op=op)

    def arms(self, bundle: Bundle, number: int = 1, *, op: str = OP) -> str:
        return self.does("arm", str(number), bundle.digest, "1795311111", "0a1b2c3d", op=op)


@contextmanager
def sandbox(shell: str, keys: Path) -> Iterator[Sandbox]:
    """A host in memory if there is such a place: the helper syncs a lot, and a busy disk would make that the test."""
    with TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None, prefix="anew-host-") as folder:
        made = Sandbox(Path(folder) / "host", shell, keys)
        try:
            yield made
        finally:
            made.stop()


def exit_of(code: str) -> int:
    """The table of docs/host-protocol.md."""
    if code in ("stale-epoch", "not-ours", "wrong-state", "wrong-disk", "not-blank", "no-helper"):
        return 3
    return {"": 0, "usage": 2, "busy": 4, "not-ready": 4}.get(code, 5)


__all__ = ["BOOTS", "OP", "OTHER_OP", "SHELLS", "Bundle", "Sandbox", "make_bundle", "make_image", "make_keys", "missing", "run", "sandbox", "sha"]
