"""What a pretended host opens to the network: its SSH port, honest or not, and a service whose banner health checks read.

The SSH server is asyncssh's, made as cheap as it goes. A stall before authentication and a connection that is cut at a byte
cannot be had from it: a plain TCP server stands in its place, or in front of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncssh

from tests.metal.evil import Evil

Serve = Callable[["asyncssh.SSHServerProcess[bytes]"], Awaitable[None]]

SERVER_OPTIONS: dict[str, Any] = {
    "config": None,
    "encoding": None,
    "kex_algs": ["curve25519-sha256"],
    "encryption_algs": ["aes128-gcm@openssh.com"],
    "compression_algs": ["none"],
    "x509_trusted_certs": None,
    "x509_trusted_cert_paths": None,
    "gss_host": None,
    "host_based_auth": False,
    "password_auth": False,
    "kbdint_auth": False,
    "line_editor": False,
    "rdns_lookup": False,
    "keepalive_interval": 0,
    "server_version": "OpenSSH_9.2p1",
    "reuse_address": True,
}


async def whole(opening: Coroutine[Any, Any, None], undo: Callable[[], None]) -> None:
    """Open, or nothing: a power cut in the middle must not leave a listener that nobody knows of."""
    task = asyncio.ensure_future(opening)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        undo()
        raise


class Doorman(asyncssh.SSHServer):
    """Lets in who may; tells the host of every connection and every key that is shown."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._user = ""
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._door.connections.add(conn)
        self._door.opened += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._door.connections.discard(self._connection)

    async def begin_auth(self, username: str) -> bool:
        self._user = username
        if self._door.evil().stall == "no-auth" and self._connection is not None:
            await self._connection.wait_closed()
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self._door.keys_shown += 1
        self._door.users.append(username)
        return not self._door.evil().refuses_key and self._door.may(username, key)


class Door:
    """One host's SSH port. `opened` counts TCP connections that asyncssh saw, `keys_shown` the tries to authenticate."""

    def __init__(self, address: str, evil: Callable[[], Evil], may: Callable[[str, asyncssh.SSHKey], bool], serve: Serve) -> None:
        self.address, self.port = address, 0
        self.evil, self.may, self._serve = evil, may, serve
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.opened = self.keys_shown = 0
        self.users: list[str] = []
        self._listening: list[asyncssh.SSHAcceptor | asyncio.Server] = []
        self._fronts: set[asyncio.Transport] = set()

    async def open(self, key: asyncssh.SSHKey) -> None:
        """Listen, on the port of the time before if there was one."""
        await whole(self._open(key), self.close)

    async def _open(self, key: asyncssh.SSHKey) -> None:
        evil = self.evil()
        if evil.stall in ("no-banner", "banner"):
            banner = b"SSH-2.0-OpenSSH_9.2p1\r\n" if evil.stall == "banner" else b""
            self._listening = [await self._plain(lambda: _Mute(self, banner))]
        elif evil.cut_after is not None or evil.flip_at is not None:
            behind = await self._ssh(key, 0)
            self._listening = [behind, await self._plain(lambda: _Front(self, (self.address, behind.get_port()), evil.cut_after, evil.flip_at))]
        else:
            acceptor = await self._ssh(key, self.port)
            self.port = acceptor.get_port()
            self._listening = [acceptor]

    async def _ssh(self, key: asyncssh.SSHKey, port: int) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            self.address, port, server_host_keys=[key], server_factory=lambda: Doorman(self), process_factory=self._serve, **SERVER_OPTIONS
        )

    async def _plain(self, factory: Callable[[], asyncio.BaseProtocol]) -> asyncio.Server:
        server = await asyncio.get_running_loop().create_server(factory, self.address, self.port, reuse_address=True)
        self.port = int(server.sockets[0].getsockname()[1])
        return server

    def hold(self, transport: asyncio.BaseTransport) -> None:
        """A connection that no SSH server holds: closed with the door."""
        assert isinstance(transport, asyncio.Transport)
        self._fronts.add(transport)
        self._fronts -= {old for old in self._fronts if old.is_closing()}

    def close(self) -> None:
        """Nobody listens any more, and who was connected is cut off without a word."""
        for listening in self._listening:
            listening.close()
        for connection in list(self.connections):
            connection.abort()
        for transport in self._fronts:
            transport.abort()
        self._listening = []
        self.connections.clear()
        self._fronts.clear()


class _Mute(asyncio.Protocol):
    """Accepts, says its banner if it has one, and never another word."""

    def __init__(self, door: Door, banner: bytes) -> None:
        self._door, self._banner = door, banner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._door.opened += 1
        self._door.hold(transport)
        transport.write(self._banner)


class _Front(asyncio.Protocol):
    """Passes bytes both ways; cuts both connections after `limit` bytes of the server's, and flips a bit of the byte `flip`."""

    def __init__(self, door: Door, behind: tuple[str, int], limit: int | None, flip: int | None) -> None:
        self._door, self._behind, self._left, self._flip = door, behind, limit, flip
        self._passed = 0
        self._early: list[bytes] = []
        self._inner: asyncio.Transport | None = None
        self._outer: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._door.hold(transport)
        self._outer = transport
        self._task = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        with contextlib.suppress(OSError):
            inner, _ = await asyncio.get_running_loop().create_connection(lambda: _Back(self.pass_out, self.cut), *self._behind)
            self._inner = inner
            for data in self._early:
                inner.write(data)

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            self._early.append(data)
        else:
            self._inner.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.cut()

    def pass_out(self, data: bytes) -> None:
        """Bytes of the server's, as many as are still let through."""
        if self._flip is not None and 0 <= self._flip - self._passed < len(data):
            garbled = bytearray(data)
            garbled[self._flip - self._passed] ^= 1 << self._flip % 8
            data = bytes(garbled)
        self._passed += len(data)
        if self._outer is None:
            return
        if self._left is None:
            self._outer.write(data)
            return
        self._outer.write(data[: max(0, self._left)])
        self._left -= len(data)
        if self._left <= 0:
            self._outer.close()

    def cut(self) -> None:
        """End both sides."""
        for transport in (self._inner, self._outer):
            if transport is not None:
                transport.abort()


class _Back(asyncio.Protocol):
    """The server's side of a front."""

    def __init__(self, heard: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._heard, self._ended = heard, ended

    def data_received(self, data: bytes) -> None:
        self._heard(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()


class Service:
    """What the host is there for: a port that says which version runs, while it runs."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self._server: asyncio.Server | None = None
        self._callers: set[asyncio.Transport] = set()

    async def open(self, words: bytes) -> None:
        """Serve."""
        await whole(self._open(words), self.close)

    async def _open(self, words: bytes) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Greeting(words, self._callers), self.address, self.port, reuse_address=True)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Serve nobody any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for caller in list(self._callers):
            caller.abort()
        self._callers.clear()


class _Greeting(asyncio.Protocol):
    def __init__(self, words: bytes, callers: set[asyncio.Transport]) -> None:
        self._words, self._callers = words, callers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._callers.add(transport)
        transport.write(self._words)

    def connection_lost(self, exc: Exception | None) -> None:
        self._callers.discard(self._transport)
