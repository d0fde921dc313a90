"""A disk and a process that fail: what was acknowledged is there, what was not is never called written."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.core.events import Draft, Event
from fleet.store.database import Database
from fleet.store.journal import JournalBroken, verify_lines
from tests.store.journal_kit import DEADLINE, Heard, fill, journal_at, remark

ROOT = Path(__file__).parents[2]


def child(folder: Path, body: str) -> subprocess.Popen[bytes]:
    """A Python process of its own that runs `body` with `journal_at`, `remark` and FOLDER at hand."""
    head = f"""
import asyncio, os, resource, signal, sys
from pathlib import Path
from tests.store.journal_kit import Heard, journal_at, remark
FOLDER = Path({str(folder)!r})
def say(words):
    os.write(1, (words + "\\n").encode())
"""
    return subprocess.Popen([sys.executable, "-c", head + textwrap.dedent(body)], stdout=subprocess.PIPE, cwd=ROOT,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})


def output_until_killed(process: subprocess.Popen[bytes], lines: int) -> list[str]:
    """Kill the process with SIGKILL as soon as it printed so many lines; all whole lines it printed."""
    assert process.stdout is not None
    said, end, heard = b"", time.monotonic() + DEADLINE, select.poll()
    heard.register(process.stdout, select.POLLIN)
    while said.count(b"\n") < lines:
        chunk = os.read(process.stdout.fileno(), 65536) if heard.poll(max(0.0, end - time.monotonic()) * 1000) else b""
        assert chunk, f"the writer stopped by itself: {said[-300:]!r}"
        said += chunk
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read()
    assert process.wait(DEADLINE) == -signal.SIGKILL
    process.stdout.close()
    return said.decode().split("\n")[:-1]


WRITERS = """
async def main():
    async with journal_at(FOLDER) as journal:
        async def writer(who):
            for number in range(1_000_000):
                events = await journal.append((remark(f"{who}.{number}"), remark(f"{who}.{number} second")))
                say(f"{events[1].seq} {who}.{number}")
        await asyncio.gather(*(writer(who) for who in range(8)))
asyncio.run(main())
"""
FEW = WRITERS.replace("1_000_000", "20").replace("range(8)))", "range(8)))\n        await asyncio.Event().wait()")
"""So few that none of it has been moved from the log into the file, however late the writer is killed."""


@pytest.mark.parametrize("lines", [1, 40, 2500])
async def test_after_kill_9_every_acknowledged_row_is_there(tmp_path: Path, lines: int) -> None:
    acknowledged = output_until_killed(child(tmp_path, WRITERS), lines)
    assert len(acknowledged) >= lines
    async with journal_at(tmp_path) as journal:
        rows = {event.seq: event.data["text"] for event in journal.replay()}
        for line in acknowledged:
            seq, text = line.split(" ")
            assert (rows[int(seq) - 1], rows[int(seq)]) == (text, f"{text} second")
        assert len(rows) % 2 == 0, "half of an append was kept"
        (event,) = await journal.append((remark("the next daemon goes on"),))
        assert event.seq == len(rows) + 1
        assert verify_lines(journal.export(), [journal.tip()]) == ""


async def test_kill_9_twice_in_a_row_loses_nothing(tmp_path: Path) -> None:
    first = output_until_killed(child(tmp_path, WRITERS), 20)
    second = output_until_killed(child(tmp_path, WRITERS), 20)
    async with journal_at(tmp_path) as journal:
        rows = {event.seq: event.data["text"] for event in journal.replay()}
    for line in first + second:
        seq, text = line.split(" ")
        assert rows[int(seq)] == f"{text} second"


def test_a_disk_that_fails_a_write_ends_the_journal_for_good(tmp_path: Path) -> None:
    # A file size limit makes the kernel fail the write itself (EFBIG): a real I/O error on the way to the disk.
    process = child(tmp_path, """
    async def main():
        heard = Heard()
        journal = journal_at(FOLDER, heard=heard)
        last = (await journal.append((remark("before"),)))[0].seq
        say(f"acknowledged {last}")
        size = os.stat(FOLDER / "journal.db-wal").st_size
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, resource.RLIM_INFINITY))
        callers = [journal.append((remark("x" * 9000),)) for _ in range(20)]
        answers = await asyncio.gather(*callers, return_exceptions=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        say(" ".join(sorted({type(answer).__name__ for answer in answers})))
        try:
            await journal.append((remark("the disk works again, and it is too late"),))
        except Exception as error:
            say(f"{type(error).__name__} {error}")
        try:
            list(journal.read())
        except Exception as error:
            say(f"{type(error).__name__}")
        say(f"told {len(heard.fatal)} low {len(heard.low)} tip {journal.tip()[0]}")
        journal.close()
    asyncio.run(main())
    """)
    assert process.stdout is not None
    said = process.communicate(timeout=DEADLINE)[0].decode().splitlines()
    assert said[:2] == ["acknowledged 1", "JournalBroken"]
    assert said[2].startswith(f"JournalBroken {tmp_path}/journal.db: the disk did not take a commit (disk I/O error)")
    assert said[3:] == ["JournalBroken", "told 1 low 0 tip 1"]


async def test_after_a_failed_write_the_next_daemon_finds_what_was_acknowledged(tmp_path: Path) -> None:
    test_a_disk_that_fails_a_write_ends_the_journal_for_good(tmp_path)
    async with journal_at(tmp_path) as journal:
        assert [event.data["text"] for event in journal.replay()] == ["before"]


async def test_an_error_while_the_log_is_moved_into_the_file_ends_the_daemon_too(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # SQLite's own automatic checkpoint swallows this error; the next one would call lost pages durable.
    plain, heard = Database.checkpoint, Heard()

    def failing(self: Database, mode: str = "PASSIVE") -> None:
        if mode == "PASSIVE":
            raise OSError(5, "Input/output error")
        plain(self, mode)

    monkeypatch.setattr(Database, "checkpoint", failing)
    journal = journal_at(tmp_path, heard=heard)
    with pytest.raises(JournalBroken, match="did not take a checkpoint"):
        for number in range(1000):
            await journal.append((remark(str(number)),))
    assert len(heard.fatal) == 1
    journal.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 10 MiB, with room for the reserve and little else."""
    folder = tmp_path / "tiny"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m,mode=0700", "anew-test", str(folder)],
                             capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tiny disk cannot be mounted here (root is needed): {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_frees_the_reserve_and_still_takes_the_pause(tiny_disk: Path) -> None:
    heard = Heard()
    acknowledged: list[Event] = []
    async with journal_at(tiny_disk, heard=heard) as journal:
        while not heard.low:
            acknowledged += await journal.append((remark("x" * 60_000),))
            assert len(acknowledged) < 1000, "the disk never became full"
        assert not (tiny_disk / "journal.db.reserve").exists()
        assert "the disk of the journal is full" in heard.low[0] and "make room" in heard.low[0]
        acknowledged += await journal.append((Draft("rollout-moved", pool="web", rollout="r", data={
            "cause": "low-space", "state": "paused", "reason": heard.low[0]}),))
        assert tuple(journal.replay()) == tuple(acknowledged), "a row was lost or doubled when the commit was repeated"
    assert (heard.fatal, len(heard.low)) == ([], 1)
    heard_again = Heard()
    async with journal_at(tiny_disk, heard=heard_again) as journal:
        assert tuple(journal.replay()) == tuple(acknowledged)
    assert heard_again.low or (tiny_disk / "journal.db.reserve").exists()


async def test_a_full_disk_without_reserve_ends_the_journal_and_loses_nothing(tiny_disk: Path) -> None:
    heard = Heard()
    acknowledged: list[Event] = []
    journal = journal_at(tiny_disk, heard=heard)
    with pytest.raises(JournalBroken, match="database or disk is full"):
        for _ in range(1000):
            acknowledged += await journal.append((remark("x" * 60_000),))
    assert (len(heard.fatal), len(heard.low)) == (1, 1)
    journal.close()
    (tiny_disk / "journal.db.reserve").unlink(missing_ok=True)
    async with journal_at(tiny_disk, heard=Heard()) as journal:
        assert tuple(journal.replay()) == tuple(acknowledged)


async def test_a_bit_flipped_in_the_log_after_a_crash_is_a_cut_off_tail(tmp_path: Path) -> None:
    await fill(tmp_path, ["one"])
    acknowledged = output_until_killed(child(tmp_path, FEW), 100)
    async with journal_at(tmp_path / "copy"):
        pass
    for name in ("journal.db", "journal.db-wal"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
    wal = bytearray((tmp_path / "copy" / "journal.db-wal").read_bytes())
    wal[len(wal) // 2] ^= 1
    (tmp_path / "copy" / "journal.db-wal").write_bytes(wal)
    async with journal_at(tmp_path) as journal:
        tip = journal.tip()
    assert tip[0] >= int(acknowledged[-1].split(" ")[0])
    async with journal_at(tmp_path / "copy") as journal:
        assert "The end is cut off" in journal.verify([tip])
