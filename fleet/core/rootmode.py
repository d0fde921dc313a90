"""What the root of a server is promised to be, what it was seen to be, and what a change from the one to the other takes. Pure."""

from __future__ import annotations

from typing import Literal

from fleet.core.observed import ObservedRoot

Takes = Literal["nothing", "remount", "replacement", "unknown"]


def kept(wished: str, seen: ObservedRoot) -> bool:
    """Is what was seen inside what the pool promises? What nobody knows breaks no promise; on an overlay what is written is gone with the next boot."""
    if seen == "unknown":
        return True
    return seen != "writable" if wished == "read-only" else seen != "read-only"


def takes(wished: str, seen: ObservedRoot, fixed: bool) -> Takes:
    """What it takes to keep the promise. `fixed`: this root cannot be remounted where it runs."""
    if seen == "unknown":
        return "unknown"
    if kept(wished, seen):
        return "nothing"
    return "remount" if wished == "read-only" and not fixed else "replacement"


__all__ = ["Takes", "kept", "takes"]
