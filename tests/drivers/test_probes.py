"""Probes against real listeners on loopback that are well, sick, silent, lying and endless."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from drivers.identity import IdentityStore
from drivers.probes import agent, command, http, ssh, tcp
from drivers.probes.words import Unreachable, host_port, words
from drivers.sim import make as make_sim
from fleet.core.desired import Desired, HealthCheck, Network, Pool
from fleet.core.observed import Image, ImageRef, Seen
from fleet.ports import Birth, Driver, Operation, ProbeFactory, Surroundings
from tests.clocks import SeededRng, VirtualClock

Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
USER = Pool("web", "libvirt", 1, "web", network=Network("user", guest_port=22))
BRIDGE = replace(USER, network=Network("bridge", "br0"))


def seen(port: int, version: str = "2") -> Seen:
    return Seen("web-1", 4, "sha256:0", version, "running", 0.0, address=f"127.0.0.1:{port}")


def around(folder: Path, drivers: dict[str, Driver] | None = None) -> Surroundings:
    desired = Desired("lab", {}, {}, {}, path=str(folder / "fleet.toml"))
    return Surroundings(desired, str(folder), VirtualClock(), SeededRng(), drivers or {})


PATIENCE = 45.0


async def ask(
    factory: ProbeFactory,
    folder: Path,
    server: Seen,
    pool: Pool = USER,
    deadline: float = 5.0,
    drivers: dict[str, Driver] | None = None,
    **options: Any,
) -> tuple[bool, str]:
    """One check, whose words must be fit to show and whose deadline must hold: nobody here lets go of a check before `PATIENCE` is over."""
    async with factory(around(folder, drivers)) as probe:
        async with asyncio.timeout(PATIENCE):
            passed, said = await probe.check(pool, HealthCheck(probe.kind, options, deadline=deadline), server)
    assert said.isprintable() and 0 < len(said) <= 200
    return passed, said


@asynccontextmanager
async def listening(serve: Served) -> AsyncIterator[int]:
    acceptor = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield acceptor.sockets[0].getsockname()[1]
    finally:
        acceptor.close()


def saying(*parts: bytes, close: bool = False) -> Served:
    """A server that says this, piece by piece, and then keeps the connection or closes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            while not close and await reader.read(4096):
                pass
        except OSError:
            pass
        writer.close()

    return serve


async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(b"\x1b[31mx" * 4096)
            await writer.drain()
    except OSError:
        writer.close()


async def unused_port() -> int:
    async with listening(saying()) as port:
        return port


# -- tcp ---------------------------------------------------------------------------------------------------


async def test_tcp_reads_the_banner(tmp_path: Path) -> None:
    async with listening(saying(b"SSH-2.0-", b"dropbear_2022.83\r\nnoise")) as port:
        passed, said = await ask(tcp.make, tmp_path, seen(port), port=22, expect="SSH-")
    assert passed
    assert said.startswith("tcp 22: SSH-2.0-") and said.endswith(" ms")


async def test_tcp_connected_is_not_up(tmp_path: Path) -> None:
    """User networking accepts before the guest listens, then closes."""
    async with listening(saying(close=True)) as port:
        for expect in ("SSH-", ""):
            passed, said = await ask(tcp.make, tmp_path, seen(port), port=22, expect=expect)
            assert not passed and said.startswith("tcp 22: accepted, then closed in ")


async def test_tcp_without_banner_must_stay_open(tmp_path: Path) -> None:
    async with listening(saying()) as port:
        passed, said = await ask(tcp.make, tmp_path, seen(port), port=22)
    assert passed and said.startswith("tcp 22: stayed open in 5")


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        (saying(), "tcp 22: no answer in 3"),
        (saying(b"220 mail\r\n", close=True), "tcp 22: accepted, then closed after b'220 mail"),
        (flooding, "tcp 22: said b'\\x1b[31mx"),
        (saying(b"\x1b]0;owned\x07[/]" * 40), "tcp 22: said b'\\x1b]0;owned"),
    ],
)
async def test_tcp_sick_servers(tmp_path: Path, serve: Served, says: str) -> None:
    async with listening(serve) as port:
        passed, said = await ask(tcp.make, tmp_path, seen(port), deadline=0.3, port=22, expect="SSH-")
    assert not passed
    assert said.startswith(says)


async def test_tcp_refused_and_unknown(tmp_path: Path) -> None:
    passed, said = await ask(tcp.make, tmp_path, seen(await unused_port()), port=22, expect="SSH-")
    assert not passed and said.startswith("tcp 22: refused in ")
    nowhere = replace(seen(1), address="")
    assert not (await ask(tcp.make, tmp_path, nowhere, port=22))[0]
    assert "its address is not known yet" in (await ask(tcp.make, tmp_path, nowhere, port=22))[1]


async def test_tcp_ports_under_user_networking_and_bridges(tmp_path: Path) -> None:
    async with listening(saying(b"hello\r\n")) as port:
        passed, said = await ask(tcp.make, tmp_path, seen(port), port=8080, expect="hello")
        assert not passed and "forwards port 22 of the guest, not 8080" in said
        passed, _ = await ask(
            tcp.make, tmp_path, replace(seen(1), address="127.0.0.1:22"), BRIDGE, port=port, expect="hello"
        )
        assert passed, "a bridge has the server's own ports"


# -- http --------------------------------------------------------------------------------------------------


async def test_http_asks_and_compares_the_status(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
        writer.close()

    async with listening(serve) as port:
        at = replace(seen(1), address="127.0.0.1:22")
        passed, said = await ask(http.make, tmp_path, at, BRIDGE, port=port, path="/healthz")
        assert not passed and said.startswith(f"http {port}/healthz: status 503, not 200 in ")
        assert (await ask(http.make, tmp_path, at, BRIDGE, port=port, path="/healthz", status=503))[0]
    assert asked[0].startswith(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)
    assert b"Connection: close\r\n" in asked[0]


async def test_http_follows_nobody(tmp_path: Path) -> None:
    visited: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visited.append(b"!")
        writer.close()

    async with listening(elsewhere) as trap:
        answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\n\r\n" % trap
        async with listening(saying(answer, close=True)) as port:
            passed, said = await ask(http.make, tmp_path, seen(port), port=22)
    assert not passed and "status 302, not 200" in said
    assert not visited


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        (saying(), "no answer"),
        (saying(b" ", close=True), ("that is not HTTP: b' '", "reset")),
        (saying(b"SSH-2.0-x\r\n\r\n"), "that is not HTTP: b'SSH-2.0-x"),
        (saying(b"HTTP/1.1 200OK\r\n\r\n"), "that is not HTTP"),
        (saying(b"HTTP/1.1 200 OK\r\nX: y\r\n"), "no answer"),
        (
            saying(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 70_000),
            "the answer's head does not end within 64 KiB",
        ),
        (flooding, "the answer's head does not end within 64 KiB"),
    ],
)
async def test_http_sick_servers(tmp_path: Path, serve: Served, says: str | tuple[str, ...]) -> None:
    async with listening(serve) as port:
        passed, said = await ask(http.make, tmp_path, seen(port), deadline=0.5, port=22)
    assert not passed
    assert said.removeprefix("http 22/: ").startswith(says)


async def test_http_path_cannot_smuggle(tmp_path: Path) -> None:
    async with listening(flooding) as port:
        passed, said = await ask(http.make, tmp_path, seen(port), port=22, path="/ HTTP/1.1\r\nX: y")
    assert not passed and "must begin with a slash and have no blanks" in said


# -- ssh ---------------------------------------------------------------------------------------------------


async def test_ssh_passes_on_exit_code_0_with_the_pinned_key_only(tmp_path: Path) -> None:
    store = IdentityStore(str(tmp_path / "identities"))

    def process(channel: asyncssh.SSHServerProcess[bytes]) -> None:
        channel.stdout.write(b"\x1b[2Jdegraded\nmore")
        channel.exit(0 if channel.command == "is-well" else 3)

    async def listen(key: asyncssh.SSHKey) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[key],
            process_factory=process,
            encoding=None,
            authorized_client_keys=asyncssh.import_authorized_keys(store.client_public()),
        )

    right = await listen(asyncssh.import_private_key(store.host_private("web-1")))
    wrong = await listen(asyncssh.generate_private_key("ssh-ed25519"))
    passed, said = await ask(ssh.make, tmp_path, seen(right.get_port()), command="is-well")
    assert passed and said.startswith("ssh: exit 0: [2Jdegraded in ")
    passed, said = await ask(ssh.make, tmp_path, seen(right.get_port()), command="is-sick")
    assert not passed and said.startswith("ssh: exit 3: ")
    passed, said = await ask(ssh.make, tmp_path, seen(wrong.get_port()), command="is-well")
    assert not passed
    assert said.startswith("ssh: its SSH host key is not the pinned one: pinned ssh-ed25519 SHA256:")
    assert said.count("SHA256:") == 2, "both fingerprints fit"
    right.close()
    wrong.close()


async def test_ssh_sick_servers(tmp_path: Path) -> None:
    async with listening(saying()) as port:
        passed, said = await ask(ssh.make, tmp_path, seen(port), deadline=0.3, command="true")
    assert not passed and said.startswith("ssh: no answer over SSH")
    passed, said = await ask(ssh.make, tmp_path, seen(await unused_port()), command="true")
    assert not passed and said.startswith("ssh: no SSH connection: connection refused in ")
    assert not (await ask(ssh.make, tmp_path, replace(seen(1), address="nowhere"), command="true"))[0]


# -- agent -------------------------------------------------------------------------------------------------


async def test_agent_speaks_through_the_driver(tmp_path: Path) -> None:
    pool = Pool("web", "sim", 1, "web")
    image = Image(ImageRef("web", "2", "sha256:2"), "simulated")
    op = Operation("op", 1, "r", 60)
    async with make_sim(
        Surroundings(Desired("lab", {}, {}, {}), str(tmp_path), QuickClock(), SeededRng())
    ) as sim:
        await sim.stage(pool, image, "sim", op)
        made = await sim.birth(pool, Birth("web-1", 4, image, "sim", 0.0), op)
        passed, said = await ask(agent.make, tmp_path, made, pool, drivers={"sim": sim})
        assert not passed and said.startswith("agent: it does not answer yet in ")
        sim.world(pool).lives[("web-1", 4)].ready_at = 0.0
        passed, said = await ask(agent.make, tmp_path, made, pool, drivers={"sim": sim})
        assert passed and "counts only beside an outside check" in said
        sim.faults.fail("probe", "hang")
        assert not (await ask(agent.make, tmp_path, made, pool, deadline=0.1, drivers={"sim": sim}))[0]
        sim.faults.fail("probe", "transient")
        passed, said = await ask(agent.make, tmp_path, made, pool, drivers={"sim": sim})
        assert not passed and "fault menu" in said
    assert (await ask(agent.make, tmp_path, made, pool))[1] == "agent: the driver sim is not loaded"


class QuickClock:
    """Time stands still and every sleep is over at once."""

    def now(self) -> float:
        return 1.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


# -- command -----------------------------------------------------------------------------------------------


def script(folder: Path, text: str) -> list[str]:
    file = folder / "check.py"
    file.write_text(text)
    return [sys.executable, "-S", str(file)]


async def test_command_gets_its_words_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    argv = script(tmp_path, "import os, sys\nprint(sys.argv[1:], sorted(os.environ), os.getcwd())")
    hostile = "{name}; $(reboot)"
    passed, said = await ask(
        command.make,
        tmp_path,
        replace(seen(2201), version=hostile),
        argv=[*argv, "{name}", "at={address}", "{version}", "{other}"],
    )
    assert passed
    assert "['web-1', 'at=127.0.0.1:2201', '{name}; $(reboot)', '{other}']" in said
    assert "exit 0" in said and "SECRET" not in said
    argv = script(tmp_path, "import os\nprint(*sorted(set(os.environ) - {'LC_CTYPE'}), os.getcwd())")
    assert (
        f"exit 0: ANEW_ADDRESS ANEW_NAME ANEW_POOL ANEW_VERSION PATH {tmp_path}"[:120]
        in (await ask(command.make, tmp_path, seen(1), argv=argv))[1]
    )


async def test_command_exit_codes_signals_and_absence(tmp_path: Path) -> None:
    passed, said = await ask(command.make, tmp_path, seen(1), argv=["sh", "-c", "echo bad >&2; exit 7"])
    assert not passed and said.startswith("sh: exit 7: bad in ")
    passed, said = await ask(command.make, tmp_path, seen(1), argv=["sh", "-c", "kill -9 $$"])
    assert not passed and said.startswith("sh: signal 9 in ")
    passed, said = await ask(command.make, tmp_path, seen(1), argv=["./is-not-there"])
    assert not passed and said.startswith("is-not-there: cannot be run: no such file or directory")
    passed, said = await ask(
        command.make, tmp_path, replace(seen(1), version="a\0b"), argv=["true", "{version}"]
    )
    assert not passed and "cannot be run" in said
    assert await ask(command.make, tmp_path, seen(1)) == (False, "command: there is none")


async def test_command_in_the_fleet_files_folder(tmp_path: Path) -> None:
    check = tmp_path / "check"
    check.write_text("#!/bin/sh\nexit 0\n")
    check.chmod(0o755)
    assert (await ask(command.make, tmp_path, seen(1), argv=["./check"]))[0]


async def test_command_is_killed_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    passed, said = await ask(
        command.make,
        tmp_path,
        seen(1),
        deadline=0.5,
        argv=["sh", "-c", f"sleep 60 & echo $$ $! > {pids}; wait"],
    )
    assert not passed and said.startswith("sh: was killed: no answer in ")
    await gone(pids)


async def test_command_that_leaves_something_behind(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    passed, said = await ask(
        command.make, tmp_path, seen(1), argv=["sh", "-c", f"sleep 60 & echo $! > {pids}; echo ok"]
    )
    assert passed and said.startswith("sh: exit 0: ok in ")
    await gone(pids)


async def test_command_output_is_capped(tmp_path: Path) -> None:
    code, output = await command.run(["sh", "-c", "head -c 1000000 /dev/zero"], {"PATH": os.defpath}, "/", 10)
    assert (code, len(output)) == (0, 65536)
    passed, _ = await ask(command.make, tmp_path, seen(1), deadline=0.3, argv=["yes"])
    assert not passed


async def gone(pids: Path) -> None:
    """Every process named in the file ends (or is only waiting for its parent's look)."""
    named = pids.read_text().split()
    async with asyncio.timeout(60):
        while any(alive(int(pid)) for pid in named):
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- words -------------------------------------------------------------------------------------------------


def test_words_are_one_printable_line() -> None:
    assert words("a\x1b]0;x\x07\n\u202eb\tc") == "a]0;x b c"
    assert len(words("x" * 10**6)) == 200


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:22", ("127.0.0.1", 22)),
        ("[::1]:2201", ("::1", 2201)),
        ("kvm1.lan:65535", ("kvm1.lan", 65535)),
    ],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert host_port(address) == parts


@pytest.mark.parametrize(
    "address", ["", "host", ":22", "host:", "host:0", "host:65536", "host:²", "a\x1b:22", "h:-1"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(Unreachable):
        host_port(address)
