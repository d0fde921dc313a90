"""How long steps take: the median of the last 20 of this pool, or a modest guess until one was seen. All in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from heapq import heapreplace
from types import MappingProxyType

from fleet.core.desired import RolloutSettings
from fleet.core.lifecycle import PATHS
from fleet.core.state import Rollout, Run, Target

GUESS: Mapping[str, float] = MappingProxyType({
    "preparing": 1.0, "booting": 2.0, "proving": 15.0, "admitting": 0.5, "draining": 0.5, "stopping": 2.0, "retiring": 2.0,
})


GUESS_OF_METAL: Mapping[str, float] = MappingProxyType({**GUESS, "preparing": 60.0, "booting": 120.0})
"""A machine writes a slot of some gigabytes, and its firmware takes its time."""


def _usual(durations: Mapping[str, tuple[float, ...]], settings: RolloutSettings, path: str) -> dict[str, float]:
    """step -> its usual duration, found once for all runs of a rollout."""
    return {step: typical(durations, step, settings, path) for step in GUESS}


def typical(durations: Mapping[str, tuple[float, ...]], step: str, settings: RolloutSettings, path: str = "") -> float:
    """The usual duration of a step; proving never less than min_healthy_time."""
    known = durations.get(step, ())
    guess = GUESS_OF_METAL if path in ("in-place", "fall-back") else GUESS
    value = _quantile(known, 0.5) if known else guess[step]
    return max(value, settings.min_healthy_time) if step == "proving" else value


def median(durations: Mapping[str, tuple[float, ...]], step: str) -> float | None:
    """What the step took in the middle of the last 20, None before any."""
    known = durations.get(step, ())
    return _quantile(known, 0.5) if known else None


def path_seconds(path: str, target: Target | None, durations: Mapping[str, tuple[float, ...]], settings: RolloutSettings) -> float:
    """The usual duration of a whole path; a revived target needs no preparing."""
    steps = [step for step in PATHS[path] if not (step == "preparing" and target and target.kind == "revive")]
    return sum(typical(durations, step, settings, path) for step in steps)


def schedule(lengths: Iterable[float], slots: int) -> float:
    """How long a row of replacements takes when `slots` of them may be under way at once (list scheduling)."""
    free = [0.0] * max(1, slots)
    for length in lengths:
        heapreplace(free, free[0] + length)
    return max(free)


def remaining(rollout: Rollout, durations: Mapping[str, tuple[float, ...]], now: float) -> tuple[float, float, float]:
    """(eta, low, high) in seconds until every server is settled, by the spread of measured step times."""
    slots = max(1, rollout.budget.surge + rollout.budget.unavailable)
    usual = _usual(durations, rollout.settings, next((run.planned for run in rollout.runs.values() if run.planned), ""))
    fresh: dict[tuple[str, str], float] = {}
    lengths = sorted((_left_of(run, usual, fresh, now) for run in rollout.runs.values() if not run.settled), reverse=True)
    if not lengths:
        return 0.0, 0.0, 0.0
    middle = schedule(lengths, slots)
    low, high = spread(durations)
    return middle, middle * low, middle * high


def left_of(run: Run, durations: Mapping[str, tuple[float, ...]], settings: RolloutSettings, now: float) -> float:
    """Seconds the run still needs, as things usually go."""
    return _left_of(run, _usual(durations, settings, run.path), {}, now)


def _left_of(run: Run, usual: Mapping[str, float], fresh: dict[tuple[str, str], float], now: float) -> float:
    """`fresh` remembers what a run needs that has not begun: (path, kind of target) -> seconds."""
    steps = PATHS[run.path]
    if run.step not in steps:
        kind = run.path, run.target.kind if run.target else ""
        if kind not in fresh:
            fresh[kind] = sum(usual[step] for step in steps if not (step == "preparing" and kind[1] == "revive"))
        return fresh[kind]
    position = steps.index(run.step)
    return sum(usual[step] for step in steps[position + 1:]) + max(0.0, usual[run.step] - (now - run.since))


def spread(durations: Mapping[str, tuple[float, ...]]) -> tuple[float, float]:
    """What to multiply an estimate by for its low and its high end: as servers proved themselves so far, or a guess until three did."""
    known = durations.get("proving", ())
    middle = _quantile(known, 0.5) if known else 0.0
    if len(known) < 3 or middle <= 0.0:
        return 0.7, 1.6
    return max(0.3, _quantile(known, 0.1) / middle), min(4.0, max(1.05, _quantile(known, 0.9) / middle))


@lru_cache(maxsize=1024)
def _quantile(values: tuple[float, ...], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
