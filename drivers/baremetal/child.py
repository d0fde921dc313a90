"""One `ssh` child process of OpenSSH that feeds a file to a verb on a host.

Rules
- asyncssh costs five times the CPU of OpenSSH a byte, so bulk bytes never pass through this process: the child gets the file's
  descriptor as its standard input. Both share the offset, which tells how far the child has read.
- It proves the host by the same pinned keys as `drivers.ssh`, from a file of our own, reads no configuration, asks nobody anything,
  and offers the one key. A jump host is another `ssh -W` with the same rules, as ProxyCommand: ProxyJump has no place for them.
- Nothing secret is in its arguments: they name files. Its words are never shown as they are.
- What ssh says goes to a file of ours, apart from what the host says on standard error: else a host could speak as ssh, and
  have its jump host held back for a key that was never refused.
- It is ended in every case, with SIGTERM and 2 s later SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shlex
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from drivers.refusals import Refusals
from drivers.remotes import Remote
from drivers.terms import CIPHERS
from fleet.core.errors import Permanent, Refused, Transient

ANSWER_CAP: Final = 64 * 1024
WORDS_CAP: Final = 8 * 1024
GRACE: Final = 2.0
STALLED: Final = 120.0
"""Seconds without a byte of progress. A dead connection ends after 30 s by itself (ServerAlive); this is a host that lives and reads nothing."""
SLOWEST: Final = 4 * 1024 * 1024
"""Bytes a second that a host syncs and hashes at least, once all is sent."""

_PLAIN: Final = re.compile(r"[\w ./@+,:=~-]+")
_OPTIONS: Final = (
    "BatchMode=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=none", "UpdateHostKeys=no", "CheckHostIP=no", "VerifyHostKeyDNS=no",
    "PreferredAuthentications=publickey", "PasswordAuthentication=no", "KbdInteractiveAuthentication=no", "GSSAPIAuthentication=no",
    "HostbasedAuthentication=no", f"Ciphers={','.join(CIPHERS)}", "Compression=no", "ServerAliveInterval=5", "ServerAliveCountMax=6",
    "ConnectTimeout=25", "ConnectionAttempts=1", "TCPKeepAlive=yes", "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes",
    "ControlMaster=no", "ControlPath=none", "ControlPersist=no", "PermitLocalCommand=no", "EscapeChar=none", "RequestTTY=no", "LogLevel=ERROR",
)


class Credentials(Protocol):
    """What is needed of `drivers.ssh.SshSessions`."""

    refusals: Refusals

    def key_of(self, remote: Remote) -> str: ...

    def pins_of(self, remote: Remote) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit code, what the verb answered, and how far into the file it had read."""

    status: int
    output: bytes
    errors: bytes
    reached: int


class OpenSsh:
    """Makes children. `folder` is ours alone (0700) and holds a known_hosts file for every set of pins."""

    def __init__(self, folder: str, credentials: Credentials) -> None:
        self._folder = folder
        self._credentials = credentials

    def argv(self, remote: Remote, line: str, said: str) -> list[str]:
        """The child's arguments: run `line` on the remote; ssh's own words go to the file `said`."""
        return [*self._common(remote, said), "-T", "--", remote.host, line]

    async def send(self, remote: Remote, line: str, path: str, offset: int, size: int, pulse: Callable[[int], None],
                   stalled: float = STALLED) -> Ended:
        """Run `line` with the file's bytes from `offset` on its standard input. `pulse` is called with how far it is, each second.

        Raises Transient if it stalls, or if the remote refuses the key or its connection breaks (the error says how), Permanent if
        the host key is not the pinned one. What the verb itself answered is the caller's to read.
        """
        hop: Remote | None = remote
        while hop is not None:
            self._credentials.refusals.check(hop)
            hop = hop.jump
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as problem:
            raise Permanent(f"the image's file cannot be read ({problem.strerror}); put its folder back", where=path) from None
        try:
            os.lseek(file, offset, os.SEEK_SET)
            with tempfile.NamedTemporaryFile(prefix="said-", dir=self._folder) as said:
                async with self._child(self.argv(remote, line, said.name), file) as child:
                    ended = await _watched(child, file, size, pulse, str(remote), stalled)
                words = said.read(WORDS_CAP).decode("utf-8", "replace")
        finally:
            os.close(file)
        self._judge(remote, ended, words)
        return ended

    @contextlib.asynccontextmanager
    async def _child(self, argv: list[str], stdin: int) -> AsyncIterator[asyncio.subprocess.Process]:
        environment = {"LC_ALL": "C"} | {name: os.environ[name] for name in ("PATH", "HOME", "SSH_AUTH_SOCK") if name in os.environ}
        try:
            child = await asyncio.create_subprocess_exec(
                *argv, stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=self._folder, env=environment,
            )
        except FileNotFoundError:
            raise Permanent("there is no `ssh` program here; install OpenSSH's client (apt install openssh-client)", code="no-ssh") from None
        try:
            yield child
        finally:
            await _end(child)

    def _common(self, remote: Remote, said: str) -> list[str]:
        key = self._credentials.key_of(remote)
        who = ["-o", f'IdentityFile="{_path(key)}"', "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"] if key else []
        proxy = ["-o", f"ProxyCommand={self._way(remote.jump, remote, said)}"] if remote.jump is not None else ["-o", "ProxyCommand=none", "-o", "ProxyJump=none"]
        options = [word for option in _OPTIONS for word in ("-o", option)]
        known = ["-o", f"UserKnownHostsFile={self._known_hosts(remote)}", "-o", f"HostKeyAlias={remote.host}"]
        return ["ssh", "-F", "none", "-E", said, *options, *known, *who, *proxy, "-l", remote.user, "-p", str(remote.port)]

    def _way(self, jump: Remote, target: Remote, said: str) -> str:
        """A shell's line, as ProxyCommand needs one: every word quoted, and `%` doubled, since ssh expands it before the shell."""
        argv = [*self._common(jump, said), "-W", f"[{target.host}]:{target.port}", "--", jump.host]
        return " ".join(shlex.quote(word).replace("%", "%%") for word in argv)

    def _known_hosts(self, remote: Remote) -> str:
        """The name, within our folder, of a file with the remote's pins. Named by its content: it is never changed."""
        lines = [f"* {_one_key(pin)}" for pin in self._credentials.pins_of(remote)]
        lines += [f"@cert-authority * {_one_key(authority)}" for authority in remote.authorities]
        text = "\n".join(lines) + "\n"
        name = f"known-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
        path = Path(self._folder, name)
        if not path.is_file() or path.read_text("ascii", "replace") != text:
            aside = path.with_suffix(".new")
            aside.write_text(text, "ascii")
            aside.replace(path)
        return name

    def _judge(self, remote: Remote, ended: Ended, words: str) -> None:
        """`words`: ssh's own. It may say none if the connection breaks, and the host may end with 255 as well."""
        if ended.status != 255:
            return
        if any(mark in words for mark in _OTHER_KEY):
            whose = f"its SSH host key, or that of its jump host {remote.jump.server}," if remote.jump else "its SSH host key"
            raise Permanent(f"{whose} is not the pinned one. Nothing was sent to it. `anew machine check` tells which key is shown",
                            where=str(remote), code="host-key")
        if "Permission denied (" in words or "Too many authentication failures" in words:
            raise self._credentials.refusals.refused(_who_refused(remote, words))
        why = next((said for mark, said in _BROKEN if mark in words), "the connection broke")
        raise Transient(f"{why}, at byte {ended.reached}", retry_after=5.0, where=str(remote), code="broken")


_OTHER_KEY: Final = ("Host key verification failed", "HOST IDENTIFICATION HAS CHANGED", "Certificate invalid", "host key is known for")
_BROKEN: Final = (
    ("Timeout, server", "it did not answer for 30 s"), ("timed out", "it did not answer in time"), ("refused", "it refused the connection"),
    ("No route", "there is no route to it"), ("Could not resolve", "its name cannot be resolved"), ("Broken pipe", "the connection broke"),
    ("Connection closed", "it closed the connection"), ("stdio forwarding failed", "its jump host cannot reach it"),
)


def _who_refused(remote: Remote, words: str) -> Remote:
    """The jump host whose refusal it is, else the remote. ssh says "user@host: Permission denied"."""
    jump = remote.jump
    while jump is not None:
        if f"{jump.user}@{jump.host}: Permission denied" in words and (jump.user, jump.host) != (remote.user, remote.host):
            return jump
        jump = jump.jump
    return remote


async def _watched(child: asyncio.subprocess.Process, file: int, size: int, pulse: Callable[[int], None], where: str, stalled: float) -> Ended:
    assert child.stdout is not None
    assert child.stderr is not None
    ended = asyncio.gather(_capped(child.stdout, ANSWER_CAP), _capped(child.stderr, WORDS_CAP), child.wait())
    loop = asyncio.get_running_loop()
    reached, moved = os.lseek(file, 0, os.SEEK_CUR), loop.time()
    try:
        while not ended.done():
            await asyncio.wait({ended}, timeout=1.0)
            now = os.lseek(file, 0, os.SEEK_CUR)
            if now != reached:
                reached, moved = now, loop.time()
            pulse(min(now, size))
            patience = stalled if now < size else stalled + size / SLOWEST
            if loop.time() - moved > patience:
                raise Transient(f"it has taken no byte for {patience:.0f} s, at byte {reached}", where=where, code="stalled")
        output, errors, status = ended.result()
        return Ended(status, output, errors, os.lseek(file, 0, os.SEEK_CUR))
    finally:
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)


async def _capped(stream: asyncio.StreamReader, cap: int) -> bytes:
    """All is read, so that the child never waits for us; the first `cap` bytes are kept."""
    kept = b""
    while more := await stream.read(65536):
        kept += more[: cap - len(kept)]
    return kept


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(GRACE):
            await child.wait()
    except TimeoutError:
        pass
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


def _path(path: str) -> str:
    """A path as OpenSSH takes it: what it would expand is doubled or refused."""
    if not _PLAIN.fullmatch(path.replace("%", "")) or path.startswith("~"):
        raise Refused("the path of this SSH key holds a character that OpenSSH reads otherwise; use letters, digits and ._-/", where=path, code="key")
    return path.replace("%", "%%")


def _one_key(key: str) -> str:
    words = key.split()
    if len(words) < 2 or not all(re.fullmatch(r"[A-Za-z0-9@.+/=_-]+", word) for word in words[:2]):
        raise Permanent("its pinned host key cannot be read; it looks like 'ssh-ed25519 AAAA…'", where=key[:40], code="host-key")
    return " ".join(words[:2])


__all__ = ["Credentials", "Ended", "OpenSsh"]
