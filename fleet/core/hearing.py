"""Whether the probes can be relied on: when all servers fall silent at once, the fault is rather the probe's than theirs. Pure.

Rules: what counts as a fault of the probe is held against no server: none fails its proof by it, none is put back for it. Only news
counts: a pool that was silent when a person last decided about the rollout may be repaired.
"""

from __future__ import annotations

from fleet.core.observed import Health, Seen
from fleet.core.sight import Sight
from fleet.core.state import Rollout


def fell_silent(sight: Sight, rollout: Rollout) -> int:
    """How many servers stopped answering at once: all that run in service, several or the last one of a pool of more; else 0.
    Who is silent since we booted it tells nothing about the probes.
    """
    if len(sight.missing) < sight.pool.servers:
        return 0
    serving = [seen for name in sight.pool.server_names if (seen := sight.serving(name)) is not None and not _rebooted(rollout, seen)]
    if not serving or sight.pool.servers < 2 or any(sight.healthy(seen.server, seen.number) for seen in serving):
        return 0
    told = [sight.health.get((seen.server, seen.number)) for seen in serving]
    since = [health.since for health in told if health is not None and health.since > rollout.told_at]
    return len(serving) if len(since) == len(serving) and max(since) - min(since) <= sight.gap else 0


def _rebooted(rollout: Rollout, seen: Seen) -> bool:
    """True for one in service that this rollout starts again, and that did not answer since."""
    run = rollout.runs.get(seen.server)
    return (run is not None and run.step in ("booting", "proving") and not run.flaps
            and run.target is not None and run.target.number == seen.number)


def heard_since(sight: Sight, rollout: Rollout) -> float:
    """Engine time since when silence counts against a server: some server has answered all along since then. If none answers, a person
    knew that when he last decided.
    """
    well: list[Health] = []
    for name in sight.pool.server_names:
        seen = sight.serving(name)
        if seen is not None and sight.healthy(name, seen.number):
            well.append(sight.health[name, seen.number])
    return min((health.since for health in well), default=rollout.told_at)


def not_asked_since(sight: Sight, server: str, heard: float) -> bool:
    """True if all that is known of the server is a silence from before `heard` (as above): who fell silent with everybody else is asked once
    more before he is taken for a sick one.
    """
    seen = sight.serving(server)
    health = sight.health.get((server, seen.number)) if seen else None
    return health is not None and not health.healthy and health.last <= heard


__all__ = ["fell_silent", "heard_since", "not_asked_since"]
