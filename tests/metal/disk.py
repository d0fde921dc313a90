"""What of a pretended bare-metal machine outlives a power cut, and what its boot loader makes of it.

Rules (docs/host-protocol.md, "What observe says" and "Files on the data partition")
- The boot environment has one try a boot: the first slot in `order` that is good and not tried is tried. A kept image
  (its id is in `blessed`) gives its try back early in its boot; one on trial never does. Nothing left: count from the start.
- An environment that is empty, torn or missing boots slot A by the loader's defaults, without any one-shot protection.
- A slot that is being written is not good: a cut in the middle leaves bytes that nobody boots.
- Of a bundle only size and running hash are kept, so that hundreds of hosts cost nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

Slot = Literal["A", "B"]
SLOTS: tuple[Slot, Slot] = ("A", "B")
HEAD = 256
LOG_LINES = 200


def other(slot: str) -> Slot:
    """The slot beside this one."""
    return "B" if slot == "A" else "A"


@dataclass(frozen=True, slots=True)
class Content:
    """What a slot holds: an image whole. `sha` is its bundle's."""

    digest: str
    version: str
    image_id: str
    sha: str = ""
    size: int = 0


@dataclass(slots=True)
class Record:
    """One `key=value` line of STATE/slots. `number` is -1 before `arm` gives one."""

    digest: str
    version: str
    image_id: str
    state: str
    bundle: str
    op: str
    number: int = -1
    born: str = "-"
    rollout: str = "-"
    armed_boot: str = "-"

    def line(self) -> str:
        """As `observe` prints it, without the slot's name."""
        number = self.number if self.number >= 0 else "-"
        return (
            f"number={number} digest={self.digest} version={self.version} image_id={self.image_id} state={self.state} "
            f"born={self.born} op={self.op} rollout={self.rollout} armed_boot={self.armed_boot} bundle={self.bundle}"
        )


@dataclass(slots=True)
class Bytes:
    """A bundle, or the part of one that has arrived. `head`: its first bytes, to tell an unsigned one by."""

    running: Any = field(default_factory=hashlib.sha256)
    size: int = 0
    complete: bool = False
    head: bytes = b""

    def add(self, more: bytes) -> None:
        self.running.update(more)
        self.size += len(more)
        self.head = (self.head + more)[:HEAD] if len(self.head) < HEAD else self.head

    @property
    def sha(self) -> str:
        return str(self.running.hexdigest())


@dataclass(slots=True)
class BootEnvironment:
    """grubenv: which slot is to be taken first, which are good, which were tried."""

    order: list[Slot] = field(default_factory=lambda: ["A", "B"])
    good: dict[str, bool] = field(default_factory=lambda: {"A": True, "B": False})
    tried: dict[str, bool] = field(default_factory=lambda: {"A": False, "B": False})
    condition: Literal["ok", "empty", "torn", "missing"] = "ok"

    def first(self, slot: Slot) -> None:
        """RAUC's mark-active."""
        self.order = [slot, other(slot)]
        self.good[slot], self.tried[slot] = True, False

    def keep(self, slot: Slot) -> None:
        """RAUC's mark-good."""
        self.good[slot], self.tried[slot] = True, False

    def bad(self, slot: Slot) -> None:
        """RAUC's mark-bad."""
        self.good[slot] = False

    def primary(self) -> Slot | None:
        """The slot that would boot next, None if none would."""
        return next((slot for slot in self.order if self.good[slot] and not self.tried[slot]), None)


@dataclass(slots=True)
class Disk:
    """One machine's disk, boot environment and data partition. `free` and `capacity` in bytes; `log` is STATE/log."""

    server: str
    layout: bool = True
    contents: dict[str, Content | None] = field(default_factory=lambda: {"A": None, "B": None})
    records: dict[str, Record] = field(default_factory=dict)
    env: BootEnvironment = field(default_factory=BootEnvironment)
    epoch: int = 0
    log: list[str] = field(default_factory=list)
    bundles: dict[str, Bytes] = field(default_factory=dict)
    blessed: set[str] = field(default_factory=set)
    last_words: str = ""
    capacity: int = 1 << 30
    fstab: str = "rw"

    @classmethod
    def installed(cls, server: str, version: str = "1") -> Disk:
        """As a first install leaves it: slot A holds `version`, kept, no record; slot B holds nothing."""
        disk = cls(server)
        first = Content("", version, f"web-{version}-00000000")
        disk.contents["A"] = first
        disk.blessed.add(first.image_id)
        return disk

    @property
    def free(self) -> int:
        return self.capacity - sum(held.size for held in self.bundles.values())

    def boot(self) -> Slot:
        """What the boot loader takes, with the mark it leaves behind."""
        env = self.env
        if env.condition != "ok":
            return "A"
        chosen = env.primary()
        if chosen is None:
            env.tried = {"A": False, "B": False}
            chosen = env.primary() or env.order[0]
        env.tried[chosen] = True
        return chosen

    def booted(self, slot: Slot) -> bool:
        """Whether this boot is a trial; a kept image gives its try back."""
        content = self.contents[slot]
        trial = content is None or content.image_id not in self.blessed
        if not trial and self.env.condition == "ok":
            self.env.tried[slot] = False
        return trial

    def note(self, line: str) -> None:
        """Append to STATE/log, which keeps its last 200 lines."""
        self.log.append(line)
        del self.log[:-LOG_LINES]
