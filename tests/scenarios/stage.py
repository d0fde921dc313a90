"""A stage for stories: production engine, inbox, catalogue and sim driver; a memory journal, virtual time, and the oracle.

A daemon may be killed and started again on the same journal and the same world (`restart`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from drivers.sim import Faults, SimDriver, make_probe
from drivers.sim.record import Record as WorldRecord
from fleet import settings
from fleet.core.decision import Action, Decision
from fleet.core.desired import Desired, Pool
from fleet.core.events import Draft, Event
from fleet.core.fold import fold_all
from fleet.core.observed import Seen
from fleet.core.state import Rollout, State
from fleet.engine.act import Actor
from fleet.engine.inbox import Inbox
from fleet.engine.loop import Engine
from fleet.engine.record import Record
from fleet.engine.view import PoolView
from fleet.images.catalogue import FolderCatalogue
from fleet.ports import Birth, Operation, Surroundings
from tests.clocks import SeededRng, VirtualClock, VirtualLoop
from tests.scenarios.memory import MemoryJournal
from tests.scenarios.oracle import Oracle, WatchedWorld

CLOSED = ("paused", "awaiting-promotion")


class WatchedSim(SimDriver):
    """The sim driver, with an oracle that is told of every call and every change."""

    def __init__(self, around: Surroundings, faults: Faults, pool: Pool, oracle: Oracle | None) -> None:
        super().__init__(around, faults)
        self.watched = self._worlds[pool.name] = self._open(around.desired.fleet, pool.name)
        self.oracle = oracle or Oracle(pool, self.watched)
        self.oracle.world = self.watched
        self.watched.told = lambda server: self.oracle.changed(server, self._clock.now())

    def _open(self, fleet: str, pool: str) -> WatchedWorld:
        return WatchedWorld(fleet, pool, WorldRecord(os.path.join(self._folder, f"{pool}.jsonl")), self.faults)

    async def retire(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        self._world_now(pool)
        self.oracle.retiring(server, number, op.id, self._clock.now())
        try:
            await super().retire(pool, server, number, op)
        finally:
            self.oracle.done(server, op.id)

    async def commit(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        self._world_now(pool)
        self.oracle.committing(server, number, self._clock.now())
        await super().commit(pool, server, number, op)
        self.oracle.admitted.add((server, number))

    async def bury(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        self.oracle.burying(server, number, self._clock.now())
        await super().bury(pool, server, number, op)

    async def birth(self, pool: Pool, order: Birth, op: Operation) -> Seen:
        async with self._instead(pool, order.server, order.number, op):
            return await super().birth(pool, order, op)

    async def revive(self, pool: Pool, server: str, number: int, op: Operation) -> Seen:
        async with self._instead(pool, server, number, op):
            return await super().revive(pool, server, number, op)

    @asynccontextmanager
    async def _instead(self, pool: Pool, server: str, number: int, op: Operation) -> AsyncIterator[None]:
        """On a machine with two slots the boot of one incarnation takes the other out of service."""
        self._world_now(pool)
        running = [life.number for life in self.oracle.lives(server) if life.state == "running" and life.number != number]
        for other in running if pool.in_place else ():
            self.oracle.retiring(server, other, op.id, self._clock.now())
        try:
            yield
        finally:
            self.oracle.done(server, op.id)


class StillActor(Actor):
    """Virtual time stands still while a hook, which is a real process, runs (a story with `settle` lets it pass)."""

    async def _hook(self, view: PoolView, action: Action, argv: tuple[str, ...], deadline: float) -> None:
        loop = asyncio.get_running_loop()
        still = isinstance(loop, VirtualLoop) and not loop.settle
        if still:
            loop.threads += 1  # type: ignore[attr-defined]
        try:
            await super()._hook(view, action, argv, deadline)
        finally:
            if still:
                loop.threads -= 1  # type: ignore[attr-defined]


class WatchedEngine(Engine):
    """The engine, telling its waits."""

    on_waits: Callable[[PoolView], None] = staticmethod(lambda view: None)

    async def decide(self, view: PoolView, tasks: asyncio.TaskGroup) -> Decision:
        decision = await super().decide(view, tasks)
        self.on_waits(view)
        return decision


class Stage:
    """One pool of one fleet file, a daemon that runs it, and the means to tell it things."""

    def __init__(self, desired: Desired, folder: str, faults: Faults, events: Sequence[Event] = (), seed: int = 0) -> None:
        self.desired = desired
        self.folder = folder
        self.faults = faults
        self.clock = VirtualClock()
        self.rng = SeededRng(seed)
        self.seed = seed
        self.journal = MemoryJournal(self.clock, events)
        self.pool = next(iter(desired.pools.values()))
        self.on_event: Callable[[Event], None] = lambda event: None
        self.on_waits: Callable[[PoolView], None] = lambda view: None
        self.driver: WatchedSim
        self.engine: WatchedEngine
        self.inbox: Inbox
        self.oracle: Oracle | None = None
        self._running: asyncio.Task[None] | None = None
        self._requests = 0

    @property
    def state(self) -> State:
        return self.engine.record.state

    @property
    def rollout(self) -> Rollout | None:
        """The one under way."""
        return self.state.active(self.pool.name)

    @property
    def last(self) -> Rollout:
        """The one under way, or else the last one."""
        found = self.engine.last_rollout(self.pool.name)
        assert found is not None
        return found

    @property
    def view(self) -> PoolView:
        return self.engine.views[self.pool.name]

    @property
    def world(self) -> WatchedWorld:
        return self.driver.watched

    async def begin(self) -> None:
        """Start a daemon."""
        catalogue = FolderCatalogue(self.desired.images, self.folder)
        catalogue.refresh()
        around = Surroundings(self.desired, self.folder, self.clock, self.rng)
        self.driver = WatchedSim(around, self.faults, self.pool, self.oracle)
        self.oracle = self.driver.oracle
        record = Record(self.journal, fold_all(State(), self.journal.events))
        epoch = record.state.epoch + 1
        self.rng = SeededRng(1000 * self.seed + epoch)
        await record.write(Draft("daemon-started", data={"epoch": epoch, "version": "test"}))
        around = Surroundings(self.desired, self.folder, self.clock, self.rng, {"sim": self.driver})
        async with make_probe(around) as probe:
            self.engine = WatchedEngine(self.desired, record, catalogue, {"sim": self.driver}, {"sim": probe}, self.clock, self.rng, epoch)
        self.engine.on_waits = self.on_waits
        self.engine.actor = StillActor(record, {"sim": self.driver}, self.clock, self.rng, epoch, "", self.engine.pulse)
        record.listen(self._heard)
        self.inbox = Inbox(lambda: self.engine, self.journal.find_request, self._no_reload, lambda: "")
        self._running = asyncio.get_running_loop().create_task(self.engine.run())

    async def _no_reload(self, actor: str) -> str:
        raise AssertionError("no story reloads the fleet file")

    def _heard(self, event: Event) -> None:
        assert self.oracle is not None
        if event.pool in ("", self.pool.name):
            self.oracle.hear(event, self.clock.now())
        self.on_event(event)

    async def kill(self) -> None:
        """The daemon ends between two of its steps, as kill -9 would end it; what its verbs had done is done."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
            failed = None if self._running.cancelled() else self._running.exception()
            self._running = None
            self.driver.close()
            if failed is not None:
                raise failed

    async def restart(self) -> None:
        await self.kill()
        await self.begin()

    async def command(self, name: str, actor: str = "ana", uid: int = 1000, **request: Any) -> dict[str, Any]:
        """Give a command; errors are raised as the inbox raises them."""
        self._requests += 1
        return await self.inbox.command(actor, {"command": name, "pool": self.pool.name, "request": f"r{self._requests} of {self.engine.actor.epoch}", **request}, uid)

    async def until(self, true: Callable[[], bool], limit: float = 3600.0, what: str = "") -> None:
        """Wait in virtual time until something is true; a failed engine fails the test at once."""
        ends = self.clock.now() + limit
        while True:
            assert self.oracle is not None
            self.oracle.check()
            if true():
                return
            if self._running is not None and self._running.done():
                self._running.result()
            if self.clock.now() >= ends:
                raise AssertionError(f"not within {limit:g} s: {what}; {self.describe()}")
            await self.clock.sleep(0.1)

    def describe(self) -> str:
        """Where everything stands, for the message of a failed test."""
        rollout = self.last if self.state.rollouts else None
        if rollout is None:
            return "no rollout"
        runs = "; ".join(f"{run.server} {run.path}/{run.step}/{run.phase} {run.error}" for run in rollout.runs.values())
        waits = "; ".join(f"{name}: {wait.reason}" for name, wait in self.view.waits.items())
        return f"rollout is {rollout.state} ({rollout.reason}): {runs} | waits {waits} | trouble {self.view.trouble!r}"

    async def observed(self) -> None:
        await self.until(lambda: self.view.observed is not None, what="an observation")

    async def settle(self, limit: float = 3600.0) -> None:
        """Until the rollout has ended or a person is needed."""
        await self.clock.sleep(0.2)
        await self.until(self.rests, limit, "the rollout rests")

    def rests(self) -> bool:
        """No rollout is under way, or it stands still until a person decides."""
        if self.rollout is None:
            return True
        stands = {name for name, wait in self.view.waits.items() if wait.reason.startswith(("paused before", "prepared, waits"))}
        return self.rollout.state in CLOSED and not self.view.busy and all(
            run.server in stands for run in self.rollout.runs.values() if run.active)

    async def birth(self, version: str) -> None:
        """Bring the empty pool up, as a story's past."""
        await self.observed()
        await self.command("rollout.start", plan={"to": version})
        for uid in range(1, self.pool.approvals + 1):
            await self.command("plan.approve", actor=f"elder-{uid}", uid=uid)
        if self.pool.approvals:
            await self.command("rollout.start", plan={"to": version})
        await self.until(lambda: self.rollout is None, what="the birth")
        assert self.last.state == "done", self.describe()

    def publish(self, version: str) -> None:
        """A new version of the pool's image is catalogued."""
        family = self.desired.images[self.pool.image]
        source = replace(family, simulated=(*family.simulated, version))
        self.desired = replace(self.desired, images={**self.desired.images, family.family: source})
        self.engine.catalogue.refresh(self.desired.images)
        self.engine.refresh_images()

    def serving(self) -> dict[str, str]:
        """server -> version of what serves in the world: the admitted incarnation that runs."""
        return {life.server: life.version for life in self.world.lives.values() if life.state == "running" and life.committed}


@asynccontextmanager
async def staged(fleet: str, folder: str, faults: Faults | None = None, events: Sequence[Event] = (), seed: int = 0,
                 on_event: Callable[[Event], None] | None = None) -> AsyncIterator[Stage]:
    """A stage with a running daemon. `fleet`: the text of a fleet file; `folder`: where it and the world live."""
    path = os.path.join(folder, "fleet.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(fleet)
    stage = Stage(settings.load(path), folder, faults or Faults(), events, seed)
    if on_event is not None:
        stage.on_event = on_event
    await stage.begin()
    try:
        yield stage
        assert stage.oracle is not None
        stage.oracle.check()
    finally:
        await stage.kill()
