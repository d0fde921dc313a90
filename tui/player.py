"""Where a replay stands: at which moment, how fast, whether it plays. Pure: it is told the time, and asks no clock.

Rules
- A moment is a number of events that had happened: n of m. Virtual time runs between two moments, never past the next one.
- What is quiet for longer than LONGEST seconds of the viewer's time is shown for SHOWN seconds and then skipped, and `waited` says
  how long it was. So a night's rollout does not take a night, and no wait is hidden.
- A step by hand stops the playing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tui.fields import Raw
from tui.phrases import span

SPEEDS = (1, 2, 5, 10, 20, 40, 60)
LONGEST = 5.0
SHOWN = 1.5
TOLD = 4.0
"""Seconds of the viewer's for which a skipped wait is told."""
WORTH_TELLING = 10.0
"""Virtual seconds of a wait that a step by hand tells of."""
LEAP = 2.0
"""Seconds of the viewer's that are played at once at most: a terminal that was stopped goes on where it was."""


class Film(Protocol):
    """A rollout's past, moment by moment; everything in it is still to be cleaned."""

    id: str
    pool: str
    notes: tuple[str, ...]
    times: Sequence[float]
    failures: Sequence[int]

    def picture(self, n: int, at: float) -> dict[str, Any]:
        """The rollout's row at moment n and the time `at`; {} if it cannot be drawn."""

    def rows(self, n: int, most: int) -> list[dict[str, Any]]:
        """The last rows of events at moment n, oldest first."""


class Reel(Protocol):
    """Takes the journal's whole rows, from the first on, and makes the film."""

    @property
    def done(self) -> bool:
        """No later row can tell more."""

    @property
    def fault(self) -> str:
        """"" or the sentence why there is no film."""

    def take(self, row: Raw) -> None: ...
    def film(self) -> Film: ...


class Player:
    """`n` events had happened at the virtual time `at`."""

    def __init__(self, times: Sequence[float], failures: Sequence[int]) -> None:
        self.times, self.failures = times, failures
        self.n, self.at = 1, times[0]
        self.playing = False
        self.speed = 10
        self._ticks: float | None = None
        self._waited = (0.0, 0.0)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def ended(self) -> bool:
        return self.n == len(self.times)

    def waited(self, ticks: float) -> str:
        """The wait that was skipped just now, in words; "" if none was."""
        seconds, until = self._waited
        return f"waited {span(seconds)}" if seconds and ticks < until else ""

    def toggle(self, ticks: float) -> None:
        """Play or pause; at the end, from the beginning."""
        if self.ended and not self.playing:
            self._go(1)
        self.playing = not self.playing and len(self.times) > 1
        self._ticks = ticks

    def pause(self) -> None:
        self.playing = False

    def step(self, by: int, ticks: float) -> None:
        """So many events on, or back."""
        before = self.n
        self._go(self.n + by)
        wait = self.times[self.n - 1] - self.times[before - 1]
        self._waited = (wait, ticks + TOLD) if wait >= WORTH_TELLING else (0.0, 0.0)

    def faster(self, by: int) -> None:
        """The next speed, or with -1 the one before."""
        at = SPEEDS.index(self.speed) + by
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, at))]

    def to_failure(self) -> bool:
        """The next moment at which something had failed; False if there is none."""
        found = next((n for n in self.failures if n > self.n), None)
        if found is None:
            return False
        self._go(found)
        return True

    def to_start(self) -> None:
        self._go(1)

    def to_end(self) -> None:
        self._go(len(self.times))

    def _go(self, n: int) -> None:
        self.n = max(1, min(len(self.times), n))
        self.at = self.times[self.n - 1]
        self.playing, self._waited = False, (0.0, 0.0)

    def advance(self, ticks: float) -> None:
        """Let the viewer's time pass until `ticks`."""
        last, self._ticks = self._ticks, ticks
        if not self.playing or last is None:
            return
        left = max(0.0, min(LEAP, ticks - last))
        while not self.ended and (left > 0 or self.times[self.n] <= self.at):
            began, comes = self.times[self.n - 1], self.times[self.n]
            lead, whole = (self.at - began) / self.speed, (comes - began) / self.speed
            quiet = whole > LONGEST
            need = max(0.0, SHOWN - lead) if quiet else whole - lead
            if need > left:
                self.at += left * self.speed
                return
            left -= need
            self.at, self.n = comes, self.n + 1
            if quiet:
                self._waited = (comes - began, ticks + TOLD)
        if self.ended:
            self.playing = False
