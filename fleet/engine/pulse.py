"""Notices that the daemon itself did not run: suspended, stopped by a signal, or starved.

What nobody could see is held against nobody: deadlines of runs under way start anew (event `daemon-blind`), and a verb
whose time ran out meanwhile is tried again.
"""

from __future__ import annotations

from fleet.ports import Clock

BEAT = 1.0
BLIND = 5.0
"""A second between two beats is usual; more than so many seconds is a gap."""


class Pulse:
    """`gaps` counts how often the daemon was away; whoever is woken after one calls `check` before judging any deadline."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.now()
        self._untold = 0.0
        self.gaps = 0

    def check(self) -> int:
        """Look at the clock; the number of gaps so far."""
        now = self._clock.now()
        away, self._last = now - self._last, now
        if away > BLIND:
            self.gaps += 1
            self._untold += away
        return self.gaps

    def take(self) -> float:
        """Seconds that the journal does not know of yet; they are the caller's to write."""
        untold, self._untold = self._untold, 0.0
        return untold
