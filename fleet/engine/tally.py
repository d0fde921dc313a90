"""Counts what happened, from the journal's rows: replayed at the start and heard ever after, so that counters outlive a daemon.

What it keeps is bounded by the pools, the tables of steps and states, and the steps under way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fleet.core.events import Event
from fleet.core.lifecycle import ENDED, VERBS

STEP_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
STEPS = (*VERBS, "burying")
KINDS = ("rollout", "rollback", "birth")
OTHER = "other"
"""What a row of a later release says that this one does not know."""


class Histogram:
    """How many values fell below each bound, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(slots=True)
class _Open:
    """A step that was begun and has no outcome yet. `since` as the fold has it: time that no daemon saw does not count."""

    pool: str
    step: str
    rollout: str
    since: float


class Tally:
    """`count` takes each row once, in order. All keys are pools first."""

    def __init__(self) -> None:
        self.started: Counter[tuple[str, str]] = Counter()
        self.ended: Counter[tuple[str, str, str]] = Counter()
        self.steps: dict[tuple[str, str], Histogram] = {}
        self.step_failures: Counter[tuple[str, str]] = Counter()
        self.unhealthy: Counter[str] = Counter()
        self.refused = 0
        self.warnings = 0
        self.blind = 0.0
        self._open: dict[str, _Open] = {}
        self._kinds: dict[str, str] = {}
        self._counts: Mapping[str, Callable[[Event], None]] = {
            "daemon-started": self._daemon_started, "daemon-blind": self._daemon_blind, "rollout-started": self._rollout_started,
            "rollout-ended": self._rollout_ended, "step-begun": self._step_begun, "step-done": self._step_done, "step-failed": self._step_failed,
            "server-unhealthy": self._unhealthy, "command-refused": self._refused, "warning": self._warning,
        }

    def count(self, event: Event) -> None:
        """One more row."""
        heard = self._counts.get(event.type)
        if heard is not None:
            heard(event)

    def _daemon_started(self, event: Event) -> None:
        self._open = {op: step for op, step in self._open.items() if step.rollout}
        self._unseen(event)

    def _daemon_blind(self, event: Event) -> None:
        self.blind += float(event.data.get("seconds", 0.0))
        self._unseen(event)

    def _unseen(self, event: Event) -> None:
        for step in self._open.values():
            step.since = event.at

    def _rollout_started(self, event: Event) -> None:
        kind = _known(event.data.get("kind"), KINDS)
        self._kinds[event.rollout] = kind
        self.started[event.pool, kind] += 1

    def _rollout_ended(self, event: Event) -> None:
        kind = self._kinds.pop(event.rollout, OTHER)
        self.ended[event.pool, kind, _known(event.data.get("state"), ENDED)] += 1
        self._open = {op: step for op, step in self._open.items() if step.rollout != event.rollout}

    def _step_begun(self, event: Event) -> None:
        self._open[str(event.data.get("op"))] = _Open(event.pool, _known(event.data.get("step"), STEPS), event.rollout, event.at)

    def _step_done(self, event: Event) -> None:
        step = self._open.pop(str(event.data.get("op")), None)
        if step is not None:
            self.steps.setdefault((step.pool, step.step), Histogram(STEP_SECONDS)).add(max(0.0, event.at - step.since))

    def _step_failed(self, event: Event) -> None:
        self._open.pop(str(event.data.get("op")), None)
        self.step_failures[event.pool, _known(event.data.get("step"), STEPS)] += 1

    def _unhealthy(self, event: Event) -> None:
        self.unhealthy[event.pool] += 1

    def _refused(self, event: Event) -> None:
        self.refused += 1

    def _warning(self, event: Event) -> None:
        self.warnings += 1


def _known(word: object, words: Iterable[str]) -> str:
    return next((known for known in words if known == word), OTHER)
