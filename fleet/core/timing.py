"""What windows mean for one rollout: who may be begun now, and which time counts. Pure.

Rules: a window bars what has not begun; what is in flight is carried to its end, and the way back is never barred
(rollout.md rules 9 and 13). Nobody is begun whose usual time does not fit into what is left of the window. A person may let a
rollout go on outside of them, with a reason that is journalled.
"""

from __future__ import annotations

from math import inf

from fleet.core import estimate
from fleet.core.sight import Sight, span
from fleet.core.slots import ahead
from fleet.core.state import Rollout, Run
from fleet.core.windows import last_opening, next_opening, open_until


def barred(sight: Sight, rollout: Rollout, run: Run) -> tuple[str, float | None]:
    """("", None) if the windows let this server be begun now, else the reason and the engine time at which it may be."""
    windows = sight.pool.windows
    if not windows or rollout.outside or rollout.kind == "rollback" or rollout.state == "rolling-back":
        return "", None
    return shut(sight, estimate.left_of(run, sight.pool_state.durations, rollout.settings, sight.now))


def shut(sight: Sight, takes: float) -> tuple[str, float | None]:
    """("", None) if the windows let something be begun that takes so many seconds, else the reason and the engine time at which they may."""
    windows = sight.pool.windows
    until = open_until(windows, sight.now)
    if until is None:
        return "waits: the window is closed", next_opening(windows, sight.now)
    if sight.now + takes > until:
        return f"waits: too little is left of the window, it takes about {span(takes)}", next_opening(windows, until)
    return "", None


def counts_from(sight: Sight, rollout: Rollout) -> float:
    """Engine time from which the lack of progress counts: time outside the windows is nobody's fault. inf: it does not count now."""
    windows = sight.pool.windows
    if not windows or rollout.outside or rollout.state == "rolling-back":
        return rollout.progress_at
    if open_until(windows, sight.now) is None and not any(run.active and not ahead(run) for run in rollout.runs.values()):
        return inf
    return max(last_opening(windows, sight.now), rollout.progress_at)


__all__ = ["barred", "counts_from", "shut"]
