"""A fleet file that is swapped while people give commands: what is begun is begun by one file, never by the one that was just left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.core.desired import Desired
from fleet.core.errors import Refused
from fleet.daemon import Daemon
from fleet.engine.inbox import Inbox
from fleet.engine.loop import Engine
from fleet.engine.record import Record
from tests.engine.daemons import FLEET

START = {"command": "rollout.start", "plan": {"pool": "web", "to": "1"}}
EVE = "eve@pts/2"
TURNS = 20
"""Turns of the event loop after which a command that nothing holds back has been decided."""


class Swapped(Daemon):
    """A daemon in which a test can act in the middle of a reload."""

    tried: Callable[[], None] = staticmethod(lambda: None)
    building: Callable[[], Awaitable[None]] | None = None

    def _try(self, fresh: Desired) -> None:
        super()._try(fresh)
        self.tried()

    @asynccontextmanager
    async def _machinery(self, record: Record, epoch: int) -> AsyncIterator[Engine]:
        if self.building is not None:
            await self.building()
        async with super()._machinery(record, epoch) as engine:
            yield engine


def play(folder: Path, story: Callable[[Swapped, Inbox], Awaitable[None]]) -> None:
    """A story of one daemon, whose pool was looked at."""
    (folder / "fleet.toml").write_text(FLEET, encoding="utf-8")

    async def run() -> None:
        daemon = Swapped(str(folder / "fleet.toml"), str(folder / "s"), str(folder / "state"))
        living = asyncio.create_task(daemon.run())
        while not (folder / "s").exists():
            assert not living.done(), "the daemon lives"
            await asyncio.sleep(0.01)
        await story(daemon, Inbox(daemon.engine, lambda key: (), daemon.reload, lambda: ""))
        daemon._stop()
        assert await living == 0

    asyncio.run(asyncio.wait_for(run(), 60))


def test_nothing_is_begun_by_a_file_that_is_being_left(tmp_path: Path) -> None:
    async def story(daemon: Swapped, inbox: Inbox) -> None:
        given: list[asyncio.Task[dict[str, Any]]] = []

        async def meanwhile() -> None:
            given.append(asyncio.create_task(inbox.command(EVE, START)))
            for _ in range(TURNS):
                await asyncio.sleep(0)

        daemon.building = meanwhile
        Path(daemon.fleet).write_text(FLEET.replace('"manual"', '"observe"', 1), encoding="utf-8")
        await daemon.reload("root@pts/1")
        with pytest.raises(Refused, match='is in mode "observe"'):
            await given[0]
        assert not daemon.engine().record.state.rollouts

    play(tmp_path, story)


def test_a_pool_that_began_to_roll_while_the_file_was_tried_is_not_lost(tmp_path: Path) -> None:
    async def story(daemon: Swapped, inbox: Inbox) -> None:
        loop = asyncio.get_running_loop()

        def meanwhile() -> None:
            asyncio.run_coroutine_threadsafe(inbox.command(EVE, START), loop).result(30)

        daemon.tried = meanwhile
        for change in (("[pools.web", "[pools.www"), ("servers = 3", "servers = 3\nroot = \"ephemeral\"")):
            Path(daemon.fleet).write_text(FLEET.replace(*change), encoding="utf-8")
            with pytest.raises(Refused, match="no pool web any more|makes servers as the file was"):
                await daemon.reload("root@pts/1")
            assert daemon.engine().views["web"].pool.root == "read-only"
            daemon.tried = lambda: None

    play(tmp_path, story)
