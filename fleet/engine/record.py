"""The journal and the state it adds up to, kept in step.

`write` returns when the events are durable *and* folded. Events are folded in the order of their numbers, whoever's
append returned first. Listeners hear each event after it was folded. A writer that is cancelled (its engine was swapped)
is not waited for, but what it gave to the journal is folded all the same: a hole would stop everybody after it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence

from fleet.core.events import Draft, Event
from fleet.core.fold import fold
from fleet.core.state import State
from fleet.ports import Journal

Listener = Callable[[Event], None]


class Record:
    """State = fold(journal), for one daemon. The journal's rows up to `state.seq` were replayed into `state`."""

    def __init__(self, journal: Journal, state: State) -> None:
        self.journal = journal
        self.state = state
        self.read_only = False
        self._early: list[tuple[int, Event]] = []
        self._folded = asyncio.Condition()
        self._listeners: list[Listener] = []
        self._writing: set[asyncio.Future[tuple[Event, ...]]] = set()

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each event, right after it was folded. It must not block or raise."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """The reverse of `listen`."""
        self._listeners.remove(listener)

    async def journal_page(self, since: int, limit: int) -> tuple[Event, ...]:
        """Events with seq > since, at most `limit`."""
        return await self.journal.fetch(since, limit)

    async def write(self, *drafts: Draft) -> tuple[Event, ...]:
        """Append in one commit; on return they are durable and in `state`. A read-only record writes nothing."""
        if not drafts or self.read_only:
            return ()
        writing = asyncio.ensure_future(self._write(drafts))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        return await asyncio.shield(writing)

    async def _write(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        events = await self.journal.append(drafts)
        await self._take_in(events)
        return events

    async def _take_in(self, events: Sequence[Event]) -> None:
        for event in events:
            heapq.heappush(self._early, (event.seq, event))
        async with self._folded:
            while self._early and self._early[0][0] == self.state.seq + 1:
                _, event = heapq.heappop(self._early)
                self.state = fold(self.state, event)
                for listener in self._listeners:
                    listener(event)
            self._folded.notify_all()
            await self._folded.wait_for(lambda: self.state.seq >= events[-1].seq)
