"""Ports for servers that a test starts and that must be told theirs."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

LOWEST = 10_000


def free_port() -> int:
    """A port where nobody listens on 127.0.0.1 now. None that the kernel hands out by itself: between this look and its use, a client or a server that
    takes any port could be given the same.
    """
    low, high = handed_out()
    while True:
        port: int = random.choice([*range(LOWEST, low), *range(high + 1, 65_536)])
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port


def handed_out() -> tuple[int, int]:
    """The lowest and the highest port that the kernel gives to who asks for any."""
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(low), int(high)
