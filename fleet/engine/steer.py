"""What a person changes in a rollout under way: its settings, its windows, who drives it. From requests to the journal's words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fleet import settings
from fleet.core import budget, steering
from fleet.core.codec import settings_out
from fleet.core.desired import Pool, RolloutSettings
from fleet.core.errors import Invalid, Refused
from fleet.core.events import Draft
from fleet.core.printable import printable
from fleet.core.state import Rollout
from fleet.engine.loop import Engine
from fleet.engine.plans import unknown

Request = Mapping[str, Any]


def set_note(engine: Engine, pool: Pool, rollout: Rollout, actor: str, request: Request) -> tuple[Draft, str]:
    """The event of `rollout set`, and its sentence for the person. Raises Refused or Invalid with the reason; nothing was changed then."""
    if rollout.ended or rollout.ending:
        how = "was aborted and only finishes what is in flight" if rollout.ending and not rollout.ended else f"is {rollout.state}"
        raise Refused(f"rollout {rollout.id} {how}; nothing of it can be changed", where=rollout.id, code="wrong-state")
    given: Mapping[str, str] = request.get("overrides") or {}
    outside = outside_of(pool, request, back=_goes_back(rollout))
    if not given and not outside:
        raise Invalid("name at least one setting to change, such as --max-unavailable 2", where="rollout set", code="usage")
    if given and rollout.approvals:
        raise Refused(f"{', '.join(one.by for one in rollout.approvals)} approved this plan with its settings, which nobody changes alone; "
                      "pause it, or abort and propose another plan", where=rollout.id, code="approved")
    if why := steering.refusal(rollout, (name.removeprefix("--").replace("-", "_") for name in given)):
        raise Refused(why, where=rollout.id, code="fixed-setting")
    after = settings.override(replace(pool, rollout=rollout.settings), given).rollout
    changed = steering.changes(rollout.settings, after)
    if not changed and not outside:
        raise Refused("these are its settings already; nothing was changed", where=rollout.id, code="no-change")
    limits = rollout.budget
    if changed.keys() & {"max_surge", "max_unavailable"}:
        limits = budget.resolve(after.max_surge, after.max_unavailable, pool.servers)
        if "max_surge" in changed and after.max_surge.value and (pool.in_place or not engine.drivers[pool.driver].surge):
            raise Refused(f"max_surge stays 0: pool {pool.name} cannot run old and new side by side", where=rollout.id, code="budget")
        if why := steering.stranded(rollout, limits):
            raise Refused(why, where=rollout.id, code="fixed-path")
    said = ", ".join(part for part in (steering.told(changed), "now outside the windows" if outside else "") if part)
    note = Draft("rollout-set", actor=actor, pool=rollout.pool, rollout=rollout.id, request=str(request.get("request", "")), data={
        "changed": changed, "settings": settings_out(after), "budget": {"surge": limits.surge, "unavailable": limits.unavailable},
        **({"outside": outside} if outside else {})})
    return note, f"rollout {rollout.id}: {said}{steering.idle(rollout, limits)}"


def _goes_back(rollout: Rollout) -> bool:
    return rollout.kind == "rollback" or "rolling-back" in (rollout.state, rollout.resume_to)


def outside_of(pool: Pool, request: Request, *, back: bool = False) -> str:
    """Why a person lets the rollout go on outside the pool's windows; "" if nobody asked for that. Raises for a reason that is none."""
    if request.get("outside") is None:
        return ""
    why = printable(str(request["outside"])).strip()
    if not why:
        raise Invalid("say why the windows are not kept, for the colleague who finds it in the journal", where="outside-windows")
    if not pool.windows:
        raise Refused(f"pool {pool.name} has no windows, so there is nothing to be outside of; leave --outside-windows out",
                      where=f"pools.{pool.name}.windows", code="no-windows")
    if back:
        raise Refused("the way back is never barred by windows; leave --outside-windows out", where=pool.name, code="no-windows")
    return why


def asked_of(pool: Pool, request: Request, rules: RolloutSettings, *, back: bool = False) -> dict[str, Any]:
    """What a command carries besides: the reason to go outside the windows; that a terminal will drive the rollout, where that counts."""
    outside = outside_of(pool, request, back=back)
    driven = bool(request.get("driven")) and rules.on_disconnect == "pause"
    return {**({"outside": outside} if outside else {}), **({"driven": True} if driven else {})}


@asynccontextmanager
async def driving(engine: Engine, rollout_id: str, actor: str) -> AsyncIterator[None]:
    """A terminal drives a rollout while its stream lasts; "" drives none. The journal is told where that will count."""
    if not rollout_id:
        yield
        return
    rollout = engine.record.state.rollouts.get(rollout_id)
    if rollout is None:
        raise unknown("rollout", rollout_id, list(engine.record.state.rollouts))
    with engine.reins.holding(rollout_id, actor):
        if not rollout.ended and rollout.settings.on_disconnect == "pause" and rollout.driven_by != actor:
            await engine.record.write(Draft("rollout-driven", actor=actor, pool=rollout.pool, rollout=rollout_id))
        yield


__all__ = ["asked_of", "driving", "outside_of", "set_note"]
