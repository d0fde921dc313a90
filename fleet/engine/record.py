"""The journal and the state it adds up to, kept in step.

`write` returns when the events are durable *and* folded. Events are folded in the order of their numbers, whoever's
append returned first. Listeners hear each event after it was folded. A writer that is cancelled (its engine was swapped)
is not waited for, but what it gave to the journal is folded all the same: a hole would stop everybody after it. A listener
that fails is logged, and harms nobody else. A durable row that cannot be folded is the end: a daemon never goes on with a
state that is not the journal's.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence

from fleet.core.errors import AnewError, Permanent
from fleet.core.events import Draft, Event
from fleet.core.fold import fold
from fleet.core.state import State
from fleet.ports import Journal

log = logging.getLogger("anew.record")
Listener = Callable[[Event], None]
FAULTS = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError, RuntimeError, AnewError)
"""What code of anew's own raises when it is wrong."""


class Unfoldable(Permanent):
    """A fault of anew's own: a row of the journal, whole and durable, that the fold cannot take in."""

    code = "unfoldable"


def take_in(state: State, event: Event) -> State:
    """The state after the event. Raises Unfoldable for a fault of the fold's."""
    try:
        return fold(state, event)
    except FAULTS as error:
        raise Unfoldable(f"anew itself failed to take in row {event.seq} of the journal ({event.type}: {error!r}). The row is kept, and no server is "
                         "touched on a state without it: keep a copy (`anew journal export`), report it, and start a daemon that can read it") from error


class Record:
    """State = fold(journal), for one daemon. The journal's rows up to `state.seq` were replayed into `state`.

    `on_fatal(sentence)`: a row could not be folded; end the process now.
    """

    def __init__(self, journal: Journal, state: State) -> None:
        self.journal = journal
        self.state = state
        self.read_only = False
        self.on_fatal: Callable[[str], None] = lambda words: None
        self._broken = ""
        self._early: list[tuple[int, Event]] = []
        self._folded = asyncio.Condition()
        self._listeners: list[Listener] = []
        self._writing: dict[asyncio.Future[tuple[Event, ...]], None] = {}

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each event, right after it was folded. It must not block; if it raises, that is logged."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """The reverse of `listen`."""
        self._listeners.remove(listener)

    async def journal_page(self, since: int, limit: int) -> tuple[Event, ...]:
        """Events with seq > since, at most `limit`."""
        return await self.journal.fetch(since, limit)

    async def write(self, *drafts: Draft) -> tuple[Event, ...]:
        """Append in one commit; on return they are durable and in `state`. A read-only record writes nothing.

        Raises what the journal raises, and Unfoldable: from a row that could not be folded on, nothing is written any more.
        """
        if not drafts or self.read_only:
            return ()
        writing = asyncio.ensure_future(self._write(drafts))
        self._writing[writing] = None
        writing.add_done_callback(self._written)
        return await asyncio.shield(writing)

    def _written(self, writing: asyncio.Future[tuple[Event, ...]]) -> None:
        self._writing.pop(writing, None)

    def oldest_write(self) -> object:
        """The write that waits longest to become durable, None if none does: the same one again and again is one that hangs."""
        return next(iter(self._writing), None)

    async def _write(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        self._refuse_if_broken()
        events = await self.journal.append(drafts)
        await self._take_in(events)
        return events

    async def _take_in(self, events: Sequence[Event]) -> None:
        for event in events:
            heapq.heappush(self._early, (event.seq, event))
        async with self._folded:
            while not self._broken and self._early and self._early[0][0] == self.state.seq + 1:
                _, event = heapq.heappop(self._early)
                try:
                    self.state = take_in(self.state, event)
                except Unfoldable as error:
                    self._broken = str(error)
                    log.critical("row %d cannot be folded", event.seq, exc_info=error)
                    self.on_fatal(f"{self._broken}; the daemon ends")
                else:
                    self._tell(event)
            self._folded.notify_all()
            await self._folded.wait_for(lambda: self._broken or self.state.seq >= events[-1].seq)
            if self.state.seq < events[-1].seq:
                self._refuse_if_broken()

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except FAULTS:
                log.exception("fault event-%d in a listener, which did not hear of it (%s)", event.seq, event.type)

    def _refuse_if_broken(self) -> None:
        if self._broken:
            raise Unfoldable(self._broken)
