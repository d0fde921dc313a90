"""A plan becomes a rollout: the events that pin everything it will do."""

from __future__ import annotations

from fleet.core.codec import image_out, run_out, settings_out
from fleet.core.desired import Pool, definition
from fleet.core.events import Draft
from fleet.core.planner import reject_note
from fleet.core.proposal import Plan


def started(plan: Plan, pool: Pool, rollout: str, actor: str, request: str) -> tuple[Draft, ...]:
    """`rollout-started`, and for the rollback of a whole pool the rejection of what it leaves (rollout.md rule 10)."""
    begin = Draft("rollout-started", actor=actor, pool=plan.pool, rollout=rollout, request=request, data={
        "kind": plan.kind, "from": image_out(plan.image_from), "to": image_out(plan.image_to), "plan_hash": plan.hash,
        "settings": settings_out(plan.settings), "servers": pool.servers, "whole": plan.whole, "definition": definition(pool), "runs": [run_out(run) for run in plan.runs]})
    if plan.kind != "rollback" or not plan.whole or plan.image_from is None or plan.image_from.digest == plan.image_to.digest:
        return (begin,)
    left = plan.image_from
    return (begin, reject_note(plan.pool, rollout, left.digest, left.version, f"rolled back by {actor}", actor))
