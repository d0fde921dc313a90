"""The journal: the port's promises on one SQLite file.

Rules
- one process, one connection, one writing thread (see database.py and writer.py).
- at start: `replay()` folds and verifies in one pass. After a bad row was seen nothing is written any more, and what
  can be read is still served: read-only mode.
- memory is bounded: rows are read in pages, at most QUEUE_LIMIT callers wait for a commit, the others wait for room.
- the caller sees to it that no secret is in a draft; the journal sees to size, form and order.

Files, all 0600 in a 0700 folder: PATH, PATH-wal while open, PATH.lock, PATH.reserve.
"""

from __future__ import annotations

import asyncio
import math
import os
import syslog
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from fleet.core.errors import AnewError, Refused
from fleet.core.events import Draft, Event
from fleet.ports import Clock
from fleet.store import place
from fleet.store.chain import Row, event_of, fault_after, prepare
from fleet.store.database import Database
from fleet.store.delivery import Order
from fleet.store.faults import JournalBroken, JournalCorrupt
from fleet.store.lines import line_of, tail_fault, verify_lines
from fleet.store.writer import LOW_SPACE, TIP_SECONDS, Hooks, Writer

PAGE: Final = 500
QUEUE_LIMIT: Final = 1024
MAX_DRAFTS: Final = 10_000
"""Drafts of one `append`; they share one commit."""


def _say_nothing(_words: str) -> None:
    """The hook of somebody who only reads, or a test."""


def system_log_tip(seq: int, chain: str) -> None:
    """Record the journal's tip in the system log. A missing or slow system log loses the line, not the row."""
    syslog.syslog(syslog.LOG_DAEMON | syslog.LOG_NOTICE, f"anew journal tip {seq} {chain}")


def open_journal(
    path: str,
    clock: Clock,
    *,
    on_fatal: Callable[[str], None] = _say_nothing,
    on_low_space: Callable[[str], None] = _say_nothing,
    log_tip: Callable[[int, str], None] = system_log_tip,
    tip_seconds: float = TIP_SECONDS,
) -> SqliteJournal:
    """Open or make the journal at `path`; `async with` closes it, or `close()`.

    Raises Refused (locked, newer, another program's, rights) and JournalCorrupt, each a sentence with what to do.
    Blocks for some milliseconds. The hooks are explained at writer.Hooks; they are called on the writer's thread.
    """
    return SqliteJournal(path, clock, Hooks(on_fatal, on_low_space, log_tip, tip_seconds))


class SqliteJournal:
    """`fleet.ports.Journal`. `append` and `fetch` belong to an event loop, all else may be called from any thread."""

    def __init__(self, path: str, clock: Clock, hooks: Hooks) -> None:
        self.path = os.path.abspath(path)
        self._clock = clock
        self._corrupt = ""
        self._room = asyncio.Semaphore(QUEUE_LIMIT)
        self._lock = place.Lock(self.path + ".lock")
        self._writer = Writer(self.path, hooks)
        place.make_folder(self.path)
        try:
            self._lock.take()
            place.make_file(self.path)
            if not place.make_reserve(self.path + ".reserve"):
                hooks.on_low_space(LOW_SPACE.format(path=self.path))
            self._writer.start()
        except OSError as error:
            self._lock.release()
            raise place.refusal(error, self.path) from error
        except AnewError:
            self._lock.release()
            raise

    async def append(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Write the drafts in order in one commit, one after the other without rows of others between them.

        Raises Refused if a draft cannot be held (nothing was written), JournalBroken if the disk failed, JournalCorrupt
        in read-only mode. Cancelled after it began to wait, the rows may be written all the same.
        """
        if len(drafts) > MAX_DRAFTS:
            raise Refused(f"at most {MAX_DRAFTS} events can be written at once", where=self.path)
        ready = tuple(prepare(draft) for draft in drafts)
        at = float(self._clock.now())
        if not math.isfinite(at):
            raise Refused("the clock does not give a time", where=self.path)
        if not ready:
            return ()
        await self._room.acquire()
        try:
            self._refuse_if_corrupt()
            loop = asyncio.get_running_loop()
            future: asyncio.Future[tuple[Event, ...]] = loop.create_future()
            self._writer.submit(Order(ready, at, loop, future, self._room.release))
        except AnewError:
            self._room.release()
            raise
        return await future

    def read(self, since: int = 0, limit: int | None = None) -> Iterator[Event]:
        """Events with seq > since, in order, in pages. Blocks the calling thread for each page: see `fetch`."""
        for row in self._rows(since, limit):
            yield event_of(row, self.path)

    async def fetch(self, since: int = 0, limit: int = PAGE) -> tuple[Event, ...]:
        """At most `limit` events with seq > since, without holding up the event loop."""
        rows = await asyncio.wrap_future(self._writer.call(lambda db: db.page(since, limit)))
        return tuple(event_of(row, self.path) for row in rows)

    def find_request(self, request: str) -> tuple[Event, ...]:
        """What a request wrote, in order; () if it wrote nothing. "" is no request."""
        rows = self._writer.call(lambda db: db.by_request(request)).result()
        return tuple(event_of(row, self.path) for row in rows)

    def tip(self) -> tuple[int, str]:
        """(seq, chain) of the last durable row; (0, "") if there is none."""
        last = self._writer.last
        return (last.seq, last.chain) if last else (0, "")

    def last_at(self) -> float:
        """Engine time of the last durable row, 0.0 if there is none. No later row is stamped lower."""
        last = self._writer.last
        return last.at if last else 0.0

    def replay(self) -> Iterator[Event]:
        """All events in order, each verified before it is given out; at the end SQLite's own structures are verified.

        Raises JournalCorrupt naming the first bad row; the journal refuses `append` from then on.
        """
        seq, chain, (last, _) = 0, "", self.tip()
        try:
            for row in self._rows(0, None):
                fault = fault_after(seq, chain, row)
                if fault:
                    raise JournalCorrupt(f"the journal does not hold: {fault}", seq=row.seq, where=self.path)
                event = event_of(row, self.path)
                seq, chain = row.seq, row.chain
                yield event
            if seq < last:
                raise JournalCorrupt(f"the journal does not hold: its rows after {seq} are missing", seq=seq + 1,
                                     where=self.path)
            damage = self._writer.call(Database.structure_fault).result()
            if damage:
                raise JournalCorrupt(f"the journal is damaged on the disk ({damage})", where=self.path)
        except JournalCorrupt as error:
            self._corrupt = error.what
            raise

    def verify(self, tips: Iterable[tuple[int, str]] = ()) -> str:
        """"" if all holds, and every tip (seq, chain) of the system log; else a sentence naming the first bad row."""
        wanted = dict(tips)
        last = 0
        try:
            for event in self.replay():
                last = event.seq
                if wanted.pop(last, event.chain) != event.chain:
                    raise JournalCorrupt(f"row {last} is not the one whose chain value the system log recorded",
                                         seq=last, where=self.path)
        except JournalCorrupt as error:
            self._corrupt = error.what
            return str(error)
        except JournalBroken as error:
            return str(error)
        fault = tail_fault(last, wanted)
        if fault:
            self._corrupt = fault.rstrip(".")
        return fault

    def export(self, since: int = 0) -> Iterator[str]:
        """JSON lines, without newlines, of rows with seq > since; a bad row is given as it is, if it is JSON at all."""
        previous = ""
        for row in self._rows(max(0, since - 1), None):
            if row.seq > since:
                yield self._line(row, previous)
            previous = row.chain

    def close(self) -> None:
        """Write what was submitted and let go of the file. Blocks for one commit. Again: no effect."""
        self._writer.close()
        self._lock.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await asyncio.to_thread(self.close)

    def _rows(self, since: int, limit: int | None) -> Iterator[Row]:
        left = limit
        while left is None or left > 0:
            count = PAGE if left is None else min(PAGE, left)
            rows = self._page(since, count)
            yield from rows
            if len(rows) < count:
                return
            since = rows[-1].seq
            left = None if left is None else left - len(rows)

    def _page(self, since: int, count: int) -> list[Row]:
        return self._writer.call(lambda db: db.page(since, count)).result()

    def _line(self, row: Row, previous: str) -> str:
        try:
            return line_of(row, previous)
        except (ValueError, RecursionError) as error:
            raise JournalCorrupt(f"row {row.seq} of the journal is not JSON", seq=row.seq, where=self.path) from error

    def _refuse_if_corrupt(self) -> None:
        if self._corrupt:
            raise JournalCorrupt(self._corrupt, where=self.path)


__all__ = [
    "JournalBroken", "JournalCorrupt", "SqliteJournal", "open_journal", "system_log_tip", "verify_lines",
]
