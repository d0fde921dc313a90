"""Requests refused at the door, for the journal: at most one row a second, so that nobody can fill the disk by asking.

What comes faster is counted and told with the next row (invariant I28: refusals are journalled; I36: memory is bounded).
"""

from __future__ import annotations

import asyncio

from fleet.core.events import Draft
from fleet.core.printable import printable
from fleet.engine.record import Record
from fleet.ports import Clock

EVERY = 1.0
WAITING = 8


class Refusals:
    """Takes refusals from the server without ever blocking it."""

    def __init__(self, record: Record, clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._queue: asyncio.Queue[tuple[str, str, str]] = asyncio.Queue(WAITING)
        self._more = 0

    def put(self, actor: str, what: str, why: str) -> None:
        """Remember one, or count it if too many wait."""
        try:
            self._queue.put_nowait((printable(actor, 80), printable(what, 120), printable(why, 300)))
        except asyncio.QueueFull:
            self._more += 1

    async def run(self) -> None:
        """Write them, for ever."""
        while True:
            actor, what, why = await self._queue.get()
            more, self._more = self._more, 0
            reason = f"{why} (and {more} more refusals)" if more else why
            await self._record.write(Draft("command-refused", actor=actor, data={"command": what, "reason": reason}))
            await self._clock.sleep(EVERY)
