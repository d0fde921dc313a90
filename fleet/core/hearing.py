"""Whether the probes can be relied on: when all servers fall silent at once, the fault is rather the probe's than theirs. Pure.

Rules: what counts as a fault of the probe is held against no server: none fails its proof by it, none is put back for it. Only news
counts: a pool that was silent when a person last decided about the rollout may be repaired.
"""

from __future__ import annotations

from bisect import bisect_left

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
    return min((health.since for health in _well(sight)), default=rollout.told_at)


class Answers:
    """When the servers in service that are well answered, to tell whose silence is his own: somebody else answered between the first and the last
    time that he was asked in vain. Who was the first or the last to be asked when the probes were broken is asked once more.
    """

    def __init__(self, sight: Sight, rollout: Rollout) -> None:
        self._sight = sight
        well = _well(sight)
        self._first = sorted(health.since for health in well)
        self._last = sorted(health.last for health in well)
        self._told_at = rollout.told_at
        self._all_asked = not any(sight.unknown(name) for name in sight.pool.server_names)

    def beside_silence_of(self, server: str) -> bool:
        """True for one that answers, and where nobody does since a person last decided."""
        seen = self._sight.serving(server)
        health = self._sight.health.get((server, seen.number)) if seen else None
        if health is None or health.healthy:
            return True
        if not self._first:
            return self._all_asked and health.last > self._told_at
        all_along = health.last - health.since >= self._sight.gap and self._first[0] <= health.since
        return all_along or any(_within(times, health) for times in (self._first, self._last))


def _well(sight: Sight) -> list[Health]:
    serving = (seen for name in sight.pool.server_names if (seen := sight.serving(name)) is not None)
    return [sight.health[seen.server, seen.number] for seen in serving if sight.healthy(seen.server, seen.number)]


def _within(times: list[float], silence: Health) -> bool:
    at = bisect_left(times, silence.since)
    return at < len(times) and times[at] <= silence.last


__all__ = ["Answers", "fell_silent", "heard_since"]
