"""The thread that owns the journal's connection: it commits what has gathered, then tells everybody at once.

Rules
- whoever is told "written" can lose the power in the same instant: futures are resolved after the commit, never before.
- while one commit waits for the disk the next batch gathers, so the rate grows with the number of waiters.
- an error of a commit or checkpoint is the end: every waiter gets JournalBroken, nothing after it is accepted.
- one exception: a full disk. SQLite took the commit back whole, so it is tried once more when the reserve is freed.
- the tip goes to the system log every 100 rows and every 60 s with new rows: a chain alone misses a cut-off tail.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, TypeVar

from fleet.core.errors import AnewError
from fleet.store.chain import Row, make_row, written
from fleet.store.database import Database, is_damage, is_full
from fleet.store.delivery import Order, deliver
from fleet.store.faults import JournalBroken, JournalCorrupt
from fleet.store.place import free_reserve, sync_folder

T = TypeVar("T")

TIP_ROWS: Final = 100
TIP_SECONDS: Final = 60.0
CHECKPOINT_COMMITS: Final = 256
"""Commits between two checkpoints: some MiB of log, read again in milliseconds after a crash."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the journal tells the daemon, on the writer's thread; none may block or call the journal.

    `on_fatal(sentence)`: the disk failed; end the process now. `on_low_space(sentence)`: the reserve is used up; pause
    every rollout now, the pause still fits. `log_tip(seq, chain)`: write it where the journal's owner cannot change it.
    """

    on_fatal: Callable[[str], None]
    on_low_space: Callable[[str], None]
    log_tip: Callable[[int, str], None]
    tip_seconds: float = TIP_SECONDS


@dataclass(slots=True)
class _Gathered:
    orders: list[Order] = field(default_factory=list)
    calls: list[Callable[[], None]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.orders or self.calls)


class Writer:
    """`last` is the last durable row. All methods may be called from any thread; none from a hook."""

    def __init__(self, path: str, hooks: Hooks) -> None:
        self._path = path
        self._hooks = hooks
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._idle = False
        self._gathered = _Gathered()
        self._serving: Sequence[Order] = ()  # taken, not answered yet
        self._closing = False
        self._broken = ""
        self._commits = 0
        self._logged: tuple[int, float] = (0, 0.0)  # row and engine time of the last tip in the system log
        self._low_told = False
        self.last: Row | None = None
        self._thread = threading.Thread(target=self._run, name="anew-journal", daemon=True)
        self._opened: Future[None] = Future()

    def start(self) -> None:
        """Open the database in its thread. Raises what opening raises."""
        self._thread.start()
        try:
            self._opened.result()
        except AnewError:
            self._thread.join()
            raise

    def submit(self, order: Order) -> None:
        """Take rows to be written. Raises JournalBroken if nothing can be written any more."""
        with self._lock:
            self._refuse_if_ended()
            self._gathered.orders.append(order)
            self._rouse()

    def call(self, work: Callable[[Database], T]) -> Future[T]:
        """Run a short piece of reading on the connection, after the rows that were submitted before it."""
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                self._answer(future, work)

        with self._lock:
            self._refuse_if_ended()
            self._gathered.calls.append(run)
            self._rouse()
        return future

    def close(self) -> None:
        """Write what was submitted, put the log into the database and let go of it. Again: no effect."""
        with self._lock:
            self._closing = True
            self._rouse()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _rouse(self) -> None:
        if self._idle:  # waking costs more than all the rest of `submit`, so it is done once a batch
            self._idle = False
            self._wake.notify()

    def _refuse_if_ended(self) -> None:
        if self._broken:
            raise JournalBroken(self._broken, where=self._path)
        if self._closing:
            raise JournalBroken("the journal is closed: the daemon is ending", where=self._path)

    # Below: the writer's own thread.

    def _run(self) -> None:
        try:
            self._db = Database(self._path)
            self.last = self._db.last()
        except AnewError as error:
            self._opened.set_exception(error)
            return
        except (sqlite3.Error, OSError) as error:
            self._opened.set_exception(JournalCorrupt(f"the last row cannot be read ({error})", where=self._path, opens=False))
            return
        if self.last is not None:
            self._logged = (self.last.seq, self.last.at)
        self._opened.set_result(None)
        in_order = False
        try:
            while self._turn():
                pass
            self._end()
            in_order = True
        finally:
            if not in_order:  # a hook raised, or a fault of ours: nobody may wait for ever
                self._break("the journal's writer ended by a fault of its own: the daemon ends")
                self._db.close()

    def _turn(self) -> bool:
        """Serve what has gathered; False when it is time to end."""
        with self._lock:
            if not self._gathered and not self._closing:
                self._idle = True
                self._wake.wait(self._hooks.tip_seconds if self._tip_is_due(1) else None)
                self._idle = False
            first, self._gathered.calls = self._gathered.calls[:1], self._gathered.calls[1:]  # no commit waits for more than one reader
            work, self._gathered = _Gathered(self._gathered.orders, first), _Gathered(calls=self._gathered.calls)
            closing = self._closing
        if not work and not closing:
            self._log_tip(1)
        if work.orders:
            self._serving = work.orders
            self._commit(work.orders)
        for call in work.calls:
            call()
        return not self._broken and (bool(work) or not closing)

    def _commit(self, orders: Sequence[Order]) -> None:
        if not self._db.in_place():
            self._break("the journal's file was removed or replaced while the daemon ran: the daemon ends, since nothing that it "
                        "does could be remembered; put the file back, or start anew with what the servers carry")
            return
        rows = self._chain_on(orders)
        try:
            self._write(rows)
        except (sqlite3.Error, OSError) as error:
            self._break(f"the disk did not take a commit ({error}): the daemon ends, and what is really in the journal "
                        "is looked at when it starts again; check the disk first")
            return
        self.last = rows[-1]
        mine = iter(rows)
        outcomes = [(order, tuple(written(next(mine), ready) for ready in order.drafts)) for order in orders]
        self._serving = ()
        deliver(outcomes)
        self._log_tip(TIP_ROWS)
        self._commits += 1
        if self._commits % CHECKPOINT_COMMITS == 0:
            self._checkpoint()

    def _chain_on(self, orders: Sequence[Order]) -> list[Row]:
        last = self.last
        seq, at, chain = (last.seq, last.at, last.chain) if last else (0, -math.inf, "")
        rows: list[Row] = []
        for order in orders:
            at = max(at, order.at)
            for ready in order.drafts:
                seq += 1
                row = make_row(seq, at, ready, chain)
                chain = row.chain
                rows.append(row)
        return rows

    def _write(self, rows: list[Row]) -> None:
        try:
            self._db.write(rows)
        except sqlite3.Error as error:
            if not is_full(error) or not free_reserve(self._path + ".reserve"):
                raise
            self._db.write(rows)
            self._tell_low_space()

    def _checkpoint(self) -> None:
        try:
            self._db.checkpoint()
        except (sqlite3.Error, OSError) as error:
            if is_full(error):  # the rows stay in the log, whole; only its growth now takes room
                self._tell_low_space()
            else:
                self._break(f"the disk did not take a checkpoint ({error}): the daemon ends; check the disk first")

    def _tell_low_space(self) -> None:
        if not self._low_told:
            self._low_told = True
            self._hooks.on_low_space(LOW_SPACE.format(path=self._path))

    def _break(self, words: str) -> None:
        """The end: refuse what comes, tell the daemon, then answer those who wait."""
        with self._lock:
            first, self._broken = not self._broken, self._broken or words
            late, self._gathered = self._gathered, _Gathered()
        orders, self._serving = (*self._serving, *late.orders), ()
        try:
            if first:
                self._hooks.on_fatal(words)
        finally:
            deliver([(order, JournalBroken(self._broken, where=self._path)) for order in orders])
            for call in late.calls:
                call()

    def _answer(self, future: Future[T], work: Callable[[Database], T]) -> None:
        if self._broken:
            future.set_exception(JournalBroken(self._broken, where=self._path))
            return
        try:
            future.set_result(work(self._db))
        except AnewError as error:
            future.set_exception(error)
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                future.set_exception(JournalCorrupt(f"the journal cannot be read ({error})", where=self._path))
                return
            self._break(f"the disk did not give a page of the journal ({error}): the daemon ends; check the disk")
            future.set_exception(JournalBroken(self._broken, where=self._path))

    def _tip_is_due(self, rows: int) -> bool:
        return self.last is not None and self.last.seq - self._logged[0] >= rows

    def _log_tip(self, rows: int) -> None:
        """Log the tip if so many rows are new, or if the log is old by engine time."""
        if self.last is None or not self._tip_is_due(1):
            return
        if self._tip_is_due(rows) or self.last.at - self._logged[1] >= self._hooks.tip_seconds:
            self._logged = (self.last.seq, self.last.at)
            self._hooks.log_tip(self.last.seq, self.last.chain)

    def _end(self) -> None:
        if not self._broken:
            self._log_tip(1)
            try:
                self._db.checkpoint("TRUNCATE")
            except (sqlite3.Error, OSError) as error:
                if not is_full(error):
                    self._break(f"the disk did not take the last checkpoint ({error}); check the disk")
        self._db.close()
        sync_folder(self._path)


LOW_SPACE: Final = (
    "{path}: the disk of the journal is full and its reserve of 8 MiB is in use: every rollout pauses here; "
    "make room, start the daemon again, then resume"
)
