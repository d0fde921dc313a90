"""Two people at two real terminals, different users to the kernel, on one real daemon: the seat, the pause, and a terminal that stands still."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engine.daemons import FLEET, Home, until
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two people")

ANA, BEN = 1, 6
"""Users that every Debian has: daemon and man. They are ana and ben in these stories."""
SHARED = "nogroup"
ACCESS = """
[access]
operators = ["user:daemon", "user:man"]
"""
SLOW = FLEET.replace('promotion = "auto"', 'promotion = "manual"') + ACCESS


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        os.chmod(folder, 0o755)
        made = Home(Path(folder), SLOW)
        made.more = ("--group", SHARED)
        try:
            made.start()
            made.roll("1")
            until(lambda: made.ended() == "done", "the pool is born")
            yield made
        finally:
            made.close()


@asynccontextmanager
async def seated(home: Home, uid: int) -> AsyncIterator[Terminal]:
    """A terminal of that user, with the fleet on its screen."""
    folder = home.folder / f"home-{uid}"
    folder.mkdir()
    os.chown(folder, uid, uid)
    async with Terminal(home.folder / "s", folder, (132, 40), by=("setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={SHARED}")) as terminal:
        await terminal.until(lambda: "lately" in terminal.text and "changed" in terminal.text, "the fleet")
        yield terminal


async def do(terminal: Terminal, keys: bytes, *seen: str) -> None:
    """Press keys, and wait until something new says so."""
    start = len(terminal.output)
    terminal.type(keys)
    await shows(terminal, start, *seen)


async def shows(terminal: Terminal, start: int, *seen: str) -> None:
    """Wait until words are on the screen that were not written there before."""
    await terminal.until(lambda: all(words in " ".join(terminal.since(start).split()) for words in seen), str(seen))


async def soon(true: Callable[[], Any], what: str) -> None:
    await asyncio.to_thread(until, true, what)


def roles(home: Home) -> dict[str, str]:
    return {row["user"]: row["role"] for row in home.client.get("/v1/status")["people"]}


def state(home: Home) -> str:
    rollout = home.rollout()
    return str(rollout["state"]) if rollout else ""


async def answer(terminal: Terminal, question: str, keys: bytes) -> None:
    """Answer once the dead time of the question is over."""
    await terminal.until(lambda: question in terminal.text, question)
    await terminal.rest(time.monotonic() + 0.35)
    terminal.type(keys)


async def start(terminal: Terminal) -> None:
    """The driver starts a rollout of the pool to 2."""
    await do(terminal, b":plan web 2\r", "nothing has happened yet")
    terminal.type(b"\r")
    await answer(terminal, "Replace 3 servers? type 3:", b"3\r")


async def test_both_see_each_other_one_drives_and_both_can_stop_it(home: Home) -> None:
    async with seated(home, ANA) as ana, seated(home, BEN) as ben:
        await soon(lambda: roles(home) == {"daemon": "co-driver", "man": "co-driver"}, "both are here")
        await ana.until(lambda: "daemon, man" in ana.text, "ana sees ben")
        await ben.until(lambda: "man, daemon" in ben.text, "ben sees ana")
        people = home.client.get("/v1/status")["people"]
        assert {row["terminal"].partition("/")[0] for row in people} == {"pts"} and len({row["terminal"] for row in people}) == 2

        await do(ana, b"A", "in the driver's seat")
        await ben.until(lambda: "daemon*" in ben.text, "the driver is marked on ben's screen")
        await do(ben, b"A", "has the driver's seat and alone starts things: T asks for it.")
        await do(ben, b":plan web 2\r", "nothing has happened yet")
        await do(ben, b"\r", "has the driver's seat, and alone starts things: T asks for it.")
        assert not [event for event in home.events() if event["type"] == "rollout-started"][1:], "only the birth"

        await start(ana)
        await soon(lambda: state(home) == "awaiting-promotion", "the canary is proved")
        await do(ben, b"5", "budget")
        await do(ben, b"P", "is paused")
        assert state(home) == "paused"
        await ana.until(lambda: "paused by man@pts/" in " ".join(ana.text.split()), "ana sees who paused it")
        await do(ben, b"P", "alone starts things: T asks for it.")

        await do(ben, b"T", "is asked for the driver's seat")
        await ana.until(lambda: "asks for the driver's seat: T answers." in " ".join(ana.text.split()), "ana is asked")
        ana.type(b"T")
        await answer(ana, "any other key keeps it. y:", b"y")
        await ben.until(lambda: "You have the driver's seat." in ben.text, "ben is told")
        await soon(lambda: roles(home) == {"daemon": "co-driver", "man": "driver"}, "the seat changed hands")
        on_ana, on_ben = len(ana.output), len(ben.output)
        ben.type(b"P")
        await answer(ben, "to go? y:", b"y")
        await shows(ana, on_ana, "waits for you, 1 of 3 done")
        await shows(ben, on_ben, "waits for you, 1 of 3 done")
        await do(ana, b"P", "is paused")
        assert state(home) == "paused"
        await do(ana, b"mlooks fine to me\r", "noted")
        await ben.until(lambda: "looks fine to me" in ben.text, "everybody reads everybody's remarks")


async def test_a_driver_that_stands_still_or_dies_holds_nobody_up(home: Home) -> None:
    async with seated(home, ANA) as ana, seated(home, BEN) as ben:
        await do(ana, b"A", "in the driver's seat")
        await start(ana)
        await soon(lambda: state(home) == "awaiting-promotion", "the canary is proved")
        assert ana.child is not None
        ana.child.send_signal(19)
        rollout = home.rollout()
        assert rollout is not None
        await do(ben, b"5", "budget")
        await do(ben, b"P", "is paused")
        for number in range(200):
            await asyncio.to_thread(home.client.command, "remark", text=f"nobody reads this at ana's terminal {number}")
        await do(ben, b"T", "is asked for the driver's seat")
        ana.child.send_signal(9)
        await ben.until(lambda: "You have the driver's seat." in ben.text, "the seat of a dead terminal falls to who asked")
        await soon(lambda: roles(home) == {"man": "driver"}, "ana is gone")
        await do(ben, b"A", "Armed for ten minutes")
        before = len(ben.output)
        ben.type(b"P")
        await answer(ben, "to go? y:", b"y")
        await shows(ben, before, "waits for you, 1 of 3 done")
        ben.type(b"c")
        await answer(ben, "Promote: let", b"y")
        await soon(lambda: home.ended() == "done", "it ends")
