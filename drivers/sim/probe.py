"""The health check of simulated servers: asks the world itself, at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drivers.sim.driver import SimDriver
from fleet.core.desired import HealthCheck, Pool
from fleet.core.observed import Seen
from fleet.ports import Surroundings


class SimProbe:
    """`sim`: implied for every pool of the sim driver."""

    kind = "sim"

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def check(self, pool: Pool, check: HealthCheck, seen: Seen) -> tuple[bool, str]:
        """The world's own answer; never waits."""
        driver = self._around.drivers.get(pool.driver)
        if not isinstance(driver, SimDriver):
            return False, f"sim: pool {pool.name} has no simulated world"
        return driver.health(pool, seen.server, seen.number)


@asynccontextmanager
async def make_probe(around: Surroundings) -> AsyncIterator[SimProbe]:
    """The `anew.probes` entry point. The driver is looked up at each check, so it may be made later."""
    yield SimProbe(around)
