"""The driver port on simulated worlds, one a pool.

Rules
- Time is `around.clock`'s: the same code runs under a real clock (`anew demo`) and a virtual one (tests).
- A verb waits, then takes effect in one piece: cancelled before that moment it has done nothing (a birth has
  left a half-made incarnation, as a real one would); cancelled after it, everything.
- A world is opened on first use and is empty if it has no file (record.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

from drivers.sim import console
from drivers.sim.chance import seconds_for, settings_of
from drivers.sim.faults import Faults
from drivers.sim.record import Record
from drivers.sim.world import World
from fleet.core.desired import Pool
from fleet.core.errors import Permanent, Refused, Transient
from fleet.core.observed import Facts, Image, Observed, ObservedRoot, Seen
from fleet.ports import Birth, Operation, Surroundings

T = TypeVar("T")
PLACE = "sim"
"""The place of pools that name no hypervisors."""

_CONSOLE_CAP = 64 * 1024
_WORDS_CAP = 4 * 1024


class SimDriver:
    """`Driver`, `RootLocker` and `Console` on simulated worlds. `faults` is the menu of what goes wrong; tests change it at
    any time.
    """

    name = "sim"
    surge = True

    def __init__(self, around: Surroundings, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self._clock = around.clock
        self._fleet = around.desired.fleet
        self._folder = os.path.join(around.state_dir, "sim")
        self._worlds: dict[str, World] = {}

    def world(self, pool: Pool | str) -> World:
        """The world of a pool, opened on first use. Raises Permanent if its file cannot be read."""
        name = pool if isinstance(pool, str) else pool.name
        world = self._worlds.get(name)
        if world is None:
            record = Record(os.path.join(self._folder, f"{name}.jsonl"))
            world = self._worlds[name] = World(self._fleet, name, record, self.faults)
        return world

    def close(self) -> None:
        """Close the files; the worlds stay as they are."""
        for world in self._worlds.values():
            world.close()
        self._worlds.clear()

    # -- Driver --------------------------------------------------------------------------------------------

    async def observe(self, pool: Pool) -> Observed:
        now = self._clock.now()
        world = self._world_now(pool)
        await self._fail(pool, "observe", "", self.faults.draw("observe", ""))
        seen, away = world.seen(), dict(self.faults.unreachable)
        if away:
            seen = tuple(one for one in seen if one.place not in away)
        return Observed(pool.name, now, seen, unreachable=away)

    async def stage(self, pool: Pool, image: Image, place: str, op: Operation) -> None:
        place = place or PLACE
        if (image.ref.digest, place) in self.world(pool).staged:
            return
        world = self.world(pool)
        await self._act(
            pool, "stage", f"stage {place}", 0, place, op, lambda: world.stage(image.ref.digest, place, pool.in_place)
        )

    async def birth(self, pool: Pool, order: Birth, op: Operation) -> Seen:
        place = order.place or PLACE
        order = Birth(order.server, order.number, order.image, place, order.born_at)
        world = self._world_now(pool)

        def boot() -> Seen:
            return world.start(pool, world.conceive(pool, order, op), self._clock.now(), "boot")

        return await self._act(
            pool,
            "birth",
            order.server,
            order.number,
            place,
            op,
            boot,
            begin=lambda: world.conceive(pool, order, op),
        )

    async def probe(self, pool: Pool, server: str, number: int) -> Facts:
        world = self._world_now(pool)
        await self._fail(pool, "probe", server, self.faults.draw("probe", server))
        await self._clock.sleep(seconds_for(settings_of(pool), "probe", server, number))
        world.advance(self._clock.now())
        life = world.lives.get((server, number))
        if life is None or life.state != "running":
            return Facts(note="it is not running")
        if not life.booted(self._clock.now()):
            return Facts(note="it does not answer yet")
        root: ObservedRoot = "overlay" if life.root == "overlay" else "read-only"
        if life.touched or life.unlocked or life.fault == "writable-root":
            root = "writable"
        return Facts(
            root, life.version, life.boot_id(), "anew sim", "touched by hand" if life.touched else ""
        )

    async def commit(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        world = self._world_now(pool)
        place = world.find(server, number).place
        await self._act(
            pool, "commit", server, number, place, op, lambda: world.commit(world.find(server, number))
        )

    async def retire(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        world = self._world_now(pool)
        life = world.lives.get((server, number))
        if life is None:
            return  # what is not there is stopped already
        await self._act(pool, "retire", server, number, life.place, op, lambda: world.stop(life))

    async def revive(self, pool: Pool, server: str, number: int, op: Operation) -> Seen:
        world = self._world_now(pool)
        place = world.find(server, number).place

        def rise() -> Seen:
            return world.start(pool, world.find(server, number), self._clock.now(), "rise")

        return await self._act(pool, "revive", server, number, place, op, rise)

    async def bury(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        world = self._world_now(pool)
        if world.was_buried(server, number):
            return
        place = world.find(server, number).place

        def remove() -> None:
            if not world.was_buried(server, number):
                world.bury(world.find(server, number))

        await self._act(pool, "bury", server, number, place, op, remove)

    # -- RootLocker ----------------------------------------------------------------------------------------

    async def root_fixed(self, pool: Pool, server: str) -> str:
        running = self._world_now(pool).running(server)
        return running.fixed() if running is not None else "it does not run, so there is no root to remount"

    async def writers(self, pool: Pool, server: str) -> tuple[str, ...]:
        running = self._world_now(pool).running(server)
        return ("sh 812 /root/notes",) if running is not None and running.unlocked else ()

    async def lock_root(self, pool: Pool, server: str, mode: Literal["read-only", "writable"], op: Operation) -> str:
        life = self._world_now(pool).running(server)
        if life is None or (why := life.fixed()):
            raise Refused(why if life is not None else "it does not run, so there is no root to remount", where=server)
        await self._act(pool, "remount", server, life.number, life.place, op, lambda: self.world(pool).remount(life, mode == "writable"))
        return f"the root of {server} is {mode} now, until it is changed or the server stops"

    # -- Console -------------------------------------------------------------------------------------------

    async def console(self, pool: Pool, server: str, number: int) -> AsyncIterator[bytes]:
        world, sent, start = self._world_now(pool), 0, -1
        while True:
            world.advance(self._clock.now())
            life = world.lives.get((server, number))
            if life is None:
                return
            if life.starts != start:
                start, sent = life.starts, 0
            said = console.lines(life, seconds_for(settings_of(pool), "boot", server, number))
            past = [text for at, text in said if at <= self._clock.now()] if life.starts else []
            if len(past) > sent:
                yield "".join(f"{text}\r\n" for text in past[sent:]).encode()[-_CONSOLE_CAP:]
                sent = len(past)
            await self._clock.sleep(0.2)

    async def last_words(self, pool: Pool, server: str, number: int) -> str:
        world = self._world_now(pool)
        life = world.lives.get((server, number))
        if life is None or not life.starts:
            return ""
        said = console.lines(life, seconds_for(settings_of(pool), "boot", server, number))
        return "\n".join(text for at, text in said if at <= self._clock.now())[-_WORDS_CAP:]

    # -- for the probe -------------------------------------------------------------------------------------

    def health(self, pool: Pool, server: str, number: int) -> tuple[bool, str]:
        """The world's word on an incarnation, unless every check is made to fail."""
        if self.faults.deaf or server in self.faults.mute:
            return False, "sim: the check itself is broken"
        return self.world(pool).health(server, number, self._clock.now())

    # -- inside --------------------------------------------------------------------------------------------

    def _world_now(self, pool: Pool) -> World:
        world = self.world(pool)
        world.advance(self._clock.now())
        return world

    async def _act(
        self,
        pool: Pool,
        verb: str,
        server: str,
        number: int,
        place: str,
        op: Operation,
        effect: Callable[[], T],
        begin: Callable[[], object] | None = None,
    ) -> T:
        """Fence, wait as long as the verb takes, take effect; or what the fault menu says instead."""
        world = self.world(pool)
        world.fence(op)
        if place in self.faults.unreachable:
            raise Transient(self.faults.unreachable[place], where=place)
        outcome = self.faults.draw(verb, server)
        await self._fail(pool, verb, server, outcome)
        takes = seconds_for(settings_of(pool), verb, server, number)
        if outcome == "late":
            world.later(self._clock.now() + takes + self.faults.late_by, effect)
        if begin is not None and outcome != "late":
            begin()
        await self._clock.sleep(min(takes, op.deadline))
        if takes > op.deadline or outcome == "late":
            raise Transient(f"{verb} was not done within its {op.deadline:g} s", where=server)
        world.advance(self._clock.now())
        result = effect()
        if outcome == "done-then-hang":
            await self._hang()
        if outcome == "lost":
            raise Transient(f"{verb}: no answer within {op.deadline:g} s", where=server)
        return result

    async def _fail(self, pool: Pool, verb: str, server: str, outcome: str) -> None:
        where = server or f"pool {pool.name}"
        if outcome == "transient":
            raise Transient(f"{verb} failed, as the fault menu asked", where=where)
        if outcome == "permanent":
            raise Permanent(f"{verb} cannot work, as the fault menu asked", where=where)
        if outcome == "hang":
            await self._hang()

    async def _hang(self) -> None:
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def make(around: Surroundings) -> AsyncIterator[SimDriver]:
    """The `anew.drivers` entry point. `around.options["sim_faults"]` may carry a `Faults` menu (tests)."""
    asked = around.options.get("sim_faults")
    driver = SimDriver(around, asked if isinstance(asked, Faults) else None)
    try:
        yield driver
    finally:
        driver.close()
