"""A plan becomes a rollout: the events that pin everything it will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleet.core.codec import image_out, run_out, settings_out
from fleet.core.desired import Pool
from fleet.core.events import Draft
from fleet.core.planner import reject_note
from fleet.core.proposal import Plan
from fleet.core.state import Approval


def started(plan: Plan, pool: Pool, rollout: str, actor: str, request: str, approved: Sequence[Approval] = (),
            asked: Mapping[str, Any] | None = None) -> tuple[Draft, ...]:
    """`rollout-started`, with the people who approved it and what was `asked` besides (steer.asked_of), and for the rollback of a whole pool the rejection of what it leaves (rollout.md rule 10)."""
    begin = Draft("rollout-started", actor=actor, pool=plan.pool, rollout=rollout, request=request, data={
        "kind": plan.kind, "from": image_out(plan.image_from), "to": image_out(plan.image_to), "plan_hash": plan.hash,
        "settings": settings_out(plan.settings), "servers": pool.servers, "whole": plan.whole, "definition": pool.definition, "driver": pool.driver, "runs": [run_out(run) for run in plan.runs],
        "approvals": [{"by": one.by, "uid": one.uid, "at": one.at} for one in approved], **(asked or {})})
    if plan.kind != "rollback" or not plan.whole or plan.image_from is None or plan.image_from.digest == plan.image_to.digest:
        return (begin,)
    left = plan.image_from
    return (begin, reject_note(plan.pool, rollout, left.digest, left.version, f"rolled back by {actor}", actor))
