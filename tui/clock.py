"""The only door of the terminal UI to wall clock, monotonic clock and fresh request names."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import tzinfo


class Clock:
    """Real time. Tests hand in a `FrozenClock`."""

    zone: tzinfo | None = None
    """None is the zone of the machine."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def ticks(self) -> float:
        """Seconds that never go back, for dead times."""
        return time.monotonic()

    def request_name(self) -> str:
        """A name for a command, so that sending it twice has one effect."""
        return secrets.token_hex(12)


@dataclass
class FrozenClock(Clock):
    """A clock that stands still until it is told otherwise."""

    at: float
    zone: tzinfo | None = None
    names: int = 0
    monotonic: float = 1000.0

    def now(self) -> float:
        return self.at

    def ticks(self) -> float:
        return self.monotonic

    def advance(self, seconds: float) -> None:
        self.at += seconds
        self.monotonic += seconds

    def request_name(self) -> str:
        self.names += 1
        return f"request-{self.names}"
