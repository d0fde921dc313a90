"""Who is here, and who of them has the driver's seat (docs/pairing.md). Kept in memory; a daemon begins with an empty seat.

Rules: a person is here while a stream of events lasts that said so. The kernel's uid and pid of the process tell people apart, and no word of
theirs. One operator at most has the seat. While it is taken, nobody else's command may begin anything or let it go on: not that of
another terminal, the same user's included, and not a one-shot command of another user; the driver's own one-shot commands are the driver's.
What stops, holds back, or only says something needs no seat, and with the seat empty nobody needs one.
The seat is asked for: the driver hands it over or keeps it, and SILENCE grants it. It is lost with its connection, but for a reload
of the fleet file, which ends every stream; and where nothing rolls, after IDLE without a sign of its driver.
Nothing here waits for a client: frames go into the bounded queues of the hub, at most one in PACE, fewer in a crowd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fleet.core.errors import Refused
from fleet.core.events import Draft, Event
from fleet.core.printable import printable
from fleet.engine.present import moment

if TYPE_CHECKING:
    from fleet.engine.loop import Engine

Key = tuple[int, int]
"""A process as the kernel named it: uid, pid."""
NO_ONE: Key = (-1, 0)
SILENCE = 30.0
GRACE = 10.0
"""Seconds that people have to come back after a reload."""
IDLE = 600.0
PACE, SLOWEST, TABLE = 0.1, 10.0, 8
"""Seconds between two frames of people: the first for a table of so many, more with the square of a crowd, for each of it is told of each."""
FREE = frozenset({
    "rollout.pause", "rollout.abort", "plan.approve", "plan.withdraw", "server.hold", "image.reject", "remark", "shell.ended",  # stop, hold back, say
    "image.add", "settings.reload",  # begin nothing by themselves
    "seat.take", "seat.give", "seat.keep",
})
"""Commands that need no seat. Every other one does, while somebody has it."""


class Caller(Protocol):
    """Who calls, as the kernel says (fleet.api.office.Caller)."""

    @property
    def uid(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def terminal(self) -> str: ...
    @property
    def observer(self) -> bool: ...
    @property
    def actor(self) -> str: ...


@dataclass(slots=True)
class Person:
    """Somebody at a terminal. `until`: when they are forgotten, if no stream of theirs is back by then; `heard`: their last sign."""

    id: int
    caller: Caller
    since: float
    heard: float
    streams: int = 0
    until: float | None = None
    place: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.caller.actor


class Pairing:
    """Kept for the daemon's life; engines come and go with the fleet file. `run` belongs to the daemon's background."""

    def __init__(self, engine: Callable[[], Engine], role_of: Callable[[Any], str]) -> None:
        self._engine = engine
        self._role_of = role_of
        self._people: dict[Key, Person] = {}
        self._driver: Person | None = None
        self._asks: tuple[Person, float] | None = None
        self._count = 0
        self._notes: list[Draft] = []
        self._stir = asyncio.Event()

    def _now(self) -> float:
        return self._engine().clock.now()

    # --- who is here

    @contextmanager
    def here(self, caller: Caller, over: Callable[[], bool]) -> Iterator[int]:
        """The caller is here while this lasts; their number. `over`: whether the daemon itself ended the stream, to be come back to."""
        key, now = (caller.uid, caller.pid), self._now()
        person = self._people.get(key)
        if person is None:
            self._count += 1
            person = self._people[key] = Person(self._count, caller, now, now)
        person.streams, person.until = person.streams + 1, None
        self._stir.set()
        try:
            yield person.id
        finally:
            person.streams -= 1
            if not person.streams and over():
                person.until = self._now() + GRACE
            elif not person.streams:
                self._gone(key)
            self._stir.set()

    def _gone(self, key: Key) -> None:
        person = self._people.pop(key)
        if self._asks is not None and self._asks[0] is person:
            self._asks = None
        if self._driver is person:
            self._leave(f"the terminal of {person.name} went away")

    def _leave(self, why: str) -> None:
        """The seat falls to who asks for it, else it is empty."""
        asks, self._asks = self._asks, None
        self._driver = asks[0] if asks is not None else None
        self._notes.append(_taken(self._driver, "engine", why) if self._driver is not None else Draft("seat-left", data={"why": why}))

    def rows(self) -> list[dict[str, Any]]:
        """PersonRows of wire.py, the driver first, then in the order of arrival."""
        people = sorted(self._people.values(), key=lambda person: (person is not self._driver, person.id))
        asks, until = self._asks if self._asks is not None else (None, 0.0)
        return [{"id": person.id, "user": person.caller.user, "terminal": person.caller.terminal, "role": self._role(person),
                 "since": moment(person.since), "asks_until": moment(until) if person is asks else None, "place": dict(person.place)} for person in people]

    def _role(self, person: Person) -> str:
        if person is self._driver:
            return "driver"
        role = self._role_of(person.caller)
        return "co-driver" if role == "operator" else role or "observer"

    def show(self, by: Key, place: Mapping[str, Any]) -> None:
        """Where a person looks, for who follows them."""
        person = self._person(by)
        person.heard = self._now()
        if (cleaned := {key: _clean(value) for key, value in place.items() if value}) != person.place:
            person.place = cleaned
            self._stir.set()

    def _person(self, by: Key) -> Person:
        person = self._people.get(by)
        if person is None:
            raise Refused("only a terminal that is attached can do this: open `anew`", where="seat", code="not-attached")
        return person

    # --- the seat

    def check(self, by: Key, command: str) -> None:
        """Refused, with who may, if the command needs the seat and somebody else has it."""
        driver, caller = self._driver, self._people.get(by)
        person = driver if caller is None and driver is not None and by[0] == driver.caller.uid else caller
        if person is not None:
            person.heard = self._now()
        if command in FREE or driver is None or person is driver:
            return
        how = "ask for it with T" if caller is not None else "open `anew` and ask for it with T"
        raise Refused(f"{driver.name} has the driver's seat, and only the driver starts things or lets them go on; {how}: the driver or {SILENCE:.0f} s of "
                      "silence grants it. Pausing, aborting and holding need no seat", where=command, code="seat")

    async def take(self, by: Key, actor: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Sit down in an empty seat, or ask its driver for it."""
        person, driver = self._person(by), self._driver
        if driver is person:
            raise Refused("you have the driver's seat already", where="seat", code="wrong-state")
        if driver is None:
            self._driver = person
            return await self._told(_taken(person, actor, "it was free"), request, "you have the driver's seat: only you start things now")
        if self._asks is not None:
            who = "you have" if self._asks[0] is person else f"{self._asks[0].name} has"
            raise Refused(f"{who} asked for it already; {driver.name} or {SILENCE:.0f} s of silence answers", where="seat", code="wrong-state")
        self._asks = person, self._now() + SILENCE
        return await self._told(Draft("seat-asked", actor=actor, data={"driver": driver.name}), request,
                                f"{driver.name} is asked for the driver's seat; it is yours when they hand it over, or after {SILENCE:.0f} s of silence")

    async def give(self, by: Key, actor: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Hand the seat to who asks for it, or leave it empty."""
        self._drives(by)
        asks, self._asks = self._asks, None
        self._driver = asks[0] if asks is not None else None
        if self._driver is None:
            return await self._told(Draft("seat-left", actor=actor, data={"why": "given up"}), request, "the driver's seat is free: any operator may start things")
        return await self._told(_taken(self._driver, actor, "handed over"), request, f"{self._driver.name} has the driver's seat now")

    async def keep(self, by: Key, actor: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Say no to who asks for the seat."""
        self._drives(by)
        asks, self._asks = self._asks, None
        if asks is None:
            raise Refused("nobody asks for the seat", where="seat", code="wrong-state")
        return await self._told(Draft("seat-kept", actor=actor, data={"asked": asks[0].name}), request, f"you keep the seat; {asks[0].name} is told")

    def _drives(self, by: Key) -> None:
        if self._driver is None or self._people.get(by) is not self._driver:
            whose = f"{self._driver.name} has it" if self._driver is not None else "nobody has it"
            raise Refused(f"you do not have the driver's seat; {whose}", where="seat", code="not-driver")

    async def _told(self, draft: Draft, request: Mapping[str, Any], message: str) -> dict[str, Any]:
        """The change is made; it is in the journal, after what happened before it, before it is answered."""
        self._stir.set()
        signed = Draft(draft.type, draft.actor, data=draft.data, request=str(request.get("request", "")))
        events = await self.settle(signed)
        return {"ok": True, "seq": events[-1].seq, "message": message}

    async def settle(self, *then: Draft) -> tuple[Event, ...]:
        """Write down what happened by itself, and `then` what follows from it: no record shows the second without the first."""
        notes, self._notes = self._notes, []
        return await self._engine().record.write(*notes, *then) if notes or then else ()

    # --- time

    async def run(self) -> None:
        """Judge what time decides, write down what happened by itself, and tell everybody; for ever."""
        while True:
            wakes = self._wakes()
            try:
                async with asyncio.timeout(None if wakes is None else max(0.0, wakes - self._now())):
                    await self._stir.wait()
            except TimeoutError:
                pass
            self._stir.clear()
            self._judge()
            await self.settle()
            self._engine().hub.tell({"frame": "people", "people": self.rows()})
            await self._engine().clock.sleep(min(SLOWEST, PACE * max(1.0, (len(self._people) / TABLE) ** 2)))

    def _wakes(self) -> float | None:
        moments = [person.until for person in self._people.values() if person.until is not None]
        moments += [self._asks[1]] if self._asks is not None else []
        moments += [self._driver.heard + IDLE] if self._driver is not None else []
        return min(moments, default=None)

    def _judge(self) -> None:
        now = self._now()
        for key in [key for key, person in self._people.items() if person.until is not None and person.until <= now]:
            self._gone(key)
        driver = self._driver
        if self._asks is not None and self._role_of(self._asks[0].caller) != "operator":
            self._asks = None
        if driver is not None and self._role_of(driver.caller) != "operator":
            self._leave(f"{driver.name} is no operator any more")
        elif driver is not None and self._asks is not None and self._asks[1] <= now:
            self._leave(f"{SILENCE:.0f} s of silence of {driver.name}")
        elif driver is not None and driver.heard + IDLE <= now:
            driver.heard = now
            if all(rollout.ended for rollout in self._engine().record.state.rollouts.values()):
                self._leave(f"nothing rolls, and {IDLE / 60:.0f} minutes without a sign of {driver.name}")


def _clean(value: Any) -> Any:
    """A place's part with nothing in it that steers a terminal; its body is small already."""
    if isinstance(value, Mapping):
        return {printable(key, 64): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else printable(str(value), 128)


def _taken(person: Person, actor: str, how: str) -> Draft:
    return Draft("seat-taken", actor=actor, data={"driver": person.name, "how": how})


__all__ = ["FREE", "NO_ONE", "Key", "Pairing"]
