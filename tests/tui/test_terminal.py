"""A real pseudo-terminal: what hostile names, words and guests can put on it, and how many bytes a quiet hour costs."""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.tui import live, story
from tests.tui.canned import CannedDaemon
from tests.tui.terminal import DEADLINE, SEQUENCES, Terminal
from tui.phrases import FAREWELL

ATTACKS = ("\x1b]0;owned\x07", "\x9b2J", "\x1b[2J", "\x1b]52;c;b3duZWQ=\x07", "\x1bP+q\x1b\\", "\x85\x90\x9d0;x\x9c", "\u202e\u2066",
           "\u200b\u200d", "\x07\x08\x00", "\r\n\x0b\x0c", "[/]", "[0]", "[bold red]", "\ud800")
LEGAL_STARTS = re.compile(r"\x1b(?:\[|\]22;)")
"""CSI, and the shape of the mouse pointer that Textual sets at the start: all that the app itself may write."""


def hostile(marker: str) -> str:
    return marker + "".join(ATTACKS) + marker.lower()


def attack(status: dict[str, Any]) -> dict[str, Any]:
    """Every string of a status frame is replaced or followed by an attack, names included."""
    def walk(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: walk(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [walk(item, key) for item in value]
        if isinstance(value, str) and key in ("reason", "health_words", "held", "tainted", "error", "last_words", "author", "fleet",
                                              "address", "hypervisor", "stable", "rollback_cost", "user", "name", "pool"):
            return hostile(value or "EMPTY")
        return value

    result: dict[str, Any] = walk(status, "")
    return result


def check(terminal: Terminal) -> None:
    """Not one byte of data steers: only legal sequences, no title, no clipboard, no control character between them."""
    output = terminal.output.decode("utf-8")  # strictly: what is no UTF-8 is a failure
    for match in re.finditer("\x1b", output):
        assert LEGAL_STARTS.match(output, match.start()), output[match.start() - 40 : match.start() + 40]
    text = SEQUENCES.sub("", output)
    bad = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs") and char not in "\r\n"}
    assert not bad, sorted(map(hex, map(ord, bad)))
    assert "owned" not in "".join(re.findall(r"\x1b\][^\x07]*", output))


async def test_hostile_words_arrive_as_words(tmp_path: Path) -> None:
    daemon = CannedDaemon(tmp_path / "anew.sock", attack(story.status()))
    daemon.events = [{**row, "text": hostile(row["text"]), "actor": hostile("ben")} for row in story.events()]
    daemon.events[-1]["text"] = hostile("LONG") + "A" * 1_000_000
    daemon.images = [{**row, "problem": hostile("PROBLEM"), "source": hostile("SOURCE")} for row in story.images()]
    daemon.console_bytes = [hostile("GUEST").encode("utf-8", "replace") + b"\n", b"\x1b]0;owned\x07\x9b31m\xff\xfe" + b"B" * 1_000_000]
    async with daemon, Terminal(daemon.socket, tmp_path) as terminal:
        await terminal.until(lambda: daemon.listeners and "pool" in terminal.text, "the fleet")
        for keys, seen in ((b"2", "1–1"), (b"5", "budget"), (b"7", "about"), (b"4", "digest"), (b"1", "lately"), (b"\r", "why"),
                           (b"\r", "way back"), (b"l", "console of"), (b"q", "lives"), (b"?", "Keys of")):
            start = len(terminal.output)
            terminal.type(keys)
            await terminal.until(lambda seen=seen, start=start: seen in terminal.since(start), seen)  # type: ignore[misc]
            await terminal.quiet(0.3)
        daemon.refuse = (409, {"code": "x", "message": hostile("REFUSED"), "where": hostile("WHERE"), "exit_code": 5})
        terminal.type(b"qP")
        await terminal.until(lambda: "REFUSED]0;owned2J[2J]52;c;b3duZWQ=" in terminal.text, "the refusal, as words")
        assert terminal.child is not None
        assert terminal.child.poll() is None
        check(terminal)
        assert "GUEST" in terminal.text
        assert "[/][0][bold red]" in terminal.text


async def test_an_idle_terminal_receives_nothing(tmp_path: Path) -> None:
    async with CannedDaemon(tmp_path / "anew.sock") as daemon, Terminal(daemon.socket, tmp_path) as terminal:
        await terminal.until(lambda: daemon.listeners and "lately" in terminal.text, "the fleet")
        minute = before = -1
        while minute != time.time() // 60:  # an age may change with the minute: one has to be met that does not end meanwhile
            await terminal.quiet(1.2)
            minute, before = int(time.time() // 60), len(terminal.output)
            await terminal.rest(time.monotonic() + 2.5)
        assert len(terminal.output) == before


async def test_a_live_rollout_stays_within_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "NOW", datetime.now(UTC))
    daemon = CannedDaemon(tmp_path / "anew.sock", live.status())
    daemon.events = []
    async with daemon, Terminal(daemon.socket, tmp_path, COLORTERM="truecolor") as terminal:
        await terminal.until(lambda: daemon.listeners and "rolling" in terminal.text, "the fleet")
        terminal.type(b"5")
        await terminal.until(lambda: "budget" in terminal.text, "the rollout")
        await terminal.quiet(0.5)
        ahead = [(moment, rows) for moment, rows in live.frames() if moment <= 26]
        for moment, rows in ahead:
            if moment <= 20:
                for row in rows:
                    daemon.push(row)
        await terminal.quiet(0.3)
        start, before = time.monotonic(), len(terminal.output)
        for moment, rows in ahead:
            if moment > 20:
                await terminal.rest(start + moment - 20)
                for row in rows:
                    daemon.push(row)
        await terminal.rest(start + 6)
        assert (len(terminal.output) - before) / 6 <= 2000
        check(terminal)


async def test_any_size_survives(tmp_path: Path) -> None:
    async with CannedDaemon(tmp_path / "anew.sock") as daemon, Terminal(daemon.socket, tmp_path) as terminal:
        await terminal.until(lambda: daemon.listeners and "lately" in terminal.text, "the fleet")
        for columns, rows in ((1, 1), (2, 50), (500, 200), (59, 19), (60, 20), (10, 3), (200, 1), (1, 200), (80, 24)):
            start = len(terminal.output)
            terminal.resize(columns, rows)
            await terminal.until(lambda start=start: len(terminal.output) > start, f"a picture at {columns}x{rows}")  # type: ignore[misc]
            terminal.type(b"25?q1")
            await terminal.quiet(0.25)
        start = len(terminal.output)
        terminal.type(b"2")
        await terminal.until(lambda: "ci-1" in terminal.since(start), "the servers")
        terminal.type(b"qqqqq")
        assert terminal.child is not None
        assert await asyncio.to_thread(terminal.child.wait, DEADLINE) == 0
        await asyncio.sleep(0)
        check(terminal)


@pytest.mark.parametrize(("environment", "forbidden"), [
    ({"NO_COLOR": "1"}, r"\x1b\[[0-9;]*(?:3[0-8]|4[0-8]|9[0-7])[;m]"),
    ({"TERM": "xterm"}, r"\x1b\[[0-9;]*[34]8;[25];"),
    ({"LANG": "C"}, "[^\x00-\x7f]"),
])
async def test_poor_terminals_get_what_they_can_show(tmp_path: Path, environment: dict[str, str], forbidden: str) -> None:
    async with CannedDaemon(tmp_path / "anew.sock") as daemon, Terminal(daemon.socket, tmp_path, **environment) as terminal:  # type: ignore[arg-type]
        await terminal.until(lambda: daemon.listeners and "lately" in terminal.text, "the fleet")
        terminal.type(b"25j")
        await terminal.until(lambda: "budget" in terminal.text, "the rollout")
        await terminal.quiet(0.4)
        assert re.search(forbidden, terminal.output.decode()) is None


async def test_leaving_and_hanging_up_leave_the_daemon_alone(tmp_path: Path) -> None:
    async with CannedDaemon(tmp_path / "anew.sock") as daemon, Terminal(daemon.socket, tmp_path) as terminal:
        await terminal.until(lambda: daemon.listeners and "lately" in terminal.text, "the fleet")
        assert terminal.child is not None
        terminal.child.send_signal(1)
        await asyncio.to_thread(terminal.child.wait, DEADLINE)
        async with asyncio.timeout(DEADLINE):
            while daemon.listeners:
                daemon.push({"frame": "event", "seq": 0, "row": {}})
                await asyncio.sleep(0.05)
        assert daemon.commands == []


async def test_leaving_says_that_the_daemon_goes_on(tmp_path: Path) -> None:
    async with CannedDaemon(tmp_path / "anew.sock") as daemon, Terminal(daemon.socket, tmp_path) as terminal:
        await terminal.until(lambda: daemon.listeners and "lately" in terminal.text, "the fleet")
        assert terminal.child is not None
        terminal.type(b"q")
        assert await asyncio.to_thread(terminal.child.wait, DEADLINE) == 0
        async with asyncio.timeout(DEADLINE):
            while FAREWELL.strip() not in terminal.text:
                await asyncio.sleep(0.01)
        restored = terminal.output.rindex(b"\x1b[?1049l")
        assert terminal.output.index(FAREWELL.strip().encode()) > restored
        assert daemon.commands == []
