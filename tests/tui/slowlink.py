"""A link between a client and the daemon's socket that can be made as slow as one likes, while it is in use."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Self

PIECE = 256
"""Bytes that are on the way at a time: what a slow link holds back stays with who sends it."""


class SlowLink:
    """Listens at `path` and hands on to `target`. `bytes_per_second` holds in each direction, for each connection; None for as fast as it goes."""

    def __init__(self, target: Path, path: Path, bytes_per_second: float | None = None) -> None:
        self.target, self.path, self.bytes_per_second = target, path, bytes_per_second
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accepted, str(self.path), limit=PIECE)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):  # the second: the link ends
                there, back = await asyncio.open_unix_connection(str(self.target), limit=PIECE)
                try:
                    both = [asyncio.ensure_future(self._carry(reader, back)), asyncio.ensure_future(self._carry(there, writer))]
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                    for one in both:
                        one.cancel()
                    await asyncio.gather(*both, return_exceptions=True)
                finally:
                    back.close()
        finally:
            writer.close()
            self._busy.discard(task)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(PIECE):
                sink.write(data)
                await sink.drain()
                await self.sleep(len(data))

    async def sleep(self, size: int) -> None:
        """The clock of this link: how long so many bytes are on it."""
        if self.bytes_per_second is not None:
            await asyncio.sleep(size / self.bytes_per_second)
