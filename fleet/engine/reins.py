"""Who holds the reins of a rollout: the event streams that declare to drive it, and how long they may be gone.

Rules: only a rollout with `on_disconnect = "pause"` is ever left off, and only one that a terminal drove: if nobody ever did, nobody can go
away. When the last stream has ended, however it did (closed, killed, dropped as too slow), a driver may come back within GRACE. A daemon
that was just started has seen no stream end: it waits RETURN for the drivers that its journal knows. The way back is never left off; nor is a
rollout that stands before a person's decision, for it begins nothing by itself, and its `--wait` has ended for that. Who then lets it go on
from no terminal decided to go on without one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from fleet.core.state import Rollout
from fleet.ports import Clock

GRACE = 10.0
"""Seconds for a terminal that lost its line (a reload of the fleet file ends every stream, too)."""
RETURN = 60.0
"""Seconds after a daemon's start: as long as `anew rollout wait` looks for it."""
LEFT_OFF = ("canary", "rolling", "checkpoint")
KEPT = 64


class Reins:
    """Kept for the daemon's life; engines come and go with the fleet file."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock.now()
        self._held: dict[str, list[str]] = {}
        self._let_go: OrderedDict[str, tuple[float, str]] = OrderedDict()

    @contextmanager
    def holding(self, rollout: str, actor: str) -> Iterator[None]:
        """A stream that declares to drive the rollout, while it lasts."""
        self._held.setdefault(rollout, []).append(actor)
        try:
            yield
        finally:
            self._held[rollout].remove(actor)
            if not self._held[rollout]:
                del self._held[rollout]
                self._let_go[rollout] = self._clock.now(), actor
                self._let_go.move_to_end(rollout)
                while len(self._let_go) > KEPT:
                    self._let_go.popitem(last=False)

    def held(self, rollout: str) -> bool:
        """True while a terminal drives it."""
        return rollout in self._held

    def let_go(self, rollout: Rollout, cause: str) -> dict[str, bool]:
        """What a person's promotion carries: that nobody drives it any more, if no terminal does. (A resume says so by itself.)"""
        return {"driven": False} if cause == "promoted" and rollout.settings.on_disconnect == "pause" and not self.held(rollout.id) else {}

    def lost(self, rollout: Rollout | None) -> str:
        """"" or the sentence for a rollout whose terminal has gone away for good."""
        if rollout is None or rollout.settings.on_disconnect != "pause" or rollout.state not in LEFT_OFF or rollout.id in self._held:
            return ""
        if rollout.state == "checkpoint" and rollout.settings.checkpoint_pause is None:
            return ""
        at, who = self._let_go.get(rollout.id, (-1.0, ""))
        if at >= rollout.driven_at:
            ends = at + GRACE
        elif rollout.driven_by:
            ends, who = max(rollout.driven_at + GRACE, self._begun + RETURN), rollout.driven_by
        else:
            return ""
        return f"the terminal of {who} that drove it went away; `anew rollout resume {rollout.id}` goes on" if self._clock.now() >= ends else ""


__all__ = ["GRACE", "LEFT_OFF", "RETURN", "Reins"]
