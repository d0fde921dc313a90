"""Who is answered next, and how much of the daemon's one thread answering may take: the engine decides on the same one (invariant I35).

Rules:
- Requests are begun one by one. Users take turns, and of one user the processes do, whatever each of them asks for: one that asks a thousand
  times, or in a hundred processes, is as far from its next turn as one that asks once.
- What an answer takes of the loop is measured, step by step, and for as long the next request waits: answering takes half of the loop at most. A
  process that has more requests waiting waits so many times as long. No rest is longer than REST, so that a pause comes through always.
- A stream takes a turn for every AT_ONCE of its items: reading the past is work, keeping up is next to none.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from fleet.api.peers import Peer

T = TypeVar("T")
Key = tuple[int, int]
"""A process as the kernel named it: uid, pid."""
REST = 0.5
AT_ONCE = 50


def process(peer: Peer | None) -> Key:
    """Whose a connection is; those that the kernel does not name are one."""
    return (peer.uid, peer.pid) if peer is not None else (-1, 0)


@dataclass(slots=True)
class _Line:
    """The requests of one process that were not begun, and until when it rests."""

    turns: deque[asyncio.Future[None]] = field(default_factory=deque)
    until: float = 0.0


class _Steps(Generator[Any, Any, Any]):
    """What is awaited in place of `work`: tells what each step of it took."""

    def __init__(self, work: Coroutine[Any, Any, Any], spent: Callable[[float], None]) -> None:
        self._work, self._spent = work, spent

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def send(self, value: Any) -> Any:
        return self._timed(lambda: self._work.send(value))

    def throw(self, *error: Any) -> Any:
        return self._timed(lambda: self._work.throw(*error))

    def _timed(self, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        try:
            return step()
        finally:
            self._spent(time.perf_counter() - began)


class Turns:
    """The requests that were not begun."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines: dict[Key, _Line] = {}
        self._turn_of: dict[int, int] = {}
        self._count = 0
        self._until = 0.0
        self._due: asyncio.TimerHandle | None = None

    async def take(self, key: Key) -> None:
        """Wait for a turn of that process."""
        turn = self._loop.create_future()
        self._lines.setdefault(key, _Line()).turns.append(turn)
        self._arrange()
        await turn

    async def measured(self, key: Key, work: Coroutine[Any, Any, T]) -> T:
        """Do that work for a process, and count each of its steps."""
        return cast(T, await _Steps(work, lambda seconds: self._spent(key, seconds)))

    def _spent(self, key: Key, seconds: float) -> None:
        now = self._loop.time()
        self._until = min(max(self._until, now) + seconds, now + REST)
        if (line := self._lines.get(key)) is not None:
            line.until = min(max(line.until, now) + seconds * len(line.turns), now + REST)

    def _arrange(self) -> None:
        if not self._lines:
            return
        due = max(self._until, min(line.until for line in self._lines.values()))
        if self._due is not None and due < self._due.when():
            self._due.cancel()
            self._due = None
        if self._due is None:
            self._due = self._loop.call_at(due, self._next)

    def _next(self) -> None:
        """Begin one, if there is a process that has rested; its first step runs before this is called again."""
        self._due, now = None, self._loop.time()
        ready = [key for key, line in self._lines.items() if line.until <= now] if self._until <= now else []
        for key in sorted(ready, key=lambda key: self._turn_of.get(key[0], 0)):  # of one user in their order
            line = self._lines.pop(key)
            turn = line.turns.popleft()
            if line.turns:
                self._lines[key] = line  # behind all the others
            if not turn.done():
                self._count += 1
                self._turn_of[key[0]] = self._count
                turn.set_result(None)
                break
        self._arrange()
