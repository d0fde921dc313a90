"""Where a rollout stops to be looked at: after so many percent of its servers, until a person or a pause opens it. Pure.

A server counts from the moment that something is taken from it; one that is only prepared ahead does not.
"""

from __future__ import annotations

from fleet.core.slots import ahead
from fleet.core.state import Rollout, Run


def bound(rollout: Rollout) -> tuple[int, int] | None:
    """(percent, servers): the next checkpoint, and how many servers may be begun before it is open. None if there is none any more."""
    points = rollout.settings.checkpoints
    if rollout.passed >= len(points) or rollout.kind != "rollout":
        return None
    acting = sum(run.action in ("replace", "birth") for run in rollout.runs.values())
    percent = points[rollout.passed]
    allowed = -(-percent * acting // 100)
    return None if allowed >= acting else (percent, allowed)


def begun(rollout: Rollout) -> int:
    """Servers that something was taken from, or given to, in this rollout."""
    return sum(_begun(run) for run in rollout.runs.values())


def _begun(run: Run) -> bool:
    return run.action in ("replace", "birth") and run.step not in ("waiting", "skipped") and not ahead(run)


def closed(rollout: Rollout, more: int = 0) -> str:
    """"" if another server may be begun before the next checkpoint, else the reason why not. `more`: begun in this decision."""
    limit = bound(rollout)
    if limit is None or begun(rollout) + more < limit[1]:
        return ""
    return f"waits for the checkpoint at {limit[0]}%"


def reached(rollout: Rollout) -> str:
    """"" or the sentence for a rollout that has come to its next checkpoint: all that may be begun is, and is settled."""
    limit = bound(rollout)
    if limit is None or rollout.state != "rolling" or begun(rollout) < limit[1]:
        return ""
    if any(run.active and not ahead(run) for run in rollout.runs.values()):
        return ""
    return f"checkpoint at {limit[0]}%: {limit[1]} servers done; " + _then(rollout)


def _then(rollout: Rollout) -> str:
    pause = rollout.settings.checkpoint_pause
    return "promote to go on" if pause is None else f"it goes on by itself after {pause:g}s"


def opens_at(rollout: Rollout) -> float | None:
    """Engine time at which the checkpoint opens by itself; None if a person must open it, or it is at none."""
    pause = rollout.settings.checkpoint_pause
    return rollout.moved_at + pause if rollout.state == "checkpoint" and pause is not None else None


__all__ = ["begun", "bound", "closed", "opens_at", "reached"]
