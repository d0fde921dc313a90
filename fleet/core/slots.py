"""Who may start: the budget counted from the journal *and* from what is really there (invariants I1, I2; rules 2 and 3).

A run holds its place from its first step until it is settled. Servers that are missing for any reason use budget too; a
server that is itself missing may still be repaired, since touching it takes nothing away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from fleet.core.hearing import Answers
from fleet.core.lifecycle import TAKES_DOWN
from fleet.core.observed import Seen
from fleet.core.sight import Sight, some
from fleet.core.state import Rollout, Run

AHEAD = 8
"""So many machines are prepared at once, while they serve: their images are brought and written to the idle slot."""

EMPTIED = TAKES_DOWN | {"put-back", "fall-back"}
"""Paths of servers that are away by our doing, those on their way back included."""


class Slots:
    """The places of one rollout's budget at one moment. `take` books a run that the planner starts in this decision."""

    def __init__(self, sight: Sight, rollout: Rollout) -> None:
        self._sight = sight
        self._budget = rollout.budget
        self._rollout = rollout
        self._ahead = {run.server: run for run in sight.under_way if ahead(run)}
        self._active = {run.server: run for run in sight.under_way if not ahead(run)}
        self._taken: dict[str, Run] = {}
        self._named = (-1, "")
        self._rolling_back = rollout.state == "rolling-back"

    @cached_property
    def extra(self) -> dict[str, int]:
        """server -> incarnations beyond its own: one for a create-first run, and every stray, whether its server has a run or not."""
        busy = {name: 1 for name, run in self._active.items() if run.path in ("create-first", "keep-old")}
        for name, mine in self._sight.by_server.items():
            if len(mine) > 1 and (strays := self._strays(name, mine)):
                busy[name] = busy.get(name, 0) + strays
        return busy

    def _strays(self, name: str, mine: Mapping[int, Seen]) -> int:
        """How many run there beside what serves, or beside the two that a run is about."""
        run = self._active.get(name)
        if run is None:
            return max(0, [seen.state for seen in mine.values()].count("running") - 1)
        its = {run.source, run.target.number if run.target else None}
        return sum(seen.state == "running" and number not in its for number, seen in mine.items())

    @cached_property
    def leaving(self) -> dict[str, int]:
        """server -> the incarnation beside what serves there that was never in service, and is being stopped: until it is gone, it is in flight. Where
        that was tried in vain, it is an extra one, and no more: nobody who is down waits for it.
        """
        sight, found = self._sight, {}
        for name in self.extra.keys() - self._active.keys():
            known = sight.known(name)
            if known.admitted is None or known.untidy or sight.unreachable(name) or not sight.available(name):
                continue
            never = [number for number, seen in sight.by_server[name].items() if seen.state == "running" and number not in (known.admitted, *known.before)]
            if never and name in sight.pool.server_names:
                found[name] = max(never)
        return found

    @cached_property
    def missing(self) -> set[str]:
        """Servers that do not serve now, or that we have begun to take down.

        Servers that the fleet file gained after a whole-pool rollout began were never there to be missed. Who was started again and could not
        be admitted is missed by the others, but is not taken for sick: it may serve for all we know.
        """
        taken_down = {name for name, run in self._active.items() if run.path in EMPTIED}
        gone = self._sight.missing | self._sight.unadmitted
        known = gone & self._rollout.runs.keys() if self._rollout.whole else gone
        return set(known) | taken_down

    @cached_property
    def at_risk(self) -> frozenset[str]:
        """Servers that answer, of hypervisors that do not: what else is taken out of the pool is counted as if they were lost (rule 17)."""
        sight = self._sight
        if sight.observed is None or not sight.observed.unreachable or sight.pool.in_place or len(sight.pool.places) < 2:
            return frozenset()
        return frozenset(name for name in sight.pool.server_names if sight.unreachable(name)) - self.missing

    @cached_property
    def _answers(self) -> Answers:
        return Answers(self._sight, self._rollout)

    def _unknown(self, server: str) -> str:
        """"" or the reason why what is known of its health is not enough to act on."""
        if self._sight.unknown(server):
            return "waits: its health is not known yet"
        return "" if self._answers.beside_silence_of(server) else "waits: it was silent when nobody was heard, and is asked once more"

    @property
    def in_flight(self) -> int:
        """Runs begun and not settled, those of this decision included. A machine that is only prepared ahead holds no place yet."""
        return len(self._active) + len(self._taken)

    @property
    def taken(self) -> int:
        """Places booked in this decision."""
        return len(self._taken)

    @property
    def full(self) -> bool:
        """True if no further run of any kind may start."""
        return self.in_flight >= self._budget.surge + self._budget.unavailable

    def shut(self, run: Run) -> bool:
        """True if no run of this kind may start now, whoever it is."""
        return self._preparing >= AHEAD if run.path == "in-place" else self.full

    @property
    def _preparing(self) -> int:
        """Machines being prepared ahead, those of this decision included. One that has fallen silent meanwhile keeps nobody waiting."""
        return sum(run.phase not in ("done", "failed") and not self._sight.unreachable(name) for name, run in self._ahead.items())

    def _full_for(self, run: Run) -> bool:
        """Who stands before the gate, untouched, makes way for a server that is missing: each would wait for the other."""
        if not self.full or run.server not in self._sight.missing:
            return self.full
        standing = sum(_standing(other) for other in self._active.values())
        return self.in_flight - standing >= self._budget.surge + self._budget.unavailable

    def take(self, run: Run) -> None:
        """Book the run's place; one that is to be prepared ahead takes its place only when it goes on."""
        if run.path == "in-place" and run.step == "waiting" and not revives(run):
            self._ahead[run.server] = run
            return
        self._ahead.pop(run.server, None)
        self._taken[run.server] = run
        if run.path == "create-first":
            self.extra[run.server] = self.extra.get(run.server, 0) + 1
        elif run.path != "birth":
            self.missing.add(run.server)

    def refusal(self, run: Run) -> str:
        """"" if the run may start now, else the reason why it waits."""
        limits = self._budget
        if unknown := self._unknown(run.server):
            return unknown
        if run.path == "in-place" and not revives(run):
            return f"waits: {AHEAD} others are being prepared" if self.shut(run) else ""
        if self._full_for(run):
            return f"waits: {self._full()} used by {self._names()}"
        if run.path == "create-first":
            if (extra := sum(self.extra.values())) >= limits.surge:
                if run.server in self.extra and run.server in self._sight.missing:
                    return self._for_itself(run.server, f"extra {extra} of {limits.surge}")
                return f"waits: extra {extra} of {limits.surge} used by {some(self.extra)}"
            if first := self._stopped_first(run):
                return first
            return "" if run.server in self.missing or run.canary else self._below_minimum()
        if first := self._stopped_first(run):
            return first
        return self.may_take_down(run.server) if run.path in TAKES_DOWN else ""

    def _stopped_first(self, run: Run) -> str:
        """"" or that what is being stopped beside other servers holds the last place."""
        others = {name: number for name, number in self.leaving.items() if name != run.server and name not in self._taken}
        if not others or self.in_flight + len(others) < self._budget.surge + self._budget.unavailable:
            return ""
        name = min(others, key=self._sight.pool.server_names.index)
        return f"waits: incarnation {others[name]}, which runs beside {name}, is stopped first"

    def may_go_on(self, run: Run) -> str:
        """"" if a machine that was prepared ahead may be taken down now, else the reason why not."""
        if unknown := self._unknown(run.server):
            return unknown
        if self._full_for(run):
            return f"waits: {self._full()} used by {self._names()}"
        return self.may_take_down(run.server)

    def may_take_down(self, server: str) -> str:
        """"" if the server may be stopped now without breaking the promise, else the reason why not."""
        limits = self._budget
        if unknown := self._unknown(server):
            return unknown
        if server in self._sight.missing and self._sight.standby(server) is None:
            begun = [run for run in self._active.values() if not _standing(run)]
            mine = [run for run in (*begun, *self._taken.values()) if run.path in EMPTIED and run.server != server]
            return "" if len(mine) < max(1, limits.unavailable) else f"waits: missing {len(mine)} of {limits.unavailable} used by {self._names()}"
        others = (self.missing | self.at_risk) - {server}
        if len(others) + 1 > limits.unavailable:
            lost = f", {_lost(self._sight, self.at_risk)}" if self.at_risk else ""
            return f"waits: missing {len(others)} of {limits.unavailable} used by {some(others)}{lost}" if others else "waits: nothing may be missing"
        return ""

    def _for_itself(self, server: str, used: str) -> str:
        """A server that fell sick after it was planned, and runs twice: what runs beside it goes only once it answers."""
        serving = self._sight.serving(server)
        beside = [number for number, seen in self._sight.by_server[server].items() if seen.state == "running" and seen is not serving]
        if serving is None or not beside:
            return f"waits: {used} used by {some(self.extra)}"
        return f"waits: incarnation {max(beside)} runs beside it, {used}, and is stopped once incarnation {serving.number} answers"

    def _below_minimum(self) -> str:
        """Rule 3: below its minimum only the sick servers of a pool are touched. A rollback waits for no sick server (rule 9)."""
        if len(self.missing) <= self._budget.unavailable or self._rolling_back:
            return ""
        return f"waits: the pool is below its minimum, {some(self.missing)} not healthy"

    def _full(self) -> str:
        limits = self._budget
        return f"budget {self.in_flight} of {limits.surge + limits.unavailable}"

    def _names(self) -> str:
        """Who uses the places; found once, since many wait for the same ones."""
        if self._named[0] != len(self._taken):
            self._named = len(self._taken), some({*self._active, *self._taken})
        return self._named[1]


def _lost(sight: Sight, names: Iterable[str]) -> str:
    """Why servers that answer are counted as missing."""
    places = {sight.place(name) for name in names}
    return f"as {some(places)} {'does' if len(places) == 1 else 'do'} not answer"


def _standing(run: Run) -> bool:
    """True for a run before the gate of its first step that takes something away."""
    return run.path == "delete-first" and run.step == "preparing" and run.phase == "done"


def ahead(run: Run) -> bool:
    """True for a machine whose idle slot is being written, or is written, while it serves: nothing was taken away yet."""
    return run.path == "in-place" and run.step == "preparing"


def revives(run: Run) -> bool:
    """True if the target is retained, so that there is nothing to prepare."""
    return run.target is not None and run.target.kind == "revive"
