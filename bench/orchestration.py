"""A rollout of 1,000 simulated servers in real time, with the real journal, against the ideal schedule of the same steps.

Run `python -m bench.orchestration [SERVERS [SLOTS]]`; it prints JSON. The ideal: every server takes exactly as long as its
simulated steps and the promised min_healthy_time, and a free place is taken at once (list scheduling in the plan's order).
`overhead` is what the engine adds: noticing that a server is up, deciding, and making every intent durable first.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from drivers.sim import SimDriver, make_probe
from drivers.sim.chance import seconds_for
from fleet import settings
from fleet.core.desired import Desired, Pool
from fleet.core.estimate import schedule
from fleet.core.events import Draft, Event
from fleet.core.state import Run, State
from fleet.engine.clock import SystemClock, SystemRng
from fleet.engine.inbox import Inbox
from fleet.engine.loop import Engine
from fleet.engine.record import Record
from fleet.images.catalogue import FolderCatalogue
from fleet.ports import Surroundings
from fleet.store.journal import open_journal

SERVERS = 1000
SLOTS = 200
DEADLINE = 1800.0
FLEET = """
[fleet]
name = "bench"
[images.web]
simulated = ["1", "2"]
[pools.web]
driver = "sim"
servers = {servers}
image = "web"
mode = "manual"
sim = {{ seed = 11, boot = "15s", jitter = 0.5 }}
[pools.web.rollout]
max_surge = {slots}
max_unavailable = 0
canaries = 0
promotion = "auto"
min_healthy_time = "10s"
"""


class Bench:
    """An engine on a sim pool and a real journal in `folder`, and the times it took."""

    def __init__(self, folder: str, servers: int, slots: int) -> None:
        path = os.path.join(folder, "fleet.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(FLEET.format(servers=servers, slots=slots))
        self.folder = folder
        self.desired: Desired = settings.load(path)
        self.pool: Pool = self.desired.pools["web"]
        self.clock, self.rng = SystemClock(), SystemRng()
        self.ended = asyncio.Event()
        self.events = 0

    def hear(self, event: Event) -> None:
        """A listener of the record."""
        self.events += 1
        if event.type == "rollout-ended":
            self.ended.set()

    async def run(self) -> Mapping[str, Any]:
        """Birth of the pool, all at once; then the rollout that is measured, with one client watching."""
        async with open_journal(os.path.join(self.folder, "journal.db"), self.clock, log_tip=lambda _seq, _chain: None) as journal:
            record = Record(journal, State())
            await record.write(Draft("daemon-started", data={"epoch": 1, "version": "bench"}))
            driver = SimDriver(Surroundings(self.desired, self.folder, self.clock, self.rng))
            catalogue = FolderCatalogue(self.desired.images, self.folder)
            catalogue.refresh()
            async with make_probe(Surroundings(self.desired, self.folder, self.clock, self.rng, {"sim": driver})) as probe:
                engine = Engine(self.desired, record, catalogue, {"sim": driver}, {"sim": probe}, self.clock, self.rng, 1)
            inbox = Inbox(lambda: engine, journal.find_request, _no_reload, lambda: "")
            record.listen(self.hear)
            running = asyncio.create_task(engine.run())
            watching = asyncio.create_task(_watch(engine))
            try:
                while engine.views["web"].observed is None:
                    await asyncio.sleep(0.05)
                await self._rollout(inbox, {"to": "1", "overrides": {"max_unavailable": "100%"}})
                return await self._measured(engine, inbox)
            finally:
                for task in (running, watching):
                    task.cancel()
                await asyncio.gather(running, watching, return_exceptions=True)
                driver.close()

    async def _rollout(self, inbox: Inbox, plan: Mapping[str, Any]) -> None:
        self.ended.clear()
        await inbox.command("bench", {"command": "rollout.start", "pool": "web", "request": self.rng.token(), "plan": plan})
        async with asyncio.timeout(DEADLINE):
            await self.ended.wait()

    async def _measured(self, engine: Engine, inbox: Inbox) -> Mapping[str, Any]:
        events, cpu = self.events, time.process_time()
        await self._rollout(inbox, {"to": "2"})
        cpu = time.process_time() - cpu
        rollout = engine.last_rollout("web")
        assert rollout is not None and rollout.ended_at is not None
        assert rollout.state == "done", f"the rollout is {rollout.state}: {rollout.reason}"
        wall = rollout.ended_at - rollout.started_at
        best = self.ideal(sorted(rollout.runs.values(), key=lambda run: run.index), rollout.budget.surge)
        servers = self.pool.servers
        return {"servers": servers, "slots": rollout.budget.surge, "wall_seconds": round(wall, 3), "ideal_seconds": round(best, 3),
                "overhead": round(wall / best, 4), "cpu_seconds_per_server": round(cpu / servers, 5), "cpu_share": round(cpu / wall, 3),
                "journal_events_per_server": round((self.events - events) / servers, 1)}

    def ideal(self, runs: list[Run], slots: int) -> float:
        """Seconds of the best schedule in the plan's order: the world's own step times, and the promised min_healthy_time."""
        sim = self.pool.sim
        assert sim is not None
        lengths = []
        for run in runs:
            new, old = run.target.number if run.target else 0, run.source or 0
            steps = sum(seconds_for(sim, verb, run.server, new) for verb in ("birth", "boot", "commit"))
            lengths.append(steps + self.pool.rollout.min_healthy_time + seconds_for(sim, "retire", run.server, old))
        return seconds_for(sim, "stage", "stage sim", 0) + schedule(lengths, slots)


async def _no_reload(actor: str) -> str:
    raise AssertionError("the bench reloads nothing")


async def _watch(engine: Engine) -> None:
    async with engine.hub.subscribe(0, {"frame": "hello", "seq": engine.record.state.seq}) as frames:
        async for _ in frames:
            pass


def measure(servers: int = SERVERS, slots: int = SLOTS) -> dict[str, Any]:
    """One rollout. Raises TimeoutError if it does not end, AssertionError if it does not end well."""
    with tempfile.TemporaryDirectory() as folder:
        return dict(asyncio.run(_run(folder, servers, slots)))


async def _run(folder: str, servers: int, slots: int) -> Mapping[str, Any]:
    return await Bench(folder, servers, slots).run()


if __name__ == "__main__":
    print(json.dumps(measure(*(int(text) for text in sys.argv[1:3])), indent=2))
