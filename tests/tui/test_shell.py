"""The key e: from the UI into a real sshd and back, through a real terminal and a real daemon."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivers.identity import IdentityStore
from tests.engine.daemons import Home, until
from tests.metal.sshd import Sshd, key, sshd
from tests.ports import free_port
from tests.tui.glass import Glass
from tests.tui.stage import session
from tests.tui.terminal import CHILD, DEADLINE, ROOT, Terminal

PROMPT = """ForceCommand if [ -n "$SSH_ORIGINAL_COMMAND" ]; then exec sh -c "$SSH_ORIGINAL_COMMAND"; else exec env PS1='at rack1> ' ENV= sh -i; fi"""
"""A shell whose prompt a test can wait for, whatever the user's start-up files are."""
HEAD = """
[fleet]
name = "racks"
[images.web]
path = "images"
[images.app]
simulated = ["1"]
[pools.app]
driver = "sim"
servers = 1
image = "app"
mode = "manual"
[pools.web]
driver = "baremetal"
machines = ["rack1", "other", "behind", "far", "unpinned"]
image = "web"
mode = "manual"
[[pools.web.health]]
tcp = {{ port = {port}, expect = "SSH-" }}
"""
MACHINE = '[machines.{name}]\naddress = "{address}"\nport = {port}\nuser = "{user}"\n{more}\n'


@dataclass
class Rack:
    """A daemon, and the sshd behind all its machines: `rack1` is it, `other` has another key pinned, `behind` and `far` are reached
    through rack1 and other."""

    home: Home
    server: Sshd

    def events(self, kind: str, server: str) -> list[dict[str, Any]]:
        return [event for event in self.home.events() if event["type"] == kind and event["server"] == server]


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    with tempfile.TemporaryDirectory(prefix="anew-") as name:
        folder = Path(name)
        (folder / "images").mkdir()
        (folder / "state").mkdir(mode=0o700)
        wrong = key(folder, "wrong")
        store = IdentityStore(str(folder / "state" / "identities"))
        port = free_port()
        with sshd(folder / "host", store, port=port, more="".join(f"ListenAddress 127.0.0.{last}:{port}\n" for last in (2, 3, 4, 5)) + PROMPT) as server:
            pins = {"rack1": ("127.0.0.1", f'host_key = "{server.host_key}"'), "other": ("127.0.0.2", f'host_key = "{wrong}"'),
                    "behind": ("127.0.0.3", f'host_key = "{server.host_key}"\njump = "rack1"'), "far": ("127.0.0.5", f'host_key = "{server.host_key}"\njump = "other"'),
                    "unpinned": ("127.0.0.4", "")}
            machines = "".join(MACHINE.format(name=name, address=address, port=server.port, user=server.user, more=more) for name, (address, more) in pins.items())
            home = Home(folder, HEAD.format(port=server.port) + machines)
            try:
                home.start()
                until(lambda: set(home.pool()["unreachable"]) == {"other", "far", "unpinned"}, "the daemon's own first logins are over", DEADLINE)
                yield Rack(home, server)
            finally:
                home.close()


class Sitting:
    """Somebody at a terminal, and what is on it."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal, self.glass, self._read = terminal, Glass(*terminal.size), 0

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

    async def arm(self) -> None:
        await self.do(b"A", "ARMED", "every change still asks first")

    async def run(self, command: bytes, answer: str) -> None:
        """A line for the shell on the server, and what it answers."""
        start = len(self.terminal.output)
        self.terminal.type(command + b"\r")
        await self.terminal.until(lambda: answer in self.terminal.since(start), answer)

    async def ask_for(self, server: str) -> None:
        """To the question whether to log in."""
        await self.do(f":{server}\r".encode(), f"› {server} ──")
        await self.arm()
        await self.do(b"e", f"A shell taints {server}", f"Log in to {server}? y:")
        await self.terminal.quiet(0.4)  # the dead time of a question

    async def log_in(self, server: str) -> None:
        """To the shell's first prompt."""
        await self.ask_for(server)
        await self.do(b"y", "at rack1> ")


@asynccontextmanager
async def sitting(rack: Rack, path: str = os.environ["PATH"], **options: str) -> AsyncIterator[Sitting]:
    with tempfile.TemporaryDirectory(dir=rack.home.folder) as name:
        folder = Path(name)
        async with Terminal(rack.home.folder / "s", folder, (100, 30), options, TMPDIR=name, PATH=path) as terminal:
            one = Sitting(terminal)
            await terminal.until(lambda: "lately" in one.look() and "rack" in one.look(), "the fleet")
            yield one
            assert not list(folder.glob("anew-shell-*")), "what ssh was told lies about"


async def test_in_and_back_with_everything_journalled(rack: Rack) -> None:
    async with sitting(rack) as one:
        await one.log_in("rack1")
        tainted, = rack.events("server-tainted", "rack1")
        assert tainted["data"]["why"].startswith(f"shell by {tainted['actor']}, 20") and tainted["data"]["why"].endswith("Z"), "who, and when"
        await one.run(b"echo in''side $((40+2))", "inside 42")
        await one.run(b"echo be''fore; sleep 300", "before")
        await one.run(b"\x03", "at rack1> ")
        await one.run(b"", "at rack1> ")
        await one.do(b"exit 7\r", "The shell on rack1 ended with exit status 7. Read-only again.")
        await one.terminal.until(lambda: rack.events("shell-ended", "rack1"), "its end in the journal")
        assert rack.events("shell-ended", "rack1")[0]["data"] == {"words": "The shell on rack1 ended with exit status 7."}
        assert "shell by" in one.look() and "due for replacement" in one.look(), "the server's screen says it"
        await one.do(b"e", "Read-only: press A")
        await one.do(b"2", "tainted: shell by")
        await one.do(b"1", "tainted: shell by")
        assert rack.home.client.get("/v1/status")["people"][0]["role"] == "driver", "the seat was kept all the while"


async def test_another_host_key_ends_it_before_anybody_logs_in(rack: Rack) -> None:
    before = len(rack.server.log())
    async with sitting(rack) as one:
        await one.ask_for("other")
        await one.do(b"y", "other showed another host key than the pinned one: nobody was logged in.")
        await one.terminal.until(lambda: rack.events("shell-ended", "other"), "its end in the journal")
    assert rack.events("server-tainted", "other")
    log = rack.server.log()[before:]
    assert "Accepted" not in log and "Failed" not in log, log


async def test_through_a_jump_host_each_with_its_own_key(rack: Rack) -> None:
    async with sitting(rack) as one:
        await one.log_in("behind")
        await one.do(b"exit\r", "The shell on behind ended with exit status 0.")


async def test_a_jump_host_with_another_key_is_not_passed_through(rack: Rack) -> None:
    before = len(rack.server.log())
    async with sitting(rack) as one:
        await one.ask_for("far")
        await one.do(b"y", "far showed another host key than the pinned one, or its jump host did: nobody was logged in.")
    assert "Accepted" not in rack.server.log()[before:]


async def test_no_is_no_and_the_journal_has_nothing(rack: Rack) -> None:
    async with sitting(rack) as one:
        before = len(rack.events("server-tainted", "rack1"))
        await one.ask_for("rack1")
        await one.do(b"n", "Cancelled: nothing was done.")
        assert len(rack.events("server-tainted", "rack1")) == before


async def test_what_cannot_be_is_a_sentence_and_taints_nothing(rack: Rack) -> None:
    async with sitting(rack) as one:
        await one.ask_for("unpinned")
        await one.do(b"y", "machine unpinned has no pinned host key; run `anew machine pin unpinned`")
        await one.do(b":app-1\r", "› app-1 ──")
        await one.do(b"e", "Log in to app-1? y:")
        await one.terminal.quiet(0.4)
        await one.do(b"y", "app-1 is simulated: there is no machine to log in to")
    assert not rack.events("server-tainted", "unpinned") + rack.events("server-tainted", "app-1")


async def test_without_ssh_it_says_what_to_install(rack: Rack) -> None:
    async with sitting(rack, path="/nonexistent") as one:
        await one.do(b":rack1\r", "› rack1 ──")
        await one.arm()
        await one.do(b"e", "install OpenSSH's client")


async def test_the_window_may_change_and_ssh_may_be_killed_meanwhile(rack: Rack) -> None:
    async with sitting(rack) as one:
        await one.log_in("rack1")
        one.terminal.resize(120, 40)
        await one.run(b"stty size", "40 120")
        os.kill(ssh_of(one.terminal), signal.SIGKILL)
        start = one.terminal.output.rindex(b"stty size")
        one.glass, one._read = Glass(120, 40), start
        await one.terminal.until(lambda: "The shell on rack1 was ended by SIGKILL." in one.look(), "the UI is back")
        await one.do(b"2", "› servers ")
        await one.terminal.until(lambda: "› servers " + "─" * 80 in one.look(), "drawn for the new size")


async def test_a_stopped_ssh_is_woken_and_a_hang_up_ends_both(rack: Rack) -> None:
    async with sitting(rack) as one:
        await one.log_in("rack1")
        pid = ssh_of(one.terminal)
        await one.run(b"\r~\x1a", "[suspend ssh]")
        await one.run(b"echo a''wake", "awake")
        assert one.terminal.child is not None
        one.terminal.child.send_signal(signal.SIGHUP)
        assert await asyncio.to_thread(one.terminal.child.wait, DEADLINE) == -signal.SIGHUP
        until(lambda: not Path(f"/proc/{pid}").exists(), "its ssh is gone, too")
    assert rack.home.client.get("/v1/status")["fleet"] == "racks", "the daemon goes on"


async def test_the_key_of_another_machines_daemon_is_not_looked_for_here(rack: Rack) -> None:
    async with sitting(rack, on="control") as one:
        await one.ask_for("rack1")
        await one.do(b"y", "rack1 refused the login: none of your keys opens")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
async def test_in_tmux(rack: Rack) -> None:
    """tmux answers for a terminal of its own; the shell is in its pane, and the pane's size is the shell's."""
    with tempfile.TemporaryDirectory(dir=rack.home.folder) as name, ExitStack() as ends:
        inside = shlex.join([sys.executable, "-c", CHILD, str(rack.home.folder / "s"), name, "{}"])
        tmux = ("tmux", "-S", f"{name}/t", "-f", "/dev/null")
        ends.callback(subprocess.run, [*tmux, "kill-server"], check=True, timeout=DEADLINE)
        command = (*tmux, "new-session", f"env PYTHONPATH={shlex.quote(str(ROOT))} {inside}")
        async with Terminal(rack.home.folder / "s", Path(name), (100, 30), command=command) as terminal:
            one = Sitting(terminal)
            await terminal.until(lambda: "lately" in one.look() and "rack" in one.look(), "the fleet")
            await one.log_in("rack1")
            await one.run(b"stty size", "29 100")
            await one.do(b"exit 4\r", "The shell on rack1 ended with exit status 4. Read-only again.")
            await one.do(b"2", "› servers ")


async def test_what_a_server_left_switched_on_in_the_terminal_is_off_again(rack: Rack) -> None:
    """A full-screen program whose connection broke leaves a part of the screen that scrolls, and cursor addresses that count from there."""
    with tempfile.TemporaryDirectory(dir=rack.home.folder) as name, ExitStack() as ends:
        inside = shlex.join([sys.executable, "-c", CHILD, str(rack.home.folder / "s"), name, "{}"])
        tmux = ("tmux", "-S", f"{name}/t", "-f", "/dev/null")
        ends.callback(subprocess.run, [*tmux, "kill-server"], check=True, timeout=DEADLINE)
        command = (*tmux, "new-session", f"env PYTHONPATH={shlex.quote(str(ROOT))} {inside}")
        async with Terminal(rack.home.folder / "s", Path(name), (100, 30), command=command) as terminal:
            one = Sitting(terminal)
            await terminal.until(lambda: "lately" in one.look() and "rack" in one.look(), "the fleet")

            def pane() -> list[str]:
                return subprocess.run([*tmux, "capture-pane", "-p"], check=True, capture_output=True, text=True, timeout=DEADLINE).stdout.splitlines()

            await one.log_in("rack1")
            await one.run(b"printf '\\033[5;10r\\033[?6h\\033[4h\\033[?7l\\033[?25l'; echo le''ft", "left")
            terminal.type(b"exit 4\r")
            await terminal.until(lambda: any("The shell on rack1 ended" in row for row in pane()), "the UI is back")
            terminal.type(b"2")
            await terminal.until(lambda: any("› servers " in row for row in pane()), "its second screen")
            shown = pane()
            assert shown[0].startswith(" racks · ") and len(shown) == 29 and "help" in shown[-1], shown


async def test_read_only_and_where_no_terminal_can_be_lent(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2", "e")
        assert "Read-only: press A to arm for ten minutes, then e again." in user.text
        await user.arm()
        await user.press("e")
        await user.see("This is no terminal that could be lent to ssh: `anew shell ")
        assert user.app.desk.prompt is None
        assert user.daemon.commands == []


def ssh_of(terminal: Terminal) -> int:
    """The pid of the app's own ssh."""
    assert terminal.child is not None
    children = Path(f"/proc/{terminal.child.pid}/task/{terminal.child.pid}/children").read_text().split()
    pid, = (int(child) for child in children if Path(f"/proc/{child}/comm").read_text().strip() == "ssh")
    return pid
