"""The breaker of mode auto: too many servers of a pool unwell, and nothing is begun there without a person. Pure.

Rules: a server is unwell if it does not serve now though it did, or stopped answering within the breaker's time. Servers that are
held, or that a rollout took down itself, do not count. A pool of fewer than `at_least` servers is taken as if it had so
many, so that one sick server of two is not half a fleet. Open, it stops: it pauses a running rollout of mode auto, never one of a
person's and never a way back. It closes by a person's start or resume; with no rollout under way also by itself, once every
server was well for the breaker's time without a gap.
"""

from __future__ import annotations

from fleet.core.automatic import AUTHOR
from fleet.core.desired import Breaker
from fleet.core.events import Draft
from fleet.core.lifecycle import BACKWARD, move
from fleet.core.sight import Sight, some, span

PAUSED_BY_IT = ("canary", "awaiting-promotion", "rolling", "checkpoint")


def limit(breaker: Breaker, servers: int) -> int:
    """So many unwell servers open it; never more than the pool has."""
    return min(servers, max(1, -(-breaker.percent * max(servers, breaker.at_least) // 100)))


def unwell(sight: Sight, breaker: Breaker) -> frozenset[str]:
    """The servers that count now."""
    known = sight.pool_state.automatic
    since = max(sight.now - breaker.seconds, known.acknowledged_at)
    silent = {name for name, at in known.silent.items() if at > since}
    sick = {name for name in sight.missing - known.pardoned if _sick(sight, name)}
    return frozenset((silent | sick) & set(sight.pool.server_names)) - sight.held


def _sick(sight: Sight, name: str) -> bool:
    """It served once, and does not now, and not because a rollout took it down."""
    run = sight.rollout.runs.get(name) if sight.rollout else None
    ours = run is not None and run.active and (run.path in BACKWARD or (run.path != "birth" and run.step not in ("waiting", "preparing")))
    return sight.known(name).admitted is not None and not sight.unknown(name) and not ours


def open_reason(sight: Sight) -> str:
    """"" or why mode auto begins nothing here until the breaker closes."""
    return sight.pool_state.automatic.breaker if sight.pool.mode == "auto" and sight.pool.breaker is not None else ""


def notes(sight: Sight) -> tuple[Draft, ...]:
    """What the journal must learn: that it opened (and what it pauses), or that it closed."""
    pool, rollout, breaker = sight.pool, sight.rollout, sight.pool.breaker
    if pool.mode != "auto" or breaker is None:
        return ()
    if sight.pool_state.automatic.breaker:
        if rollout is not None or not _well_again(sight, breaker):
            return ()
        return (Draft("breaker-closed", pool=pool.name, data={"reason": f"every server was well for {span(breaker.seconds)}"}),)
    bad = unwell(sight, breaker)
    if len(bad) < limit(breaker, pool.servers):
        return ()
    reason = f"the breaker: {len(bad)} of {pool.servers} servers unwell within {span(breaker.seconds)} ({some(bad)})"
    opened = Draft("breaker-opened", pool=pool.name, data={"servers": sorted(bad), "reason": reason})
    if rollout is None or rollout.author != AUTHOR or rollout.state not in PAUSED_BY_IT:
        return (opened,)
    return (opened, Draft("rollout-moved", pool=pool.name, rollout=rollout.id, data={
        "cause": "pause", "state": move(rollout.state, "pause"), "reason": f"{reason}; look, then resume or abort"}))


def _well_again(sight: Sight, breaker: Breaker) -> bool:
    """True if every server that ever served was well for the breaker's time, as this daemon saw it."""
    since = sight.pool_state.automatic.opened_at
    for name in sight.pool.server_names:
        seen = sight.serving(name)
        if name in sight.held or (seen is None and sight.known(name).admitted is None):
            continue
        if seen is None or not sight.healthy(name, seen.number):
            return False
        since = max(since, sight.health[name, seen.number].since)
    return sight.now - since >= breaker.seconds


__all__ = ["PAUSED_BY_IT", "limit", "notes", "open_reason", "unwell"]
