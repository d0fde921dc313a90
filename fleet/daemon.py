"""`anew daemon`: owns the journal, the drivers and every decision; clients come and go.

Life: settings -> journal replayed and verified -> drivers -> engine and socket -> until SIGTERM. SIGHUP or `anew reload`
reads the fleet file again; a broken one changes nothing. kill -9 at any moment is survived: the next daemon replays,
observes and plans. Exit codes: 0 ended in order, 2 settings or usage, 5 refused, 1 the journal broke.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import platform
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fleet import registry, settings
from fleet.api.notify import Notifier
from fleet.api.server import serve
from fleet.core.desired import Desired, redefined
from fleet.core.errors import AnewError, Invalid, Refused
from fleet.core.events import Draft
from fleet.core.state import State
from fleet.engine.clock import SystemClock, SystemRng
from fleet.engine.failpoints import VARIABLE, Failpoints, parse
from fleet.engine.loop import Engine
from fleet.engine.office import EngineOffice
from fleet.engine.present import moment
from fleet.engine.record import Record, Unfoldable, take_in
from fleet.engine.refusals import Refusals
from fleet.engine.tally import Tally
from fleet.images.catalogue import FolderCatalogue
from fleet.ports import Driver, Probe, Surroundings
from fleet.store.faults import JournalCorrupt
from fleet.store.journal import SqliteJournal, open_journal

log = logging.getLogger("anew.daemon")
END_SECONDS = 20.0
DAY = 86_400.0
LEAP = 30 * DAY
"""Seconds without any daemon after which a clock that was set wrongly is as likely as a daemon that nobody missed."""


class Daemon:
    """One daemon's life on one fleet file, one state folder and one socket."""

    def __init__(self, fleet: str, socket: str, state_dir: str, group: str | None = None) -> None:
        self.fleet = os.path.abspath(fleet)
        self.socket = os.path.abspath(socket)
        self.state_dir = os.path.abspath(state_dir)
        self.group = group
        self.clock = SystemClock()
        self.rng = SystemRng()
        self.notifier = Notifier(os.environ)
        self.tally = Tally()
        self.failpoints = Failpoints(parse(os.environ.get(VARIABLE, "")))
        self.desired: Desired = settings.load(self.fleet)
        self.read_only = ""
        self.exit_code = 0
        self._stopping = asyncio.Event()
        self._hung_up = asyncio.Event()
        self._swap = asyncio.Event()
        self._swapped = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """The engine of the fleet file in force."""
        if self._engine is None:
            raise Refused("the daemon is starting; try again in a moment", code="starting")
        return self._engine

    async def run(self) -> int:
        """Live until told to stop; the exit code."""
        loop = asyncio.get_running_loop()
        os.makedirs(self.state_dir, mode=0o700, exist_ok=True)

        def broken(words: str) -> None:
            loop.call_soon_threadsafe(self._broken, words)

        def low(words: str) -> None:
            loop.call_soon_threadsafe(self._low_space, words)

        journal = open_journal(os.path.join(self.state_dir, "journal.db"), self.clock, on_fatal=broken, on_low_space=low)
        async with journal:
            record = self.failpoints.record(journal, self._replay(journal))
            self.clock.not_before(journal.last_at())
            record.read_only = bool(self.read_only)
            record.on_fatal = self._broken
            record.listen(self.tally.count)
            epoch = record.state.epoch + 1
            await record.write(*self._began(epoch, self.clock.now() - journal.last_at() if journal.last_at() else 0.0))
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop)
            loop.add_signal_handler(signal.SIGHUP, self._hung_up.set)
            office = EngineOffice(self.engine, journal, self._about(), os.getuid(), self.reload, lambda: self.read_only, self.tally)
            await self._live(record, office, epoch)
            if not self.exit_code:
                await record.write(Draft("daemon-stopped", data={"epoch": epoch}))
        return self.exit_code

    def _replay(self, journal: SqliteJournal) -> State:
        """state = fold(journal), verified as it is read; a journal that fails, or that cannot be folded, makes a daemon that only looks."""
        state = State()
        try:
            for event in journal.replay():
                state = take_in(state, event)
                self.tally.count(event)
        except (JournalCorrupt, Unfoldable) as error:
            self.read_only = str(error)
            log.error("%s", self.read_only)
        return state

    def _began(self, epoch: int, away: float) -> tuple[Draft, ...]:
        """What this daemon begins its part of the journal with. `away`: seconds since the last event of the one before."""
        started = Draft("daemon-started", data={"epoch": epoch, "version": own_version(), **({"leap": round(away)} if away > LEAP else {})})
        leapt = (Draft("warning", data={"text": f"the clock is {away / DAY:.0f} days ahead of the journal's last event: if it is wrong, set it and start the daemon "
                                                "again before anything is done; until a person has started a rollout there, mode auto replaces nobody in a pool for its age, "
                                                "and nothing retained is removed"}),)
        return (started, self._loaded("engine"), *(leapt if away > LEAP else ()), *self.failpoints.warnings)

    def _loaded(self, actor: str) -> Draft:
        return Draft("settings-loaded", actor=actor, data={"digest": self.desired.digest, "path": self.desired.path})

    async def _live(self, record: Record, office: EngineOffice, epoch: int) -> None:
        refusals = Refusals(record, self.clock)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(refusals.run()), tasks.create_task(self._hear_hang_ups())]
            first = True
            while not self._stopping.is_set():
                self._swap.clear()
                async with self._machinery(record, epoch) as engine:
                    if self._engine is not None:
                        engine.remember(self._engine)
                    self._engine = engine
                    engine.on_beat = self.notifier.beat
                    running = asyncio.create_task(engine.run(plan=not self.read_only))
                    if first:
                        await engine.first_look(running)
                        await stack.enter_async_context(serve(
                            office, self.socket, group=self.group, on_refused=lambda caller, what, why: refusals.put(caller.actor, what, why)))
                        background.append(tasks.create_task(office.pairing.run()))
                        first = False
                        self.notifier.ready(f"fleet {self.desired.fleet} on {self.socket}" + (", only looks: the journal does not hold" if self.read_only else ""))
                    self._swapped.set()
                    await self._until_swapped(engine, running)
            for task in background:
                task.cancel()

    async def _until_swapped(self, engine: Engine, running: asyncio.Task[None]) -> None:
        """Until the daemon stops, the fleet file is swapped, or the engine fails beyond its own guards."""
        ends = [asyncio.create_task(self._stopping.wait()), asyncio.create_task(self._swap.wait())]
        done, _ = await asyncio.wait({running, *ends}, return_when=asyncio.FIRST_COMPLETED)
        engine.hub.close(bye=self._stopping.is_set())
        engine.stop()
        for task in (running, *ends):
            task.cancel()
        await asyncio.gather(running, *ends, return_exceptions=True)
        if running in done and not self.exit_code:
            running.result()

    @asynccontextmanager
    async def _machinery(self, record: Record, epoch: int) -> AsyncIterator[Engine]:
        """Drivers, probes, catalogue and engine for the fleet file in force."""
        catalogue = FolderCatalogue(self.desired.images, self.state_dir)
        await asyncio.to_thread(catalogue.refresh)
        async with AsyncExitStack() as stack:
            around = Surroundings(self.desired, self.state_dir, self.clock, self.rng)
            drivers: dict[str, Driver] = {}
            for name in sorted({pool.driver for pool in self.desired.pools.values()}):
                drivers[name] = await stack.enter_async_context(registry.load_driver(name)(around))
            around = Surroundings(self.desired, self.state_dir, self.clock, self.rng, drivers)
            probes: dict[str, Probe] = {}
            for kind in sorted({check.kind for pool in self.desired.pools.values() for check in pool.health} | _implied(self.desired)):
                probes[kind] = await stack.enter_async_context(registry.load_probe(kind)(around))
            engine = Engine(self.desired, record, catalogue, self.failpoints.on_drivers(drivers), probes, self.clock, self.rng, epoch, os.path.dirname(self.fleet))
            if self.failpoints:
                engine.actor.around_hook = self.failpoints.around
            yield engine

    async def reload(self, actor: str) -> str:
        """Read the fleet file again: valid, it is swapped in; broken, Invalid is raised and nothing changes.

        From the last look at what rolls until it is in force nobody begins anything: all pools' locks are held.
        """
        async with self._reloading, AsyncExitStack() as locks:
            fresh = await asyncio.to_thread(settings.load, self.fleet)
            if fresh.digest == self.desired.digest:
                return "the fleet file has not changed"
            self._check(fresh)
            await asyncio.to_thread(self._try, fresh)
            for view in self.engine().views.values():
                await locks.enter_async_context(view.lock)
            self._check(fresh)
            self.desired = fresh
            await self.engine().record.write(self._loaded(actor))
            self._swapped.clear()
            self._swap.set()
            await self._swapped.wait()
        return f"settings loaded: {len(fresh.pools)} pools"

    def _check(self, fresh: Desired) -> None:
        """Refused if a rollout under way could not go on, or not as it was planned."""
        state = self.engine().record.state
        lost = [rollout for name, pool in state.pools.items() if name not in fresh.pools and (rollout := state.active(name))]
        if lost:
            raise Refused(f"the file has no pool {lost[0].pool} any more, and its rollout {lost[0].id} is {lost[0].state}; "
                          "put the pool back, or abort the rollout first", where=self.fleet)
        for name, pool in fresh.pools.items():
            rollout = state.active(name)
            if rollout is not None and redefined(rollout.definition, pool):
                raise Refused(f"rollout {rollout.id} of pool {name} is {rollout.state} and makes servers as the file was when it began; "
                              f"let it end, or abort it, before pool {name} is changed", where=self.fleet)

    def _try(self, fresh: Desired) -> None:
        """Everything that the new file needs and that can be tried beforehand; raises what would have stopped the daemon."""
        for pool in fresh.pools.values():
            registry.load_driver(pool.driver)
        FolderCatalogue(fresh.images, self.state_dir).refresh()

    async def _hear_hang_ups(self) -> None:
        """SIGHUP reads the fleet file again; a broken one is told and changes nothing."""
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            try:
                log.info("%s", await self.reload("engine"))
            except AnewError as error:
                log.error("the fleet file was not taken, nothing changed: %s", error)
                await self.engine().record.write(Draft("warning", data={"text": f"the fleet file was not taken, nothing changed: {str(error)[:2000]}"}))

    def _stop(self) -> None:
        """End in order; if something hangs, end all the same: a daemon may die at any moment without harm."""
        self._stopping.set()
        self.notifier.stopping()
        asyncio.get_running_loop().call_later(END_SECONDS, self._end_now)

    def _end_now(self) -> None:
        log.error("did not end in order within %gs; ending at once, the next daemon takes up what was under way", END_SECONDS)
        os._exit(1)

    def _broken(self, words: str) -> None:
        """The journal cannot be written, or not be folded, any more: end at once, nothing may be done that cannot be recorded."""
        log.critical("%s", words)
        self.exit_code = 1
        self._stop()

    def _low_space(self, words: str) -> None:
        log.critical("%s", words)
        if self._engine is not None:
            self._engine.pause_all(words)

    def _about(self) -> Mapping[str, object]:
        return {"paths": {"fleet": self.fleet, "state": self.state_dir, "socket": self.socket, "journal": os.path.join(self.state_dir, "journal.db"),
                          "log": os.path.join(self.state_dir, "daemon.log")},
                "versions": {"anew": own_version(), "python": platform.python_version()}, "pid": os.getpid(), "started_at": moment(self.clock.now()),
                "failpoints": [str(point) for point in self.failpoints.points]}


def _implied(desired: Desired) -> set[str]:
    return {"sim"} if any(pool.driver == "sim" for pool in desired.pools.values()) else set()


def own_version() -> str:
    """The installed version of anew."""
    try:
        return version("anew")
    except PackageNotFoundError:
        return "0.1.0"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a daemon in the foreground; messages for people go to stderr."""
    parser = argparse.ArgumentParser(prog="anew daemon", description="The engine: owns the journal, the drivers, every decision.")
    parser.add_argument("--fleet", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--state", required=True)
    parser.add_argument("--group")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    os.umask(0o077)
    faulthandler.enable()  # a service manager that ends a stuck daemon sends SIGABRT: the log then says where it stood
    try:
        return asyncio.run(_main(options))
    except AnewError as error:
        return _told(error)
    except BaseExceptionGroup as group:
        told, others = group.split(AnewError)
        if others is not None:
            log.error("the daemon failed", exc_info=others)
        return _told(_first(told)) if told is not None else 1


def _first(group: BaseExceptionGroup[AnewError]) -> AnewError:
    """The first error of a group; tasks that fail side by side all mean the same daemon."""
    inner = group.exceptions[0]
    return inner if isinstance(inner, AnewError) else _first(inner)


def _told(error: AnewError) -> int:
    print(f"anew daemon: {error}", file=sys.stderr)
    return 2 if isinstance(error, Invalid) else error.exit_code


async def _main(options: argparse.Namespace) -> int:
    return await Daemon(options.fleet, options.socket, options.state, options.group).run()


if __name__ == "__main__":
    sys.exit(main())
