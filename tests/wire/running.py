"""Serves a canned office in a thread, so that synchronous clients and child processes can speak to it."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fleet.api.client import Client
from fleet.api.door import Door
from fleet.api.office import Caller
from fleet.api.server import serve
from tests.wire.office import CannedOffice

T = TypeVar("T")
DEADLINE = 120.0


class Served:
    """A running server: `office` behind it, its `socket`, and what it refused."""

    def __init__(self, office: CannedOffice, socket_path: str) -> None:
        self.office = office
        self.socket = socket_path
        self.refused: list[tuple[Caller, str, str]] = []
        self.door: Door | None = None
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def client(self) -> Client:
        return Client(self.socket, "pts/7")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(DEADLINE)

    def do(self, work: Callable[[], T]) -> T:
        """Call a function in the server's thread."""
        async def call() -> T:
            return work()

        return self.call(call())

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(DEADLINE)

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        def on_refused(caller: Caller, what: str, why: str) -> None:
            self.refused.append((caller, what, why))

        async with serve(self.office, self.socket, on_refused=on_refused) as self.door:
            self._ready.set()
            await self._end.wait()


@contextmanager
def serving(office: CannedOffice | None = None) -> Iterator[Served]:
    """A canned office on a socket of its own, with a path short enough for any test's name."""
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        served = Served(office or CannedOffice(), os.path.join(folder, "anew.sock"))
        served.start()
        try:
            yield served
        finally:
            served.stop()
