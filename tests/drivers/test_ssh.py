"""SSH sessions against servers in this process that are right, wrong, silent, endless or cut short."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from drivers.identity import IdentityStore
from drivers.ssh import Remote, SshSessions
from fleet.core.errors import Permanent, Transient


class Watched(asyncssh.SSHServer):
    """Counts what reaches it."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._seen.append("connection")

    def begin_auth(self, username: str) -> bool:
        self._seen.append(f"auth {username}")
        return True


async def answer(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """The commands of the pretended server."""
    command = process.command or ""
    if command == "flood":
        for _ in range(400):
            process.stdout.write(b"x" * 65536)
            await process.stdout.drain()
    elif command == "hang":
        await asyncio.get_running_loop().create_future()
    elif command == "both":
        process.stdout.write(b"out ")
        process.stderr.write(b"err")
    elif command == "hostile":
        process.stdout.write(b"\x1b]0;owned\x07[/]\n")
    process.exit(3 if command == "fail" else 0)


async def careful(process: asyncssh.SSHServerProcess[bytes]) -> None:
    try:
        await answer(process)
    except (asyncssh.Error, OSError):
        process.close()


@asynccontextmanager
async def server(
    store: IdentityStore, seen: list[str], host_keys: list[asyncssh.SSHKey] | None = None, **more: object
) -> AsyncIterator[int]:
    keys = host_keys or [asyncssh.import_private_key(store.host_private("web-1"))]
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=lambda: Watched(seen),
        server_host_keys=keys,
        encoding=None,
        authorized_client_keys=asyncssh.import_authorized_keys(store.client_public()),
        process_factory=careful,
        **more,
    )
    try:
        yield acceptor.get_port()
    finally:
        acceptor.close()


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(str(tmp_path / "identities"))


@pytest.fixture
async def sessions(store: IdentityStore) -> AsyncIterator[SshSessions]:
    made = SshSessions(store)
    yield made
    await made.close()


def remote(port: int) -> Remote:
    return Remote("web-1", "127.0.0.1", port)


async def test_commands_share_one_warm_connection(store: IdentityStore, sessions: SshSessions) -> None:
    seen: list[str] = []
    async with server(store, seen) as port:
        first, *rest = await asyncio.gather(*(sessions.run(remote(port), "true", 10) for _ in range(5)))
        assert (first.status, first.output) == (0, b"")
        assert all(one.status == 0 for one in rest)
        assert (await sessions.run(remote(port), "fail", 10)).status == 3
        both = await sessions.run(remote(port), "both", 10)
        assert (both.output, both.errors) == (b"out ", b"err")
    assert seen.count("connection") == 1
    assert seen.count("auth root") == 1


async def test_another_host_key_stops_before_authentication(
    store: IdentityStore, sessions: SshSessions
) -> None:
    seen: list[str] = []
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    async with server(store, seen, [stranger]) as port:
        with pytest.raises(Permanent) as caught:
            await sessions.run(remote(port), "true", 10)
    pinned = asyncssh.import_public_key(store.host_public("web-1"))
    assert pinned.get_fingerprint() in caught.value.message
    assert stranger.get_fingerprint() in caught.value.message
    assert "replace it" in caught.value.message
    assert "web-1" in caught.value.where
    assert seen == ["connection"], "authentication must not begin"


async def test_a_host_key_of_another_type_is_named_and_refused(
    store: IdentityStore, sessions: SshSessions
) -> None:
    seen: list[str] = []
    stranger = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    async with server(store, seen, [stranger]) as port:
        with pytest.raises(Permanent, match="ecdsa-sha2-nistp256 SHA256:"):
            await sessions.run(remote(port), "true", 10)
    assert seen == ["connection"]


async def test_the_pinned_key_passes_among_others(store: IdentityStore, sessions: SshSessions) -> None:
    keys = [
        asyncssh.generate_private_key("ecdsa-sha2-nistp256"),
        asyncssh.import_private_key(store.host_private("web-1")),
    ]
    async with server(store, [], keys) as port:
        assert (await sessions.run(remote(port), "true", 10)).status == 0


async def test_a_server_that_offers_what_dropbear_offers(store: IdentityStore, sessions: SshSessions) -> None:
    async with server(
        store,
        [],
        kex_algs=["curve25519-sha256"],
        encryption_algs=["chacha20-poly1305@openssh.com"],
        mac_algs=["hmac-sha2-256"],
    ) as port:
        assert (await sessions.run(remote(port), "true", 10)).status == 0
    async with server(
        store,
        [],
        kex_algs=["curve25519-sha256@libssh.org"],
        encryption_algs=["aes128-ctr"],
        mac_algs=["hmac-sha2-256"],
    ) as port:
        assert (await sessions.run(remote(port), "true", 10)).status == 0


async def test_a_client_key_not_accepted_may_be_accepted_later(
    store: IdentityStore, sessions: SshSessions, tmp_path: Path
) -> None:
    other = IdentityStore(str(tmp_path / "others"))
    keys = [asyncssh.import_private_key(store.host_private("web-1"))]
    async with server(other, [], keys) as port:
        with pytest.raises(Transient, match="does not accept anew's key"):
            await sessions.run(remote(port), "true", 10)


async def test_endless_output_is_cut(store: IdentityStore, sessions: SshSessions) -> None:
    async with server(store, []) as port:
        flooded = await sessions.run(remote(port), "flood", 10, cap=1000)
        assert (flooded.status, flooded.cut, len(flooded.output)) == (None, True, 1000)
        assert (await sessions.run(remote(port), "true", 10)).status == 0


async def test_a_command_without_end_takes_its_connection_with_it(
    store: IdentityStore, sessions: SshSessions
) -> None:
    seen: list[str] = []
    async with server(store, seen) as port:
        assert (await sessions.run(remote(port), "true", 10)).status == 0
        with pytest.raises(Transient, match="no answer over SSH in"):
            await sessions.run(remote(port), "hang", 0.3)
        assert (await sessions.run(remote(port), "true", 10)).status == 0
    assert seen.count("connection") == 2


async def test_a_connection_that_died_unseen_is_replaced_once(
    store: IdentityStore, sessions: SshSessions
) -> None:
    seen: list[str] = []
    async with server(store, seen) as port, proxy(port) as (front, cut):
        assert (await sessions.run(remote(front), "true", 10)).status == 0
        cut()
        assert (await sessions.run(remote(front), "true", 10)).status == 0
    assert seen.count("connection") == 2


async def test_nobody_there(sessions: SshSessions) -> None:
    acceptor = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = acceptor.sockets[0].getsockname()[1]
    with pytest.raises(Transient):
        await sessions.run(remote(port), "true", 10)
    acceptor.close()
    await acceptor.wait_closed()
    with pytest.raises(Transient, match="refused"):
        await sessions.run(remote(port), "true", 10)


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-stalled\r\n", b"SSH-2.0-x\r\n\x00\x00\x05\xdc\x0a\x14"])
async def test_a_stalled_handshake_ends_in_time_and_leaves_nothing(
    store: IdentityStore, sessions: SshSessions, said: bytes
) -> None:
    closed = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        try:
            while await reader.read(4096):
                pass
        except ConnectionResetError:
            pass
        closed.set()
        writer.close()

    async with raw(stall) as port:
        async with asyncio.timeout(60):
            with pytest.raises(Transient, match=r"no answer over SSH in \d+\.\d s") as caught:
                await sessions.run(remote(port), "true", 0.3)
        assert float(caught.value.message.split(" in ")[1].split()[0]) >= 0.3
        async with asyncio.timeout(60):
            await closed.wait()


@pytest.mark.parametrize(
    "noise",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-1.5-old\r\n",
        b"\xff" * 70000,
        b"SSH-2.0-x\r\n" + b"\xff" * 4096,
    ],
)
async def test_noise_is_an_error_of_ours(sessions: SshSessions, noise: bytes) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(noise)
        await asyncio.wait([asyncio.ensure_future(reader.read())], timeout=1)
        writer.close()

    async with raw(shout) as port:
        with pytest.raises(Transient) as caught:
            await sessions.run(remote(port), "true", 3)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("after", [0, 1, 30, 300, 900, 1500, 2500])
async def test_cut_at_byte(store: IdentityStore, sessions: SshSessions, after: int) -> None:
    """Wherever the server's bytes end, the answer is an error of ours, and the next try works."""
    async with server(store, []) as port, proxy(port, after) as (front, _):
        with pytest.raises(Transient):
            await sessions.run(remote(front), "both", 10)
    async with server(store, []) as port:
        assert (await sessions.run(remote(port), "true", 10)).status == 0


async def test_many_servers_do_not_keep_every_connection(store: IdentityStore) -> None:
    seen: list[str] = []
    few = SshSessions(store, warm=2)
    async with server(store, seen) as port:
        for user in ("a", "b", "c", "a"):
            assert (await few.run(Remote("web-1", "127.0.0.1", port, user), "true", 10)).status == 0
    await few.close()
    assert seen.count("connection") == 4, "a's first connection was closed to make room"


async def test_no_descriptor_is_left(store: IdentityStore) -> None:
    before = len(os.listdir("/proc/self/fd"))
    mine = SshSessions(store)
    async with server(store, []) as port:
        for _ in range(3):
            with pytest.raises(Transient):
                await mine.run(remote(port), "hang", 0.2)
    await mine.close()
    async with asyncio.timeout(60):
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)


Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw(serve: Served) -> AsyncIterator[int]:
    """A server that is no SSH server."""
    acceptor = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield acceptor.sockets[0].getsockname()[1]
    finally:
        acceptor.close()


@asynccontextmanager
async def proxy(port: int, after: int | None = None) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A TCP proxy that cuts the server's bytes after `after` of them, or when told."""
    open_now: list[asyncio.StreamWriter] = []

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, left: int | None) -> None:
        try:
            while more := await source.read(65536 if left is None else min(left, 65536)):
                sink.write(more)
                await sink.drain()
                left = None if left is None else left - len(more)
                if left == 0:
                    break
        except OSError:
            pass
        finally:
            for writer in open_now:
                writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to = await asyncio.open_connection("127.0.0.1", port)
        open_now.extend((writer, to))
        if after == 0:
            cut()
            return
        await asyncio.gather(pump(behind, writer, after), pump(reader, to, None))

    def cut() -> None:
        for writer in open_now:
            writer.transport.abort()
        open_now.clear()

    async with raw(serve) as front:
        yield front, cut
        cut()
