"""Replay: the past of one rollout, from rows of a journal, of this daemon's or of another machine's.

A `Reel` is fed whole rows one by one, from the first on, and keeps those of one rollout; before the rollout begins it keeps nothing
but the state they add up to. A `Film` gives the picture of any moment: the fold of the journal as far as that, drawn by the code
that draws the live one. Nothing here can reach a daemon.

Rows are hostile until parsed: what is no row, or cannot have happened, is left out and counted; so are types of event that this anew
does not know. Memory is bounded by MAX_EVENTS and, for the states kept to go back to, by MAX_KEPT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleet.core.events import EVENT_TYPES, Event
from fleet.core.fold import fold
from fleet.core.lifecycle import CELLS
from fleet.core.state import Rollout, State
from fleet.engine.past import Unwell, past_row
from fleet.engine.present import shown_step
from fleet.engine.record import FAULTS, Unfoldable, take_in
from fleet.engine.reread import event_in, fits
from fleet.engine.tell import event_row

Row = dict[str, Any]
MAX_EVENTS = 500_000
"""Of one rollout."""
MAX_KEPT = 1_000_000
"""Runs of servers in all the states that are kept to go back to."""
SPACING = 64
"""Events between two kept states, at first; and so many moments just passed are kept, too."""
HEALTH = ("server-healthy", "server-unhealthy")
NAMED = 5
"""Unknown types that are named."""


@dataclass(slots=True)
class _Take:
    """What was found of one rollout: its events, and the states to go back to, every `spacing` events; that of 0 is from before it."""

    id: str
    pool: str
    size: int
    kept: dict[int, tuple[State, Unwell]]
    events: list[Event] = field(default_factory=list)
    spacing: int = field(default_factory=lambda: SPACING)
    over: bool = False
    cut: bool = False

    def add(self, event: Event, after: State, unwell: Unwell) -> None:
        """The next event, and the state after it."""
        self.events.append(event)
        self.over = event.type == "rollout-ended" and event.rollout == self.id
        if len(self.events) % self.spacing:
            return
        self.kept[len(self.events)] = (after, dict(unwell))
        rollout = after.rollouts.get(self.id)
        if len(self.kept) * len(rollout.runs if rollout else ()) > MAX_KEPT:
            self.spacing *= 2
            self.kept = {n: kept for n, kept in self.kept.items() if n % self.spacing == 0}


class Reel:
    """Gathers the rollout of an id, or of the beginning of one; of "" the last that the rows tell of. `checked`: the chain is, too."""

    def __init__(self, wanted: str = "", checked: bool = False) -> None:
        self.wanted = wanted
        self.begun = 0
        self.lines = 0
        self._checked = checked
        self._state = State()
        self._unwell: dict[tuple[str, str], int] = {}
        self._last: Event | None = None
        self._take: _Take | None = None
        self._matching: set[str] = set()
        self._unknown = 0
        self._strange: list[str] = []
        self._bad = 0
        self._first_bad = ""
        self._broken = 0
        self._torn = False

    @property
    def done(self) -> bool:
        """True when no later row can tell more of the rollout that was asked for."""
        return self._take is not None and self._take.over and self.wanted == self._take.id

    def take(self, row: Any) -> None:
        """The next row, as JSON gave it."""
        self.lines += 1
        try:
            event = event_in(row)
        except ValueError as error:
            self._refuse(str(error))
            return
        last, self._last = self._last, event
        if last is not None and event.seq <= last.seq:
            self._last = last
            self._refuse(f"is out of order: row {event.seq} after row {last.seq}")
        elif event.type not in EVENT_TYPES:
            self._unknown += 1
            if event.type not in self._strange and len(self._strange) <= NAMED:
                self._strange.append(event.type)
        else:
            if self._checked and last is not None and event.seq == last.seq + 1 and event.chain and not self._broken and not fits(event, last):
                self._broken = event.seq
            self._take_in(event)

    def reject(self, why: str, *, torn: bool = False) -> None:
        """A line that is no row at all; `torn`: the last one, whose end is missing."""
        self.lines += 1
        if torn:
            self._torn = True
        else:
            self._refuse(why)

    def _refuse(self, why: str) -> None:
        self._bad += 1
        self._first_bad = self._first_bad or f"line {self.lines} {why}"

    def _take_in(self, event: Event) -> None:
        before, take = self._state, self._take
        begins = event.type == "rollout-started"
        if take is not None and self.wanted and not begins and event.pool not in ("", take.pool):
            return  # the last rollout of all may yet begin in any pool, one that was asked for has begun
        try:
            self._state = take_in(before, event)
        except Unfoldable:
            self._refuse(f"({event.type}) cannot have happened after what is before it")
            return
        if begins:
            self.begun += 1
            if event.rollout.startswith(self.wanted):
                self._matching.add(event.rollout)
                if take is None or not self.wanted or event.rollout == self.wanted:
                    take = self._take = _Take(event.rollout, event.pool, int(event.data.get("servers", 0)), {0: (before, dict(self._unwell))})
        if event.type in HEALTH:
            _hear(self._unwell, event)
        if take is None or take.over or event.pool not in ("", take.pool):
            return
        if len(take.events) >= MAX_EVENTS:
            take.cut = True
            return
        take.add(event, self._state, self._unwell)

    @property
    def fault(self) -> str:
        """"" or the sentence why there is no film."""
        if self._take is not None and len(self._matching) > 1 and self.wanted and self._take.id != self.wanted:
            return f"{self.wanted} is the beginning of {len(self._matching)} rollouts: give more of it."
        if self._take is not None:
            return ""
        about = f" The first that could not be used: {self._first_bad}." if self._bad else ""
        if not self.begun:
            return f"There is no rollout in it: {self.lines} lines were read, {self._bad} of them could not be used.{about}"
        return f"There is no rollout {self.wanted} in it, but {self.begun} others.{about}"

    def film(self) -> Film:
        """The film, when `fault` is ""."""
        assert self._take is not None
        return Film(self._take, tuple(self._notes(self._take)))

    def _notes(self, take: _Take) -> list[str]:
        """What somebody who relies on the film must know, in sentences."""
        notes = []
        if self._broken:
            notes.append(f"Row {self._broken} does not follow from the row before it: this record was changed after it was written.")
        if self._torn:
            notes.append("The last line is torn off, and left out.")
        if self._bad:
            notes.append(f"{self._bad} {'lines could not be used and were' if self._bad > 1 else 'line could not be used and was'} left out; {self._first_bad}.")
        if self._unknown:
            named = ", ".join([kind[:40] for kind in self._strange[:NAMED]] + ["…"] * (len(self._strange) > NAMED))
            notes.append(f"{self._unknown} {'events' if self._unknown > 1 else 'event'} of a newer anew left out ({named}).")
        if take.cut:
            notes.append(f"It is cut off after {MAX_EVENTS} events.")
        return notes


def _hear(unwell: dict[tuple[str, str], int], event: Event) -> None:
    """Who stopped answering, and who answers again."""
    who = (event.pool, event.server)
    if event.type == "server-unhealthy":
        unwell[who] = int(event.data["number"] or 0)
    elif who in unwell and unwell[who] == event.data["number"]:
        del unwell[who]


class Film:
    """One rollout's past. Moments are counted from 1: moment n is when the first n events had happened. `times`: of each, in order."""

    def __init__(self, take: _Take, notes: tuple[str, ...] = ()) -> None:
        self.id, self.pool, self.notes = take.id, take.pool, notes
        self._events = take.events
        self._size = take.size
        self._kept = take.kept
        self._near: dict[int, tuple[State, Unwell]] = {}
        times: list[float] = []
        for event in take.events:
            times.append(max(event.at, times[-1]) if times else event.at)
        self.times: Sequence[float] = tuple(times)
        self.failures: Sequence[int] = tuple(n for n, event in enumerate(take.events, 1) if failure(event))

    def __len__(self) -> int:
        return len(self._events)

    def state(self, n: int) -> State:
        """The journal's state at moment n."""
        return self._go(n)[0]

    def rollout(self, n: int) -> Rollout:
        """The rollout at moment n."""
        return self.state(n).rollouts[self.id]

    def picture(self, n: int, at: float) -> Row:
        """The RolloutRow of moment n, as it was shown at the time `at`; {} if this record cannot be drawn there."""
        state, unwell = self._go(n)
        try:
            rollout = state.rollouts[self.id]
            return past_row(state, rollout, self._size or len(rollout.runs), unwell, at)
        except FAULTS:  # only a forged record gets here
            return {}

    def rows(self, n: int, most: int) -> list[Row]:
        """The last EventRows of moment n, oldest first."""
        return [self._row(event) for event in self._events[max(0, n - most):n]]

    def _row(self, event: Event) -> Row:
        try:
            return event_row(event)
        except FAULTS:  # as above: its words are made of fields that anew never wrote so
            return event_row(Event(event.seq, event.at, "warning", event.actor, event.pool, event.server, event.rollout,
                                   {"text": f"{event.type}, which cannot be put into words"}, event.request, event.chain))

    def tally(self, n: int) -> Mapping[str, int]:
        """Servers by cell at moment n."""
        return Counter(CELLS.get(shown_step(run), "?") for run in self.rollout(n).runs.values())

    def _go(self, n: int) -> tuple[State, Unwell]:
        """The state of moment n, from the nearest before it that is known. Those just passed are kept, for who goes back step by step."""
        here = max(kept for known in (self._kept, self._near) for kept in known if kept <= n)
        state, before = self._near.get(here) or self._kept[here]
        unwell = dict(before)
        passed = {here: (state, before)}
        for event in self._events[here:n]:
            here += 1
            try:
                state = fold(state, event)
            except FAULTS:
                pass  # forged: it spoke of another pool's rollout
            if event.type in HEALTH:
                _hear(unwell, event)
            passed[here] = (state, dict(unwell))
            passed.pop(here - SPACING, None)
        if here not in self._near:
            self._near = passed
        return state, unwell


def failure(event: Event) -> bool:
    """Something that a person looks for first: a step or a server that failed, a rollout that the engine stopped, or that failed."""
    if event.type == "rollout-moved":
        return bool(event.data["cause"] == "pause" and event.actor == "engine")
    if event.type == "server-settled":
        return str(event.data["state"]) in ("quarantined", "failed")
    if event.type == "rollout-ended":
        return bool(event.data["state"] == "failed")
    return event.type in ("step-failed", "server-unhealthy")
