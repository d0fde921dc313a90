"""The stage of the simulator: the production engine and inbox, a world in memory that outlives every daemon, and the judge.

Nothing touches a disk, and the loop (loop.py) never asks the kernel: virtual time jumps from timer to timer. The past of a case (a pool that
runs image 1) is made once a process for each shape, by a real birth, and copied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from drivers.sim import make_probe
from drivers.sim.life import Life
from drivers.sim.record import Record as WorldRecord
from fleet.core.desired import Amount, Desired, Pool, RolloutSettings, SimSettings
from fleet.core.events import Draft, Event, check_draft
from fleet.core.fold import fold_all
from fleet.core.observed import Image, Observed, Seen
from fleet.core.state import State
from fleet.engine.inbox import Inbox
from fleet.engine.record import Record
from fleet.images.catalogue import FolderCatalogue
from fleet.ports import Birth, Operation, Surroundings
from tests.clocks import EPOCH, SeededRng
from tests.scenarios.memory import MemoryJournal
from tests.scenarios.stage import CLOSED, Stage, WatchedEngine, WatchedSim
from tests.sim.case import VERSIONS, Case, Kind, fleet, pool
from tests.sim.judge import Judge, SimWorld
from tests.sim.loop import SimClock, run
from tests.sim.menu import Menu

DAEMONS = 1000
"""More daemons than any case starts: each has a stream of chance of its own."""


class Nowhere(WorldRecord):
    """The file of a world that needs none: it outlives its daemons in memory."""

    def __init__(self) -> None:
        super().__init__("")

    def load(self) -> Iterator[dict[str, Any]]:
        return iter(())

    def rewrite(self, lines: Iterable[dict[str, Any]]) -> None:
        self.lines = 0

    def append(self, *lines: dict[str, Any]) -> None:
        return


class Journal(MemoryJournal):
    """`dead` daemons write nothing any more: what they began to write, they wait for, for ever. `crash_in`: the daemon dies at that append
    from now on, before the rows are written or (`after`) when they are. Without the chain of hashes, which is the store's business.
    """

    def __init__(self, clock: Any, events: Sequence[Event]) -> None:
        super().__init__(clock, events)
        self.crash_in = 0
        self.after = False
        self.crashed: Callable[[], None] = lambda: None
        self._asked: dict[str, list[Event]] = {}

    def pen(self) -> Pen:
        """What one daemon writes with."""
        return Pen(self)

    def _add(self, draft: Draft) -> Event:
        check_draft(draft)
        seq = len(self.events) + 1
        at = max(self._clock.now(), self.events[-1].at if self.events else 0.0)
        event = Event(seq, at, draft.type, draft.actor, draft.pool, draft.server, draft.rollout, dict(draft.data), draft.request, "")
        self.events.append(event)
        if draft.request:
            self._asked.setdefault(draft.request, []).append(event)
        return event

    def find_request(self, request: str) -> tuple[Event, ...]:
        return tuple(self._asked.get(request, ()))


class Pen:
    """`ports.Journal` for one daemon's life."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.dead = False
        self.read, self.fetch, self.find_request = journal.read, journal.fetch, journal.find_request
        self.tip, self.verify = journal.tip, journal.verify

    async def append(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """One commit, unless the daemon dies at it."""
        dies = False
        if self.journal.crash_in and not self.dead:
            self.journal.crash_in -= 1
            dies = self.journal.crash_in == 0
        if dies and not self.journal.after:
            self.dead = True
        written: tuple[Event, ...] = () if self.dead else await self.journal.append(drafts)
        if dies:
            self.dead = True
            self.journal.crashed()
        if self.dead:
            await asyncio.get_running_loop().create_future()
        return written


class Rig(WatchedSim):
    """The sim driver on a world that outlives it; every call is told to the judge."""

    faults: Menu
    oracle: Judge
    watched: SimWorld

    def __init__(self, around: Surroundings, faults: Menu, one: Pool, world: SimWorld, judge: Judge) -> None:
        self._kept = world
        self.flapping: dict[str, float] = {}
        super().__init__(around, faults, one, judge)

    def _open(self, fleet: str, pool: str) -> SimWorld:
        return self._kept

    def close(self) -> None:
        self._worlds.clear()

    def _calls(self, verb: str, server: str, number: int, op: Operation) -> None:
        self._kept.advance(self._clock.now())
        self.oracle.acts(verb, server, number, op, self._clock.now())
        self.faults.op = op.id
        if self.faults.unreachable:
            self.faults.struck.setdefault(op.id, set()).add("place away")

    async def observe(self, pool: Pool) -> Observed:
        started = self._clock.now()
        self.faults.op = ""
        observed = await super().observe(pool)
        self.oracle.looked = max(self.oracle.looked, started)
        return observed

    async def probe(self, pool: Pool, server: str, number: int) -> Any:
        self.faults.op = ""
        return await super().probe(pool, server, number)

    async def stage(self, pool: Pool, image: Image, place: str, op: Operation) -> None:
        self._calls("stage", place, 0, op)
        with self.oracle.staging(place):
            await super().stage(pool, image, place, op)

    async def birth(self, pool: Pool, order: Birth, op: Operation) -> Seen:
        self._calls("birth", order.server, order.number, op)
        seen = await super().birth(pool, order, op)
        self.oracle.born(order.server, order.number, op)
        return seen

    async def commit(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        self._calls("commit", server, number, op)
        await super().commit(pool, server, number, op)
        self.oracle.commits(server, number)

    async def retire(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        self._calls("retire", server, number, op)
        await super().retire(pool, server, number, op)

    async def revive(self, pool: Pool, server: str, number: int, op: Operation) -> Seen:
        self._calls("revive", server, number, op)
        return await super().revive(pool, server, number, op)

    async def bury(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        self._calls("bury", server, number, op)
        await super().bury(pool, server, number, op)

    def health(self, pool: Pool, server: str, number: int) -> tuple[bool, str]:
        healthy, words = super().health(pool, server, number)
        now = self._clock.now()
        if healthy and self.flapping.get(server, 0.0) > now and int(now / 0.7) % 2:
            healthy, words = False, "sim: it flaps"
        self.oracle.answered((server, number), healthy, now)
        return healthy, words


class Loud(logging.Handler):
    """What anew itself logs as a fault is a finding."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.said.append(f"{record.getMessage()}: {type(error).__name__} {error}" if error else record.getMessage())


FAULTS = Loud()


@contextmanager
def heard() -> Iterator[None]:
    """While it lasts, what anew logs goes to FAULTS and to nobody else; other tests have ears of their own."""
    logger, before = logging.getLogger("anew"), logging.getLogger("anew").propagate
    FAULTS.said.clear()
    logger.addHandler(FAULTS)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(FAULTS)
        logger.propagate = before


class SimStage(Stage):
    """A case's daemon, its world, and the judge."""

    journal: Journal
    oracle: Judge

    def __init__(self, case: Case) -> None:
        past = past_of(*case.shape)
        self.case = case
        self.menu = Menu()
        super().__init__(case.desired, "", self.menu, past.events, case.seed)
        self.clock = SimClock()
        self.journal = Journal(self.clock, past.events)
        self.journal.crashed = self._crashed
        self.dies = asyncio.Event()
        self.stirred = asyncio.Event()
        self.earth = SimWorld("sim", self.pool.name, Nowhere(), self.menu)
        past.fill(self.earth)
        self.oracle = Judge(self.pool, self.earth)
        self.oracle.recall(past.state)
        good = not case.image and not case.faults
        self.oracle.blame(good and not case.blows, good and all(blow.what == "deaf" for blow in case.blows))
        self.folded = past.state
        self.pens: list[Pen] = []
        self.flapping: dict[str, float] = {}
        self.oracle.flapping = self.flapping
        self.on_event = lambda event: self.stirred.set()
        self.on_waits = lambda view: self.stirred.set()
        FAULTS.said.clear()

    def _crashed(self) -> None:
        self.dies.set()
        self.stirred.set()

    async def begin(self) -> None:
        """Start a daemon on what there is; another one if it dies at its first word."""
        while not await self._begin():
            self.dies.clear()

    async def _begin(self) -> bool:
        for event in self.journal.events[self.oracle.heard:]:  # written, but its writer died of it
            self._heard(event)
        around = Surroundings(self.desired, "", self.clock, self.rng)
        self.driver = Rig(around, self.menu, self.pool, self.earth, self.oracle)
        self.driver.flapping = self.flapping
        pen = self.journal.pen()
        self.pens.append(pen)
        self.folded = fold_all(self.folded, self.journal.events[self.folded.seq:])
        record = Record(pen, self.folded)
        epoch = record.state.epoch + 1
        self.rng = SeededRng(DAEMONS * self.seed + epoch)
        record.listen(self._heard)
        writing = asyncio.ensure_future(record.write(Draft("daemon-started", data={"epoch": epoch, "version": "sim"})))
        while not writing.done():
            if self.dies.is_set():
                for task in (writing, *record._writing):
                    task.cancel()
                return False
            await asyncio.sleep(0)
        around = Surroundings(self.desired, "", self.clock, self.rng, {"sim": self.driver})
        async with make_probe(around) as probe:
            self.engine = WatchedEngine(self.desired, record, catalogue(), {"sim": self.driver}, {"sim": probe}, self.clock, self.rng, epoch)
        self.engine.on_waits = self.on_waits
        self.inbox = Inbox(lambda: self.engine, self.journal.find_request, self._no_reload, lambda: "")
        self._running = asyncio.get_running_loop().create_task(self.engine.run())
        return True

    async def kill(self) -> None:
        """As kill -9 would: commands in flight are never answered, and nothing more is written."""
        if self._running is None:
            return
        self.pens[-1].dead = True
        self.dies.clear()
        for op in self.oracle.open:
            self.menu.struck.setdefault(op, set()).add("daemon killed")
        for _, answer in self.inbox._answers.values():
            answer.cancel()
        for writing in self.engine.record._writing:
            writing.cancel()
        await super().kill()

    async def restart(self) -> None:
        before = self.engine.record.state
        await self.kill()
        self.check_fold(before)
        await self.begin()

    def check_fold(self, state: State) -> None:
        """I19: what the daemon believed is what its journal adds up to, as far as it had read."""
        folded = fold_all(self.folded, self.journal.events[self.folded.seq:state.seq])
        if folded != state:
            self.oracle.broken.append("I19: the daemon's state is not the fold of its journal")
        self.folded = folded

    def check(self) -> None:
        """Raises Broken if a promise was, or if anew itself failed."""
        self.oracle.broken += [f"anew failed: {said}" for said in FAULTS.said]
        FAULTS.said.clear()
        if self._running is not None and self._running.done() and (ended := self._running.exception()) is not None:
            self.oracle.broken.append(f"the engine ended: {ended!r}")
        self.oracle.check()

    def rests(self) -> bool:
        """No rollout is under way, or nothing more happens until a person decides."""
        rollout = self.rollout
        if rollout is None:
            return True
        waits = rollout.state == "checkpoint" and rollout.settings.checkpoint_pause is None
        if self.view.observed is None or self.view.busy or not (waits or rollout.state in CLOSED):
            return False  # a daemon that has not looked yet cannot end anything: nobody tells it to fourteen times
        stands = {name for name, wait in self.view.waits.items() if wait.reason.startswith(("paused before", "prepared, waits"))}
        return all(run.server in stands for run in rollout.runs.values() if run.active)

    async def until(self, true: Callable[[], bool], limit: float = 3600.0, what: str = "") -> None:
        """Wait for something that an event, a decision or the passing of time brings about; a daemon that dies is started again."""
        ends = self.clock.now() + limit
        while True:
            self.check()
            if self.dies.is_set():
                await self.restart()
            if true():
                return
            if self.clock.now() >= ends:
                raise AssertionError(f"I20: not within {limit:g} s: {what}; {self.describe()}")
            self.stirred.clear()
            try:
                async with asyncio.timeout(5.0):
                    await self.stirred.wait()
            except TimeoutError:
                pass


@lru_cache(maxsize=1)
def catalogue() -> FolderCatalogue:
    """The three images, one catalogue for all daemons of all cases."""
    images = fleet(pool((1, "", 1), RolloutSettings(), SimSettings())).images
    found = FolderCatalogue(images, "/nonexistent")
    found._shelf = _shelf(images)
    return found


def _shelf(images: Any) -> Any:
    from fleet.images.catalogue import _Shelf
    from fleet.images.manifest import simulated

    return _Shelf({(family, version): simulated(family, version) for family in images for version in VERSIONS}, {})


@dataclass(frozen=True, slots=True)
class Past:
    """A pool that runs image 1: its journal, the state that adds up to, its world, and the loop's time."""

    events: tuple[Event, ...]
    state: State
    lives: tuple[Life, ...]
    staged: frozenset[tuple[str, str]]
    disks: frozenset[tuple[str, str]]
    at: float

    def fill(self, world: SimWorld) -> None:
        """A world as it was then."""
        for life in self.lives:
            mine = copy(life)
            world.lives[mine.key] = mine
            world._last[mine.server] = mine.number
            world._seen[mine.key] = mine.seen()
        world.staged, world.disks, world.epoch = set(self.staged), set(self.disks), self.state.epoch


@lru_cache(maxsize=512)
def past_of(servers: int, kind: Kind, places: int) -> Past:
    """Made by a birth, all at once; the machines are older the higher their number, so that their order by age is not that of their names."""
    settings = RolloutSettings(max_unavailable=Amount(100, True), canaries=Amount(0), promotion="auto", min_healthy_time=0.5)
    world = SimSettings(0, 1.0, 0.0, {}, kind == "in-place")
    desired = fleet(pool((servers, kind, places), settings, world))
    return run(_born(desired), 0, 0.0, 1000.0)  # type: ignore[no-any-return]


async def _born(desired: Desired) -> Past:
    stage = _Cradle(desired)
    await stage.begin()
    await stage.birth(VERSIONS[0])
    state = stage.engine.record.state
    await stage.kill()
    world = stage.earth
    for life in world.lives.values():
        life.born_at -= 100.0 * int(life.server.rsplit("-", 1)[1])
    return Past(tuple(stage.journal.events), state, tuple(world.lives.values()), frozenset(world.staged), frozenset(world.disks),
                stage.clock.now() - EPOCH)


class _Cradle(SimStage):
    """A stage without a past."""

    def __init__(self, desired: Desired) -> None:
        self.menu = Menu()
        Stage.__init__(self, desired, "", self.menu)
        self.clock = SimClock()
        self.journal = Journal(self.clock, ())
        self.dies, self.stirred = asyncio.Event(), asyncio.Event()
        self.earth = SimWorld("sim", self.pool.name, Nowhere(), self.menu)
        self.oracle = Judge(self.pool, self.earth)
        self.folded = State()
        self.pens, self.flapping = [], {}
        self.on_event = lambda event: self.stirred.set()
        self.on_waits = lambda view: self.stirred.set()


@asynccontextmanager
async def staged(case: Case) -> Any:
    """A stage with a running daemon, which is killed in the end."""
    stage = SimStage(case)
    await stage.begin()
    try:
        yield stage
    finally:
        await stage.kill()
