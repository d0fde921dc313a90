"""What was seen: images as catalogued, incarnations as a driver found them, health as the controller measured it.

All times are *engine time*: seconds since the epoch that never run backwards within or across daemons (see engine/clock).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

ObservedRoot = Literal["read-only", "overlay", "writable", "unknown"]
Running = Literal["running", "stopped", "crashed", "half-made"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image by name and by what it is. `digest` is `sha256:<64 hex>`; two refs are the same image iff digests match."""

    family: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.family}/{self.version}"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file of an image: sha256 in hex, size in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Boot:
    """Direct kernel boot: file names in the image folder, and the kernel's command line."""

    kernel: str
    initrd: str
    cmdline: str


@dataclass(frozen=True, slots=True)
class Image:
    """A catalogued image. `folder` is the absolute path of its files ("" for a simulated one)."""

    ref: ImageRef
    kind: Literal["squashfs", "erofs", "raw", "qcow2", "rauc", "simulated"]
    root: str = ""
    boot: Boot | None = None
    files: Mapping[str, ImageFile] = field(default_factory=dict)
    folder: str = ""
    built_at: str = ""
    source: str = ""
    packages: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """One incarnation as a driver found it. Identity is (server_uuid, number) and our metadata, never the name.

    `operation` is the id that made it, so that a repeated birth adopts it. `place` is the hypervisor ("sim" in the sim).
    `address` is "host:port" where probes reach it, "" if unknown. `data_held`: data disks attached for writing.
    `unfit`: the sentence why its server can only be looked at, and takes part in no rollout, "" if it can.
    """

    server: str
    number: int
    digest: str
    version: str
    state: Running
    born_at: float
    place: str = ""
    address: str = ""
    operation: str = ""
    rollout: str = ""
    data_held: tuple[str, ...] = ()
    uuid: str = ""
    note: str = ""
    console: str = ""
    unfit: str = ""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something anew did not make: a domain that could be adopted, or one that bears a name of ours."""

    place: str
    name: str
    uuid: str
    state: Running
    note: str = ""


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something with our tag that nothing refers to: kind is `domain`, `volume`, `seed` or `file`; `key` finds it again."""

    place: str
    kind: str
    key: str
    note: str = ""


@dataclass(frozen=True)
class Observed:
    """A pool as one `observe` saw it. `unreachable` maps a place to the sentence why; its servers are then unknown, not absent."""

    pool: str
    at: float
    incarnations: tuple[Seen, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    unreachable: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def by_server(self) -> Mapping[str, Mapping[int, Seen]]:
        """server -> number -> incarnation."""
        found: dict[str, dict[int, Seen]] = {}
        for seen in self.incarnations:
            found.setdefault(seen.server, {})[seen.number] = seen
        return found


@dataclass(frozen=True, slots=True)
class Facts:
    """What was learned from inside a running server: hostile until parsed, "" or "unknown" where it was not to be had."""

    root: ObservedRoot = "unknown"
    version: str = ""
    boot_id: str = ""
    os: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """The controller's own view of one incarnation. `since`: engine time from which this verdict held without a gap.

    `last`: when it was last probed. `words`: the probe's own words ("tcp 22: SSH-2.0-dropbear in 3 ms").
    """

    healthy: bool
    since: float
    last: float
    words: str = ""
