"""Places where a daemon can be told to die, to fail or to hang: before and after every journal write and every driver verb.

For tests of recovery only. `ANEW_FAILPOINT=NAME:kill|raise|hang[:NTH]`, several with commas, in the environment of the daemon
itself; NTH counts from 1 in each process. `kill` is kill -9 of the own process; `raise` is what a fault of anew's own would be;
`hang` never returns. Nothing of this stands in the path of a daemon without that variable: drivers and record are wrapped only
when it is set, and such a daemon says so in its journal, its log and its status.

A journal write is one commit: the points of all its events are passed before it, and after it is durable.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from fleet.core.errors import Invalid
from fleet.core.events import EVENT_TYPES, Draft, Event
from fleet.core.lifecycle import VERBS
from fleet.core.state import State
from fleet.engine.plans import unknown
from fleet.engine.record import Record
from fleet.ports import Adopter, Driver, Journal, Machines, Power, RootLocker

log = logging.getLogger("anew.failpoints")
T = TypeVar("T")
VARIABLE: Final = "ANEW_FAILPOINT"
DEEDS: Final = ("kill", "raise", "hang")
HOOKS: Final = ("drain", "admit")
"""What the actor does by itself: a pool's hooks."""

DRIVER_VERBS: Final = tuple(dict.fromkeys(
    name for port in (Driver, RootLocker, Adopter, Machines, Power) for name, verb in vars(port).items() if inspect.iscoroutinefunction(verb)))
WORK: Final = tuple(dict.fromkeys((*(verb for verb, _ in VERBS.values() if verb), *DRIVER_VERBS, *HOOKS)))
NAMES: Final = tuple(f"{when}-{what}" for what in (*EVENT_TYPES, *WORK) for when in ("before", "after"))
"""All points, from the tables of events, steps and ports."""


class Struck(Exception):
    """What `raise` raises: no error that anew raises on purpose, so it is treated as a fault of its own."""


@dataclass(frozen=True, slots=True)
class Failpoint:
    """`nth`: which passing of the point it is that strikes."""

    name: str
    deed: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.name}:{self.deed}:{self.nth}"


def parse(text: str) -> tuple[Failpoint, ...]:
    """What the variable asks for. Raises Invalid with the nearest name."""
    return tuple(_one(part.strip()) for part in text.split(",") if part.strip())


def _one(text: str) -> Failpoint:
    name, _, rest = text.partition(":")
    deed, _, nth = rest.partition(":")
    if name not in NAMES:
        problem = unknown("failpoint", name[:80], NAMES)
        raise Invalid(f"{problem.message} (docs/failpoints.md lists them)", where=VARIABLE, code=problem.code)
    if deed not in DEEDS:
        raise Invalid(f"failpoint {name} can {', '.join(DEEDS)}, not {deed[:80]!r}; write for example {name}:kill:1", where=VARIABLE)
    if nth and not (nth.isascii() and nth.isdigit() and 0 < int(nth[:9]) == int(nth)):
        raise Invalid(f"which passing of {name} strikes is a whole number from 1 on, not {nth[:80]!r}; write for example {name}:{deed}:1", where=VARIABLE)
    return Failpoint(name, deed, int(nth or 1))


class Failpoints:
    """The points that are set in this process, and how often each was passed. False if there are none."""

    def __init__(self, points: Iterable[Failpoint] = ()) -> None:
        self.points = tuple(points)
        self._passed: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self.points)

    @property
    def warnings(self) -> tuple[Draft, ...]:
        """For the journal, so that nobody runs real servers on such a daemon unknowingly."""
        if not self.points:
            return ()
        named = f"failpoint {', '.join(map(str, self.points))} is set" if len(self.points) == 1 else f"failpoints {', '.join(map(str, self.points))} are set"
        return (Draft("warning", data={"text": f"{named}: this daemon fails there on purpose; "
                                               f"take {VARIABLE} out of its environment before it runs real servers"}),)

    async def reach(self, name: str) -> None:
        """A point is passed; what is set there strikes."""
        count = self._passed[name] = self._passed.get(name, 0) + 1
        for point in self.points:
            if point.name == name and point.nth == count:
                await self._strike(point)

    async def _strike(self, point: Failpoint) -> None:
        log.critical("failpoint %s strikes", point)
        if point.deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if point.deed == "raise":
            raise Struck(f"failpoint {point} strikes")
        await asyncio.get_running_loop().create_future()

    async def around(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do a piece of work between its two points."""
        await self.reach(f"before-{what}")
        done = await work()
        await self.reach(f"after-{what}")
        return done

    def on_drivers(self, drivers: Mapping[str, Driver]) -> Mapping[str, Driver]:
        """The drivers, with points around their verbs; as they are if none is set."""
        return {name: cast(Driver, _Driver(driver, self)) for name, driver in drivers.items()} if self else drivers

    def record(self, journal: Journal, state: State) -> Record:
        """A record, with points around its writes if any is set."""
        return _Record(journal, state, self) if self else Record(journal, state)


class _Driver:
    """A driver with points around its verbs; all else is its own."""

    def __init__(self, driver: Driver, points: Failpoints) -> None:
        self._inner = driver
        self._points = points

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        if name not in DRIVER_VERBS:
            return inner
        return lambda *arguments, **named: self._points.around(name, lambda: inner(*arguments, **named))


class _Record(Record):
    """A record with points around its writes: after them the events are durable and folded, and nobody was answered."""

    def __init__(self, journal: Journal, state: State, points: Failpoints) -> None:
        super().__init__(journal, state)
        self._points = points

    async def _write(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Points of one type are passed once a commit, however many rows of it the commit holds."""
        types = tuple(dict.fromkeys(draft.type for draft in drafts))
        for kind in types:
            await self._points.reach(f"before-{kind}")
        events = await super()._write(drafts)
        for kind in types:
            await self._points.reach(f"after-{kind}")
        return events


__all__ = ["DEEDS", "NAMES", "VARIABLE", "WORK", "Failpoint", "Failpoints", "Struck", "parse"]
