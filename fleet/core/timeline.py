"""How long each step of a server's last replacement took, beside the median of that step in its pool, with its driver. Pure.

A step was long if it took more than twice the median and two seconds more: less is no news to anybody. Nothing is called long before
three were seen. A step counts from when a daemon saw it (a restart begins it anew), as it does where its duration is learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.core import estimate
from fleet.core.lifecycle import PATHS
from fleet.core.state import Rollout, Run, State

TIMES, MORE = 2.0, 2.0
ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A step. how: done | failed | left | now | ahead. `seconds`: None if it is ahead. `median`, `long_from`: None while not known."""

    step: str
    how: str
    since: float | None
    seconds: float | None
    median: float | None
    long_from: float | None

    @property
    def long(self) -> bool:
        return self.seconds is not None and self.long_from is not None and self.seconds > self.long_from


def last_replacement(state: State, pool: str, server: str) -> tuple[Rollout, Run] | None:
    """The newest rollout that did something to the server, of those that are remembered."""
    for rollout in sorted(state.rollouts.values(), key=lambda item: -item.started_at):
        run = rollout.runs.get(server) if rollout.pool == pool else None
        if run is not None and (run.taken or run.active):
            return rollout, run
    return None


def timeline(rollout: Rollout, run: Run, durations: Mapping[str, tuple[float, ...]], now: float, drains: bool = True) -> tuple[Row, ...]:
    """The steps that are over, the one under way, and those that come if all goes well. `drains`: the pool has a hook for it, else that step is passed over."""
    rows = [_row(durations, item.step, item.how, item.since, item.until - item.since) for item in run.taken]
    if rollout.ended or not run.active or run.phase == "failed":
        return tuple(rows)
    passed = {"draining": not drains, "preparing": run.target is not None and run.target.kind == "revive"}
    steps = [step for step in PATHS[run.path] if step == run.step or not passed.get(step)]
    if run.phase in ("doing", "unknown") and run.step in steps:
        rows.append(_row(durations, run.step, "now", run.since, now - run.since))
    behind = steps.index(run.step) + 1 if run.step in steps else 0
    return (*rows, *(_row(durations, step, "ahead") for step in steps[behind:]))


def _row(durations: Mapping[str, tuple[float, ...]], step: str, how: str, since: float | None = None, seconds: float | None = None) -> Row:
    median = estimate.median(durations, step)
    limit = max(TIMES * median, median + MORE) if median is not None and len(durations[step]) >= ENOUGH else None
    return Row(step, how, since, None if seconds is None else max(0.0, seconds), median, limit)


__all__ = ["Row", "last_replacement", "timeline"]
