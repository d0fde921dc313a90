"""`agent = true`: the agent inside the server answers, through its driver.

The agent is part of what is being judged, so its word alone passes no server: settings and engine demand an
outside check beside it, and its words say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drivers.probes.words import took, words
from fleet.core.desired import HealthCheck, Pool
from fleet.core.errors import AnewError
from fleet.core.observed import Seen
from fleet.ports import Surroundings


class AgentProbe:
    """Passes if the driver could learn a boot id from inside."""

    kind = "agent"

    def __init__(self, around: Surroundings) -> None:
        self._around = around

    async def check(self, pool: Pool, check: HealthCheck, seen: Seen) -> tuple[bool, str]:
        driver = self._around.drivers.get(pool.driver)
        if driver is None:
            return False, words(f"agent: the driver {pool.driver} is not loaded")
        begun = self._around.clock.now()
        try:
            async with asyncio.timeout(check.deadline):
                facts = await driver.probe(pool, seen.server, seen.number)
        except TimeoutError:
            passed, said = False, "no answer"
        except AnewError as problem:
            passed, said = False, problem.message
        else:
            passed = bool(facts.boot_id)
            told = (
                f"boot {facts.boot_id[:8]}, root {facts.root}; its word counts only beside an outside check"
            )
            said = told if passed else facts.note or "no answer"
        return passed, words(f"agent: {said} in {took(self._around.clock.now() - begun)}")


@asynccontextmanager
async def make(around: Surroundings) -> AsyncIterator[AgentProbe]:
    """The `anew.probes` entry point. Drivers are looked up at each check, so they may be made later."""
    yield AgentProbe(around)
