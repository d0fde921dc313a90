"""The main job at the terminal, against a real daemon with simulated servers: birth, forward, back, by keys alone."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.cli.test_end_to_end import Fleet
from tests.tui.terminal import DEADLINE
from tui.app import AnewApp
from tui.link import Link


class Seat:
    """The app at the real socket; keys are answered in real time."""

    def __init__(self, app: AnewApp, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def text(self) -> str:
        return "\n".join(row.rstrip() for paper in self.app.papers.values() for row in paper.text)

    async def see(self, *words: str) -> None:
        await self.until(lambda: all(word in self.text for word in words), " and ".join(words))

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"never saw {what}:\n{self.text}"
            await asyncio.sleep(0.02)
            self.app.paint()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()
        self.app.paint()

    async def answer(self, question: str, *keys: str) -> None:
        """Answer once the dead time is over."""
        await self.see(question)
        asked = self.app.desk.prompt
        assert asked is not None
        await self.until(lambda: self.app.desk.clock.ticks() - asked.opened > 0.3, "the end of the dead time")
        await self.press(*keys)


@asynccontextmanager
async def seat(fleet: Fleet) -> AsyncIterator[Seat]:
    await asyncio.to_thread(fleet.data, "status")  # starts the daemon
    socket = os.path.join(fleet.state, "anew.sock")
    app = AnewApp(Link(socket), {"theme": "dark", "state_dir": fleet.state})
    async with app.run_test(size=(100, 30)) as pilot:
        yield Seat(app, pilot)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        made = Fleet(folder)
        yield made
        made.anew("daemon", "stop")


async def test_birth_forward_and_back_by_keys_alone(fleet: Fleet, tmp_path: Path) -> None:
    async with seat(fleet) as user:
        await user.see("app", "small")
        await user.press("colon", *"plan", "space", *"app", "space", "1", "enter")
        await user.see("nothing has happened yet", "birth")
        await user.press("A", "enter")
        await user.answer("Bring up 3 servers? type 3:", "3", "enter")
        await user.see("done, 3 of 3 done")

        await user.press("colon", *"plan", "space", *"app", "space", "2", "enter")
        await user.see("1→2", "3 servers")
        await user.press("enter")
        await user.answer("Replace 3 servers? type 3:", "3", "enter")
        await user.see("1→2", "done, 3 of 3 done")
        await user.press("1")
        await user.see("3 ok", "3 servers can return to 1 in seconds")

        await user.press("u")
        await user.see("rollback of app 2→1")
        await user.press("enter")
        await user.answer("Roll back 3 servers of app, reject 2? type 3:", "3", "enter")
        await user.see("rollback 2→1", "3 of 3 done")

        await user.press("1", "enter", "enter")
        await user.see("app-1  pool app", "lives", "serving")
        await user.press("l")
        await user.see("console of app-1", "Linux version")
        await user.press("7")
        await user.see("rolled-back: 3 of 3 on 1")


async def test_a_bad_image_stops_and_the_screen_says_why(fleet: Fleet) -> None:
    async with seat(fleet) as user:
        await user.see("app", "small")
        await user.press("A", "colon", *"plan", "space", *"app", "space", "1", "enter")
        await user.see("birth")
        await user.press("enter")
        await user.answer("type 3:", "3", "enter")
        await user.see("done, 3 of 3 done")
        fleet.file.write_text(fleet.file.read_text().replace('healthy_deadline = "60s"', 'healthy_deadline = "2s"'))
        assert (await asyncio.to_thread(fleet.anew, "reload")).code == 0
        await user.press("colon", *"plan", "space", *"app", "space", *"3-panics", "enter")
        await user.see("→3-panics", "3 servers")
        await user.press("enter")
        await user.answer("type 3:", "3", "enter")
        await user.see("paused", "put back")
        assert "! " in user.text
        await user.press("1")
        await user.see("3 ok", "needs a look")
