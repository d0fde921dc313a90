"""Where a rollout stops to be looked at: after so many percent of its servers, until a person or a pause opens it. Pure.

A server counts from the moment that something is taken from it; one that is only prepared ahead, or could not be, does not. A
checkpoint that was set when more than its share was begun already lies behind the rollout, and stops nothing.
"""

from __future__ import annotations

from fleet.core.lifecycle import FORWARD
from fleet.core.sight import span
from fleet.core.slots import ahead
from fleet.core.state import Rollout, Run


def bound(rollout: Rollout) -> tuple[int, int] | None:
    """(percent, servers): the next checkpoint, and how many servers may be begun before it is open. None if there is none any more."""
    ahead_of_it = [percent for percent in rollout.settings.checkpoints if percent > rollout.passed]
    if not ahead_of_it or rollout.kind != "rollout":
        return None
    acting, behind = sum(run.action in ("replace", "birth") for run in rollout.runs.values()), begun(rollout)
    points = [(percent, servers_at(percent, acting)) for percent in ahead_of_it]
    return next(((percent, allowed) for percent, allowed in points if behind <= allowed < acting), None)


def ahead_of(rollout: Rollout) -> tuple[int, int] | None:
    """(percent, servers): how many more servers follow until the next checkpoint. None if there is none any more."""
    limit = bound(rollout)
    return None if limit is None or rollout.ended else (limit[0], limit[1] - begun(rollout))


def servers_at(percent: int, acting: int) -> int:
    """How many servers of a rollout over `acting` may be begun before its checkpoint at `percent` is open; all of them: there is no stop."""
    return -(-percent * acting // 100)


def begun(rollout: Rollout) -> int:
    """Servers that something was taken from, or given to, in this rollout."""
    return sum(_begun(run) for run in rollout.runs.values())


def _begun(run: Run) -> bool:
    left_alone = run.step == "skipped" or (run.step == "put-back" and run.path in FORWARD)  # put back by a way back, it was touched
    touched = run.active or (run.settled and not left_alone)  # one that is about to be put back was touched, too
    return run.action in ("replace", "birth") and touched and not ahead(run)


def closed(left: tuple[int, int] | None, more: int = 0) -> str:
    """"" if another server may be begun before the next checkpoint, else the reason why not. `left`: as `ahead_of` tells; `more`: begun
    in this decision.
    """
    return "" if left is None or more < left[1] else f"waits for the checkpoint at {left[0]}%"


def reached(rollout: Rollout) -> tuple[int, str] | None:
    """(percent, sentence) for a rollout that has come to its next checkpoint: all that may be begun is, and is settled."""
    limit = bound(rollout)
    if limit is None or rollout.state != "rolling" or begun(rollout) < limit[1]:
        return None
    if any(run.active and not ahead(run) for run in rollout.runs.values()):
        return None
    return limit[0], f"checkpoint at {limit[0]}%: {limit[1]} servers done; " + _then(rollout)


def _then(rollout: Rollout) -> str:
    pause = rollout.settings.checkpoint_pause
    return "promote to go on" if pause is None else f"it goes on by itself after {span(pause)}"


def opens_at(rollout: Rollout) -> float | None:
    """Engine time at which the checkpoint opens by itself; None if a person must open it, or it is at none."""
    pause = rollout.settings.checkpoint_pause
    return rollout.moved_at + pause if rollout.state == "checkpoint" and pause is not None else None


__all__ = ["ahead_of", "begun", "bound", "closed", "opens_at", "reached", "servers_at"]
