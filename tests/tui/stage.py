"""A session at the terminal, for tests: the app with a canned daemon, keys in, text out, conditions with deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from fleet.engine.replay import Reel
from tests.tui import story
from tests.tui.canned import CannedDaemon
from tui.app import AnewApp
from tui.clock import FrozenClock
from tui.link import Link

DEADLINE = 120.0


class Session:
    """What a test holds: the pilot, the daemon, the screen."""

    def __init__(self, app: AnewApp, pilot: Pilot[int], daemon: CannedDaemon, clock: FrozenClock) -> None:
        self.app, self.pilot, self.daemon, self.clock = app, pilot, daemon, clock

    @property
    def text(self) -> str:
        """The whole screen."""
        tiny = self.app.desk.tiny
        names = ("head", "foot") if tiny else ("head", "body", "flash", "rule", "foot")
        rows = [row.rstrip() for name in names for row in self.app.papers[name].text]
        return "\n".join(rows) + "\n"

    def row(self, name: str) -> str:
        return "\n".join(self.app.papers[name].text).rstrip()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def settle(self) -> None:
        await self.pilot.pause()
        self.app.paint()

    async def until(self, condition: Callable[[], Any], what: str = "") -> None:
        """Wait until something is so."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"never came true: {what}\n{self.text}"
            await asyncio.sleep(0.01)
            self.app.paint()
        await self.settle()

    async def see(self, words: str) -> None:
        """Wait for words; a sentence may go over two lines."""
        await self.until(lambda: words in self.text or words in " ".join(self.text.split()), f"{words!r} on the screen")

    async def gone(self, words: str) -> None:
        await self.until(lambda: words not in self.text, f"{words!r} off the screen")

    async def arm(self) -> None:
        await self.press("A")
        await self.see("ARMED")

    async def answer(self, *keys: str) -> None:
        """Answer a question after its dead time."""
        self.clock.advance(0.31)
        await self.press(*keys)

    async def sent(self, count: int = 1) -> dict[str, Any]:
        """The newest of `count` commands that the daemon received."""
        await self.until(lambda: len(self.daemon.commands) >= count, f"{count} commands at the daemon")
        return self.daemon.commands[count - 1]


@asynccontextmanager
async def session(
    folder: Path, size: tuple[int, int] = (80, 24), status: dict[str, Any] | None = None, **options: str
) -> AsyncIterator[Session]:
    """An app at `size`, connected and drawn. The clock stands at story.NOW."""
    clock = FrozenClock(story.NOW.timestamp(), UTC)
    daemon = CannedDaemon(folder / "anew.sock", status)
    options.setdefault("state_dir", str(folder))
    async with daemon:
        app = AnewApp(Link(str(daemon.socket), back_off=(0.02, 0.05)), options, clock, reel=Reel)
        async with app.run_test(size=size) as pilot:
            live = Session(app, pilot, daemon, clock)
            await live.until(lambda: daemon.listeners and app.desk.model.connection.live, "connected")
            await live.settle()
            yield live
