"""The terminal UI on a daemon of another machine, and the way there: two people, a connection that is cut and comes back, one that stands still."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from drivers import forward
from fleet.api.client import Client, DaemonUnreachable
from fleet.core.errors import AnewError
from tests.cli.running import PROGRAM
from tests.engine.daemons import until
from tests.metal.sshd import Sshd, key, sshd
from tests.remote.far import SFTP, Far, far
from tests.tui.terminal import DEADLINE, Terminal

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's SSH server lets several people in")


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    with far() as made:
        monkeypatch.setenv("PATH", made.surroundings()["PATH"])
        yield made


def screen(control: Far, size: tuple[int, int] = (132, 40)) -> AbstractAsyncContextManager[Terminal]:
    """`anew --on control` at a terminal."""
    command = (sys.executable, "-c", PROGRAM, "--on", "control", "--socket", control.socket)
    return Terminal(Path(), control.person, size, command=command, PATH=control.surroundings()["PATH"])


def people(control: Far) -> list[tuple[str, str, str]]:
    return [(row["user"], row["terminal"], row["role"]) for row in control.home.client.get("/v1/status")["people"]]


def sessions(server: Sshd) -> list[int]:
    """The processes of an SSH server that hold somebody's connection."""
    return [int(child) for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]


def listens(port: int) -> bool:
    """Whether any process still has a socket there that listens: one of sshd's that was just forked has its parent's, and may outlive it."""
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as sshd does
        try:
            found.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


async def test_two_terminals_over_ssh_are_two_people(control: Far) -> None:
    with control.sshd():
        async with screen(control) as one, screen(control) as other:
            await one.until(lambda: "lately" in one.text and "lately" in other.text, "the fleet, twice")
            await asyncio.to_thread(until, lambda: len(people(control)) == 2, "both are here")
            assert {user for user, _, _ in people(control)} == {"root"}
            assert all(terminal.startswith("ssh:") and "/pts/" in terminal for _, terminal, _ in people(control))
            one.type(b"A")
            await one.until(lambda: "in the driver's seat" in one.text, "the seat is taken")
            await other.until(lambda: "root*" in other.text, "the driver is marked on the other screen")
            other.type(b"A")
            await other.until(lambda: "has the driver's seat and alone starts things" in other.text, "it is the other's")
            assert [role for _, _, role in people(control)] == ["driver", "co-driver"]
            one.type(b"q")
            async with asyncio.timeout(DEADLINE):
                while "`anew --on control` shows it again" not in one.text:
                    await asyncio.sleep(0.005)
            await asyncio.to_thread(until, lambda: [role for _, _, role in people(control)] == ["co-driver"], "the seat is lost with its terminal")


async def test_a_connection_that_is_cut_comes_back(control: Far) -> None:
    with control.sshd() as server:
        async with screen(control, (80, 24)) as terminal:
            await terminal.until(lambda: "lately" in terminal.text, "the fleet")
            cut = len(terminal.output)
            for session in sessions(server):
                os.kill(session, signal.SIGKILL)
            control.home.client.command("server.hold", server="web-2", why="while you were away")
            await terminal.until(lambda: "while you were away" in terminal.since(cut), "what happened meanwhile")
        assert server.log().count("Accepted publickey") >= 2


async def test_why_there_is_no_way_is_on_the_screen_and_it_can_be_left(control: Far) -> None:
    async with AsyncExitStack() as stack:
        with control.sshd() as server:
            port = server.port
            shown = await stack.enter_async_context(screen(control, (80, 24)))
            await shown.until(lambda: "lately" in shown.text, "the fleet")
            left = sessions(server)
        for session in left:
            os.kill(session, signal.SIGKILL)
        await shown.until(lambda: "no SSH connection: connection refused" in shown.text, "why")
        before = len(shown.output)
        await asyncio.to_thread(until, lambda: not listens(port), "the last process of the first server lets go of the port")
        other = key(control.folder, "another")
        with sshd(control.folder / "impostor", None, port=port, more=SFTP, authorized=f"{control.public}\n") as impostor:  # type: ignore[arg-type]
            assert other != impostor.host_key
            await shown.until(lambda: "its host key has CHANGED" in shown.since(before), "somebody else answers")
            assert "Accepted publickey" not in impostor.log()
        shown.type(b"\x03")
        shown.type(b"q")
        await asyncio.to_thread(shown.child.wait, DEADLINE)  # type: ignore[union-attr]


def test_a_connection_that_stands_still_is_given_up_and_made_anew(control: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    with control.sshd() as server:
        way = forward.attach("control", control.socket)
        client = Client(way.socket, "", way.name, way.trouble)
        assert client.get("/v1/status")["fleet"] == "real"
        stopped = sessions(server)
        for session in stopped:
            os.kill(session, signal.SIGSTOP)
        try:
            with monkeypatch.context() as impatient, pytest.raises(DaemonUnreachable, match="no answer over SSH in"):
                impatient.setattr(forward, "OPEN_SECONDS", 0.5)  # for what cannot be answered at all: a login takes what it takes
                client.get("/v1/status")
            assert client.get("/v1/status")["fleet"] == "real", "a new connection, beside the one that stands still"
            assert way.trouble() == ""
        finally:
            for session in stopped:
                os.kill(session, signal.SIGKILL)


def test_a_daemon_that_ends_and_comes_back(control: Far) -> None:
    with control.sshd():
        way = forward.attach("control", control.socket)
        client = Client(way.socket, "", way.name, way.trouble)
        assert client.get("/v1/status")
        control.home.stop()
        with pytest.raises(DaemonUnreachable, match="no daemon answers at .* there"):
            client.get("/v1/status")
        control.home.start()
        assert client.get("/v1/status")["fleet"] == "real"


def test_a_refused_login_is_not_tried_again_at_once(control: Far) -> None:
    with control.sshd() as server:
        way = forward.attach("control", control.socket)
        client = Client(way.socket, "", way.name, way.trouble)
        (server.folder / "authorized").write_text("")
        for session in sessions(server):
            os.kill(session, signal.SIGKILL)
        for _ in range(5):
            with pytest.raises(DaemonUnreachable):
                client.get("/v1/status")
        assert "accepts none of your keys" in way.trouble()
        assert server.log().count("Connection closed by authenticating user") + server.log().count("Failed publickey") <= 2


ELSEWHERE = """
import socket, sys
there = socket.socket(socket.AF_UNIX)
there.settimeout(60)
there.connect(sys.argv[1])
try:
    there.sendall(b"GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(len(there.recv(10)))
except (ConnectionResetError, BrokenPipeError):
    print(0)
"""


def test_no_other_process_rides_on_the_connection(control: Far) -> None:
    with control.sshd():
        way = forward.attach("control", control.socket)
        handle = way.socket.rpartition("/")[2]
        assert not os.path.exists(os.readlink(way.socket).removesuffix(" (deleted)")), "it has no name"
        done = subprocess.run([sys.executable, "-c", ELSEWHERE, f"/proc/{os.getpid()}/fd/{handle}"], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "0\n"
        assert Client(way.socket).get("/v1/status")["fleet"] == "real", "this process is answered"


def test_a_server_that_speaks_no_ssh(control: Far) -> None:
    with control.sshd() as server, socket.create_server(("127.0.0.1", 0)) as liar:
        impostor = replace(server, port=liar.getsockname()[1])
        control.know(impostor, impostor.host_key)
        control.configure(impostor)

        def lie() -> None:
            taken, _ = liar.accept()
            with taken, suppress(OSError):
                taken.sendall(b"SSH-2.0-x\r\n" + bytes(range(256)) * 16)
                taken.recv(4096)

        thread = threading.Thread(target=lie, daemon=True)
        thread.start()
        with pytest.raises(AnewError) as told:
            forward.attach("control", control.socket)
        thread.join(DEADLINE)
    assert told.value.exit_code == 6 and str(told.value).isprintable()
