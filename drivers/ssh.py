"""The one SSH session module: nothing else in anew imports asyncssh.

Rules
- asyncssh's defaults are a person's, not a daemon's: no config file, no agent, no GSS, no X.509, no
  passwords, no SCP. 2.24.1 is the oldest release without the known faults.
- A session passes on the pinned host key only, type included; any other key ends it before authentication,
  and the error names both fingerprints. Other key types are negotiated only so that the error can name what
  was shown.
- Known hosts are parsed once a server and passed as a value: a path would be read again for every connection.
- One warm connection per server, address and user; commands are channels of it. A command that does not end
  in time takes its connection with it, since a half-open one looks the same. At most 256 stay warm, 48 shake
  hands at a time.
- What a server says is bytes, capped. Only `Transient`, `Permanent` and `Refused` leave; their texts are
  plain ASCII where a server had a word in them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import asyncssh

from fleet.core.errors import AnewError, Permanent, Transient

HANDSHAKES = 48
WARM = 256
OUTPUT_CAP = 64 * 1024

_KEX = ["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"]
_CIPHERS = ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr"]
"""dropbear has no GCM; aes128-ctr is for builds without chacha20."""
_MACS = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-256"]
_OTHER_KEYS = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "rsa-sha2-512", "rsa-sha2-256"]

logging.getLogger("asyncssh").setLevel(logging.WARNING)


class Identities(Protocol):
    """What is needed of `drivers.identity.IdentityStore`."""

    def host_public(self, server: str) -> str: ...

    def client_private_path(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Remote:
    """Whom to speak to: `server` chooses the pinned host key, the rest is where it is reached."""

    server: str
    host: str
    port: int
    user: str = "root"

    def __str__(self) -> str:
        return f"{self.server} ({self.user}@{self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is the exit code, None if a signal or the cap ended it. `output`: stdout and stderr as they
    came.
    """

    status: int | None
    output: bytes
    cut: bool = False


@dataclass(slots=True)
class _Session:
    """At most one connection; the lock is held while one is being made."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    connection: asyncssh.SSHClientConnection | None = None

    def usable(self) -> asyncssh.SSHClientConnection | None:
        return None if self.connection is None or self.connection.is_closed() else self.connection


class _Client(asyncssh.SSHClient):
    """Remembers the key of a server that showed another one than the pinned."""

    def __init__(self) -> None:
        self.shown = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
        return False


class SshSessions:
    """Warm, pinned sessions to servers. Made on an event loop's thread, closed with `close`."""

    def __init__(self, identities: Identities, *, handshakes: int = HANDSHAKES, warm: int = WARM) -> None:
        self._identities = identities
        self._shaking = asyncio.Semaphore(handshakes)
        self._warm = warm
        self._sessions: OrderedDict[Remote, _Session] = OrderedDict()
        self._pinned: dict[str, asyncssh.SSHKey] = {}
        self._options: asyncssh.SSHClientConnectionOptions | None = None

    async def run(self, remote: Remote, command: str, deadline: float, cap: int = OUTPUT_CAP) -> Answer:
        """Run one command and wait for its end.

        `deadline` in seconds covers connecting too. More output than `cap` bytes ends the command:
        `Answer.cut`. Raises Transient if the server could not be reached or did not end in time, Permanent
        for a host key that is not the pinned one. A connection found dead is replaced once.
        """
        session = self._session(remote)
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(deadline), _plain(remote):
                warm = session.usable()
                if warm is not None:
                    try:
                        return await _run(warm, command, cap)
                    except (asyncssh.ConnectionLost, asyncssh.ChannelOpenError, BrokenPipeError):
                        _drop(session)
                return await _run(await self._connected(remote, session), command, cap)
        except TimeoutError:
            _drop(session)
            waited = asyncio.get_running_loop().time() - begun
            raise Transient(f"no answer over SSH in {waited:.1f} s", where=str(remote)) from None

    async def close(self) -> None:
        """End every connection."""
        for session in self._sessions.values():
            _drop(session)
        self._sessions.clear()

    def _session(self, remote: Remote) -> _Session:
        session = self._sessions.setdefault(remote, _Session())
        self._sessions.move_to_end(remote)
        if len(self._sessions) > self._warm:
            self._forget_some()
        return session

    def _forget_some(self) -> None:
        """Close the longest unused ones; one that shakes hands stays."""
        for remote in list(self._sessions)[: len(self._sessions) - self._warm]:
            if not self._sessions[remote].lock.locked():
                _drop(self._sessions.pop(remote))

    async def _connected(self, remote: Remote, session: _Session) -> asyncssh.SSHClientConnection:
        async with session.lock:
            ready = session.usable()
            if ready is None:
                async with self._shaking:
                    ready = session.connection = await self._connect(remote)
            return ready

    async def _connect(self, remote: Remote) -> asyncssh.SSHClientConnection:
        pinned = self._pin(remote.server)
        client = _Client()
        try:
            return await asyncssh.connect(
                remote.host,
                remote.port,
                options=self._shared_options(),
                config=None,
                username=remote.user,
                client_factory=lambda: client,
                known_hosts=([pinned], [], []),
                server_host_key_algs=_key_types(pinned),
            )
        except asyncssh.HostKeyNotVerifiable:
            raise _other_key(remote, pinned, client.shown) from None

    def _pin(self, server: str) -> asyncssh.SSHKey:
        key = self._pinned.get(server)
        if key is None:
            try:
                key = asyncssh.import_public_key(self._identities.host_public(server))
            except asyncssh.KeyImportError as problem:
                raise Permanent(
                    "its pinned host key cannot be read; see the identities folder", where=server
                ) from problem
            self._pinned[server] = key
        return key

    def _shared_options(self) -> asyncssh.SSHClientConnectionOptions:
        """Built once: reading and preparing the client's key costs more than a command."""
        if self._options is None:
            key = asyncssh.read_private_key(self._identities.client_private_path())
            settings: dict[str, Any] = {
                "config": None,
                "client_keys": [key],
                "agent_path": None,
                "agent_forwarding": False,
                "x509_trusted_certs": None,
                "x509_trusted_cert_paths": None,
                "gss_host": None,
                "gss_kex": False,
                "gss_auth": False,
                "preferred_auth": "publickey",
                "password_auth": False,
                "kbdint_auth": False,
                "host_based_auth": False,
                "kex_algs": _KEX,
                "encryption_algs": _CIPHERS,
                "mac_algs": _MACS,
                "compression_algs": ["none"],
                "keepalive_interval": 15,
                "keepalive_count_max": 3,
                "known_hosts": b"",
                "send_env": None,
                "env": (),
                "login_timeout": 120,
            }
            self._options = asyncssh.SSHClientConnectionOptions(**settings)
        return self._options


def _key_types(pinned: asyncssh.SSHKey) -> list[str]:
    """The pinned key's own type first: a server that has that key shows it."""
    kind = pinned.get_algorithm()
    own = ["rsa-sha2-512", "rsa-sha2-256"] if kind == "ssh-rsa" else [kind]
    return own + [other for other in _OTHER_KEYS if other not in own]


def _other_key(remote: Remote, pinned: asyncssh.SSHKey, shown: str) -> Permanent:
    ours = f"{pinned.get_algorithm()} {pinned.get_fingerprint()}"
    return Permanent(
        f"its SSH host key is not the pinned one: pinned {ours}, shown "
        f"{shown or 'a key of another kind'}. Nothing was sent to it. If somebody changed the server by "
        "hand, replace it; otherwise find out who answers at that address",
        where=str(remote),
        code="host-key",
    )


async def _run(connection: asyncssh.SSHClientConnection, command: str, cap: int) -> Answer:
    process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
        command, stdin=asyncssh.DEVNULL, stderr=asyncssh.STDOUT, encoding=None, window=2 * OUTPUT_CAP
    )
    said = b""
    try:
        while len(said) <= cap and (more := await process.stdout.read(cap + 1 - len(said))):
            said += more
        if len(said) > cap:
            return Answer(None, said[:cap], cut=True)
        await process.wait_closed()
        return Answer(process.exit_status if process.exit_signal is None else None, said)
    finally:
        process.channel.abort()


def _drop(session: _Session) -> None:
    if session.connection is not None:
        session.connection.abort()
        session.connection = None


@asynccontextmanager
async def _plain(remote: Remote) -> AsyncIterator[None]:
    """Turns what asyncssh and the system raise into errors of ours."""
    try:
        yield
    except (AnewError, TimeoutError):
        raise
    except asyncssh.PermissionDenied:
        raise Transient(
            "it does not accept anew's key yet; if it never does, look at its authorized keys",
            retry_after=5.0,
            where=str(remote),
        ) from None
    except asyncssh.Error as problem:
        raise Transient(f"the SSH session failed: {problem.reason[:100]!a}", where=str(remote)) from None
    except OSError as problem:
        raise Transient(f"no SSH connection: {_why(problem)}", where=str(remote)) from None


def _why(problem: OSError) -> str:
    """The system's words: asyncio puts its own into strerror."""
    return os.strerror(problem.errno).lower() if problem.errno else "the connection was lost"
