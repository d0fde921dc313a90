"""Every key on every screen, pressed in a real terminal: each does something that a person sees or the daemon hears."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from tests.tui import story
from tests.tui.canned import CannedDaemon
from tests.tui.glass import Glass
from tests.tui.terminal import Terminal
from tui.keynames import normal, shown
from tui.keys import KEYS, Key
from tui.screens import SCREENS

BYTES = {"enter": b"\r", "escape": b"\x1b", "space": b" ", "up": b"\x1b[A", "down": b"\x1b[B", "right": b"\x1b[C", "left": b"\x1b[D",
         "pageup": b"\x1b[5~", "pagedown": b"\x1b[6~", "home": b"\x1b[H", "end": b"\x1b[F", "ctrl+c": b"\x03", "ctrl+f": b"\x06", "ctrl+b": b"\x02"}
WAYS: dict[str, tuple[bytes, str]] = {
    "fleet": (b"1", "needs a look"), "servers": (b"2", "› servers[ !]* ──"), "server": (b":web-3\r", "› web-3 ──"), "images": (b"4", "› images ──"),
    "rollout": (b":web\r5", "› rollout web ──"), "plan": (b":plan web\r", "plan 7f3a9c51"), "events": (b"7", "› events ──"), "console": (b":web-3\rl", "› console web-3 ──"),
    "diff": (b":web\r5d", "› 1→2 ──"), "help": (b"5?", "› keys of rollout ──"),
}
"""How to come to a screen from any other, and what tells that one is there."""
FIRST = {"up": b"G", "page-up": b"G", "top": b"G", "left": b"\x1b[C\x1b[C", "right": b"\x1b[D\x1b[D\x1b[D", "mark-range": b"g jj"}
"""Pressed before a key that else would have nowhere to go; for all others `g`, which takes the last sentence away too. Wide columns
are on for left and right: `w` comes before them in the table."""


class Person:
    """Types at a terminal and looks at it."""

    def __init__(self, terminal: Terminal, daemon: CannedDaemon) -> None:
        self.terminal, self.daemon, self.glass, self._read = terminal, daemon, Glass(), 0

    def look(self) -> str:
        self.glass.feed(bytes(self.terminal.output[self._read:]))
        self._read = len(self.terminal.output)
        return self.glass.text

    async def see(self, words: str) -> None:
        await self.terminal.until(lambda: words in self.look(), f"{words!r} on the glass")

    async def calm(self) -> str:
        await self.terminal.quiet(0.1)
        return self.look()

    async def go(self, screen: str) -> None:
        """To a screen, out of any question."""
        await self.calm()
        if "cancels" in self.glass.rows[-1]:
            self.terminal.type(b"\x1b")
            await self.terminal.until(lambda: "cancels" not in self.look().splitlines()[-1], "the question goes")
        keys, words = WAYS[screen]
        if not re.search(words, self.look()):
            self.terminal.type(keys)
            await self.terminal.until(lambda: re.search(words, self.look()), f"{words!r} on the glass")

    async def first(self, keys: bytes) -> str:
        """Press what prepares a key, and wait until the sentence before is off the glass, so that the same one again is seen."""
        self.terminal.type(keys)
        await self.terminal.until(lambda: self.look().splitlines()[21].strip() in ("", "! edge-6 tainted: shell by root"), "the sentence goes")
        return await self.calm()

    def heard(self) -> tuple[int, ...]:
        """How much the daemon was asked."""
        return len(self.daemon.commands), len(self.daemon.plans), len(self.daemon.compared)


@asynccontextmanager
async def sitting(folder: Path) -> AsyncIterator[Person]:
    daemon = CannedDaemon(folder / "anew.sock")
    daemon.console_bytes = [b"".join(b"[%5d.0] a line of the kernel\r\n" % n for n in range(200))]
    daemon.events = [story.event(seq, 5000 - seq, "step-done", f"web-3: word {seq}", pool="web", server="web-3", rollout="web-r1") for seq in range(50, 111)]
    async with daemon, Terminal(daemon.socket, folder) as terminal:
        person = Person(terminal, daemon)
        await person.see("needs a look")
        await terminal.until(lambda: daemon.listeners, "the stream")
        yield person


def keys_of(screen: str) -> list[tuple[Key, str]]:
    """What can be pressed there, and is no way out of the app and no way to where one is."""
    own = {"fleet": "show-fleet", "servers": "show-servers", "server": "show-server", "images": "show-images", "rollout": "show-rollout",
           "plan": "show-plan", "events": "show-events", "help": "help"}.get(screen)
    pairs = [(key, name) for key in KEYS if key.on(screen) and key.action != own for name in map(normal, key.keys)]
    return [(key, name) for key, name in pairs if not (screen == "fleet" and key.action == "back" and name != "escape")]


@pytest.mark.parametrize("screen", [screen for screen in SCREENS if screen != "replay"])  # its keys: test_replay.py
async def test_each_key_of_a_screen_does_something(tmp_path: Path, screen: str) -> None:
    async with sitting(tmp_path) as person:
        await person.go("plan")  # so that there is one
        for key, name in keys_of(screen):
            await person.go(screen)
            before, heard = await person.first(FIRST.get(key.action, b"g")), person.heard()
            person.terminal.type(BYTES.get(name) or shown(name).encode())
            await person.terminal.until(lambda before=before, heard=heard: person.look() != before or person.heard() != heard,  # type: ignore[misc]
                                        f"{name} ({key.action}) on {screen} does something:\n{before}")
            if key.action in ("command", "filter", "remark"):
                await person.see("cancels")  # a question is open: else the next keys would answer it
        allowed = {"rollout.pause", "rollout.abort"}
        assert {row["command"] for row in person.daemon.commands} <= allowed, "a key alone starts nothing, armed or not"
        assert person.terminal.child is not None
        assert person.terminal.child.poll() is None


async def test_a_key_held_down_leaves_the_screen_in_order(tmp_path: Path) -> None:
    async with sitting(tmp_path) as person:
        for keys in (b"j" * 400 + b"k" * 399, b"!" * 101, b"sS" * 50, b"tttttt" * 5, b"25" * 60, b"?q" * 40, b"w" + b"\x1b[C" * 60 + b"w"):
            await person.go("servers")
            person.terminal.type(keys)
            await person.calm()
        await person.go("servers")
        assert person.daemon.commands == []
        assert [row for row in person.glass.rows if len(row) > 80] == []


async def test_a_window_of_another_size_is_drawn_for_that_size_at_once(tmp_path: Path) -> None:
    async with sitting(tmp_path) as person:
        await person.go("servers")
        for columns, lines in ((100, 24), (70, 30), (160, 24), (160, 50), (82, 21)):
            start = len(person.terminal.output)
            person.terminal.resize(columns, lines)
            person.glass, person._read = Glass(columns, lines), start
            await person.see(f" 1–{lines - 5} of 61")
            await person.see("── fleet › servers " + "─" * (columns - 19))
            rows = person.look().splitlines()
            assert not rows[0].endswith("…")
            assert len(rows[1]) == columns - 1


async def test_a_storm_of_sizes_in_a_real_terminal(tmp_path: Path) -> None:
    """Windows are dragged: sizes come faster than pictures, from one cell to 500x200."""
    sizes = Random(5)
    async with sitting(tmp_path) as person:
        for keys in (b"1", b"2w", b"4", b"5", b"6", b"7", b"?"):
            person.terminal.type(keys)
            for _ in range(12):
                person.terminal.resize(sizes.choice((1, 2, 59, 60, 61, 119, 120, 160, sizes.randint(1, 500))), sizes.choice((1, 2, 19, 20, sizes.randint(1, 200))))
            await person.terminal.quiet(0.05)
        person.terminal.resize(80, 24)
        await person.terminal.quiet(0.3)
        start = len(person.terminal.output)
        person.terminal.resize(81, 24)
        await person.terminal.until(lambda: len(person.terminal.output) > start, "a picture")
        person.glass, person._read = Glass(81, 24), start
        await person.go("servers")
        assert "› ci-1" in person.look()


def test_the_glass_shows_what_a_terminal_would() -> None:
    glass = Glass(10, 3)
    for part in (b"\x1b[2J\x1b[1;1Hab\xc3", b"\xa9\x1b[", b"2;3H", b"\x1b[1;31mred\x1b[0m\x1b]52;c;eA==\x07", "漢字".encode()):
        glass.feed(part)
    assert glass.rows == ["abé", "  red漢字", ""]


