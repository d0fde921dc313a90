"""The engine: one loop per pool that plans, writes the notes, plans again, and begins the actions.

Rule 1: a decision and the intents it leads to are made under the pool's lock, as commands are; so after a pause is
acknowledged no step begins. Rule 2: nothing is kept here that the journal or the target could tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fleet.core.decision import Decision
from fleet.core.desired import Desired, Pool
from fleet.core.errors import BrokenMachine
from fleet.core.events import Draft, Event
from fleet.core.observed import Image
from fleet.core.planner import plan
from fleet.core.sight import Sight
from fleet.core.state import Rollout
from fleet.engine import auto, glass, present
from fleet.engine.act import Actor
from fleet.engine.hub import Hub
from fleet.engine.observe import Watch
from fleet.engine.pulse import BEAT, STUCK, Progress, Pulse
from fleet.engine.record import Record
from fleet.engine.reins import LEFT_OFF, Reins
from fleet.engine.view import PoolView
from fleet.images.catalogue import FolderCatalogue
from fleet.ports import Clock, Driver, Probe, Rng

PLAN_SPACING = 2e-5
"""Seconds for each server of the pool between two plans: what happens meanwhile is decided on at once, in one commit."""
FIRST_LOOK = 5.0
TURN = 10
"""Beats in which a pool that nothing happens to is decided on at least once, so that one that cannot be is noticed."""
ROUNDS = 200
"""So many times in a row a plan may answer with notes; more is a fault of the planner, not of the fleet."""


class Swapped(Exception):
    """What a command waited for was decided by a fleet file that is in force no more: it is decided again, by the new one."""


class Engine:
    """Everything that runs for one valid fleet file. `run` ends only when it is cancelled."""

    def __init__(self, desired: Desired, record: Record, catalogue: FolderCatalogue, drivers: Mapping[str, Driver],
                 probes: Mapping[str, Probe], clock: Clock, rng: Rng, epoch: int, folder: str = "") -> None:
        self.desired = desired
        self.record = record
        self.catalogue = catalogue
        self.drivers = drivers
        self.clock = clock
        self.rng = rng
        self.views = {name: PoolView(pool) for name, pool in desired.pools.items()}
        self.images: Mapping[str, Image] = {}
        self._by_age: Mapping[str, tuple[Image, ...]] = {}
        self.hub = Hub(clock, self._rows, record.journal_page)
        self.pulse = Pulse(clock)
        self.reins = Reins(clock)
        self.actor = Actor(record, drivers, clock, rng, epoch, folder, self.pulse)
        self.watch = Watch(record, drivers, probes, clock, lambda view, server: self.hub.changed(view.pool.name, server))
        self.actor.told = lambda view, server: self.hub.changed(view.pool.name, server)
        self.over = False
        self.on_beat: Callable[[str], None] = lambda stuck: None
        self._progress = Progress()
        self._plans = True
        self.refresh_images()
        record.listen(self._heard)

    def refresh_images(self) -> None:
        """Read the catalogue again (after `image add`, a reload, or before a plan)."""
        listed = self.catalogue.list()
        by_age: dict[str, tuple[Image, ...]] = {}
        for image in sorted(listed, key=lambda image: image.built_at):  # stable: within one moment by version
            by_age[image.ref.family] = (*by_age.get(image.ref.family, ()), image)
        self.images, self._by_age = {image.ref.digest: image for image in listed}, by_age

    def newest(self, pool: Pool) -> Image | None:
        """What the pool's channel offers: the newest version that it did not reject, never one older than its stable one.

        Versions that a sim pool breaks on purpose are only gone to when they are named.
        """
        state, family = self.record.state.pool(pool.name), self._by_age.get(pool.image, ())
        stable = next((index for index, image in enumerate(family) if state.stable and image.ref.digest == state.stable.digest), 0)
        broken = pool.sim.faults if pool.sim else {}
        offered = [image for image in family[stable:] if image.ref.digest not in state.rejected and image.ref.version not in broken]
        return offered[-1] if offered else None

    def _heard(self, event: Event) -> None:
        self.hub.on_event(event)
        view = self.views.get(event.pool)
        if view is not None:
            view.wake()

    def stop(self) -> None:
        """Take the engine out of the record's ears; its tasks end with the group that runs them."""
        self.over = True
        self.record.unlisten(self._heard)

    @asynccontextmanager
    async def holding(self, view: PoolView) -> AsyncIterator[None]:
        """The pool's lock, for a command; Swapped if this engine ended while it was waited for."""
        async with view.lock:
            if self.over:
                raise Swapped
            yield

    async def run(self, plan: bool = True) -> None:
        """Look, plan and act for every pool, for ever; without `plan` only look."""
        self._plans = plan
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hub.run())
            tasks.create_task(self._beat())
            for view in self.views.values():
                for what, work in self._loops(view, tasks):
                    if plan or what not in ("planning", "locking"):
                        tasks.create_task(self.actor.guard(view, what, work))

    def _loops(self, view: PoolView, tasks: asyncio.TaskGroup) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        yield "observing", lambda: self.watch.observe(view)
        if view.pool.machines:
            yield "glancing", lambda: self.watch.glance(view)
        yield "probing", lambda: self.watch.health(view)
        yield "locking", lambda: glass.keep(self, view)
        yield "planning", lambda: self._plan_for_ever(view, tasks)

    def remember(self, before: Engine) -> None:
        """Take over what the engine of the fleet file before saw: a reload makes nobody unhealthy.

        The lock goes with it, so that a pause acknowledged by the one is obeyed by the other.
        """
        self.reins = before.reins
        for name, view in self.views.items():
            old = before.views.get(name)
            if old is not None and old.pool.driver == view.pool.driver:
                view.observed, view.health, view.facts, view.looked = old.observed, old.health, old.facts, old.looked
                view.lock, view.ordered = old.lock, old.ordered

    async def first_look(self, running: asyncio.Task[None]) -> None:
        """Wait, a few seconds at most, until every pool was looked at once, so that the first answer is not "nobody is there"."""
        deadline = self.clock.now() + FIRST_LOOK
        while self.clock.now() < deadline and not running.done():
            if all(self._seen(view) for view in self.views.values()):
                return
            await self.clock.sleep(0.05)

    def _seen(self, view: PoolView) -> bool:
        return view.observed is not None and all(
            (seen.server, seen.number) in view.health for seen in view.observed.incarnations if seen.state == "running")

    async def _beat(self) -> None:
        while True:
            gaps = self.pulse.gaps
            if self.pulse.check() != gaps:
                for view in self.views.values():
                    view.wake()
            for view in self.views.values():
                if self.reins.lost(self.record.state.active(view.pool.name)):
                    view.wake()
            self.on_beat(self.stuck())
            await self.clock.sleep(BEAT)

    def stuck(self) -> str:
        """A beat: "" or which part of the engine has not got on for STUCK beats: a write to the journal, or a pool's planner.

        A planner that waits its turn while a command has the pool is not stuck: what commands do to machines has deadlines of its own,
        longer ones. A look or a verb that takes its time is not either.
        """
        if self._progress.still("", self.record.oldest_write()) >= STUCK:
            return f"the journal has not taken a write for {STUCK} s"
        hung = ""
        for name, view in self.views.items():
            at_it = self._plans and (view.deciding or not view.lock.locked())
            beats = self._progress.still(name, view.turns if at_it else None)
            if beats >= STUCK:
                hung = hung or f"pool {name} has not been decided on for {STUCK} s"
            elif beats >= TURN:
                view.wake()
        return hung

    def pause_all(self, reason: str) -> None:
        """Pause every rollout as soon as its pool is planned again (the disk is full, and the like)."""
        for view in self.views.values():
            view.halt = reason
            view.wake()

    def sight(self, view: PoolView) -> Sight:
        """The pool as it is judged now."""
        return view.sight(self.record.state, self.clock.now(), self.images)

    async def _plan_for_ever(self, view: PoolView, tasks: asyncio.TaskGroup) -> None:
        while True:
            view.stir.clear()
            async with view.lock:
                decision = await self._turn(view, tasks)
            await self.clock.sleep(view.pool.servers * PLAN_SPACING)
            now = self.clock.now()
            nap = None if decision.wake_at is None else max(0.01, decision.wake_at - now)
            try:
                async with asyncio.timeout(nap):
                    await view.stir.wait()
            except TimeoutError:
                pass

    async def _turn(self, view: PoolView, tasks: asyncio.TaskGroup) -> Decision:
        """A decision, and the proof that one was made: one that fails is told and tried again, so it is none that hangs."""
        view.deciding = True
        try:
            return await self.decide(view, tasks)
        finally:
            view.deciding = False
            view.turns += 1

    async def decide(self, view: PoolView, tasks: asyncio.TaskGroup) -> Decision:
        """One decision, carried out. The caller holds the pool's lock."""
        self.pulse.check()
        if away := self.pulse.take():
            await self.record.write(Draft("daemon-blind", data={"seconds": round(away, 1)}))
        if view.halt:
            halt, view.halt = view.halt, ""
            await self.actor.pause_for(view, halt)
        if gone := self.reins.lost(self.record.state.active(view.pool.name)):
            await self.actor.pause_for(view, gone, LEFT_OFF)
        for _ in range(ROUNDS):
            sight = self.sight(view)
            decision = plan(sight)
            notes = await self._enriched(view, decision.notes) or auto.review(self, view, sight)
            if not notes:
                break
            await self.record.write(*notes)
        else:
            raise BrokenMachine(f"pool {view.pool.name} was planned {ROUNDS} times without coming to rest")
        if decision.look and decision.look_at and view.pool.machines:
            view.glance_at |= decision.look_at
            view.glance.set()
        elif decision.look:
            view.look.set()
        before = view.waits
        changed = {name for name, wait in decision.waits.items() if (old := before.get(name)) is not wait and old != wait}
        changed |= before.keys() - decision.waits.keys()
        view.waits = decision.waits
        for name in changed:
            self.hub.changed(view.pool.name, name)
        if decision.actions:
            await self.actor.begin(view, decision.actions, tasks, self.images)
        return decision

    async def _enriched(self, view: PoolView, notes: Sequence[Draft]) -> list[Draft]:
        """A gate that closed for good tells the server's last words. Who died together is asked together: the pool's lock is held."""
        dead = [at for at, note in enumerate(notes) if note.type == "step-failed" and note.data["number"] is not None]
        if not dead:
            return list(notes)
        said = await asyncio.gather(*(self.actor.last_words(view, notes[at].server, notes[at].data["number"]) for at in dead))
        words = dict(zip(dead, said, strict=True))
        return [replace(note, data={**note.data, "last_words": words[at]}) if at in words else note for at, note in enumerate(notes)]

    def _rows(self, pool: str, servers: set[str]) -> Iterable[tuple[str, str, dict[str, Any]]]:
        """The rows of a pool that may have changed: its own, its rollout's, and those of the servers named."""
        view = self.views.get(pool)
        if view is None:
            return
        sight, waits = self.sight(view), view.shown_waits()
        names = view.pool.server_names if "" in servers else [name for name in view.pool.server_names if name in servers]
        for name in names:
            yield "server", name, present.server_row(sight, name, waits)
        yield "pool", pool, present.pool_row(sight, self.newest(view.pool), view.trouble, view.auto)
        rollout = sight.rollout or self.last_rollout(pool)
        if rollout is not None:
            yield "rollout", rollout.id, present.rollout_row(sight, rollout, waits, only=set(names))

    def last_rollout(self, pool: str) -> Rollout | None:
        """The pool's most recent rollout that is still remembered."""
        mine = [rollout for rollout in self.record.state.rollouts.values() if rollout.pool == pool]
        return mine[-1] if mine else None
