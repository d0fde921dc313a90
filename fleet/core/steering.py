"""What may be changed in a rollout under way, and what stands as the plan said. Pure.

Rules: what the plan told a person about each server (who is a canary, in which order, by which path) stands to the end. Pace, limits,
deadlines and stops may be changed, and count from the next decision on. A budget that is lowered below what is in flight takes nothing
back: nobody more is begun until there is room. A setting that could change nothing any more is refused, not taken and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from fleet.core.budget import Budget
from fleet.core.desired import Amount, RolloutSettings
from fleet.core.grammar import format_duration
from fleet.core.lifecycle import TAKES_DOWN
from fleet.core.state import Rollout

PINNED = {
    "canaries": "who goes first was chosen in the plan",
    "order": "the order of the servers was chosen in the plan",
}
ONLY_FORWARD = frozenset({"promotion", "checkpoints", "checkpoint_pause", "max_failures", "on_failure", "on_disconnect"})
NOT_IN_BIRTHS = frozenset({"promotion", "checkpoints", "checkpoint_pause", "on_failure"})


def refusal(rollout: Rollout, names: Iterable[str]) -> str:
    """"" if these settings may be changed in the rollout as it stands, else the sentence why one of them may not."""
    phase = rollout.resume_to or rollout.state
    back = rollout.kind == "rollback" or phase == "rolling-back"
    for name in names:
        if name in PINNED:
            return f"{name} cannot change in mid-rollout: {PINNED[name]}; abort and start another rollout to choose anew"
        if back and name in ONLY_FORWARD:
            return f"{name} means nothing on the way back: a rollback has no canaries, checkpoints or limit of failures, and no lost terminal stops it"
        if rollout.kind == "birth" and name in NOT_IN_BIRTHS:
            return f"{name} means nothing in a birth: it has no old image, so nobody is asked and nothing is gone back to"
        if name == "promotion" and phase not in ("planned", "canary"):
            return "promotion says what comes after the canaries, and they are over; " + (
                f"`anew rollout promote {rollout.id}` lets it go on" if phase == "awaiting-promotion" else "it has no more effect")
    return ""


def stranded(rollout: Rollout, limits: Budget) -> str:
    """"" or the sentence for a budget under which servers that are left could never be begun by the path of their plan."""
    left = [run for run in rollout.runs.values() if not run.settled and run.action == "replace"]
    for allowed, key, paths in ((limits.surge, "max_surge", {"create-first"}), (limits.unavailable, "max_unavailable", TAKES_DOWN)):
        names = [run.server for run in left if run.planned in paths]
        if names and not allowed:
            more = f" and {len(names) - 1} more" if names[1:] else ""
            return (f"{key} cannot become 0 in mid-rollout: {names[0]}{more} go {rollout.runs[names[0]].planned}, as the plan said; "
                    "abort and start another rollout for another path")
    return ""


def idle(rollout: Rollout, limits: Budget) -> str:
    """"" or a remark on a raised budget that nobody who is left can use."""
    left = {run.planned for run in rollout.runs.values() if not run.settled}
    if limits.surge > rollout.budget.surge and not left & {"create-first", "birth"}:
        return "; nobody left goes create-first, so no extra ones will be made"
    if limits.unavailable > rollout.budget.unavailable and not left & {*TAKES_DOWN, "birth"}:
        return "; everybody left goes create-first, so nobody more will be missing"
    return ""


def changes(before: RolloutSettings, after: RolloutSettings) -> dict[str, list[str]]:
    """name -> [was, is], as they are written, of the settings that differ."""
    pairs = {field.name: (getattr(before, field.name), getattr(after, field.name)) for field in fields(RolloutSettings)}
    return {name: [written(was), written(now)] for name, (was, now) in pairs.items() if was != now}


def written(value: object) -> str:
    """A setting as an override writes it."""
    if value is None:
        return "manual"
    if isinstance(value, tuple):
        return ",".join(f"{point}%" for point in value) or "none"
    if isinstance(value, float):
        return format_duration(value)
    assert isinstance(value, int | str | Amount)
    return str(value)


def told(changed: dict[str, list[str]]) -> str:
    """The changes as a phrase: `max_unavailable 1 → 2, retain 24h → 2h`."""
    return ", ".join(f"{name} {was} → {now}" for name, (was, now) in changed.items())


__all__ = ["changes", "idle", "refusal", "stranded", "told", "written"]
