"""What turning a running rollout around would do, beforehand: a PlanFrame without a plan (rollout.md rule 9).

Servers on the new image go back, those under way are put back, the rest is not touched. No hash guards it: undoing must
not be refused because the rollout went on while a person was reading.
"""

from __future__ import annotations

from typing import Any

from fleet.core.estimate import schedule
from fleet.core.sight import Sight, span
from fleet.core.state import Rollout, Run
from fleet.engine.present import home_retained, no_way_home, rollback_cost, seconds_back, ways_back


def turnaround_row(sight: Sight, rollout: Rollout) -> dict[str, Any]:
    """A PlanFrame of kind `rollback` for a rollout under way."""
    rows = [_row(sight, rollout, run) for run in rollout.runs.values()]
    acting = [row for row in rows if row["action"] == "replace"]
    slots = rollout.budget.surge + rollout.budget.unavailable
    ways = ways_back([(row["name"], row["how"], row["estimate_seconds"]) for row in acting])
    seconds = schedule([row["estimate_seconds"] for row in acting], slots)
    floor = max(0, sight.pool.servers - max(rollout.budget.unavailable, len(sight.missing)))
    home = rollout.image_from
    return {
        "pool": rollout.pool, "kind": "rollback", "from": rollout.image_to.version, "to": home.version if home else "nothing",
        "digest": home.digest if home else "", "hash": rollout.plan_hash, "generation": sight.pool_state.generation,
        "budget": {"max_surge": rollout.budget.surge, "max_unavailable": rollout.budget.unavailable}, "servers": rows,
        "blast": {"servers": len(acting), "domains": len({run.place for run in rollout.runs.values()}),
                  "worst_loss": min(rollout.budget.unavailable, len(acting))},
        "needs": {"approvals": 0, "typed_number": False, "approved_by": [], "approvals_left": 0, "proposed_by": ""}, "estimate_seconds": round(seconds, 1),
        "summary": [f"turns rollout {rollout.id} around: {rollback_cost(sight, rollout)}; {rollout.image_to.version} is then rejected",
                    *ways,
                    f"at no moment fewer than {floor} of {sight.pool.servers} serve · about {span(seconds)}"],
    }


def _row(sight: Sight, rollout: Rollout, run: Run) -> dict[str, Any]:
    back = (run.step == "serving" and not run.reverting) or run.active
    home, lost = run.home or rollout.image_from, no_way_home(sight, rollout, run) if back else None
    back = back and lost is None
    retained = run.active or home_retained(sight, run)
    how = ("revive" if retained else "birth") if back else ""
    reason = "is put back" if run.active else "goes back, " + ("retained" if retained else "by re-birth") if back else "not touched"
    if lost is not None:
        reason = f"nothing to go back to: no incarnation of {lost} is retained there, and the image is not catalogued"
    seconds = seconds_back(sight, rollout, run) if back else 0.0
    return {
        "name": run.server, "action": "replace" if back else "hold" if lost else "skip", "reason": reason, "from": rollout.image_to.version if back else None,
        "to": home.version if home and back else None, "order": run.planned, "canary": False, "how": how,
        "data_kept": [disk.name for disk in sight.pool.data] if back else [], "rollback": "", "estimate_seconds": round(seconds, 1),
    }
