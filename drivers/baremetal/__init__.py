"""baremetal: machines that are only reached over SSH; two A/B slots are the two incarnations."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any

from fleet.ports import Surroundings

if TYPE_CHECKING:
    from drivers.baremetal.driver import BaremetalDriver


@contextlib.asynccontextmanager
async def make(around: Surroundings) -> AsyncIterator[BaremetalDriver]:
    """The `anew.drivers` entry point. No connection is opened yet; all are closed at the end, and no look goes on after it."""
    from drivers import warm  # here, since asyncssh costs 70 ms
    from drivers.baremetal.driver import BaremetalDriver

    looks = _Looks()
    try:
        async with warm.shared(around) as sessions:
            yield BaremetalDriver(around, sessions, looks.spawn)
    finally:
        await looks.end()


class _Looks:
    """Owns every attempt to look at a machine. No task group: in one, a fault in the look at one machine would end those at all, for good."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it until it ends or the driver does."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def end(self) -> None:
        """Cancel what still runs, and wait for it."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
