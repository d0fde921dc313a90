"""The one SSH session module: nothing else in anew imports asyncssh, but what `--on` stands on (`drivers.forward`, `drivers.farsocket`).

Rules
- asyncssh's defaults are a person's, not a daemon's: no config file, no agent unless it is asked for, no GSS, no X.509, no
  passwords, no SCP. 2.24.1 is the oldest release without the known faults.
- A session passes on a pinned host key (type included) or a certificate of a host CA that is named; any other key ends it
  before authentication, and the error names both fingerprints. Other key types are negotiated only so that the error can
  name what was shown.
- Host keys are parsed once a remote and passed as values: a path would be read again for every connection. The options of
  a key are built once and shared by all who use that key.
- One warm connection per remote; commands are channels of it, eight at a time (sshd's default takes ten). A jump host has one
  warm connection for all behind it. A connection with a command that did not end in time takes no new ones (a half-open one looks
  the same), and ends with its last command. 48 shake hands at a time; as many stay warm as the fleet has, see `drivers.warm`.
- Refused keys are not tried again for a while (`drivers.refusals`).
- What a server says is bytes, capped, its standard error apart. Only `Transient`, `Permanent` and `Refused` leave; their
  texts are plain ASCII where a server had a word in them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import asyncssh

from drivers.handshakes import place
from drivers.identity import IdentityStore
from drivers.refusals import Refusals
from drivers.remotes import Answer, Remote, remote_of
from drivers.terms import KEX, NO_SSH, OPTIONS, RSA, private, why
from fleet.core.errors import AnewError, Permanent, Refused, Transient

HANDSHAKES = 48
WARM = 256
CHANNELS = 5
"""Commands at a time on one connection: sshd's usual MaxSessions is 10, and it may hold as many closed ones still."""
OUTPUT_CAP = 64 * 1024
INPUT_CAP = 1024 * 1024
"""Bytes of standard input; more than that goes through `drivers.baremetal.bulk`."""
ERRORS_CAP = 4096
AGENT_KEYS = 5
"""sshd's default ends a connection at the sixth key that is none."""

_KEY_TYPES = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", *RSA]
_CERTIFICATES = [f"{kind}-cert-v01@openssh.com" for kind in _KEY_TYPES]

logging.getLogger("asyncssh").setLevel(logging.WARNING)


class Identities(Protocol):
    """What is needed of `drivers.identity.IdentityStore`."""

    def host_public(self, server: str) -> str: ...

    def client_private_path(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Trust:
    """What proves a remote, parsed, and the key types to ask it for."""

    keys: tuple[asyncssh.SSHKey, ...]
    authorities: tuple[asyncssh.SSHKey, ...]
    kinds: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Line:
    """One connection, its channels, and the connections that lead through it."""

    connection: asyncssh.SSHClientConnection
    channels: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHANNELS))
    running: int = 0
    spent: bool = False
    through: list[_Line] = field(default_factory=list)

    def usable(self) -> bool:
        return not self.spent and not self.connection.is_closed()

    def busy(self) -> bool:
        self.through = [line for line in self.through if not line.connection.is_closed()]
        return bool(self.running or self.through)

    async def run(self, command: str, cap: int, given: bytes) -> Answer:
        self.running += 1
        try:
            async with self.channels:
                return await _run(self.connection, command, cap, given)
        finally:
            self.running -= 1
            if self.spent:
                self.spend()

    def spend(self) -> None:
        """No new commands; it ends with the last of those that run."""
        self.spent = True
        if not self.busy():
            self.connection.abort()


@dataclass(slots=True)
class _Session:
    """At most one line takes new commands; the lock is held while one is being made."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    line: _Line | None = None

    def usable(self) -> _Line | None:
        return self.line if self.line is not None and self.line.usable() else None

    def drop(self) -> None:
        """At once, with all that runs."""
        if self.line is not None:
            self.line.connection.abort()
            self.line = None

    def spend(self) -> None:
        if self.line is not None:
            self.line.spend()
            self.line = None


class Client(asyncssh.SSHClient):
    """Remembers a key that is not the trusted one, and offers the agent's keys."""

    def __init__(self, keys: list[Any]) -> None:
        self.shown = ""
        self._keys = keys

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """asyncssh takes a host certificate that names no host for every host; OpenSSH takes it for none, and so it is here."""
        theirs = conn._validate_openssh_host_certificate

        def naming(host: str, addr: str, port: int, cert: Any) -> asyncssh.SSHKey:
            if not cert.principals:
                raise ValueError("Certificate names no host: it has no principals")
            return theirs(host, addr, port, cert)
        conn._validate_openssh_host_certificate = naming  # type: ignore[method-assign]

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = _named(key)
        return False

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = f"a certificate of the authority {_named(key)}"
        return False

    def public_key_auth_requested(self) -> list[Any] | None:
        keys, self._keys = self._keys, []
        return keys or None


class _Spoken(asyncssh.SSHClientSession[bytes]):
    """One command's channel: collects what comes until it ends or is too much."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._output, self._errors, self._stray = bytearray(), bytearray(), 0
        self._status: int | None = None
        self.ended: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is None:
            self._output += data[: self._cap + 1 - len(self._output)]
        else:
            self._errors += data[: ERRORS_CAP - len(self._errors)]
            self._stray += len(data)
        if len(self._output) > self._cap or self._stray > max(self._cap, ERRORS_CAP):
            self._end(Answer(None, bytes(self._output[: self._cap]), True, bytes(self._errors)))

    def exit_status_received(self, status: int) -> None:
        self._status = status

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self._end(Answer(self._status, bytes(self._output), False, bytes(self._errors)))
        elif not self.ended.done():
            self.ended.set_exception(exc)
            self.ended.exception()  # heard: the channel may be lost before anybody waits for its end

    def _end(self, answer: Answer) -> None:
        if not self.ended.done():
            self.ended.set_result(answer)


class SshSessions:
    """Warm, pinned sessions to servers. Made on an event loop's thread, closed with `close`."""

    def __init__(self, identities: Identities, *, handshakes: int = HANDSHAKES, warm: int = WARM) -> None:
        self._identities = identities
        self._shaking = asyncio.Semaphore(handshakes)
        self._warm = warm
        self._sessions: OrderedDict[Remote, _Session] = OrderedDict()
        self._trusted: dict[Remote, _Trust] = {}
        self._options: dict[tuple[str, int, int], asyncssh.SSHClientConnectionOptions] = {}
        self.refusals = Refusals(lambda: asyncio.get_running_loop().time())

    async def run(self, remote: Remote, command: str, deadline: float, cap: int = OUTPUT_CAP, input: bytes = b"") -> Answer:
        """Run one command and wait for its end. `input` (at most 1 MiB) is its standard input, then the end of it.

        `deadline` in seconds covers connecting too. More output than `cap` bytes ends the command: `Answer.cut`. Raises
        Transient if the server could not be reached or did not end in time, or refused the key (code "auth"), Permanent for
        a host key that is not the pinned one (code "host-key"). On a connection found dead it is run again on a new one, once.
        """
        if len(input) > INPUT_CAP:
            raise Refused(f"a command is given {len(input)} bytes; at most {INPUT_CAP} may go to its standard input", where=str(remote))
        session = self._session(remote)
        async with self._timed(remote, session, deadline):
            if (warm := session.usable()) is not None:
                try:
                    return await warm.run(command, cap, input)
                except (asyncssh.ConnectionLost, asyncssh.ChannelOpenError, BrokenPipeError):
                    session.drop()
            return await (await self._line(remote, session)).run(command, cap, input)
        raise AssertionError("the block above returns or raises")

    async def shown(self, remote: Remote, deadline: float) -> str:
        """The host key that the remote shows now, "TYPE BASE64", whatever is pinned; nothing is authenticated to it."""
        async with self._timed(remote, None, deadline):
            through = await self._through(remote)
            return await _shown(remote, through.connection if through else None)
        raise AssertionError("the block above returns or raises")

    def key_of(self, remote: Remote) -> str:
        """The path of the private key that is offered, "" if the agent's are. Permanent if others may read the file."""
        path = "" if remote.agent else remote.key or self._identities.client_private_path()
        if path:
            private(path)
        return path

    def pins_of(self, remote: Remote) -> tuple[str, ...]:
        """The public host keys "TYPE BASE64" that count; none if only its host CA does."""
        return remote.pins or (() if remote.authorities else (self._identities.host_public(remote.server),))

    def drop(self, remote: Remote) -> None:
        """Its connection ends at once: it was told to reboot, and a dead connection looks like a slow host."""
        if (session := self._sessions.get(remote)) is not None:
            session.drop()

    def expect(self, remotes: int) -> None:
        """So many will be spoken to, and as many may stay warm (`drivers.warm.room` sees to the descriptors)."""
        self._warm = max(self._warm, remotes)

    async def close(self) -> None:
        """End every connection."""
        for session in self._sessions.values():
            session.drop()
        self._sessions.clear()

    @asynccontextmanager
    async def _timed(self, remote: Remote, session: _Session | None, deadline: float) -> AsyncIterator[None]:
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(deadline), _plain(remote):
                yield
        except TimeoutError:
            if session is not None:
                session.spend()
            waited = asyncio.get_running_loop().time() - begun
            raise Transient(f"no answer over SSH in {waited:.1f} s", where=str(remote)) from None

    def _session(self, remote: Remote) -> _Session:
        session = self._sessions.setdefault(remote, _Session())
        self._sessions.move_to_end(remote)
        if len(self._sessions) > self._warm:
            self._forget_some()
        return session

    def _forget_some(self) -> None:
        """Close the longest unused ones; one that is in use or shakes hands stays."""
        for remote in list(islice(self._sessions, len(self._sessions) - self._warm)):
            session = self._sessions[remote]
            if not session.lock.locked() and not (session.line and session.line.busy()):
                self._sessions.pop(remote).drop()

    async def _line(self, remote: Remote, session: _Session) -> _Line:
        async with session.lock:
            ready = session.usable()
            if ready is None:
                self.refusals.check(remote)
                through = await self._through(remote)
                async with place(self._shaking):
                    ready = session.line = _Line(await self._connect(remote, through))
                if through is not None:
                    through.through.append(ready)
                self.refusals.accepted(remote)
            return ready

    async def _through(self, remote: Remote) -> _Line | None:
        """The jump host's warm line. Not under the handshakes' limit: those who wait for it would hold all of it."""
        if remote.jump is None:
            return None
        session = self._session(remote.jump)
        async with _plain(remote.jump):
            return session.usable() or await self._line(remote.jump, session)

    async def _connect(self, remote: Remote, through: _Line | None) -> asyncssh.SSHClientConnection:
        trust = self._trust(remote)
        async with _agent(remote.agent) as keys:
            client = Client(keys)
            try:
                return await asyncssh.connect(
                    remote.host,
                    remote.port,
                    options=self._shared_options(remote),
                    config=None,
                    tunnel=through.connection if through else None,
                    username=remote.user,
                    client_factory=lambda: client,
                    known_hosts=(list(trust.keys), list(trust.authorities), []),
                    server_host_key_algs=list(trust.kinds),
                )
            except asyncssh.HostKeyNotVerifiable as problem:
                raise _other_key(remote, trust, client.shown, problem.reason) from None
            except asyncssh.PermissionDenied:
                raise self.refusals.refused(remote) from None
            except asyncssh.ChannelOpenError as problem:
                raise Transient(f"its jump host {remote.jump} cannot reach it: {problem.reason[:100]!a}", where=str(remote)) from None

    def _trust(self, remote: Remote) -> _Trust:
        trust = self._trusted.get(remote)
        if trust is None:
            try:
                keys = tuple(asyncssh.import_public_key(key) for key in self.pins_of(remote))
                authorities = tuple(asyncssh.import_public_key(key) for key in remote.authorities)
            except asyncssh.KeyImportError as problem:
                place = "`host_key` and `host_ca` in the fleet file" if remote.pins or remote.authorities else "the identities folder"
                raise Permanent(f"its pinned host key cannot be read; see {place}", where=remote.server, code="host-key") from problem
            trust = self._trusted[remote] = _Trust(keys, authorities, _kinds(keys, bool(authorities)))
        return trust

    def _shared_options(self, remote: Remote) -> asyncssh.SSHClientConnectionOptions:
        """Built once a key: reading and preparing it costs more than a command. A file that was replaced is read again."""
        path = "" if remote.agent else remote.key or self._identities.client_private_path()
        stamp = private(path) if path else (0, 0)
        found = self._options.get((path, *stamp))
        if found is None:
            self._options = {key: value for key, value in self._options.items() if key[0] != path}
            found = self._options[path, *stamp] = asyncssh.SSHClientConnectionOptions(**_settings(path))
        return found


async def shown(host: str, port: int, deadline: float, jump: Remote | None = None, identities: str = "") -> str:
    """The host key, "TYPE BASE64", shown at an address; nothing is authenticated there. For commands that need no daemon.

    A `jump` host is authenticated to, with its own key or the client key of the `identities` folder. Raises Transient.
    """
    remote = Remote("the host", host, port, jump=jump)
    if jump is not None and not identities and not (jump.key or jump.agent):
        raise Refused(f"the jump host {jump} needs a key here: name one in its `key`", where=str(jump))
    sessions = SshSessions(IdentityStore(identities))
    try:
        return await sessions.shown(remote, deadline)
    finally:
        await sessions.close()


async def _shown(remote: Remote, tunnel: asyncssh.SSHClientConnection | None) -> str:
    key = await asyncssh.get_server_host_key(
        remote.host, remote.port, config=None, tunnel=tunnel, kex_algs=KEX, server_host_key_algs=_KEY_TYPES,
    )
    if key is None:
        raise Transient("it showed no host key", where=str(remote))
    return " ".join(key.export_public_key("openssh").decode("ascii", "replace").split()[:2])


def own_key(identities: str) -> str:
    """ "ssh-ed25519 AAAA… anew", of the folder `identities`; made if there is none."""
    return IdentityStore(identities).client_public()


def fingerprint(key: str) -> str:
    """ "ssh-ed25519 SHA256:…" of "TYPE BASE64": what people compare. Refused if it is no public key."""
    try:
        return _named(asyncssh.import_public_key(key))
    except asyncssh.KeyImportError:
        raise Refused("this is no SSH public key; it looks like 'ssh-ed25519 AAAA…'", where=key[:40]) from None


def _named(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


def _kinds(keys: tuple[asyncssh.SSHKey, ...], certificates: bool) -> tuple[str, ...]:
    """The pinned keys' own types first: a server that has that key shows it."""
    kinds = [kind for key in keys for kind in (RSA if key.get_algorithm() == "ssh-rsa" else [key.get_algorithm()])]
    return tuple(dict.fromkeys([*(_CERTIFICATES if certificates else []), *kinds, *_KEY_TYPES]))


def _settings(path: str) -> dict[str, Any]:
    """asyncssh's options for the key at `path`, "" for none (the agent's are offered by `Client`)."""
    try:
        keys = [asyncssh.read_private_key(path)] if path else None
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as problem:
        why = "it is locked by a passphrase" if "passphrase" in str(problem).lower() else "it is no OpenSSH private key"
        raise Permanent(f"the SSH key cannot be used: {why}; name another `key`, or use `agent = true`", where=path, code="key") from None
    return {**OPTIONS, "client_keys": keys}


@asynccontextmanager
async def _agent(wanted: bool) -> AsyncIterator[list[Any]]:
    """The agent's keys, usable within; none if it is not wanted."""
    if not wanted:
        yield []
        return
    path = os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise Permanent("`agent = true`, but anew has no SSH agent: SSH_AUTH_SOCK is not set where its daemon was started", code="agent")
    agent = asyncssh.SSHAgentClient(path)
    try:
        try:
            keys = list(await agent.get_keys())[:AGENT_KEYS]
        except ValueError:
            raise Transient("the SSH agent does not answer", where=path, code="agent") from None
        if not keys:
            raise Transient("the SSH agent has no key; add one with ssh-add", where=path, code="agent", retry_after=30.0)
        yield keys
    finally:
        agent.close()


def _other_key(remote: Remote, trust: _Trust, shown: str, reason: str) -> Permanent:
    remedy = ("If that host was set up anew, compare the fingerprint at its own console, then run "
              f"`anew machine pin {remote.server}`" if remote.pins or remote.authorities else
              "If somebody changed the server by hand, replace it")
    if trust.authorities and not shown:
        what = f"its SSH host certificate does not count: {reason[:120]!a}"
    else:
        ours = " or ".join([*map(_named, trust.keys), *(f"a certificate of {_named(key)}" for key in trust.authorities)])
        what = f"its SSH host key is not the pinned one: pinned {ours}, shown {shown or 'a key of another kind'}"
    return Permanent(f"{what}. Nothing was sent to it. {remedy}; otherwise find out who answers at that address",
                     where=str(remote), code="host-key")


async def _run(connection: asyncssh.SSHClientConnection, command: str, cap: int, given: bytes) -> Answer:
    spoken = _Spoken(cap)
    channel, _ = await connection.create_session(lambda: spoken, command, encoding=None, window=2 * OUTPUT_CAP, request_pty=False)
    try:
        try:
            if given:
                channel.write(given)
            channel.write_eof()
        except BrokenPipeError:
            pass  # it answers without reading what it is given, or it is gone: both are heard below
        return await spoken.ended
    finally:
        channel.abort()


@asynccontextmanager
async def _plain(remote: Remote) -> AsyncIterator[None]:
    """Turns what asyncssh and the system raise into errors of ours."""
    try:
        yield
    except (AnewError, TimeoutError):
        raise
    except asyncssh.Error as problem:
        raise Transient(f"the SSH session failed: {problem.reason[:100]!a}", where=str(remote)) from None
    except OSError as problem:
        raise Transient(f"no SSH connection: {why(problem)}", where=str(remote)) from None
    except NO_SSH as problem:
        raise Transient(f"the SSH session failed: it sent bytes that are no SSH ({type(problem).__name__})", where=str(remote)) from None


__all__ = ["Answer", "Client", "Identities", "Remote", "SshSessions", "fingerprint", "own_key", "remote_of", "shown"]
