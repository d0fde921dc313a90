"""The key e: from the UI into a real sshd and back, through a real terminal and a real daemon."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drivers.identity import IdentityStore
from tests.engine.daemons import Home
from tests.metal.sshd import Sshd, key, sshd
from tests.tui.glass import Glass
from tests.tui.stage import session
from tests.tui.terminal import Terminal

FLEET = """
[fleet]
name = "racks"
[images.web]
path = "images"
[machines.rack1]
address = "127.0.0.1"
port = {port}
user = "{user}"
host_key = "{pin}"
[pools.web]
driver = "baremetal"
machines = ["rack1"]
image = "web"
mode = "manual"
[[pools.web.health]]
tcp = {{ port = {port}, expect = "SSH-" }}
"""


PROMPT = "ForceCommand env PS1='at rack1> ' ENV= sh -i"
"""A shell whose prompt a test can wait for, whatever the user's start-up files are."""


@pytest.fixture
def host() -> Iterator[tuple[Home, Sshd]]:
    """A machine that lets anew's key in, and a daemon that has it in its fleet file."""
    with tempfile.TemporaryDirectory(prefix="anew-") as name:
        folder = Path(name)
        (folder / "images").mkdir()
        (folder / "state").mkdir(mode=0o700)
        store = IdentityStore(str(folder / "state" / "identities"))
        with sshd(folder / "host", store, more=PROMPT) as server:
            home = Home(folder, FLEET.format(port=server.port, user=server.user, pin=server.host_key))
            try:
                home.start()
                yield home, server
            finally:
                home.close()


class Sitting:
    """Somebody at a terminal, and what is on it."""

    def __init__(self, terminal: Terminal, home: Home) -> None:
        self.terminal, self.home, self.glass, self._read = terminal, home, Glass(*terminal.size), 0

    def look(self) -> str:
        self.glass.feed(bytes(self.terminal.output[self._read:]))
        self._read = len(self.terminal.output)
        return self.glass.text

    async def do(self, keys: bytes, *seen: str) -> None:
        """Type, and wait until something new says so."""
        start = len(self.terminal.output)
        self.terminal.type(keys)
        for words in seen:
            await self.terminal.until(lambda words=words: words in self.terminal.since(start) or words in self.look(), words)  # type: ignore[misc]

    async def log_in(self) -> None:
        """To the shell's first prompt, by keys."""
        await self.do(b"2", "rack1")
        await self.do(b"A", "ARMED")
        await self.do(b"e", "A shell taints rack1", "Log in to rack1? y:")
        await self.terminal.quiet(0.4)  # the dead time of a question
        await self.do(b"y", "at rack1> ")

    def events(self, kind: str) -> list[dict[str, object]]:
        return [event for event in self.home.events() if event["type"] == kind]


@asynccontextmanager
async def sitting(home: Home) -> AsyncIterator[Sitting]:
    folder = home.folder / "home"
    folder.mkdir()
    async with Terminal(home.folder / "s", folder, (100, 30)) as terminal:
        one = Sitting(terminal, home)
        await terminal.until(lambda: "web" in one.look() and "lately" in one.look(), "the fleet")
        yield one


async def test_in_and_back_with_everything_journalled(host: tuple[Home, Sshd]) -> None:
    home, _ = host
    async with sitting(home) as one:
        await one.log_in()
        await one.do(b"echo in''side $((40+2))\r", "inside 42")
        tainted, = one.events("server-tainted")
        assert tainted["server"] == "rack1"
        assert str(tainted["actor"]) in str(tainted["data"]["why"]) and str(tainted["data"]["why"]).endswith("Z")  # type: ignore[index]
        await one.do(b"exit 7\r", "The shell on rack1 ended with exit status 7. Read-only again.")
        await one.terminal.until(lambda: one.events("shell-ended"), "the end in the journal")
        assert one.events("shell-ended")[0]["data"] == {"words": "The shell on rack1 ended with exit status 7."}
        assert "tainted: shell by" in one.look(), "the row of the server says it"
        await one.do(b"1", "tainted: shell by")
        await one.do(b"2\r", "due for replacement")
        await one.do(b"e", "Read-only: press A")
        assert not list(Path(tempfile.gettempdir()).glob("anew-shell-*"))
