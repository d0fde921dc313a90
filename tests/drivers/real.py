"""What harnesses of drivers on real sockets and processes share: engine time, ids, a verb cut off, an image folder that is gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any


class RealClock:
    """Engine time for tests that virtual time cannot reach."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Count:
    """A source of ids, none twice in a process; nothing here is up to chance."""

    made = 0

    def random(self) -> float:
        return 0.5

    def token(self) -> str:
        Count.made += 1
        return f"{Count.made:016x}"


async def interrupted(verb: Coroutine[Any, Any, object], after: float) -> None:
    """The verb, cut off after so many seconds."""
    task = asyncio.ensure_future(verb)
    await asyncio.wait({task}, timeout=after)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@contextlib.asynccontextmanager
async def away(folder: Path) -> AsyncIterator[None]:
    """Without this folder."""
    moved = folder.rename(folder.with_name(folder.name + ".away"))
    try:
        yield
    finally:
        moved.rename(folder)
