"""A TCP proxy on loopback that spoils what passes: it delays, throttles, cuts at byte N, turns into a black hole, flips bits.

Everything is counted: `up` is what clients sent, `down` what the server did, `connections` how many came.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

BLOCK = 65536
Way = Literal["up", "down"]


@dataclass(slots=True)
class Spoil:
    """What happens to the bytes; it may be changed while they pass. Numbers count the bytes of one way, over all connections.

    `cut`: both sides are reset when `way` has passed so many. `hole`: from there on nothing passes any more, in neither way, and
    nobody is told. `flip`: the byte at that place gets its lowest bit turned. `rate`: bytes a second. `delay`: seconds a block.
    `times`: how often cut, hole and flip strike; later connections pass.
    """

    way: Way = "up"
    cut: int | None = None
    hole: int | None = None
    flip: int | None = None
    rate: float = 0.0
    delay: float = 0.0
    times: int = 1


@dataclass(slots=True)
class Proxy:
    """A proxy in front of a port."""

    behind: int
    spoil: Spoil = field(default_factory=Spoil)
    port: int = 0
    connections: int = 0
    passed: dict[Way, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    struck: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def up(self) -> int:
        return self.passed["up"]

    @property
    def down(self) -> int:
        return self.passed["down"]

    def cut(self) -> None:
        """Reset every connection now."""
        for writer in self._open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            behind, to = await asyncio.open_connection("127.0.0.1", self.behind)
        except OSError:
            writer.transport.abort()
            return
        pair, holed = {writer, to}, asyncio.Event()
        self._open |= pair
        await asyncio.gather(self._pump("up", reader, to, pair, holed), self._pump("down", behind, writer, pair, holed))
        self._open -= pair

    async def _pump(
        self, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter, pair: set[asyncio.StreamWriter], holed: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while block := await source.read(BLOCK):
                block, stop = self._spoiled(way, block)
                await self.sleep(len(block))
                if holed.is_set():
                    continue
                sink.write(block)
                self.passed[way] += len(block)
                await sink.drain()
                if stop == "hole":
                    holed.set()
                if stop == "cut":
                    break
            else:
                if not holed.is_set() and sink.can_write_eof():
                    sink.write_eof()
                return
        for writer in pair:
            writer.transport.abort()

    async def sleep(self, size: int) -> None:
        """As long as so many bytes take at the rate wanted."""
        if self.spoil.delay or self.spoil.rate:
            await asyncio.sleep(self.spoil.delay + (size / self.spoil.rate if self.spoil.rate else 0.0))

    def _spoiled(self, way: Way, block: bytes) -> tuple[bytes, str]:
        spoil, at = self.spoil, self.passed[way]
        if spoil.times <= 0 or way != spoil.way:
            return block, ""
        for kind, place in (("cut", spoil.cut), ("hole", spoil.hole), ("flip", spoil.flip)):
            if place is not None and at + len(block) > place:
                spoil.times -= 1
                self.struck.set()
                here = max(0, place - at)
                if kind == "flip":
                    return block[:here] + bytes([block[here] ^ 1]) + block[here + 1:], ""
                return block[:here], kind
        return block, ""


@contextlib.asynccontextmanager
async def proxy(behind: int, spoil: Spoil | None = None) -> AsyncIterator[Proxy]:
    """In front of `behind`, a port of 127.0.0.1."""
    made = Proxy(behind, spoil or Spoil())
    acceptor = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = acceptor.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        acceptor.close()
        made.cut()
