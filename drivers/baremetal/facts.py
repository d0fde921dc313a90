"""What a host told about itself, as one frozen value. Everything in it is a stranger's claim: typed, short, printable.

A value outside its grammar is as good as not said. Nothing here raises but for a frame that is no `observe` at all.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from drivers.baremetal import backends, words
from drivers.baremetal.backends import Reading
from drivers.baremetal.protocol import Frame
from fleet.core.errors import Permanent
from fleet.core.observed import ObservedRoot

RecordState = Literal["writing", "staged", "armed", "blessed", "kept", "rejected"]
STATES: Final = ("writing", "staged", "armed", "blessed", "kept", "rejected")
SLOTS: Final = ("A", "B")
MOST_BUNDLES: Final = 64
YEAR_10000: Final = 253_402_300_800
"""Seconds since the epoch."""

_IMAGE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]{0,127}")
_UP_TO_9: Final = re.compile(r"[0-9]{1,9}")
_UP_TO_18: Final = re.compile(r"[0-9]{1,18}")
_BOOT_ID, _DIGEST, _OP, _ROLLOUT, _SHA, _VERSION = map(re.compile, (words.BOOT_ID, words.DIGEST, words.OP, words.ROLLOUT, words.SHA, words.VERSION))
_SERVER: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot's record. `number` is -1 while it is no incarnation; `born` in seconds since the epoch."""

    name: str
    state: RecordState
    number: int = -1
    digest: str = ""
    version: str = ""
    image_id: str = ""
    born: float = 0.0
    op: str = ""
    rollout: str = ""
    armed_boot: str = ""
    bundle: str = ""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One `observe`. `booted`: A, B or "". `deadman`: seconds it is armed for, 0 if a trial has none, -1 if no trial.

    `clock` is the host's own, for people only. `lock`: the operation that holds it, "" if free. `uptime` in seconds.
    """

    backend: str
    boot_id: str
    uptime: float
    clock: float
    image_id: str
    version: str
    os: str
    root: ObservedRoot
    trial: bool
    deadman: int
    booted: str
    data_free: int
    data: Literal["writable", "read-only", "absent"]
    epoch: int
    env: Literal["ok", "empty", "torn", "missing", "none"]
    server: str
    lock: str
    reading: Reading
    slots: Mapping[str, Slot] = field(default_factory=dict)
    bundles: Mapping[str, int] = field(default_factory=dict)
    """sha256 -> size of the bundles that are there whole."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """sha256 -> bytes of the bundles of which a part is there."""
    torn: tuple[str, ...] = ()
    """Slots whose record does not parse there."""

    @property
    def running(self) -> Slot | None:
        """The record of the booted slot."""
        return self.slots.get(self.booted)

    @property
    def idle(self) -> Slot | None:
        """The record of the slot that is not booted. None also if it is not known which that is."""
        return next((slot for name, slot in self.slots.items() if self.booted and name != self.booted), None)

    @property
    def number(self) -> int:
        """The booted incarnation: 0 if its slot has no record."""
        return self.running.number if self.running is not None and self.running.number >= 0 else 0


def read(frame: Frame, where: str) -> HostFacts:
    """The facts of an `observe`. Permanent if there is not even a boot id."""
    said = defaultdict(str, frame.values())
    boot_id = said["boot_id"]
    if not _BOOT_ID.fullmatch(boot_id):
        raise Permanent("its anew-host tells no boot id, without which a reboot cannot be told from none; is /proc mounted?", where=where)
    backend = said["backend"]
    reading = backends.read(backend, frame.section(backend))
    booted = said["booted"]
    trial = said["trial"] == "yes"
    return HostFacts(
        backend=backend if backend in backends.READERS else "none",
        boot_id=boot_id,
        uptime=float(_number(said["uptime"].partition(".")[0])),
        clock=float(_number(said["clock"])),
        image_id=_of(_IMAGE_ID, said["image_id"]),
        version=_version(said["version"]),
        os=said["os"][:128],
        root=_root(said["root"]),
        trial=trial,
        deadman=_deadman(said["deadman"], trial),
        booted=booted if booted in SLOTS else "",
        data_free=_number(said["data_free"]),
        data=cast(Literal["writable", "read-only", "absent"], _one_of(said["data"], ("writable", "read-only", "absent"), "absent")),
        epoch=_number(said["epoch"]),
        env=cast(Literal["ok", "empty", "torn", "missing", "none"], _one_of(said["env"], ("ok", "empty", "torn", "missing"), "none")),
        server=_of(_SERVER, said["server"]),
        lock=_of(_OP, said["lock"]),
        reading=reading,
        slots=_slots(said),
        bundles=_bundles(frame, "complete"),
        parts=_bundles(frame, "part"),
        torn=tuple(name for name in SLOTS if said[f"slot.{name}"] == "state=torn"),
    )


def _slots(told: Mapping[str, str]) -> dict[str, Slot]:
    found: dict[str, Slot] = {}
    for name in SLOTS:
        said = dict(item.partition("=")[::2] for item in told[f"slot.{name}"].split(" ") if "=" in item)
        state = said.get("state", "")
        if state not in STATES:
            continue
        number = said.get("number", "")
        found[name] = Slot(
            name,
            cast(RecordState, state),
            int(number) if _UP_TO_9.fullmatch(number) and state not in ("writing", "staged") else -1,
            _of(_DIGEST, said.get("digest", "")),
            _version(said.get("version", "")),
            _of(_IMAGE_ID, said.get("image_id", "")),
            _born(said.get("born", "")),
            _of(_OP, said.get("op", "")),
            _of(_ROLLOUT, said.get("rollout", "")),
            _of(_BOOT_ID, said.get("armed_boot", "")),
            _of(_SHA, said.get("bundle", "")),
        )
    return found


def _bundles(frame: Frame, state: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, value in frame.pairs:
        if key != "bundle" or len(found) >= MOST_BUNDLES:
            continue
        parts = value.split(" ")
        if len(parts) == 3 and parts[2] == state and _SHA.fullmatch(parts[0]):
            found[parts[0]] = _number(parts[1])
    return found


def _number(text: str) -> int:
    return int(text) if _UP_TO_18.fullmatch(text) else 0


def _born(text: str) -> float:
    """0.0, unknown, for a time that no calendar has: it is shown in views of the whole fleet."""
    born = _number(text)
    return float(born) if born < YEAR_10000 else 0.0


def _deadman(text: str, trial: bool) -> int:
    if re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) and int(text):
        return int(text)
    return 0 if trial else -1


def _root(text: str) -> ObservedRoot:
    return cast(ObservedRoot, _one_of(text.partition(" ")[0], ("read-only", "overlay", "writable"), "unknown"))


def _version(text: str) -> str:
    return _of(_VERSION, text)


def _of(grammar: re.Pattern[str], text: str) -> str:
    return text if grammar.fullmatch(text) else ""


def _one_of(text: str, allowed: tuple[str, ...], otherwise: str) -> str:
    return text if text in allowed else otherwise


__all__ = ["HostFacts", "Slot", "read"]
