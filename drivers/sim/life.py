"""One incarnation in the simulated world, and what may be said about it at a moment."""

from __future__ import annotations

import hashlib
import math
import uuid
from dataclasses import dataclass, fields
from typing import Any

from drivers.sim.chance import fault_of, settings_of
from fleet.core.desired import Pool
from fleet.core.observed import Running, Seen
from fleet.ports import Birth, Operation

_NAMES = uuid.UUID("6f5c0d3e-7d1c-5f0a-9a51-0a3c5b0e7a11")
"""The name space of simulated servers' UUIDs."""


@dataclass(slots=True)
class Life:
    """A simulated incarnation. Times are engine time; `ready_at` and `dies_at` are infinite for "never".

    `fault` is the kind of fault_of(). `disks`: the data disks attached while it runs. `starts` counts boots.
    `touched`: somebody wrote to its root by hand. `in_place`: it lives in a slot of a machine. `unlocked`: its root was remounted for writing,
    which lasts until it is locked or stops.
    """

    server: str
    number: int
    digest: str
    version: str
    place: str
    operation: str
    rollout: str
    born_at: float
    uuid: str
    root: str
    fault: str = "none"
    disks: tuple[str, ...] = ()
    state: Running = "half-made"
    started_at: float = 0.0
    ready_at: float = math.inf
    dies_at: float = math.inf
    starts: int = 0
    committed: bool = False
    touched: bool = False
    in_place: bool = False
    unlocked: bool = False

    @classmethod
    def conceived(cls, fleet: str, pool: Pool, order: Birth, op: Operation) -> Life:
        """What a birth makes first: half-made, never started. Permanent for a fault not known."""
        return cls(
            order.server,
            order.number,
            order.image.ref.digest,
            order.image.ref.version,
            order.place,
            op.id,
            op.rollout,
            order.born_at,
            str(uuid.uuid5(_NAMES, f"{fleet}/{order.server}")),
            "overlay" if pool.root == "ephemeral" else "read-only",
            fault_of(settings_of(pool), order.image.ref.version).kind,
            tuple(disk.name for disk in pool.data),
            in_place=pool.in_place,
        )

    @property
    def name(self) -> str:
        """As errors and breaches call it: "web-1.3"."""
        return f"{self.server}.{self.number}"

    @property
    def key(self) -> tuple[str, int]:
        return (self.server, self.number)

    @property
    def holds(self) -> tuple[str, ...]:
        """Data disks it has open for writing now."""
        return self.disks if self.state == "running" else ()

    def booted(self, now: float) -> bool:
        return self.state == "running" and now >= self.ready_at

    def fixed(self) -> str:
        """Why its root cannot be remounted, "" if it can."""
        if self.in_place:
            return "its root is the image in its slot, read-only by construction"
        if self.root == "overlay":
            return "its root is an overlay: what is written there is gone with the next boot"
        if self.touched or self.fault == "writable-root":
            return "its root is writable by what is in it: a lock would not last, and what was written stays"
        return ""

    def health(self, now: float) -> tuple[bool, str]:
        """Whether it answers at this moment, and a probe's words for it."""
        if self.state != "running":
            return False, f"sim: {self.state}"
        if now < self.ready_at:
            return False, f"sim: no answer {now - self.started_at:.1f} s after its start"
        return True, f"sim: healthy, booted in {self.ready_at - self.started_at:.1f} s"

    def boot_id(self) -> str:
        """As the kernel's boot_id: another one after every start."""
        text = hashlib.blake2b(
            f"{self.uuid}/{self.number}/{self.starts}".encode(), digest_size=16
        ).hexdigest()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def seen(self) -> Seen:
        note = "" if self.state != "crashed" else "the simulated machine stopped by itself"
        return Seen(
            self.server,
            self.number,
            self.digest,
            self.version,
            self.state,
            self.born_at,
            self.place,
            f"{self.server}.sim:22",
            self.operation,
            self.rollout,
            self.holds,
            self.uuid,
            note,
            f"sim:{self.server}.{self.number}",
        )

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity: never is null."""
        return {name: None if (value := getattr(self, name)) == math.inf else value for name in _FIELDS}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Life:
        """Raises KeyError, TypeError or ValueError for anything that to_json did not write."""
        values = {name: data[name] for name in _FIELDS if name not in _LATER}
        values |= {name: bool(data.get(name, False)) for name in _LATER}
        for name in ("ready_at", "dies_at"):
            values[name] = math.inf if values[name] is None else float(values[name])
        values["disks"] = tuple(str(disk) for disk in values["disks"])
        if values["state"] not in ("running", "stopped", "crashed", "half-made"):
            raise ValueError(f"no such state: {values['state']!r}")
        return cls(**values)


_FIELDS = tuple(field.name for field in fields(Life))
"""Read by name: dataclasses.asdict copies deeply, which cost more than all the rest of a verb."""
_LATER = ("in_place", "unlocked")
"""What older files do not have: there were no machines, nor a root to remount."""
