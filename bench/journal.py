"""Appends per second: the journal with 16 waiters, a plain loop of one commit an event, and the disk's own fdatasync.

Run `python bench/journal.py [FOLDER]`; it prints JSON. All three write to the same folder, one after the other, several
rounds each; the median is given, since a disk's sync time varies. Rates are events (or syncs) a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from fleet.core.events import Draft
from fleet.store.chain import make_row, prepare
from fleet.store.database import SCHEMA
from fleet.store.journal import open_journal

WAITERS = 16
SECONDS = 1.0
ROUNDS = 5
GOAL = 5.0

DRAFT = Draft("step-begun", pool="web", server="web-2", rollout="4f1c22a09b7d5e31", request="8c1d",
              data={"op": "9a7c0f13be22d410", "step": "birth", "verb": "birth", "number": 7, "path": "forward",
                    "reason": "web-2 runs 2026.07.1 and the rollout goes to 2026.07.2; budget 1 of 1 is free"})


class WallClock:
    """fleet.ports.Clock on the machine's own time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)


def journal_rate(folder: str) -> float:
    """Events a second that WAITERS callers together get acknowledged, each waiting for its own before the next."""

    async def run() -> float:
        done = 0
        path = os.path.join(folder, "journal.db")
        async with open_journal(path, WallClock(), log_tip=lambda _seq, _chain: None) as journal:
            end = time.perf_counter() + SECONDS
            begun = time.perf_counter()

            async def waiter() -> None:
                nonlocal done
                while time.perf_counter() < end:
                    await journal.append((DRAFT,))
                    done += 1

            async with asyncio.TaskGroup() as group:
                for _ in range(WAITERS):
                    group.create_task(waiter())
            return done / (time.perf_counter() - begun)

    return asyncio.run(run())


def plain_rate(folder: str) -> float:
    """The same rows, chained the same way into the same tables, one commit each, without any threads."""
    sql = sqlite3.connect(os.path.join(folder, "plain.db"), isolation_level=None)
    for statement in ("PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", *SCHEMA):
        sql.execute(statement).fetchall()
    done, chain, begun = 0, "", time.perf_counter()
    while time.perf_counter() < begun + SECONDS:
        row = make_row(done + 1, time.time(), prepare(DRAFT), chain)
        sql.execute("BEGIN IMMEDIATE")
        sql.execute("INSERT INTO event VALUES (?,?,?,?,?,?,?,?,?,?)", row)
        sql.execute("COMMIT")
        done, chain = done + 1, row.chain
    rate = done / (time.perf_counter() - begun)
    sql.close()
    return rate


def sync_rate(folder: str) -> float:
    """How often the disk takes 4 KiB and says they are durable: what no journal with one waiter can pass."""
    fd = os.open(os.path.join(folder, "raw"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(fd, 0, 4 * 1024 * 1024)
        os.fsync(fd)
        done, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + SECONDS:
            os.pwrite(fd, b"\x5a" * 4096, done % 1024 * 4096)
            os.fdatasync(fd)
            done += 1
        return done / (time.perf_counter() - begun)
    finally:
        os.close(fd)


def _median(rate: Callable[[str], float], parent: str | None) -> Callable[[], float]:
    def one() -> float:
        with tempfile.TemporaryDirectory(prefix="anew-bench-", dir=parent) as folder:
            return rate(folder)

    return one


def measure(parent: str | None = None) -> dict[str, object]:
    """The rates and their ratios; `parent` is a folder on the disk to measure.

    Default: beside this file. The system's temporary folder may be in memory, where a sync costs nothing.
    """
    parent = parent or os.path.dirname(os.path.abspath(__file__))
    runs = {name: _median(rate, parent) for name, rate in
            (("journal", journal_rate), ("plain", plain_rate), ("fdatasync", sync_rate))}
    seen: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):  # interleaved, so that a slow minute of the disk meets all three
        for name, one in runs.items():
            seen[name].append(one())
    rate = {name: statistics.median(values) for name, values in seen.items()}
    ratio = statistics.median(a / b for a, b in zip(seen["journal"], seen["plain"], strict=True))
    return {
        "waiters": WAITERS,
        "rounds": ROUNDS,
        "journal_appends_per_s": round(rate["journal"]),
        "plain_appends_per_s": round(rate["plain"]),
        "fdatasync_per_s": round(rate["fdatasync"]),
        "journal_to_plain": round(ratio, 2),
        "journal_to_fdatasync": round(rate["journal"] / rate["fdatasync"], 2),
        "goal_journal_to_plain": GOAL,
        "met": ratio >= GOAL,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1] if len(sys.argv) > 1 else None), indent=2))
