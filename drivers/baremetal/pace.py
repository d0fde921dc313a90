"""How far a transfer has come, as a sentence: "41 of 160 MiB, 12.3 MB/s, 10 s left".

The rate is that of the last ten seconds; what was there before (a resumed part) does not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

MIB: Final = 1024 * 1024
WINDOW: Final = 10.0
"""Seconds."""


class Pace:
    """Tells at most once a second. `now`: the clock's seconds; `what`: put before the sentence, "" for nothing."""

    def __init__(self, size: int, now: Callable[[], float], tell: Callable[[str], None], what: str = "") -> None:
        self._size = size
        self._now = now
        self._tell = tell
        self._what = f"{what}: " if what else ""
        self._marks: deque[tuple[float, int]] = deque()
        self._told = float("-inf")

    def at(self, reached: int) -> None:
        """So many bytes are there."""
        now = self._now()
        self._marks.append((now, reached))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW:
            self._marks.popleft()
        if now - self._told >= 1.0:
            self._told = now
            self._tell(self._what + self._sentence(now, reached))

    def _sentence(self, now: float, reached: int) -> str:
        if reached >= self._size:
            return f"{self._size / MIB:.0f} MiB are there, the host checks them"
        begun, before = self._marks[0]
        rate = (reached - before) / (now - begun) if now > begun else 0.0
        said = f"{reached / MIB:.0f} of {self._size / MIB:.0f} MiB, {100 * reached // max(1, self._size)} %"
        if rate < 1:
            return said
        return f"{said}, {rate / 1e6:.1f} MB/s, {duration((self._size - reached) / rate)} left"


def duration(seconds: float) -> str:
    """ "10 s", "3 min", "2 h"."""
    if seconds < 100:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


__all__ = ["Pace"]
