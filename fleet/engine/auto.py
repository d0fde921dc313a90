"""Mode auto at work: looks at one pool after each plan, keeps why nothing is begun, and starts what is due as anew itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fleet.core import auto
from fleet.core.automatic import AUTHOR
from fleet.core.events import Draft
from fleet.core.sight import Sight
from fleet.engine.starts import started
from fleet.engine.view import PoolView

if TYPE_CHECKING:
    from fleet.engine.loop import Engine


def review(engine: Engine, view: PoolView, sight: Sight) -> tuple[Draft, ...]:
    """What starts the rollout that is due, () if none is or it must wait; the verdict is in the view. The caller holds the pool's lock."""
    verdict = auto.busy(sight) if sight.rollout is not None else auto.judge(sight, _around(engine, view))
    plan = verdict.plan
    if plan is not None:
        verdict = replace(verdict, plan=None)
    if verdict != view.auto:
        view.auto = verdict
        engine.hub.changed(view.pool.name, "")
    return started(plan, view.pool, engine.rng.token()[:8], AUTHOR, "") if plan is not None else ()


def _around(engine: Engine, view: PoolView) -> auto.Around:
    newest = engine.newest(view.pool)
    return auto.Around(
        fleet=engine.desired.fleet, fleet_size=sum(other.pool.servers for other in engine.views.values()),
        surge=engine.drivers[view.pool.driver].surge, offered=newest.ref if newest else None, first=_first(engine, view))


def _first(engine: Engine, view: PoolView) -> str:
    """Why a pool that comes before this one keeps it waiting, "" if none does. A pool in mode observe is behind on purpose."""
    state = engine.record.state
    for name in view.pool.after:
        other, active = engine.views[name], state.active(name)
        if active is not None:
            return f"waits for pool {name}: rollout {active.id} there is {active.state}"
        if other.pool.mode == "observe":
            continue
        newest = engine.newest(other.pool)
        if state.pool(name).stable is None:
            return f"waits for pool {name}: no image is stable there yet"
        if (image := auto.newer(state.pool(name), engine.images, newest.ref if newest else None)):
            return f"waits for pool {name}: image {image.version} is due there"
    return ""
