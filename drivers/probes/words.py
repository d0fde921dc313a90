"""Turning what a server did into one printable line, and a server into the address to connect to."""

from __future__ import annotations

import errno
import os

from fleet.core.desired import Pool
from fleet.core.observed import Seen
from fleet.core.printable import printable

LONGEST = 200
OUTPUT_CAP = 64 * 1024
"""Bytes read of anything a server or a command says."""

_REASONS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
    errno.ETIMEDOUT: "no answer",
    errno.EPIPE: "closed",
}


class Unreachable(ValueError):
    """There is nowhere to connect to; the message says why."""


def words(text: str) -> str:
    """One line of at most 200 printable characters; white space is one blank, control bytes vanish."""
    return printable(" ".join(text[: 4 * LONGEST].split()), LONGEST)


def took(seconds: float) -> str:
    """ "3 ms", "2.1 s"."""
    return f"{max(0.0, seconds) * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def reason(problem: OSError) -> str:
    """Why a connection failed, in a word or two."""
    number = problem.errno or 0  # asyncio puts words of its own into strerror
    return _REASONS.get(number) or (os.strerror(number).lower() if number > 0 else "failed")


def host_port(address: str) -> tuple[str, int]:
    """("127.0.0.1", 2201) of "127.0.0.1:2201", ("::1", 22) of "[::1]:22". Raises Unreachable for anything
    else.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if (
        not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536)
        or not host.isprintable()
    ):
        raise Unreachable(
            "its address is not known yet" if not address else f"its address {address!a} is no host:port"
        )
    return host, int(port)


def target(pool: Pool, seen: Seen, port: int) -> tuple[str, int]:
    """Where the guest's `port` is reached. Under user networking only the forwarded guest port is."""
    host, outside = host_port(seen.address)
    if pool.network.kind != "user":
        return host, port
    if port != pool.network.guest_port:
        raise Unreachable(f"user networking forwards port {pool.network.guest_port} of the guest, not {port}")
    return host, outside


def whole(value: object, otherwise: int) -> int:
    """An integer option, or its default."""
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
