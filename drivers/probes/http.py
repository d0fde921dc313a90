"""`http = { port, path, status }`: one GET over HTTP/1.1, written by hand so that it can do nothing else.

No redirect is followed, no body is read, no more than 64 KiB are taken, and nobody but the server's own
address is asked: a server must not be able to send its controller anywhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drivers.probes.words import OUTPUT_CAP, Unreachable, reason, target, took, whole, words
from fleet.core.desired import HealthCheck, Pool
from fleet.core.observed import Seen
from fleet.ports import Clock, Surroundings

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r?$)")
_PATH = re.compile(r"/[!-~]{0,1023}")


class HttpProbe:
    """Asks for a path and compares the status."""

    kind = "http"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def check(self, pool: Pool, check: HealthCheck, seen: Seen) -> tuple[bool, str]:
        port = whole(check.options.get("port"), pool.network.guest_port)
        path = str(check.options.get("path") or "/")
        wanted = whole(check.options.get("status"), 200)
        begun = self._clock.now()
        try:
            async with asyncio.timeout(check.deadline):
                host, outside = target(pool, seen, port)
                passed, said = await _ask(host, outside, path, wanted)
        except (Unreachable, asyncio.LimitOverrunError) as problem:
            passed, said = False, str(problem)
        except TimeoutError:
            passed, said = False, "no answer"
        except OSError as problem:
            passed, said = False, reason(problem)
        return passed, words(f"http {port}{path[:60]}: {said} in {took(self._clock.now() - begun)}")


async def _ask(host: str, port: int, path: str, wanted: int) -> tuple[bool, str]:
    if not _PATH.fullmatch(path):
        return False, "the path must begin with a slash and have no blanks"
    shown = f"[{host}]" if ":" in host else host
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {shown}:{port}",
        "User-Agent: anew",
        "Accept: */*",
        "Connection: close",
    )
    request = "".join(f"{line}\r\n" for line in (*lines, ""))
    reader, writer = await asyncio.open_connection(host, port, limit=OUTPUT_CAP)
    try:
        writer.write(request.encode("ascii", "strict"))
        head = await _head(reader)
    finally:
        writer.transport.abort()
    if head is None:
        return False, "the answer's head does not end within 64 KiB"
    if not head:
        return False, "accepted, then closed"
    match = _STATUS.match(head.split(b"\n", 1)[0])
    if match is None:
        return False, f"that is not HTTP: {head[:60]!a}"
    status = int(match[1])
    return status == wanted, f"status {status}" if status == wanted else f"status {status}, not {wanted}"


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    """The answer up to its blank line; what there was if the server closed first; None if it is too long."""
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        if len(head) >= OUTPUT_CAP:
            return None
        more = await reader.read(OUTPUT_CAP - len(head))
        if not more:
            break
        head += more
    return head


@asynccontextmanager
async def make(around: Surroundings) -> AsyncIterator[HttpProbe]:
    """The `anew.probes` entry point."""
    yield HttpProbe(around.clock)
