"""Which loopback port an incarnation of a pool with user networking gets."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from fleet.core.desired import Pool
from fleet.core.errors import Transient


def choose(pool: Pool, server: str, taken: AbstractSet[int]) -> int:
    """The server's home port, else its second one, else any free one of the pool's range.

    Transient if none is.
    """
    for port in _wishes(pool, server):
        if port not in taken:
            return port
    first = pool.network.first_port
    raise Transient(
        f"none of the pool's ports {first} to {first + 2 * pool.servers - 1} is free; "
        "a retained incarnation that still runs, or a stranger, holds them",
        retry_after=5.0,
        where=pool.name,
    )


def _wishes(pool: Pool, server: str) -> Iterator[int]:
    first, count = pool.network.first_port, pool.servers
    tail = server.rpartition("-")[2]
    index = int(tail) if tail.isascii() and tail.isdigit() else 0
    if 1 <= index <= count:
        yield first + index - 1
        yield first + count + index - 1
    yield from range(first, first + 2 * count)
