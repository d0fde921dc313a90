"""Frames out: journal events at once, changed rows a few times a second, to any number of subscribers.

A subscriber's queue is bounded; who does not keep up is dropped and may come again with `since` (invariant I35). With
nobody listening, no row is ever made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fleet.core.events import Event
from fleet.engine.tell import event_row
from fleet.ports import Clock

Frame = Mapping[str, Any]
QUEUE = 4096
FLUSH_EVERY = 0.1
PAGE = 500
VOLATILE = frozenset({"age_seconds", "oldest_age_seconds", "eta_seconds", "eta_low_seconds", "eta_high_seconds"})


class Subscriber:
    """A bounded queue of frames; `dropped` once it overflowed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Frame | None] = asyncio.Queue(QUEUE)
        self.dropped = False

    def put(self, frame: Frame | None) -> None:
        """Queue a frame, or drop the subscriber."""
        try:
            self.queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.dropped = True


class Hub:
    """`make_rows(pool, servers)` yields (kind, name, row) for what may have changed in a pool; `fetch` pages the journal."""

    def __init__(self, clock: Clock, make_rows: Callable[[str, set[str]], Iterable[tuple[str, str, dict[str, Any]]]],
                 fetch: Callable[[int, int], Any]) -> None:
        self._clock = clock
        self._make_rows = make_rows
        self._fetch = fetch
        self._subscribers: set[Subscriber] = set()
        self._dirty: dict[str, set[str]] = {}
        self._sent: dict[tuple[str, str], dict[str, Any]] = {}
        self._stir = asyncio.Event()

    def on_event(self, event: Event) -> None:
        """Listener of the record: the event goes out at once, and its rows are looked at again."""
        if self._subscribers:
            frame = {"frame": "event", "seq": event.seq, "row": event_row(event)}
            self._send(frame)
        if event.pool:
            self.changed(event.pool, event.server)

    def changed(self, pool: str, server: str) -> None:
        """A row may have changed; "" as server means the whole pool."""
        self._dirty.setdefault(pool, set()).add(server)
        self._stir.set()

    def tell(self, frame: Frame) -> None:
        """A frame that is about no pool, to everybody."""
        self._send(frame)

    def forget(self) -> None:
        """What was sent before is of no use any more (the fleet file changed)."""
        self._sent.clear()

    async def run(self) -> None:
        """Send changed rows, for ever."""
        while True:
            await self._stir.wait()
            self._stir.clear()
            await self._clock.sleep(FLUSH_EVERY)
            dirty, self._dirty = self._dirty, {}
            if not self._subscribers:
                self._sent.clear()
                continue
            for pool, servers in dirty.items():
                for kind, name, row in self._make_rows(pool, servers):
                    self._send_row(kind, name, row)

    def _send_row(self, kind: str, name: str, row: dict[str, Any]) -> None:
        essence = {key: value for key, value in row.items() if key not in VOLATILE}
        if self._sent.get((kind, name)) != essence:
            self._sent[kind, name] = essence
            self._send({"frame": kind, "row": row})

    def _send(self, frame: Frame) -> None:
        for subscriber in list(self._subscribers):
            subscriber.put(frame)
            if subscriber.dropped:
                self._subscribers.discard(subscriber)

    def close(self, *, bye: bool) -> None:
        """End every stream. `bye` tells that the daemon ends; without it (a reload) clients come again with `since`."""
        if bye:
            self._send({"frame": "bye"})
        for subscriber in self._subscribers:
            subscriber.put(None)

    @asynccontextmanager
    async def subscribe(self, since: int, hello: Frame) -> AsyncIterator[AsyncIterator[Frame]]:
        """Frames from `since` on: the journal's events that were missed, then everything live."""
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        try:
            yield self._frames(subscriber, since, hello)
        finally:
            self._subscribers.discard(subscriber)

    async def _frames(self, subscriber: Subscriber, since: int, hello: Frame) -> AsyncIterator[Frame]:
        yield hello
        last = since
        tip = int(hello["seq"])
        while last < tip:
            events = await self._fetch(last, PAGE)
            if not events:
                break
            for event in events:
                last = event.seq
                yield {"frame": "event", "seq": event.seq, "row": event_row(event)}
        while not (subscriber.dropped and subscriber.queue.empty()):
            frame = await subscriber.queue.get()
            if frame is None:
                return
            if frame["frame"] == "event" and frame["seq"] <= last:
                continue
            yield frame
