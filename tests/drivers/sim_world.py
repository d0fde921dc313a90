"""A harness for tests on the simulated world, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.sim import Faults, SimDriver, World, make
from fleet.core.desired import Desired, Pool, SimSettings
from fleet.core.observed import Image, ImageRef, Seen
from fleet.ports import Birth, Driver, Operation, Surroundings
from tests.clocks import SeededRng, VirtualClock

SIM = SimSettings(
    seed=7,
    boot=2.0,
    jitter=0.3,
    faults={
        "panics": "never-healthy",
        "dead": "never-boots",
        "flaky": "dies-after 3s",
        "soft": "writable-root",
        "odd": "sings",
    },
)


def image(version: str) -> Image:
    return Image(
        ImageRef("web", version, "sha256:" + version.encode().hex().ljust(64, "0")[:64]), "simulated"
    )


class SimHarness:
    """Conformance in virtual time; also the tools of the other tests here."""

    place = "sim"

    def __init__(self, driver: SimDriver, clock: VirtualClock, pool: Pool) -> None:
        self.sim = driver
        self.driver: Driver = driver
        self.clock = clock
        self.pool = pool
        self.image = image("1")
        self._ids = itertools.count(1)

    @property
    def world(self) -> World:
        return self.sim.world(self.pool)

    def op(self, epoch: int = 1, deadline: float = 60.0) -> Operation:
        return Operation(f"op{next(self._ids):04d}", epoch, "r1", deadline)

    def born_at(self) -> float:
        return self.clock.now()

    async def interrupt(self, verb: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(verb)
        await self.clock.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), "the verb was too quick to be interrupted"

    @asynccontextmanager
    async def without_images(self) -> AsyncIterator[None]:
        self.world.staged.clear()
        yield

    def cut_off(self) -> AbstractAsyncContextManager[bool] | None:
        return self._cut_off()

    @asynccontextmanager
    async def _cut_off(self) -> AsyncIterator[bool]:
        self.sim.faults.unreachable["sim"] = "the simulated place does not answer"
        yield True
        self.sim.faults.unreachable.clear()

    async def data_disks(self, pool: Pool) -> frozenset[str]:
        return frozenset(f"{server}/{disk}" for server, disk in self.sim.world(pool).disks)

    async def birth(self, number: int = 1, version: str = "1", server: str = "web-1") -> Seen:
        wanted = image(version)
        await self.sim.stage(self.pool, wanted, "sim", self.op())
        return await self.sim.birth(
            self.pool, Birth(server, number, wanted, "sim", self.clock.now()), self.op()
        )

    def well(self, number: int = 1, server: str = "web-1") -> bool:
        return self.sim.health(self.pool, server, number)[0]


@asynccontextmanager
async def harness(
    folder: Path, faults: Faults | None = None, sim: SimSettings = SIM, servers: int = 3
) -> AsyncIterator[SimHarness]:
    pool = Pool("web", "sim", servers, "web", sim=sim)
    clock = VirtualClock()
    options = {"sim_faults": faults} if faults else {}
    around = Surroundings(
        Desired("lab", {}, {}, {"web": pool}), str(folder), clock, SeededRng(), options=options
    )
    async with make(around) as driver:
        yield SimHarness(driver, clock, pool)
