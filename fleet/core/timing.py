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
from fleet.core.windows import Window, last_opening, next_opening, open_until, spoken


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
        return _until("waits: the window is closed", windows, next_opening(windows, sight.now))
    if sight.now + takes > until:
        return _until(f"waits: too little is left of the window, it takes about {span(takes)}", windows, next_opening(windows, until))
    return "", None


def _until(why: str, windows: tuple[Window, ...], opens: float | None) -> tuple[str, float | None]:
    return why if opens is None else f"{why}, opens {spoken(windows, opens, zoned=True)}", opens


def standing(sight: Sight, rollout: Rollout) -> str:
    """"" or why the whole rollout stands before its window, for people: nothing of it is in flight, and who comes next may not be begun."""
    if rollout.state not in ("canary", "rolling") or not sight.pool.windows or any(run.active and not ahead(run) for run in rollout.runs.values()):
        return ""
    first = next((run for run in rollout.runs.values() if not run.settled), None)
    return "" if first is None else barred(sight, rollout, first)[0]


def counts_from(sight: Sight, rollout: Rollout) -> float:
    """Engine time from which the lack of progress counts: time outside the windows is nobody's fault. inf: it does not count now."""
    windows = sight.pool.windows
    if not windows or rollout.outside or rollout.state == "rolling-back":
        return rollout.progress_at
    if open_until(windows, sight.now) is None and not any(run.active and not ahead(run) for run in rollout.runs.values()):
        return inf
    return max(last_opening(windows, sight.now), rollout.progress_at)


__all__ = ["barred", "counts_from", "shut", "standing"]
