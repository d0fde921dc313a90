"""`tcp = { port, expect }`: the server says what is expected, or at least keeps the connection.

Connected is not up: user networking and every proxy accept a connection before anybody listens behind them
and then close it. So a banner must be read; without `expect` the connection must stay open for half a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drivers.probes.words import Unreachable, reason, target, took, whole, words
from fleet.core.desired import HealthCheck, Pool
from fleet.core.observed import Seen
from fleet.ports import Clock, Surroundings

_BANNER_CAP = 256
_STAYS_OPEN = 0.5


class TcpProbe:
    """Reads the banner of a port."""

    kind = "tcp"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def check(self, pool: Pool, check: HealthCheck, seen: Seen) -> tuple[bool, str]:
        port = whole(check.options.get("port"), pool.network.guest_port)
        expect = str(check.options.get("expect") or "").encode()
        begun = self._clock.now()
        try:
            async with asyncio.timeout(check.deadline):
                host, outside = target(pool, seen, port)
                passed, said = await self._look(host, outside, expect, check.deadline)
        except Unreachable as problem:
            passed, said = False, str(problem)
        except TimeoutError:
            passed, said = False, "no answer"
        except OSError as problem:
            passed, said = False, reason(problem)
        return passed, words(f"tcp {port}: {said} in {took(self._clock.now() - begun)}")

    async def _look(self, host: str, port: int, expect: bytes, deadline: float) -> tuple[bool, str]:
        reader, writer = await asyncio.open_connection(host, port, limit=_BANNER_CAP)
        try:
            return await (
                _banner(reader, expect) if expect else _stays(reader, min(_STAYS_OPEN, 0.8 * deadline))
            )
        finally:
            writer.transport.abort()


async def _banner(reader: asyncio.StreamReader, expect: bytes) -> tuple[bool, str]:
    """Reads until `expect` was seen, the server closed, or 256 bytes came without it. A silent server ends by
    deadline.
    """
    said = b""
    while expect not in said and len(said) < _BANNER_CAP:
        more = await reader.read(_BANNER_CAP - len(said))
        if not more:
            return False, f"accepted, then closed after {said[:80]!a}" if said else "accepted, then closed"
        said += more
    if expect not in said:
        return False, f"said {said[:80]!a}, not {expect[:80]!a}"
    return True, said.decode("ascii", "replace").splitlines()[0]


async def _stays(reader: asyncio.StreamReader, seconds: float) -> tuple[bool, str]:
    try:
        async with asyncio.timeout(seconds):
            said = await reader.read(_BANNER_CAP)
    except TimeoutError:
        return True, "stayed open"
    return (True, f"said {said[:80]!a}") if said else (False, "accepted, then closed")


@asynccontextmanager
async def make(around: Surroundings) -> AsyncIterator[TcpProbe]:
    """The `anew.probes` entry point."""
    yield TcpProbe(around.clock)
