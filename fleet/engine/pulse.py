"""Notices that the daemon itself did not run: suspended, stopped by a signal, or starved.

What nobody could see is held against nobody: deadlines of runs under way start anew (event `daemon-blind`), and a verb
whose time ran out meanwhile is tried again.
"""

from __future__ import annotations

from fleet.ports import Clock

BEAT = 1.0
BLIND = 5.0
"""A second between two beats is usual; more than so many seconds is a gap."""
STUCK = 60
"""Beats in a row in which something does not get on until it is taken to hang. Every wait within a decision has a shorter deadline."""


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


class Progress:
    """Counts in beats how long things stand still. Not in seconds: time in which the daemon did not run proves nothing about it."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[object, int]] = {}

    def still(self, name: str, mark: object) -> int:
        """A beat: for how many of them `mark` has been the same. None: nothing is to be done there."""
        before, beats = self._seen.get(name, (None, 0))
        beats = beats + 1 if mark is not None and mark == before else 0
        self._seen[name] = mark, beats
        return beats
