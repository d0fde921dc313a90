"""RAUC with GRUB: `rauc status --detailed --output-format=json` of 1.8 and later.

Traps, each seen on real machines
- `boot_status` "bad" of the *booted* slot means that its one try is spent and not given back: on trial, or just booted.
- `boot_primary` is null if the environment is empty or torn, and the *other* slot while a trial runs.
- Just after its service has started RAUC may answer with `booted` and `compatible` null; the slots' `state` is right then too.
- `slot_status` is written when an install ends: after a cut it names what was there before. It is not read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from drivers.baremetal.backends import Reading, parse_object, table, word


def read(raw: bytes) -> Reading:
    """See Reading."""
    status = parse_object(raw)
    if status is None:
        return Reading(problem="RAUC's status is no JSON; is its service running? Look at `rauc status` there")
    slots = dict(_slots(status))
    running = [name for name, slot in slots.items() if slot.get("state") == "booted"]
    if len(slots) != 2 or len(running) != 1:
        return Reading(
            problem=f"RAUC knows {len(slots)} bootable slots, {len(running)} of them booted; anew rolls hosts with two, one booted: "
            "see system.conf there, and rauc.slot= on its kernel's command line"
        )
    booted = running[0]
    idle = next(name for name in slots if name != booted)
    primary = word(status.get("boot_primary"))
    return Reading(
        booted=word(slots[booted].get("bootname")),
        next="booted" if primary == booted else "idle" if primary == idle else "unknown",
        booted_good=_good(slots[booted]),
        idle_good=_good(slots[idle]),
    )


def _slots(status: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and description of each slot that has a boot name A or B, at most the first 64."""
    listed = status.get("slots")
    for entry in listed[:64] if isinstance(listed, list) else ():
        for name, slot in list(table(entry).items())[:1]:
            if table(slot).get("bootname") in ("A", "B"):
                yield name, slot


def _good(slot: Mapping[str, Any]) -> bool | None:
    return {"good": True, "bad": False}.get(word(slot.get("boot_status")))
