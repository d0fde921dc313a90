"""A crowd on the daemon's socket: connections that send garbage, stall, or ask and never read, and come again when they are closed.

    python -m tests.engine.noise SOCKET [COUNT]      (a process of its own, so that it has a core of its own; ends with its standard input)

It says "ready" on standard output once every connection was made, and at its end how many were made in all. The daemon may refuse, close or
ignore every one of them; a crowd that cannot connect tries again.
"""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
COUNT = 1000
STAY = 5.0
"""Seconds that one waits to be closed before it goes by itself. A second later it comes again."""
READS = b"GET /v1/events?since=0 HTTP/1.1\r\nHost: x\r\n\r\n"


def noises(number: int) -> tuple[bytes, ...]:
    """What a member of the crowd says, one of them at a time; the same for the same number."""
    some = random.Random(number)  # noqa: S311 - garbage
    return (
        some.randbytes(200), some.randbytes(100_000), b"", b"GET /v1/st", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + some.randbytes(300),
        b"GET /v1/status HTTP/1.1\r\n" + b"A: " + b"a" * 70_000, b"GET /v1/status HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"GET /%ff%00/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /v1/commands HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{",
        b"POST /v1/commands HTTP/1.1\r\nContent-Length: 9\r\n\r\n[[[[[[[[[", b"POST /v1/plan HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /v1/plan HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"POST /v1/plan HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + b"[" * 70_000,
        READS, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n" * 50, b"GET /v1/journal?since=0&limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
        b"GET /v1/servers/web-1/console HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v1/journal?since=-1 HTTP/1.1\r\nHost: x\r\n\r\n",
    )


class Crowd:
    """`count` connections at a time; `made` counts them all."""

    def __init__(self, path: str, count: int) -> None:
        self.path, self.count, self.made = path, count, 0
        self.ready = asyncio.Event()
        self._first: set[int] = set()

    async def member(self, number: int) -> None:
        turn = number
        while True:
            with suppress(OSError, TimeoutError):
                await self._once(number, turn)
            turn += 1
            await asyncio.sleep(1.0)

    async def _once(self, number: int, turn: int) -> None:
        loop, says = asyncio.get_running_loop(), noises(number)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            await loop.sock_connect(sock, self.path)
            self.made += 1
            self._first.add(number)
            if len(self._first) == self.count:
                self.ready.set()
            said = says[turn % len(says)]
            async with asyncio.timeout(STAY):
                await loop.sock_sendall(sock, said)
                if said == READS or said.count(b"HTTP") > 1:
                    await asyncio.sleep(3600)  # asks, and never reads
                while await loop.sock_recv(sock, 1 << 16):
                    pass


async def make(path: str, count: int) -> int:
    """Make noise until standard input ends; how many connections were made."""
    made = Crowd(path, count)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        members = [group.create_task(made.member(number)) for number in range(count)]
        await made.ready.wait()
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        for task in members:
            task.cancel()
    return made.made


@contextmanager
def noise(path: str, count: int = COUNT) -> Iterator[list[int]]:
    """A crowd in a process of its own, all of it connected, while this lasts; then how many connections it made is in the list."""
    made: list[int] = []
    with subprocess.Popen([sys.executable, "-m", "tests.engine.noise", path, str(count)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdin is not None and crowd.stdout is not None
        try:
            assert crowd.stdout.readline() == "ready\n", "the crowd never was complete"
            yield made
            assert crowd.poll() is None, "the crowd went away by itself"
        finally:
            crowd.stdin.close()
            made += map(int, crowd.stdout.read().split())


def main() -> None:
    path, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else COUNT
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * count + 100), hard))
    print(asyncio.run(make(path, count)), flush=True)


if __name__ == "__main__":
    main()
