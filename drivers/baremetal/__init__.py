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

    stop, looks = asyncio.Event(), _Looks()
    keeper = asyncio.create_task(looks.keep(stop))
    await looks.ready.wait()
    try:
        async with warm.shared(around) as sessions:
            yield BaremetalDriver(around, sessions, looks.spawn)
    finally:
        stop.set()
        await keeper


class _Looks:
    """The task group that owns every attempt to look at a machine.

    It lives in a task of its own: one that spanned the factory's `yield` would wrap the daemon's own errors into groups.
    """

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()

    async def keep(self, stop: asyncio.Event) -> None:
        """Until told to stop; then what still runs is cancelled."""
        async with self._group:
            self.ready.set()
            await stop.wait()
            for task in self._running:
                task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it in the group."""
        task = self._group.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
