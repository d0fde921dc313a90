"""Who may start: the budget counted from the journal *and* from what is really there (invariants I1, I2; rules 2 and 3).

A run holds its place from its first step until it is settled. Servers that are missing for any reason use budget too; a
server that is itself missing may still be repaired, since touching it takes nothing away.
"""

from __future__ import annotations

from functools import cached_property
from heapq import nsmallest

from fleet.core.sight import Sight
from fleet.core.state import Rollout, Run


class Slots:
    """The places of one rollout's budget at one moment. `take` books a run that the planner starts in this decision."""

    def __init__(self, sight: Sight, rollout: Rollout) -> None:
        self._sight = sight
        self._budget = rollout.budget
        self._whole = rollout.whole
        self._runs = rollout.runs.keys()
        self._active = {run.server: run for run in rollout.runs.values() if run.active}
        self._taken: dict[str, Run] = {}
        self._named = (-1, "")
        self._rolling_back = rollout.state == "rolling-back"

    @cached_property
    def extra(self) -> set[str]:
        """Servers with an incarnation beyond their own: create-first runs, and what runs twice without a run."""
        busy = {name for name, run in self._active.items() if run.path in ("create-first", "keep-old")}
        orphans = {name for name, mine in self._sight.by_server.items()
                   if len(mine) > 1 and name not in self._active and [seen.state for seen in mine.values()].count("running") > 1}
        return busy | orphans

    @cached_property
    def missing(self) -> set[str]:
        """Servers that do not serve now, or that we have begun to take down.

        Servers that the fleet file gained after a whole-pool rollout began were never there to be missed.
        """
        taken_down = {name for name, run in self._active.items() if run.path in ("delete-first", "put-back")}
        known = self._sight.missing & self._runs if self._whole else self._sight.missing
        return set(known) | taken_down

    @property
    def in_flight(self) -> int:
        """Runs begun and not settled, those of this decision included."""
        return len(self._active) + len(self._taken)

    @property
    def full(self) -> bool:
        """True if no further run of any kind may start."""
        return self.in_flight >= self._budget.surge + self._budget.unavailable

    def _full_for(self, run: Run) -> bool:
        """Who stands before the gate, untouched, makes way for a server that is missing: each would wait for the other."""
        if not self.full or run.server not in self._sight.missing:
            return self.full
        standing = sum(_standing(other) for other in self._active.values())
        return self.in_flight - standing >= self._budget.surge + self._budget.unavailable

    def take(self, run: Run) -> None:
        """Book the run's place."""
        self._taken[run.server] = run
        if run.path == "create-first":
            self.extra.add(run.server)
        elif run.path != "birth":
            self.missing.add(run.server)

    def refusal(self, run: Run) -> str:
        """"" if the run may start now, else the reason why it waits."""
        limits = self._budget
        if self._sight.unknown(run.server):
            return "waits: its health is not known yet"
        if self._full_for(run):
            return f"waits: {self._full()} used by {self._names()}"
        if run.path == "create-first":
            if len(self.extra - {run.server}) >= limits.surge:
                return f"waits: extra {len(self.extra)} of {limits.surge} used by {_some(self.extra)}"
            return "" if run.server in self.missing or run.canary else self._below_minimum()
        if run.path == "delete-first":
            return self.may_take_down(run.server)
        return ""

    def may_take_down(self, server: str) -> str:
        """"" if the server may be stopped now without breaking the promise, else the reason why not."""
        limits = self._budget
        if self._sight.unknown(server):
            return "waits: its health is not known yet"
        if server in self._sight.missing:
            mine = [run for run in (*self._active.values(), *self._taken.values())
                    if run.path == "delete-first" and run.server != server and not _standing(run)]
            return "" if len(mine) < max(1, limits.unavailable) else f"waits: missing {len(mine)} of {limits.unavailable} used by {self._names()}"
        others = self.missing - {server}
        if len(others) + 1 > limits.unavailable:
            return f"waits: missing {len(others)} of {limits.unavailable} used by {_some(others)}" if others else "waits: nothing may be missing"
        return ""

    def _below_minimum(self) -> str:
        """Rule 3: below its minimum only the sick servers of a pool are touched. A rollback waits for no sick server (rule 9)."""
        if len(self.missing) <= self._budget.unavailable or self._rolling_back:
            return ""
        return f"waits: the pool is below its minimum, {_some(self.missing)} not healthy"

    def _full(self) -> str:
        limits = self._budget
        return f"budget {self.in_flight} of {limits.surge + limits.unavailable}"

    def _names(self) -> str:
        """Who uses the places; found once, since many wait for the same ones."""
        if self._named[0] != len(self._taken):
            self._named = len(self._taken), _some({*self._active, *self._taken})
        return self._named[1]


def _standing(run: Run) -> bool:
    """True for a run before the gate of its first step that takes something away."""
    return run.path == "delete-first" and run.step == "preparing" and run.phase == "done"


def _some(names: set[str]) -> str:
    """Up to three names, in order, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(nsmallest(3, names, key=lambda name: (len(name), name))) + more
