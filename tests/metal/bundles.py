"""How bundles get to a pretended host: sent in pieces, made from a delta, or fetched. Only size and hash are kept of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from tests.metal.disk import Bytes
from tests.metal.refusing import Fail

if TYPE_CHECKING:
    from tests.metal.host import Host

GETTING = ("upload", "patch", "pull")
PIECE = 256 * 1024


class Stream(Protocol):
    """Both directions of one SSH channel."""

    def write(self, data: bytes) -> None:
        """To the controller."""

    async def read(self, most: int) -> bytes:
        """From the controller, b"" at the end."""


def _room(host: Host, size: int, held: Bytes | None) -> None:
    free = 0 if host.evil.disk_full else host.disk.free + (held.size if held else 0)
    if size * 11 // 10 > free:
        raise Fail("no-space", f"{size} bytes do not fit, {free} are free")


def _finish(host: Host, sha: str, size: int) -> None:
    """At its whole size a part becomes the bundle, or goes."""
    held = host.disk.bundles[sha]
    if held.size != size or held.sha != sha:
        del host.disk.bundles[sha]
        raise Fail("bad-bytes", f"the bytes are not {sha[:12]}; the part was removed")
    held.complete = True


async def upload(host: Host, words: tuple[str, ...], stream: Stream) -> None:
    """SHA SIZE OFFSET: standard input goes behind what is there."""
    sha, size, offset = words[0], int(words[1]), int(words[2])
    held = host.disk.bundles.get(sha)
    if held is not None and held.complete:
        return
    _room(host, size, held)
    if offset != (held.size if held else 0):
        raise Fail("not-ready", f"{held.size if held else 0} bytes of it are here, so it does not go on at {offset}")
    held = host.disk.bundles.setdefault(sha, Bytes())
    boot = host.boot_id
    while held.size < size and (more := await stream.read(min(PIECE, size - held.size))):
        if host.boot_id != boot:
            return
        held.add(more)
    if held.size < size:
        raise Fail("not-ready", f"{held.size} of {size} bytes are here")
    _finish(host, sha, size)


async def patch(host: Host, words: tuple[str, ...], stream: Stream) -> None:
    """OLD NEW SIZE DELTA: nothing is unpacked here; a whole delta upon a whole bundle gives what was promised."""
    old, new, size, delta = words[0], words[1], int(words[2]), words[3]
    held = host.disk.bundles
    if new in held and held[new].complete:
        return
    if delta not in held or not held[delta].complete or (old != "-" and (old not in held or not held[old].complete)):
        raise Fail("wrong-state", "the delta, or what it goes upon, is not here whole")
    _room(host, size, None)
    made = Bytes(size=size, complete=True, head=held.pop(delta).head)
    made.running = _Named(new)
    held[new] = made


class _Named:
    """Stands for a hash that is known without its bytes."""

    def __init__(self, sha: str) -> None:
        self._sha = sha

    def hexdigest(self) -> str:
        return self._sha


async def pull(host: Host, words: tuple[str, ...], stream: Stream) -> None:
    """SHA SIZE URL: fetched over HTTP/1.1, from where the part ends."""
    sha, size, url = words[0], int(words[1]), words[2]
    held = host.disk.bundles.get(sha)
    if held is not None and held.complete:
        return
    _room(host, size, held)
    held = host.disk.bundles.setdefault(sha, Bytes())
    try:
        await _fetch(url, held, size)
    except (OSError, ValueError, asyncio.IncompleteReadError) as problem:
        raise Fail("not-ready", f"nothing was to be had at {url}: {type(problem).__name__}") from problem
    _finish(host, sha, size)


async def _fetch(url: str, held: Bytes, size: int) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        asked = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nRange: bytes={held.size}-\r\nConnection: close\r\n\r\n"
        writer.write(asked.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        status = head[0].split()[1]
        if status not in (b"200", b"206") or (status == b"200" and held.size):
            raise ValueError("not served from there")
        while held.size < size and (more := await reader.read(min(PIECE, size - held.size))):
            held.add(more)
    finally:
        writer.transport.abort()
