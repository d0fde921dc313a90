"""How a host chooses what it boots, read from its own tool's raw words: one pure reader for each way.

Rules
- A reader gets bytes that a stranger wrote and gives a `Reading`; it never raises, and what it cannot understand it says.
- A reader only judges. The verbs are the helper's (docs/host-protocol.md), which knows its own host.
- Words are relative: `booted` is the slot that runs, `idle` the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Next = Literal["booted", "idle", "unknown"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the boot loader's side says of a host.

    `booted`: A or B, "" if its tool does not name slots so. `next`: what the next boot takes if nobody does anything.
    `booted_good`, `idle_good`: the boot loader would try that slot again; None if it does not say.
    `problem`: a sentence why this host cannot be rolled by this backend, "" if it can.
    """

    booted: str = ""
    next: Next = "unknown"
    booted_good: bool | None = None
    idle_good: bool | None = None
    problem: str = ""


def parse_object(raw: bytes) -> Mapping[str, Any] | None:
    """A JSON object, None for anything else: numbers without end and nests without bottom included."""
    try:
        value = json.loads(raw.decode("utf-8", "replace"), parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _whole(digits: str) -> int:
    return int(digits) if len(digits) < 20 else 0


def table(value: object) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def word(value: object, longest: int = 128) -> str:
    """The value if it is a short string, else ""."""
    return value if isinstance(value, str) and len(value) <= longest else ""


def read(backend: str, raw: bytes) -> Reading:
    """The reading of a host whose helper names its backend; an unknown one is a problem, not an error."""
    reader = READERS.get(backend)
    if reader is None:
        return Reading(problem=UNKNOWN)
    return reader(raw)


def _rauc(raw: bytes) -> Reading:
    from drivers.baremetal.backends import rauc

    return rauc.read(raw)


def _sdboot(raw: bytes) -> Reading:
    from drivers.baremetal.backends import sdboot

    return sdboot.read(raw)


def _bootc(raw: bytes) -> Reading:
    from drivers.baremetal.backends import bootc

    return bootc.read(raw)


UNKNOWN: Final = (
    "it has no way to boot two images in turn (no RAUC, no systemd-boot with two entries, no bootc): it can be looked at and "
    "locked, and rolled only after a first install"
)
READERS: Final[Mapping[str, Callable[[bytes], Reading]]] = {"rauc": _rauc, "sdboot": _sdboot, "bootc": _bootc}

__all__ = ["READERS", "Reading", "parse_object", "read", "table", "word"]
