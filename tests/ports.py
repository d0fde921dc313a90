"""Ports for servers that a test starts and that must be told theirs."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

LOWEST = 10_000
FIXED = range(23_000, 24_000)
"""Where tests of the libvirt driver have the ports that they name."""
_kept = set(FIXED)


def free_port() -> int:
    """A port where nobody listens on 127.0.0.1 now. None that the kernel hands out by itself: between this look and its use, a client or a server that
    takes any port could be given the same.
    """
    low, high = handed_out()
    while True:
        port: int = random.choice([*range(LOWEST, low), *range(high + 1, 65_536)])
        if _free(port):
            return port


def free_block(count: int) -> int:
    """The first of `count` such ports, one after another. None of them is given again by this process: of a server's two, one is not listened on."""
    low, high = handed_out()
    starts = [*range(LOWEST, low - count), *range(high + 1, 65_536 - count)]
    while True:
        first: int = random.choice(starts)
        block = range(first, first + count)
        if all(_free(port) for port in block):
            _kept.update(block)
            return first


def _free(port: int) -> bool:
    """Nobody listens there, and it is kept for nobody else."""
    with socket.socket() as found, contextlib.suppress(OSError):
        found.bind(("127.0.0.1", port))
        return port not in _kept
    return False


def handed_out() -> tuple[int, int]:
    """The lowest and the highest port that the kernel gives to who asks for any."""
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(low), int(high)
