"""What the journal remembers of one server's incarnations: which is in service, which were before it, and which were touched.

Each function gives the fields of the Server that change.
"""

from __future__ import annotations

from typing import Any

from fleet.core.lifecycle import BACKWARD
from fleet.core.state import Run, Server, Target

OTHERS = 8
"""So many beside the one in service are remembered for what they were; those in slots are overwritten without a word."""
TAINTS = 8
"""Of one incarnation, the last ones."""


def admitted(known: Server, run: Run, target: Target, at: float) -> dict[str, Any]:
    """The run's target is in service from now on. Broken glass ends where another one serves."""
    number, left = target.number, _left(known, run, target)
    changes = {"admitted": number, "restarted": False, "admitted_at": at if target.kind == "birth" else 0.0, "before": _before(known, left, number),
               "retained": {other: until for other, until in known.retained.items() if other != number}}
    return changes if left == number else {**changes, **_stains(known, left, number), "glass": None}


def adopted(known: Server, number: int) -> dict[str, Any]:
    """A foreign machine is in service from now on."""
    return {"admitted": number, "before": _before(known, known.admitted, number), "restarted": False}


def _left(known: Server, run: Run, target: Target) -> int | None:
    """What was in service until now. Where the journal has no word of that it is what the run found there, and a way back leads to it."""
    if known.admitted is not None:
        return known.admitted
    if run.path in BACKWARD:
        return target.number if target.kind == "revive" else None
    return run.source


def _before(known: Server, left: int | None, number: int) -> tuple[int, ...]:
    if left is None or left == number:
        return known.before
    return (*(other for other in known.before if other not in (left, number)), left)[-OTHERS:]


def _stains(known: Server, left: int | None, number: int) -> dict[str, Any]:
    """A taint is of an incarnation: it goes out of service with it, and comes back with it."""
    stained = {**known.stained, left: known.tainted} if known.tainted and left is not None else dict(known.stained)
    return {"tainted": stained.pop(number, ()), "stained": dict(sorted(stained.items())[-OTHERS:])}


def tainted(known: Server, why: str, coming: int | None) -> dict[str, Any]:
    """Where another incarnation is just `coming` at the same address, it is tainted, too: nobody can say which of them was touched."""
    mine = {"tainted": (*known.tainted, why)[-TAINTS:]}
    if coming is None:
        return mine
    stained = {**known.stained, coming: (*known.stained.get(coming, ()), why)[-TAINTS:]}
    return {**mine, "stained": dict(sorted(stained.items())[-OTHERS:])}


def restarted(known: Server, number: int) -> dict[str, Any]:
    """A retained incarnation is started: how long it is kept counts from when it stops again, and the one in service must be admitted anew."""
    return {"restarted": known.restarted or number == known.admitted,
            "retained": {other: until for other, until in known.retained.items() if other != number}}


def buried(known: Server, number: int) -> dict[str, Any]:
    """Nothing is remembered of what is gone."""
    return {"retained": {other: until for other, until in known.retained.items() if other != number}, "failed": known.failed - {number},
            "before": tuple(other for other in known.before if other != number),
            "stained": {other: why for other, why in known.stained.items() if other != number}}


__all__ = ["admitted", "adopted", "buried", "restarted", "tainted"]
