"""An in-memory `ports.Journal`: the test double of fleet/store, durable as soon as `append` returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from fleet.core.events import Draft, Event, check_draft
from fleet.ports import Clock


class MemoryJournal:
    """`before_append` and `after_append` are called with the journal's length: the moments at which a daemon may die."""

    def __init__(self, clock: Clock, events: Sequence[Event] = ()) -> None:
        self.events: list[Event] = list(events)
        self.before_append: Callable[[int], None] = lambda length: None
        self.after_append: Callable[[int], None] = lambda length: None
        self._clock = clock

    async def append(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """One commit for all drafts."""
        self.before_append(len(self.events))
        written = [self._add(draft) for draft in drafts]
        self.after_append(len(self.events))
        return tuple(written)

    def _add(self, draft: Draft) -> Event:
        check_draft(draft)
        seq, past = self.tip()
        at = max(self._clock.now(), self.events[-1].at if self.events else 0.0)
        chain = hashlib.sha256(f"{past}{seq + 1}{draft}".encode()).hexdigest()
        event = Event(seq + 1, at, draft.type, draft.actor, draft.pool, draft.server, draft.rollout, dict(draft.data), draft.request, chain)
        self.events.append(event)
        return event

    def read(self, since: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        """Events with seq > since."""
        rest = self.events[since:]
        return tuple(rest if limit is None else rest[:limit])

    async def fetch(self, since: int, limit: int) -> tuple[Event, ...]:
        """Like `read`."""
        return self.read(since, limit)

    def find_request(self, request: str) -> tuple[Event, ...]:
        """The events of a request id."""
        return tuple(event for event in self.events if event.request == request)

    def tip(self) -> tuple[int, str]:
        """(seq, chain) of the last event."""
        return (self.events[-1].seq, self.events[-1].chain) if self.events else (0, "")

    def verify(self) -> str:
        """Memory does not rot."""
        return ""
