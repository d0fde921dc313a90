"""Tells a case as it is played: each event of the journal, and what the judge says to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleet.core.events import Event
from tests.scenarios.stage import Stage
from tests.sim.world import SimStage

HIDDEN = frozenset({"op", "epoch", "runs", "settings", "plan_hash", "definition", "version", "digest", "facts"})


@contextmanager
def told(tell: Callable[[str], None]) -> Iterator[None]:
    """While it lasts, every event of a case is told."""
    heard = Stage._heard

    def hear(stage: Stage, event: Event) -> None:
        before = len(stage.oracle.broken) if stage.oracle else 0
        heard(stage, event)
        if isinstance(stage, SimStage) and hasattr(stage, "case"):  # and not the birth before it
            tell(_line(event, stage.journal.events[0].at))
            for sentence in stage.oracle.broken[before:]:
                tell(f"          BROKEN {sentence}")

    Stage._heard = hear  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Stage._heard = heard  # type: ignore[method-assign]


def _line(event: Event, start: float) -> str:
    said = ", ".join(f"{name} {value}" for name, value in event.data.items() if name not in HIDDEN and value not in ("", None, {}))
    return f"{event.at - start:9.2f} {event.seq:4} {event.type:20} {event.actor:8} {event.server:7} {said}"[:240]
