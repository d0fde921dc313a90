"""How many SSH handshakes there are at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LENT = 1.0
"""Seconds for which a handshake counts among them."""


@asynccontextmanager
async def place(shaking: asyncio.Semaphore) -> AsyncIterator[None]:
    """A place among the handshakes, for a second at most: who takes longer waits for a silent host and costs us nothing, and
    fifty that swallow packets must not hold up the rest of a fleet.
    """
    await shaking.acquire()
    lent = True

    def give_back() -> None:
        nonlocal lent
        if lent:
            lent = False
            shaking.release()

    timer = asyncio.get_running_loop().call_later(LENT, give_back)
    try:
        yield
    finally:
        timer.cancel()
        give_back()


__all__ = ["place"]
