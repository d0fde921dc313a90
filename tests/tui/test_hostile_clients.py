"""A rollout among clients that stand still, crawl, and make noise: it goes through, all is told to who listens, and the daemon stays small.

How fast the engine decides meanwhile is a figure, not a test: `python -m bench.crowd`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from fleet.api import door
from fleet.api.client import DaemonUnreachable
from tests.engine.daemons import FLEET, Home, until
from tests.engine.noise import noise
from tests.tui.glass import Glass
from tests.tui.slowlink import SlowLink
from tests.tui.terminal import DEADLINE, Terminal

SERVERS = 6
QUICK = "import sys; from fleet.api import stream; stream.DRAIN_SECONDS = 1.0; from fleet.daemon import main; sys.exit(main())"
"""The daemon, with a patience for clients that a test can wait for."""
REMARK = "nobody at this terminal reads" * 15
MANY = 300
"""Remarks of that length are more than the buffers of one stream hold."""
ROOM = 64 * 1024 * 1024
"""Bytes that a crowd may cost: MAX_EACH answers of the longest page of a journal are half of it."""


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        made = Home(Path(folder), FLEET.replace("servers = 3", f"servers = {SERVERS}"), program=("-c", QUICK))
        try:
            made.start()
            made.roll("1", overrides={"max_surge": str(SERVERS), "max_unavailable": "100%"})
            until(lambda: made.ended() == "done", "the pool is born")
            yield made
        finally:
            made.close()


class Watcher:
    """An honest client that reads the stream of events from the beginning."""

    def __init__(self, home: Home) -> None:
        self.frames: list[dict[str, Any]] = []
        self._lines = home.client.lines("/v1/events", since=0)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(DaemonUnreachable):
            for frame in self._lines:
                self.frames.append(frame)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [frame["row"] for frame in list(self.frames) if frame.get("frame") == "event"]


def grown(home: Home) -> dict[str, int]:
    """What the daemon takes: the most memory it ever had resident, and its open descriptors."""
    assert home.process is not None
    status = Path(f"/proc/{home.process.pid}/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    return {"memory": peak, "descriptors": len(os.listdir(f"/proc/{home.process.pid}/fd"))}


def journal(home: Home) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while page := home.client.get("/v1/journal", since=rows[-1]["seq"] if rows else 0, limit=1000)["events"]:
        rows += page
    return rows


def roll_among_noise(home: Home, watcher: Watcher) -> list[str]:
    """A rollout to 2 with a thousand that make noise, and somebody who remarks all the while; what was acknowledged."""
    said: list[str] = []
    before = grown(home)
    with noise(str(home.folder / "s")):
        rollout = home.roll("2")
        while len(said) < MANY or not home.ended():
            text = f"{len(said)} {REMARK}"
            assert home.client.command("remark", text=text)["ok"]
            said.append(text)
        assert home.ended() == "done"
        assert home.client.get("/v1/status")["pools"][0]["size"] == SERVERS
        until(lambda: any((row["type"], row["rollout"]) == ("rollout-ended", rollout) for row in watcher.rows), "the watcher is told of the end amid the noise", DEADLINE)
        amid = grown(home)
    assert amid["memory"] - before["memory"] < ROOM
    assert amid["descriptors"] - before["descriptors"] <= 2 * door.MAX_EACH, "the crowd is one process and has its share"
    return said


async def test_a_rollout_among_a_thousand_that_send_garbage_one_that_stands_still_and_one_that_crawls(home: Home) -> None:
    folders = [home.folder / name for name in ("stopped", "crawling")]
    for folder in folders:
        folder.mkdir()
    async with AsyncExitStack() as stack:
        stopped = await stack.enter_async_context(Terminal(home.folder / "s", folders[0]))
        await stopped.until(lambda: "lately" in stopped.text and people(home), "the fleet, before it stands still")
        [one] = people(home)
        link = await stack.enter_async_context(SlowLink(home.folder / "s", home.folder / "slow"))
        crawling = await stack.enter_async_context(Terminal(link.path, folders[1]))
        await crawling.until(lambda: "lately" in crawling.text and len(people(home)) == 2, "the fleet, over the link")
        assert stopped.child is not None
        stopped.child.send_signal(signal.SIGSTOP)
        link.bytes_per_second = 1000.0
        watcher = Watcher(home)
        try:
            said = await asyncio.to_thread(roll_among_noise, home, watcher)
            await asyncio.to_thread(until, lambda: one not in people(home), "who stands still is dropped", DEADLINE)
        finally:
            stopped.child.send_signal(signal.SIGCONT)
        link.bytes_per_second = None

        rows = journal(home)
        await asyncio.to_thread(until, lambda: watcher.rows and watcher.rows[-1]["seq"] >= rows[-1]["seq"], "the watcher has heard all", DEADLINE)
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        assert [row["data"]["text"] for row in rows if row["type"] == "remark"] == said, "what was acknowledged is in the journal, once and in order"
        assert [row["seq"] for row in watcher.rows] == list(range(1, len(watcher.rows) + 1)), "who listens is told of everything"
        assert [(row["type"], row["data"]) for row in watcher.rows[: len(rows)]] == [(row["type"], row["data"]) for row in rows]
        assert home.client.get("/v1/journal/verify")["ok"]
        for terminal in (stopped, crawling):
            await terminal.until(Seen(terminal).shows_the_end, "the end of the rollout, once it can be heard")
    assert home.stop() == 0
    assert "Traceback" not in home.log()


def people(home: Home) -> list[int]:
    """Who is here, by number."""
    return [row["id"] for row in home.client.get("/v1/status")["people"]]


class Seen:
    """A terminal's screen. What was read once is not read again: the loop that looks here carries the bytes of the slow link, too."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal, self.glass, self._read = terminal, Glass(*terminal.size), 0

    def shows_the_end(self) -> bool:
        """Whether the fleet on the screen is the one after the rollout."""
        fresh = bytes(self.terminal.output[self._read:])
        self._read += len(fresh)
        self.glass.feed(fresh)
        web = next((row.split() for row in self.glass.rows if row.startswith("› web")), [])
        return web[2:6] == [str(SERVERS), str(SERVERS), "ok", "2"] and "1→2 done" in self.glass.text
