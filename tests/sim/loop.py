"""The loop of a case: nothing wakes it but its own timers, so a turn is no more than what is ready, or else a jump to the next timer.

No file, signal or thread: what asyncio's own turn does for those, and for debugging, was a third of a case's time. A case plays on it as on
`tests.clocks.VirtualLoop`, to the last tie.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from typing import Any, TypeVarTuple

from tests.clocks import Deadlock, VirtualClock, VirtualLoop, _close

Ts = TypeVarTuple("Ts")
MANY_TIMERS = 100
"""So many timers and more are sifted as soon as half of them were cancelled."""


class _Call(asyncio.Handle):
    """A callback that is due now."""

    __slots__ = ()
    _context: Context
    _callback: Any

    def __init__(self, callback: Any, args: Any, loop: SimLoop, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr = False, None


class _Timer(asyncio.TimerHandle):
    """A callback that is due at a time of its own."""

    __slots__ = ()
    _context: Context
    _callback: Any

    def __init__(self, when: float, callback: Any, args: Any, loop: SimLoop, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr = False, None
        self._when, self._scheduled = when, True

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled, self._callback, self._args = True, None, ()
            self._loop._cancelled_timers += self._scheduled


class SimLoop(VirtualLoop):
    """What is scheduled stands in a heap of (time, timer)."""

    _ready: deque[_Call | _Timer]
    _stopping: bool

    def __init__(self, seed: int, start: float, limit: float) -> None:
        super().__init__(seed, start, limit)
        self._timers: list[tuple[float, _Timer]] = []
        self._cancelled_timers = 0
        self._tie = self._ties.random

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        call = _Call(callback, args, self, context)
        self._ready.append(call)
        return call

    def call_later(self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.TimerHandle:
        when += self._tie() * 1e-8
        timer = _Timer(when, callback, args, self, context)
        heappush(self._timers, (when, timer))
        return timer

    def _run_once(self) -> None:
        """Turns, until somebody stops the loop."""
        ready = self._ready
        while True:
            if not (ready or self._stopping):
                self._jump_to_next()
            soon, timers = self._now + self._clock_resolution, self._timers
            while timers and timers[0][0] < soon:
                _, timer = heappop(timers)
                timer._scheduled = False
                ready.append(timer)
            for _ in range(len(ready)):
                call = ready.popleft()
                if not call._cancelled:
                    call._context.run(call._callback, *call._args)
            if self._stopping:
                return

    def _jump_to_next(self) -> None:
        if self._cancelled_timers:
            self._drop_cancelled()
        assert not self.threads, "a case has no threads: time would not wait for one"
        if not self._timers:
            raise Deadlock(f"nothing can happen any more at t={self._now:.3f}: {self.waiting()}")
        if (left := self._timers[0][0] - self._now) > 0:
            self.jump(left)

    def _drop_cancelled(self) -> None:
        if len(self._timers) > MANY_TIMERS and 2 * self._cancelled_timers > len(self._timers):
            for _, timer in self._timers:
                timer._scheduled = not timer._cancelled
            self._timers = [due for due in self._timers if due[1]._scheduled]
            heapify(self._timers)
            self._cancelled_timers = 0
        while self._timers and self._timers[0][1]._cancelled:
            heappop(self._timers)[1]._scheduled = False
            self._cancelled_timers -= 1


class SimClock(VirtualClock):
    """The clock of one case, on the loop that runs now."""

    def __init__(self) -> None:
        super().__init__()
        self._loop: Any = asyncio.get_running_loop()

    def now(self) -> float:
        return self._epoch + self._loop._now  # type: ignore[no-any-return]

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(seconds)


def run(program: Any, seed: int, start: float, limit: float) -> Any:
    """Like tests.clocks.run_virtual, on a SimLoop."""
    loop = SimLoop(seed, start, limit)
    try:
        return loop.run_until_complete(program)
    finally:
        _close(loop)
