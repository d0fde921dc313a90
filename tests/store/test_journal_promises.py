"""What the journal promises while all is well: order, one commit for many, one answer a request, append-only."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from fleet.core.errors import Refused
from fleet.core.events import Draft
from fleet.ports import Journal
from fleet.store.database import Database
from fleet.store.journal import QUEUE_LIMIT, JournalBroken, system_log_tip
from fleet.store.writer import Hooks
from tests.store.journal_kit import DEADLINE, Heard, ToldClock, fill, journal_at, remark


async def test_what_is_appended_is_read_back_the_same_also_by_the_next_daemon(tmp_path: Path) -> None:
    async with journal_at(tmp_path) as journal:
        port: Journal = journal
        first = await port.append((remark("one"), remark("two")))
        second = await journal.append((Draft("server-tainted", pool="web", server="web-2", data={"why": "shell"}),))
        assert tuple(journal.read()) == first + second
        assert [event.seq for event in first + second] == [1, 2, 3]
        assert journal.tip() == (3, second[0].chain)
        assert await journal.append(()) == ()
    async with journal_at(tmp_path) as journal:
        assert tuple(journal.replay()) == first + second
        assert tuple(journal.read(since=1, limit=1)) == first[1:]
        assert await journal.fetch(since=2) == second
        assert journal.tip() == (3, second[0].chain)
        assert journal.verify() == ""


async def test_reading_pages_through_more_rows_than_a_page_holds(tmp_path: Path) -> None:
    async with journal_at(tmp_path) as journal:
        await journal.append([remark(str(number)) for number in range(1234)])
        assert [event.seq for event in journal.read(since=7)] == list(range(8, 1235))
        assert [event.seq for event in journal.read(since=7, limit=700)] == list(range(8, 708))
        assert len(await journal.fetch(since=1000)) == 234


async def test_many_waiters_share_commits_and_each_list_stays_together(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    plain_write = Database.write

    def counting(self: Database, rows: object) -> None:
        batch = list(rows)  # type: ignore[call-overload]
        commits.append(len(batch))
        plain_write(self, batch)

    monkeypatch.setattr(Database, "write", counting)
    async with journal_at(tmp_path) as journal:
        lists = [[remark(f"{who}.{part}") for part in range(3)] for who in range(2 * QUEUE_LIMIT)]
        answers = await asyncio.gather(*(journal.append(drafts) for drafts in lists))
        for drafts, events in zip(lists, answers, strict=True):
            assert [event.data for event in events] == [draft.data for draft in drafts]
            assert [event.seq for event in events] == list(range(events[0].seq, events[0].seq + 3))
        assert [events[0].seq for events in answers] == sorted(events[0].seq for events in answers), "first come, first"
        assert journal.verify() == ""
    assert len(commits) < len(lists) / 10, "waiters were not gathered into common commits"
    assert max(commits) <= 3 * QUEUE_LIMIT, "more was in memory than the queue may hold"


async def test_time_in_the_journal_never_runs_backwards_also_across_restarts(tmp_path: Path) -> None:
    clock = ToldClock(5000.5)
    async with journal_at(tmp_path, clock) as journal:
        (first,) = await journal.append((remark("late"),))
        clock.at = 10.0
        (second,) = await journal.append((remark("wall clock set back a year"),))
    clock.at = 3.0
    async with journal_at(tmp_path, clock) as journal:
        assert journal.last_at() == 5000.5
        (third,) = await journal.append((remark("restarted"),))
        clock.at = 6000.0
        (fourth,) = await journal.append((remark("caught up"),))
    assert [event.at for event in (first, second, third, fourth)] == [5000.5, 5000.5, 5000.5, 6000.0]


async def test_a_request_is_found_again_with_all_it_wrote(tmp_path: Path) -> None:
    async with journal_at(tmp_path) as journal:
        asked = await journal.append((remark("pause", "r-1"), remark("because", "r-1")))
        await journal.append((remark("engine's own"), remark("other", "r-2")))
        assert journal.find_request("r-1") == asked
        assert journal.find_request("r-9") == ()
        assert journal.find_request("") == (), "rows without a request are nobody's answer"
    async with journal_at(tmp_path) as journal:
        assert journal.find_request("r-1") == asked


@pytest.mark.parametrize("statement", [
    "UPDATE event SET actor = 'nobody' WHERE seq = 2",
    "DELETE FROM event WHERE seq = 2",
    ("INSERT OR REPLACE INTO event SELECT 2, at, type, 'nobody', pool, server, rollout, data, request, chain "
     "FROM event WHERE seq = 1"),
    "INSERT INTO event SELECT 9, at, type, actor, pool, server, rollout, data, request, chain FROM event WHERE seq = 1",
    "REPLACE INTO event SELECT * FROM event WHERE seq = 3",
])
async def test_no_statement_changes_or_removes_a_row(tmp_path: Path, statement: str) -> None:
    await fill(tmp_path, ("one", "two", "three"))
    sql = sqlite3.connect(tmp_path / "journal.db")
    with pytest.raises(sqlite3.IntegrityError, match="the journal is append-only"):
        sql.execute(statement)
    sql.close()
    async with journal_at(tmp_path) as journal:
        assert journal.verify() == ""


async def test_sqlite_says_it_is_durable_and_only_the_owner_can_look(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with journal_at(folder) as journal:
        await journal.append((remark("one"),))
        settings = journal._writer.call(Database.settings).result()
        assert settings == {"journal_mode": "wal", "synchronous": 2, "locking_mode": "exclusive",
                            "wal_autocheckpoint": 0}
        names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert names == dict.fromkeys(("journal.db", "journal.db-wal", "journal.db.lock", "journal.db.reserve"), 0o600)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / "journal.db.reserve").stat().st_blocks * 512 >= 8 * 1024 * 1024
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            sqlite3.connect(folder / "journal.db", timeout=0).execute("SELECT count(*) FROM event")
    assert not (folder / "journal.db-wal").exists(), "a closed journal is one file, ready to be copied"


async def test_the_tip_goes_to_the_system_log_every_100_rows_and_every_minute_and_at_the_end(tmp_path: Path) -> None:
    heard, clock = Heard(), ToldClock()
    async with journal_at(tmp_path, clock, heard) as journal:
        events = [(await journal.append((remark(str(number)),)))[0] for number in range(101)]
        clock.at += 61.0
        events += await journal.append((remark("a minute later"),))
        events += await journal.append((remark("the last"),))
    assert heard.tips == [(event.seq, event.chain) for event in (events[0], events[100], events[101], events[102])]


async def test_the_tip_of_a_quiet_journal_is_logged_without_another_row(tmp_path: Path) -> None:
    heard = Heard()
    logged = asyncio.Event()
    loop = asyncio.get_running_loop()

    def log_tip(seq: int, _chain: str) -> None:
        if seq == 2:
            loop.call_soon_threadsafe(logged.set)

    async with journal_at(tmp_path, heard=heard, tip_seconds=0.05) as journal:
        await journal.append((remark("first: logged at once"),))
        journal._writer._hooks = Hooks(print, print, log_tip, 0.05)
        await journal.append((remark("second: logged when nothing follows"),))
        await asyncio.wait_for(logged.wait(), DEADLINE)


def test_the_tip_reaches_the_system_log_in_a_line_that_can_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("syslog.syslog", lambda _level, words: said.append(words))
    system_log_tip(300, "ab" * 32)
    assert said == [f"anew journal tip 300 {'ab' * 32}"]
    monkeypatch.undo()
    system_log_tip(0, "from anew's own tests; a machine without a system log loses it quietly")


async def test_a_cancelled_caller_leaves_no_hole_and_no_lost_room(tmp_path: Path) -> None:
    async with journal_at(tmp_path) as journal:
        for _ in range(3):
            callers = [asyncio.ensure_future(journal.append((remark(str(n)),))) for n in range(QUEUE_LIMIT)]
            await asyncio.sleep(0)
            for caller in callers[::2]:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
        await journal.append((remark("still open"),))
        assert journal.verify() == ""


async def test_a_commit_waits_for_one_reader_at_most(tmp_path: Path) -> None:
    """However many pages are asked for at once: who decides does not stand behind a crowd that reads."""
    gathered, began, goes_on = threading.Event(), threading.Event(), threading.Event()

    def page(db: Database) -> int:
        """How many rows it found, once it is let go on."""
        began.set()
        assert goes_on.wait(DEADLINE)
        last = db.last()
        return last.seq if last is not None else 0

    async with journal_at(tmp_path) as journal:
        journal._writer.call(lambda _: gathered.wait(DEADLINE))
        pages = [journal._writer.call(page) for _ in range(5)]
        gathered.set()
        await asyncio.to_thread(began.wait, DEADLINE)
        commit = asyncio.ensure_future(journal.append((remark("a decision"),)))
        await asyncio.sleep(0)
        goes_on.set()
        assert [await asyncio.wrap_future(one) for one in pages] == [0, 1, 1, 1, 1]
        await commit


async def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = journal_at(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(JournalBroken, match="closed"):
        await journal.append((remark("too late"),))
    with pytest.raises(JournalBroken, match="closed"):
        journal.find_request("r")


async def test_a_hook_that_raises_ends_the_journal_and_leaves_nobody_waiting(
        tmp_path: Path, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.excepthook", lambda _args: None)
    heard = Heard()
    journal = journal_at(tmp_path, heard=heard)

    def raising(_seq: int, _chain: str) -> None:
        raise OSError("the system log is gone")

    journal._writer._hooks = Hooks(heard.fatal.append, print, raising, 60.0)
    await journal.append((remark("written before the tip was logged"),))
    with pytest.raises(JournalBroken):
        for _ in range(100):
            await journal.append((remark("after"),))
    assert len(heard.fatal) == 1
    journal.close()
    async with journal_at(tmp_path) as again:
        assert next(iter(again.read())).data["text"] == "written before the tip was logged"


async def test_a_second_daemon_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    async with journal_at(tmp_path):
        with pytest.raises(Refused, match=f"process {os.getpid()} already has this journal open"):
            journal_at(tmp_path)
    async with journal_at(tmp_path) as journal:
        await journal.append((remark("free again"),))
