"""Engine time and chance for a real daemon: the only place that reads clocks.

Engine time starts at the wall clock, never before the journal's last event, and then follows the monotonic clock: a wall
clock moved by a year while the daemon runs changes no duration and makes no server old.
"""

from __future__ import annotations

import asyncio
import secrets
import time


class SystemClock:
    """ports.Clock. `not_before`: the time of the journal's last event, in seconds since the epoch."""

    def __init__(self, not_before: float = 0.0) -> None:
        self._offset = max(time.time(), not_before) - time.monotonic()

    def now(self) -> float:
        """Engine time in seconds."""
        return time.monotonic() + self._offset

    def not_before(self, at: float) -> None:
        """Move forward to `at` if the clock is behind it (the journal's last event, once it is open)."""
        self._offset = max(self._offset, at - time.monotonic())

    async def sleep(self, seconds: float) -> None:
        """Sleep `seconds`."""
        await asyncio.sleep(max(0.0, seconds))


class SystemRng:
    """ports.Rng."""

    def random(self) -> float:
        """A float in [0, 1)."""
        return secrets.randbelow(1 << 53) / (1 << 53)

    def token(self) -> str:
        """16 lower-case hex digits."""
        return secrets.token_hex(8)
