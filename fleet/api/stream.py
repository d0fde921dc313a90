"""Endless answers: the event stream and consoles. A slow, stopped or dead client costs one bounded buffer, then is dropped.

Rules:
- The first item is asked for before the head is sent, so that an unknown name still gets a proper error status.
- A line of life every LIFE_SECONDS (event streams only: a console is raw bytes).
- A write that cannot drain within DRAIN_SECONDS drops the client. What is buffered for it stays below aiohttp's write
  limit plus the transport's high-water mark (64 KiB each).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import web

from fleet.api.door import Connection, log
from fleet.api.turns import AT_ONCE, process
from fleet.core.errors import AnewError

LIFE_SECONDS = 10.0
DRAIN_SECONDS = 10.0
FIRST_SECONDS = 0.5


async def as_lines(frames: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[bytes]:
    """Frames as newline-delimited JSON; JSON escapes every control character."""
    async for frame in frames:
        yield json.dumps(frame, separators=(",", ":")).encode() + b"\n"


class Pump:
    """Moves items of one source to one client until either ends."""

    def __init__(self, request: web.BaseRequest, connection: Connection, source: AsyncIterator[bytes]) -> None:
        self._request = request
        self._connection = connection
        self._source = source
        self._next: asyncio.Future[bytes] | None = None

    async def run(self, kind: str, life: bytes = b"") -> web.StreamResponse:
        """Stream with content type `kind`. An AnewError of the source before its first item is raised, later it ends the stream."""
        try:
            if await self._wait(FIRST_SECONDS) and self._next is not None and self._next.done():
                error = self._next.exception()
                if isinstance(error, AnewError):
                    raise error
            answer = web.StreamResponse(headers={"Cache-Control": "no-store"})
            answer.content_type = kind
            answer.enable_chunked_encoding()
            await self._send(answer, life)
            return answer
        finally:
            await self._stop()

    async def _wait(self, seconds: float) -> bool:
        """Wait for the next item, the client's end or the daemon's; False when `seconds` passed without any."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._connection.door.turns.measured(process(self._connection.peer), self._item()))
        waiting: set[asyncio.Future[Any]] = {self._next, self._connection.gone, self._connection.door.closing}
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def _item(self) -> bytes:
        return await anext(self._source)

    async def _send(self, answer: web.StreamResponse, life: bytes) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await answer.prepare(self._request)
            for count in itertools.count(1):
                if count % AT_ONCE == 0:
                    await self._connection.door.turns.take(process(self._connection.peer))
                item = await self._take(life)
                if item is None:
                    break
                async with asyncio.timeout(DRAIN_SECONDS):
                    await answer.write(item)
            async with asyncio.timeout(DRAIN_SECONDS):
                await answer.write_eof()
        except TimeoutError:
            log.info("dropped a client that does not read its stream")
            self._connection.abort()
        except ConnectionError:
            pass  # the client went away, as clients do

    async def _take(self, life: bytes) -> bytes | None:
        """The next bytes to send, `life` after a silence; None at the end."""
        while not await self._wait(LIFE_SECONDS):
            if life:
                return life
        if self._connection.gone.done() or self._next is None or not self._next.done():
            return None
        waiting, self._next = self._next, None
        try:
            return waiting.result()
        except StopAsyncIteration:
            return None
        except AnewError as error:
            log.info("a stream ended: %s", error)
            return None

    async def _stop(self) -> None:
        """Cancel what is pending and let the source clean up after itself."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait({self._next}, timeout=DRAIN_SECONDS)
            if self._next.done() and not self._next.cancelled():
                self._next.exception()  # seen, so that asyncio does not report it
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()
