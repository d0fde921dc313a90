"""`anew --on`: a daemon of another machine, by its Unix socket, through one SSH connection. What calls it speaks to a socket of this process.

Rules
- sshd connects to the daemon's socket as the person who logged in, one process of it for each connection. So the daemon there names people by
  uid and pid as it does at home, and nothing that is sent from here says who is calling. No program is started there.
- Host keys: only those of the known_hosts files, and host CAs there. Nobody is asked and nothing is written: who is new is met with `ssh` first.
- Keys and the agent; nothing is ever asked for, so nothing asks over a screen. A key that a passphrase locks is the agent's business (asyncssh
  would need one more library to open it).
- The socket here has no name that anybody could find, and takes connections of this process only.
- Every wait ends. A connection that was lost is made anew when somebody asks; whom the host refused is not tried again for HOLD.
- SSH has a thread and an event loop of its own: a slow link never holds up the screen.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncssh

from drivers.farsocket import UNREACHABLE, Found, look
from drivers.openssh import Settings, destination, way_of
from drivers.ssh import Client, fingerprint
from drivers.terms import NO_SSH, OPTIONS, RSA, why
from fleet.core.errors import AnewError, Refused, Transient
from fleet.core.printable import printable

CONNECT_SECONDS, OPEN_SECONDS, HOLD = 20.0, 15.0, 30.0
ALIVE_SECONDS = 15
WINDOW = 256 * 1024
PIECE = 64 * 1024
KNOWN_AT_MOST = 16 * 1024 * 1024
_OURS = ("config", "kex_algs", "encryption_algs", "mac_algs", "keepalive_interval", "known_hosts", "compression_algs", "agent_path")
_TERMS: Final = {name: value for name, value in OPTIONS.items() if name not in _OURS}
"""Of what the daemon insists on for its own machines; ciphers are left to what this person's hosts can."""
_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", *RSA)
_T = TypeVar("_T")
Trust = tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]
"""Host keys, authorities, revoked keys."""


def attach(typed: str, path: str = "") -> Forward:
    """A way to the daemon at `[user@]host[:port]`, opened; `path`: its socket there, "" to have it found. Raises what stands in the way."""
    if path and not os.path.isabs(path):
        raise Refused("with --on this names a socket on the other machine: write its whole path", where=path, code="usage")
    forward = Forward(typed, path)
    forward.begin()
    return forward


class _Hop(Client):
    """One SSH connection on the way; tells when it is gone."""

    def __init__(self, keys: list[Any], gone: Callable[[Exception | None], None]) -> None:
        super().__init__(keys)
        self._gone = gone

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone(exc)


class Forward:
    """`socket`: the path to connect to, in this process; `name`: the other machine, for people."""

    def __init__(self, typed: str, path: str) -> None:
        to = destination(typed)
        self.name = str(to)
        self._way = way_of(to)
        self._path = path
        self._found = Found(path)
        self._line: list[asyncssh.SSHClientConnection] = []
        self._held: tuple[float, AnewError] | None = None
        self._why = ""
        self._listening, self.socket = _nameless()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda loop, context: None)  # there is a screen: a fault of a connection is told by who waits for it
        self._lock = asyncio.Lock()

    def trouble(self) -> str:
        """Why there is no way at the moment, a sentence; "" if there is one."""
        return self._why

    def begin(self) -> None:
        """Log in, find the daemon's socket, and take connections to it from now on. Ctrl+c ends the wait."""
        logging.getLogger("asyncssh").setLevel(logging.CRITICAL)  # it would write over the screen
        threading.Thread(target=self._loop.run_forever, name="ssh", daemon=True).start()
        asyncio.run_coroutine_threadsafe(self._ready(), self._loop).result()

    # --- in the thread

    async def _ready(self) -> None:
        try:
            async with self._lock:
                line = await self._connected()
            self._found = await _in_time(look(line, self._path, str(self._way[-1])), OPEN_SECONDS, self._way[-1])
        except (asyncssh.Error, OSError, *NO_SSH) as problem:
            raise _plain(problem, self._way[-1]) from None
        await asyncio.start_unix_server(self._serve, sock=self._listening)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client of ours."""
        pid, _, _ = struct.unpack("3i", writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if pid != os.getpid():
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await self._channel()
        except AnewError as error:
            self._why = error.message if error.where in ("", str(self._way[-1])) else str(error)
            writer.transport.abort()
            return
        self._why = ""
        both = {asyncio.ensure_future(_copy(reader, far_writer)), asyncio.ensure_future(_copy(far_reader, writer))}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)  # HTTP of ours: who closes one direction is done
        for one in (far_writer, writer):
            with suppress(OSError, asyncssh.Error):
                one.close()
        for task in both:
            task.cancel()

    async def _channel(self) -> tuple[Any, Any]:
        async with self._lock:
            line = await self._connected()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await line.open_unix_connection(self._found.path, window=WINDOW)
        except TimeoutError:
            if self._line and self._line[-1] is line:
                self._drop()  # half open, or so slow that it is of no use: the next one who asks gets a new one
            raise _far(f"no answer over SSH in {OPEN_SECONDS:.0f} s", str(self._way[-1])) from None
        except asyncssh.ChannelOpenError:
            raise self._found.closed(str(self._way[-1])) from None
        except (asyncssh.Error, OSError, *NO_SSH) as problem:
            raise _plain(problem, self._way[-1]) from None

    async def _connected(self) -> asyncssh.SSHClientConnection:
        """The connection, made anew if it was lost. Under the lock: those who come together wait for one attempt."""
        if self._line and not self._line[-1].is_closed():
            return self._line[-1]
        if self._held is not None and self._held[0] > self._loop.time():
            raise self._held[1]  # a key that is refused every few seconds is what fail2ban waits for
        self._drop()
        patience = max(hop.patience for hop in self._way) or CONNECT_SECONDS
        line: list[asyncssh.SSHClientConnection] = []
        try:
            for hop in self._way:
                line.append(await _in_time(self._hop(hop, line[-1] if line else None), patience, hop))
            self._line, self._held = line, None
        except Refused as error:
            self._held = self._loop.time() + HOLD, error
            raise
        finally:
            if self._line is not line:
                _abort(line)
        return line[-1]

    async def _hop(self, hop: Settings, tunnel: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
        trust, (keys, locked) = _trusted(hop), _keys(hop)
        way = {"tunnel": tunnel} if tunnel else {"proxy_command": ["/bin/sh", "-c", f"exec {hop.proxy}"]} if hop.proxy else {}
        async with _agent(hop) as (first, held):
            client = _Hop([*first, *keys], lambda error: self._gone(hop, error))
            try:
                return await asyncssh.connect(
                    hop.host, hop.port, config=None, **_TERMS, **way, username=hop.user, host_key_alias=hop.alias or None, client_keys=None, agent_path=None,
                    compression_algs=["zlib@openssh.com", "none"] if hop.compressed else ["none"], keepalive_interval=hop.alive or ALIVE_SECONDS,
                    known_hosts=lambda host, address, port: trust, server_host_key_algs=_kinds(trust), client_factory=lambda: client)
            except asyncssh.HostKeyNotVerifiable as problem:
                raise _other_key(hop, trust, client.shown, problem.reason) from None
            except (asyncssh.Error, OSError, *NO_SSH) as problem:
                error = _plain(problem, hop)
                if error.code == "auth" and (asked := [path for path in locked if _public(path) not in held]):
                    raise Refused(f"{error.message}. {', '.join(asked)} is locked by a passphrase: `ssh-add {asked[0]}` first", where=str(hop), code="auth") from None
                raise error from None

    def _gone(self, hop: Settings, error: Exception | None) -> None:
        if self._line and error is not None:
            self._why = _plain(error, hop).message

    def _drop(self) -> None:
        line, self._line = self._line, []
        _abort(line)


def _abort(line: list[asyncssh.SSHClientConnection]) -> None:
    for connection in reversed(line):
        connection.abort()


def _nameless() -> tuple[socket.socket, str]:
    """A listening socket, and the path by which this process alone reaches it: its name is gone before anybody could use it, and nothing is left
    behind however this process ends.
    """
    folder = tempfile.mkdtemp(prefix="anew-on-")
    path = os.path.join(folder, "s")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        listening.listen(64)
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.unlink(path)
    finally:
        os.rmdir(folder)
    return listening, f"/proc/self/fd/{handle}"


def _keys(hop: Settings) -> tuple[list[Any], list[str]]:
    """The keys of files, and the files that are locked. What is no key, or readable for others, is passed over, as ssh does."""
    keys: list[Any] = []
    locked = []
    certificates = [path for path in hop.certificates if os.path.isfile(path)]
    for path in hop.keys:
        try:
            if not os.stat(path).st_mode & 0o077:
                keys += asyncssh.load_keypairs([path], certlist=certificates)
        except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as problem:
            if "passphrase" in str(problem).lower():
                locked.append(path)
        except (OSError, ValueError):
            continue
    return keys, locked


def _public(path: str) -> bytes:
    """The public half of a key file, b"" if it is not beside it."""
    with suppress(OSError, ValueError):
        return bytes(asyncssh.read_public_key(f"{path}.pub").public_data)
    return b""


@asynccontextmanager
async def _agent(hop: Settings) -> AsyncIterator[tuple[list[Any], set[bytes]]]:
    """The agent's keys, those of the configuration first (with IdentitiesOnly no others), and what they are. None if it does not answer."""
    named = {_public(path) for path in hop.keys} - {b""}
    if not hop.agent:
        yield [], set()
        return
    agent = asyncssh.SSHAgentClient(hop.agent)
    keys: list[Any] = []
    try:
        with suppress(OSError, ValueError, asyncssh.Error):
            keys = [key for key in await agent.get_keys() if not hop.only_these or key.public_data in named]
        yield sorted(keys, key=lambda key: key.public_data not in named), {key.public_data for key in keys}
    finally:
        agent.close()


async def _copy(reader: Any, writer: Any) -> None:
    """Until the reader ends; no more is held than the writer takes."""
    with suppress(OSError, asyncssh.Error):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()


async def _in_time(work: Coroutine[Any, Any, _T], seconds: float, hop: Settings) -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise _far(f"no answer over SSH in {seconds:.0f} s", str(hop)) from None


def _trusted(hop: Settings) -> Trust:
    """What the files of known hosts say of it, read anew each time. By its name, not by its address: ssh's CheckHostIP is off, too."""
    known = asyncssh.SSHKnownHosts()
    for path in hop.known_hosts:
        try:
            lines = Path(path).read_bytes()[:KNOWN_AT_MOST].decode("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            with suppress(ValueError):  # ssh passes over a line that it cannot read, too
                known.load(line)
    keys, authorities, revoked, *_ = known.match(hop.alias or hop.host, "", hop.port if hop.port != 22 else None)
    if hop.revoked:
        try:
            revoked = [*revoked, *asyncssh.read_public_key_list(hop.revoked)]
        except (OSError, asyncssh.KeyImportError) as problem:
            raise Refused("RevokedHostKeys of your SSH configuration cannot be read as a list of public keys, so no host can be trusted", where=hop.revoked,
                          code="host-key") from problem
    return list(keys), list(authorities), list(revoked)


def _kinds(trust: Trust) -> list[str]:
    """Known keys' kinds first: a host that has that key shows it, and the others are asked for only so that an error can name what was shown."""
    known = [kind for key in trust[0] for kind in (RSA if key.get_algorithm() == "ssh-rsa" else (key.get_algorithm(),))]
    certificates = [f"{kind}-cert-v01@openssh.com" for kind in _KINDS] if trust[1] else []
    return list(dict.fromkeys([*certificates, *known, *_KINDS]))


def _other_key(hop: Settings, trust: Trust, shown: str, reason: str) -> Refused:
    meant = str(hop.typed)
    if "revoked" in reason:
        return Refused(f"the key it shows is revoked in your known_hosts; nothing was sent to it ({printable(reason, 100)})", where=str(hop), code="host-key")
    if trust[0] or (trust[1] and not shown):
        known = ", ".join(fingerprint(key.export_public_key("openssh").decode()) for key in trust[0]) or "a certificate of a known authority"
        return Refused(f"its host key has CHANGED: known is {known}, shown was {shown or printable(reason, 120)}. Nothing was sent to it. Either it was "
                       f"installed anew, or something else answers in its place: compare the fingerprint at its console, then `ssh-keygen -R '{hop.looked_up}'` "
                       f"and `ssh {meant}` once", where=str(hop), code="host-key")
    return Refused(f"its host key is not known here, and none is trusted on first use: it shows {shown}. Nothing was sent to it. Connect with ssh once "
                   f"(`ssh {meant}`), compare the fingerprint with what the machine says at its console, and say yes there", where=str(hop), code="host-key-unknown")


def _plain(problem: Exception, hop: Settings) -> AnewError:
    """What asyncssh and the system raise, as a sentence."""
    where = str(hop)
    reason = printable(str(getattr(problem, "reason", "") or problem), 120)
    if isinstance(problem, AnewError):
        return problem
    if isinstance(problem, asyncssh.PermissionDenied) or "authentication failures" in reason:
        many = "; your agent offers more keys than it hears: name one with IdentityFile and IdentitiesOnly" if "failures" in reason else ""
        return Refused(f"it accepts none of your keys for user {hop.user}{many}. With --on there are no passwords: ssh-add the right key, or `ssh-copy-id {hop.typed}`",
                       where=where, code="auth")
    if isinstance(problem, asyncssh.ChannelOpenError):
        return _far(f"the host before it on the way cannot reach it: {reason}", where)
    if isinstance(problem, socket.gaierror):
        return _far("no address is known for this name", where)
    if isinstance(problem, asyncssh.Error):
        return _far(f"the SSH connection was lost: {reason}", where)
    if isinstance(problem, OSError):
        return _far(f"no SSH connection: {why(problem)}", where)
    return _far(f"it sent bytes that are no SSH ({type(problem).__name__})", where)


def _far(message: str, where: str) -> Transient:
    error = Transient(message, where=where, code="unreachable")
    error.exit_code = UNREACHABLE
    return error


__all__ = ["Forward", "attach"]
