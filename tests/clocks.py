"""Virtual time for tests: an event loop whose clock jumps to the next timer as soon as nothing is left to do.

A day of engine time passes in milliseconds, the same seed gives the same order of events, and a program that
waits for nothing that can ever happen ends with `Deadlock`, naming each waiting task, rather than hanging the
test run.

    def test_story() -> None:
        async def story() -> None:
            clock = VirtualClock()
            await clock.sleep(3600)
        run_virtual(story())

Threads: `asyncio.to_thread` works, and time stands still while such a call runs; the order in which two
threads end is not seeded, so avoid them. A thread of one's own that wakes the loop needs `settle` (see
`run_virtual`). Sockets are out, for a wait for a peer would be a jump; but for UNIX sockets all of whose ends
live in this loop: what is written to one can be read from the other at once.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

import pytest

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
EPOCH = 1_800_000_000.0
"""Engine time when a virtual loop starts at 0 (2027-01-15T08:00:00Z)."""


class Deadlock(AssertionError):
    """Nothing is ready, no timer is set: the program would wait for ever."""


class Overrun(AssertionError):
    """The program used more virtual time, or more turns of the loop, than the test allows."""


class _Selector(selectors.DefaultSelector):
    """Never waits: what would have been a wait is a jump of the loop's clock."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.threads:
            return super().select(None)
        if self.loop.settle and (ready := super().select(self.loop.settle)):
            return ready
        if timeout is None:
            raise Deadlock(f"nothing can happen any more at t={self.loop.time():.3f}: {self.loop.waiting()}")
        self.loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` starts at `start`. The seed breaks ties between timers that are due at the same moment."""

    waiter: type[_Selector] = _Selector

    def __init__(
        self, seed: int = 0, start: float = 0.0, limit: float = 200_000.0, settle: float = 0.0
    ) -> None:
        self._now = start
        self._end = start + limit
        self._ties = random.Random(seed)
        self.threads = 0
        self.settle = settle
        selector = self.waiter()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-8

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Move the clock; raises Overrun beyond the test's limit."""
        self._now += seconds
        if self._now > self._end:
            raise Overrun(f"the program still runs at t={self._now:.0f} s of virtual time: {self.waiting()}")

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return super().call_at(when + self._ties.random() * 1e-8, callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        self.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: object) -> None:
        self.threads -= 1

    def waiting(self) -> str:
        """Each task that is not done and the line it waits at, for the message of a failed test."""
        lines = []
        for task in asyncio.all_tasks(self):
            frames = task.get_stack(limit=1)
            place = f"{frames[-1].f_code.co_qualname}:{frames[-1].f_lineno}" if frames else "?"
            lines.append(f"{task.get_name()} at {place}")
        return "; ".join(sorted(lines)) or "no task"


class VirtualClock:
    """`ports.Clock` on the running virtual loop (or, for a few real-time tests, on any loop)."""

    def __init__(self, epoch: float = EPOCH) -> None:
        self._epoch = epoch

    def now(self) -> float:
        return self._epoch + asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededRng:
    """`ports.Rng`: the same seed gives the same numbers."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def random(self) -> float:
        return self._random.random()

    def token(self) -> str:
        return f"{self._random.getrandbits(64):016x}"


def run_virtual(
    program: Coroutine[Any, Any, T],
    *,
    seed: int = 0,
    start: float = 0.0,
    limit: float = 200_000.0,
    settle: float = 0.0,
) -> T:
    """Run a coroutine to its end in virtual time and return its result.

    `start`: what the loop's clock shows first (a second daemon starts later than the first one ended).
    `limit`: virtual seconds after which the test fails. `settle`: real seconds to wait for a thread's call
    before each jump, for programs with a thread of their own.
    """
    loop = VirtualLoop(seed, start, limit, settle)
    try:
        return loop.run_until_complete(program)
    finally:
        _close(loop)


def _close(loop: VirtualLoop) -> None:
    """Cancel what still runs, as asyncio.run does, without hiding the test's own failure."""
    rest = asyncio.all_tasks(loop)
    for task in rest:
        task.cancel()
    try:
        if rest:
            loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.threads += 1  # its end is announced by a thread, and the clock must stand still for that too
        loop.run_until_complete(loop.shutdown_default_executor())
    except (Deadlock, Overrun):
        return
    finally:
        loop.close()


@pytest.fixture(name="run_virtual")
def run_virtual_fixture() -> Callable[..., Any]:
    """`run_virtual` as a fixture, for tests that would rather ask for it."""
    return run_virtual
