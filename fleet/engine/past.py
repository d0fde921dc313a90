"""A rollout as it stood at a moment of its past, from the journal alone: the live row, made from what is on record.

The live row is made from a sight: the journal's state, what was observed, and the health seen. Of the past only the journal is
left, so observation and health are what the journal implies: an admitted incarnation runs and is well unless the journal says that
it stopped answering, and a retained one is there. What the journal never knew (how far a download had come, a probe's words between
two events, the fleet file's windows) is not made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.core.decision import Wait
from fleet.core.desired import Pool
from fleet.core.lifecycle import TAKES_DOWN
from fleet.core.observed import Health, Observed, Seen
from fleet.core.planner import why_waiting
from fleet.core.sight import Sight
from fleet.core.state import Rollout, Run, State
from fleet.engine.present import rollout_row, settled_reason

Unwell = Mapping[tuple[str, str], int]
"""(pool, server) -> the incarnation that stopped answering, as the journal says."""


def past_row(state: State, rollout: Rollout, size: int, unwell: Unwell, now: float) -> dict[str, Any]:
    """A RolloutRow of wire.py. `size`: servers of the pool when the rollout began."""
    sight = _sight(state, rollout, size, unwell, now)
    return rollout_row(sight, rollout, {} if rollout.ended else _waits(sight, rollout))


def _waits(sight: Sight, rollout: Rollout) -> Mapping[str, Wait]:
    """Who has not begun, and why. While the rollout is paused no deadline counts for those under way either: they wait, too."""
    standing = {run.server: Wait(settled_reason(run)) for run in rollout.runs.values() if run.active} if rollout.state == "paused" else {}
    return {**standing, **why_waiting(sight, rollout)}


def _sight(state: State, rollout: Rollout, size: int, unwell: Unwell, now: float) -> Sight:
    known = state.pool(rollout.pool)
    pool = _pool(rollout, size, known.driver)
    found: list[Seen] = []
    health: dict[tuple[str, int], Health] = {}
    for name in dict.fromkeys((*pool.server_names, *rollout.runs)):
        server, run = known.server(name), rollout.runs.get(name)
        home = run.home if run else None
        serves = server.admitted
        if serves is None and (home is not None or run is None):  # born before this record begins
            serves = run.source if run is not None and run.source is not None else server.last_number
        if serves is not None and not (run is not None and _down(run)):
            found.append(Seen(name, serves, "", "", "running", 0.0, run.place if run else ""))
            health[name, serves] = Health(unwell.get((rollout.pool, name)) != serves, now, now)
        idle = {run.source} if run is not None and run.planned == "in-place" and run.source is not None else set()
        found += [Seen(name, number, home.digest if home and run and number == run.source else "", "", "stopped", 0.0)
                  for number in {*server.retained, *idle} if number != serves]
    return Sight(pool, state, Observed(rollout.pool, now, tuple(found)), health, {}, now)


def _down(run: Run) -> bool:
    """True from the moment that its incarnation in service was taken away until another one is admitted."""
    if run.step in ("failed", "quarantined"):
        return True
    if not run.active:
        return False
    if run.path in TAKES_DOWN:
        return run.step in ("booting", "proving", "admitting") or (run.step == "stopping" and run.phase == "done")
    return run.path in ("put-back", "fall-back", "clear") and run.step != "admitting"


def _pool(rollout: Rollout, size: int, driver: str) -> Pool:
    """The pool as far as a rollout's row asks for it."""
    in_place = any(run.planned == "in-place" for run in rollout.runs.values())
    return Pool(name=rollout.pool, driver=driver or "sim", servers=len(rollout.runs) if in_place else size, image=rollout.image_to.family,
                rollout=rollout.settings, machines=tuple(rollout.runs) if in_place else (),
                hypervisors=tuple(dict.fromkeys(run.place for run in rollout.runs.values() if run.place)))
