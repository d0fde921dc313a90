"""Rows for people and scripts: the wire's shapes, made from a sight. Plain data out; nothing here decides anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fleet.core import approvals, checkpoints, estimate, timeline, timing
from fleet.core.auto import Verdict
from fleet.core.decision import Wait
from fleet.core.lifecycle import CELLS
from fleet.core.observed import Image, ImageRef
from fleet.core.proposal import Plan
from fleet.core.runs import boots_since, deadline_of
from fleet.core.sight import Sight, some, span
from fleet.core.slots import Slots
from fleet.core.state import Glass, PoolState, Rollout, Run, Target
from fleet.engine.stops import stops

Row = dict[str, Any]
LAST_MOMENT = 253_402_300_800.0
"""The year 10000."""


def moment(at: float | None) -> str | None:
    """Engine time as RFC 3339 UTC, whole seconds; None also for a time that no calendar has, which only a machine can claim."""
    return None if at is None or not 0 <= at < LAST_MOMENT else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def server_row(sight: Sight, name: str, waits: Mapping[str, Wait]) -> Row:
    """A ServerRow of wire.py."""
    known, serving = sight.known(name), sight.serving(name)
    health = sight.health.get((name, serving.number)) if serving else None
    facts = sight.facts.get((name, serving.number)) if serving else None
    wait = waits.get(name)
    unreachable = sight.unreachable(name)
    return {
        "name": name, "pool": sight.pool.name, "uuid": serving.uuid if serving else "",
        "incarnation": serving.number if serving else None, "version": serving.version if serving else None,
        "digest": serving.digest if serving else None, "born_at": moment(serving.born_at) if serving and serving.born_at else None,
        "age_seconds": round(sight.now - serving.born_at, 1) if serving and serving.born_at else None,
        "state": server_state(sight, name), "healthy": sight.available(name), "health_words": health.words if health else "",
        "root": facts.root if facts else "unknown", "address": serving.address if serving else "", "hypervisor": sight.place(name),
        "held": known.held, "tainted": list(known.tainted), "unlocked": unlocked_row(known.glass),
        "retained": retained_rows(sight, name),
        "reason": wait.reason if wait else f"{sight.place(name)} does not answer: {unreachable}" if unreachable else _run_reason(sight, name),
    }


def unlocked_row(glass: Glass | None) -> Row | None:
    """Until when its root may be written, by whom and why; None where no glass is broken."""
    return None if glass is None else {"until": moment(glass.until), "by": glass.by, "why": glass.why}


def _run_reason(sight: Sight, name: str) -> str | None:
    run = sight.rollout.runs.get(name) if sight.rollout else None
    if run is None or (run.settled and not run.error):
        return None
    return (run.error or run.reason) or None


def server_state(sight: Sight, name: str) -> str:
    """One of cli.md's server states."""
    run = sight.rollout.runs.get(name) if sight.rollout else None
    if run is not None and (run.active or run.step in ("put-back", "failed", "quarantined")):
        return run.step
    if run is not None and run.step == "waiting" and not (sight.rollout and sight.rollout.ended):
        return "waiting"
    return "serving" if sight.serving(name) is not None else "absent"


def retained_rows(sight: Sight, name: str) -> list[Row]:
    """What rollback could return to, newest first."""
    until = sight.known(name).retained
    return [{"incarnation": number, "version": seen.version, "until": moment(until.get(number, sight.now + sight.pool.rollout.retain))}
            for number, seen in sorted(sight.retained(name).items(), reverse=True)]


def image_row(state: PoolState, family: str, newest: Image | None) -> Row:
    """The pool's pointers by version."""
    name = {key: ref.version if ref else None for key, ref in (("stable", state.stable), ("target", state.target), ("previous", state.previous))}
    rejected = [{"version": item.version, "digest": digest, "reason": item.reason} for digest, item in state.rejected.items()]
    return {"family": family, **name, "newest": newest.ref.version if newest else None, "rejected": rejected}


def pool_row(sight: Sight, newest: Image | None, trouble: str, auto: Verdict) -> Row:
    """A PoolRow without its servers."""
    pool, state = sight.pool, sight.pool_state
    serving = [seen for name in pool.server_names if (seen := sight.serving(name)) is not None]
    versions: dict[str, int] = {}
    roots: set[str] = set()
    for seen in serving:
        versions[seen.version] = versions.get(seen.version, 0) + 1
        facts = sight.facts.get((seen.server, seen.number))
        roots |= {facts.root} - {"unknown"} if facts else set()
    oldest = min((seen.born_at for seen in serving if seen.born_at), default=None)  # 0.0: a machine from before anew, of unknown age
    unreachable = dict(sight.observed.unreachable) if sight.observed else {}
    if trouble and not unreachable:
        unreachable = {pool.driver: trouble}
    healthy = pool.servers - len(sight.missing)
    return {
        "name": pool.name, "driver": pool.driver, "mode": pool.mode, "size": pool.servers, "healthy": healthy, "available": healthy,
        "image": image_row(state, pool.image, newest), "versions": dict(sorted(versions.items())),
        "root": roots.pop() if len(roots) == 1 else "mixed" if roots else "unknown", "root_wanted": pool.root,
        "data": [disk.name for disk in pool.data], "oldest_age_seconds": None if oldest is None else round(sight.now - oldest, 1),
        "oldest_born_at": moment(oldest), "max_age_seconds": pool.max_age, "rollout": state.rollout, "generation": state.generation,
        "unreachable": unreachable, "surplus": list(sight.surplus), "due": auto.due, "auto": auto.waits, "after": list(pool.after),
        "proposal": proposal_row(sight),
    }


def proposal_row(sight: Sight) -> Row | None:
    """A ProposalRow of the plan that waits for approval, None if none does."""
    proposal = approvals.pending(sight.state, sight.pool, sight.now)
    if proposal is None:
        return None
    given = approvals.given(proposal, sight.pool, sight.now)
    needed = approvals.needed(sight.pool, proposal.kind)
    return {
        "hash": proposal.hash, "pool": proposal.pool, "kind": proposal.kind, "from": proposal.image_from.version if proposal.image_from else None,
        "to": proposal.image_to.version, "author": proposal.author, "at": moment(proposal.at), "expires_at": moment(approvals.ends_at(proposal, sight.pool)),
        "servers": sum(run.action in ("replace", "birth") for run in proposal.runs), "needed": needed, "left": max(0, needed - len(given)),
        "approvals": [{"by": one.by, "at": moment(one.at), "expires_at": moment(one.at + sight.pool.approval_expiry)} for one in given],
    }


def _needs(sight: Sight, plan: Plan) -> Row:
    """What a start of the plan needs. `approved_by`: who approved this very plan, if it waits."""
    proposal = approvals.pending(sight.state, sight.pool, sight.now)
    given = approvals.given(proposal, sight.pool, sight.now) if proposal and proposal.hash == plan.hash else ()
    return {"approvals": approvals.needed(sight.pool, plan.kind), "typed_number": plan.typed_number, "approved_by": [one.by for one in given],
            "approvals_left": approvals.approvals_left(sight.state, sight.pool, plan.hash, sight.now, plan.kind),
            "proposed_by": proposal.author if proposal and proposal.hash == plan.hash else ""}


def run_row(sight: Sight, rollout: Rollout, run: Run, waits: Mapping[str, Wait]) -> Row:
    """A RunRow."""
    wait = waits.get(run.server)
    deadline = None
    if run.active and not rollout.ended and not (wait and rollout.state == "paused"):
        limit = boots_since(sight, run) + rollout.settings.healthy_deadline if run.step == "proving" else run.since + deadline_of(run.step, run.path, rollout)
        deadline = moment(limit)
    step = shown_step(run)
    return {
        "name": run.server, "step": step, "cell": CELLS.get(step, "?"), "path": run.path, "canary": run.canary,
        "since": moment(run.since) if run.since else None, "reason": wait.reason if wait and not rollout.ended else settled_reason(run),
        "error": run.error, "last_words": run.last_words[-2000:], "deadline": deadline,
    }


def replacement_row(sight: Sight, server: str) -> Row | None:
    """A ReplacementRow: the server's last replacement, step by step. None if none is remembered."""
    found = timeline.last_replacement(sight.state, sight.pool.name, server)
    if found is None:
        return None
    rollout, run = found
    steps = [{"step": row.step, "how": row.how, "since": moment(row.since), "seconds": _rounded(row.seconds), "median_seconds": _rounded(row.median),
              "long_from_seconds": _rounded(row.long_from), "long": row.long} for row in timeline.timeline(
                  rollout, run, sight.pool_state.durations, sight.now, bool(sight.pool.hooks.drain))]
    return {"rollout": rollout.id, "kind": rollout.kind, "from": run.home.version if run.home else None, "to": rollout.image_to.version,
            "state": shown_step(run), "active": run.active and not rollout.ended, "ended_at": moment(run.changed_at) if run.settled else None,
            "seconds": _rounded(run.changed_at - run.taken[0].since) if run.settled and run.taken else None,
            "error": run.error, "last_words": run.last_words[-2000:], "steps": steps}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def shown_step(run: Run) -> str:
    """The step that people are told: who is only skipped or held takes none."""
    return "skipped" if run.action == "skip" else "held" if run.action == "hold" else run.step


def settled_reason(run: Run) -> str:
    """A run that is over speaks of how it ended, not of the last step it took."""
    if run.step == "serving":
        return "done"
    if run.step == "put-back" and run.error:
        return f"put back: {run.error}"
    return run.reason


def rollout_row(sight: Sight, rollout: Rollout, waits: Mapping[str, Wait], only: set[str] | None = None) -> Row:
    """A RolloutRow; with `only`, `servers` holds just those and "partial" is true."""
    durations, settings = sight.pool_state.durations, rollout.settings
    live = not rollout.ended
    moving = rollout.state in ("canary", "rolling", "rolling-back")
    stands = timing.standing(sight, rollout)
    eta, low, high = estimate.remaining(rollout, durations, sight.now) if moving and not stands else (None, None, None)
    runs = [run for run in rollout.runs.values() if only is None or run.server in only]
    stop = checkpoints.ahead_of(rollout)
    counts = dict(Counter(map(shown_step, rollout.runs.values())))
    row = {
        "id": rollout.id, "pool": rollout.pool, "kind": rollout.kind, "image": rollout.image_to.family,
        "from": rollout.image_from.version if rollout.image_from else None, "to": rollout.image_to.version,
        "state": rollout.state, "reason": rollout.reason, "waits": stands,
        "checkpoint": {"percent": stop[0], "servers": stop[1]} if stop else None, "opens_at": moment(checkpoints.opens_at(rollout)),
        "ending": rollout.ending, "author": rollout.author, "plan_hash": rollout.plan_hash,
        "started_at": moment(rollout.started_at), "ended_at": moment(rollout.ended_at),
        "eta_seconds": eta, "eta_low_seconds": low, "eta_high_seconds": high,
        "typical_seconds": {step: round(estimate.typical(durations, step, settings), 1) for step in durations},
        "budget": _budget(sight, rollout), "counts": counts, "failures": rollout.failures, "max_failures": settings.max_failures,
        "outside": rollout.outside, "outside_by": rollout.outside_by, "changed": rollout.changed,
        "on_disconnect": settings.on_disconnect, "driven_by": rollout.driven_by,
        "min_healthy_seconds": settings.min_healthy_time, "promotion": settings.promotion,
        "rollback_cost": rollback_cost(sight, rollout) if live else "", "approvals": [one.by for one in rollout.approvals],
        "servers": [run_row(sight, rollout, run, waits) for run in runs],
    }
    if only is not None:
        row["partial"] = True
    return row


def _budget(sight: Sight, rollout: Rollout) -> Row:
    limits = {"max_surge": rollout.budget.surge, "max_unavailable": rollout.budget.unavailable}
    if rollout.ended:
        return {**limits, "in_flight": 0, "surge_used": 0, "missing": len(sight.missing)}
    slots = Slots(sight, rollout)
    return {**limits, "in_flight": slots.in_flight, "surge_used": sum(slots.extra.values()), "missing": len(sight.missing)}


def rollback_cost(sight: Sight, rollout: Rollout) -> str:
    """What a rollback would take now, in words: which servers from retained incarnations, which by re-birth, how long. "" where there is none."""
    if rollout.kind in ("rollback", "birth") or rollout.state == "rolling-back":
        return ""
    back = [run for run in rollout.runs.values() if run.step == "serving" or (run.active and run.target is not None)]
    if not back:
        return "nothing to undo"
    lost = {run.server: home for run in back if (home := no_way_home(sight, rollout, run))}
    retained = [run for run in back if run.active or home_retained(sight, run)]
    seconds = [seconds_back(sight, rollout, run) for run in back if run.server not in lost]
    slots = rollout.budget.surge + rollout.budget.unavailable
    rebirths = len(back) - len(retained) - len(lost)
    parts = [f"{len(retained)} from retained"] * bool(retained or not lost) + [f"{rebirths} by re-birth"] * bool(rebirths)
    if lost:
        parts.append(f"{len(lost)} not at all ({some(lost)}: image {lost[min(lost)]} is not catalogued)")
    how = " from retained" if len(retained) == len(back) else ", " + ", ".join(parts)
    return f"{len(back)} server{'s' if len(back) > 1 else ''}{how}, about {span(estimate.schedule(seconds, slots))}"


def seconds_back(sight: Sight, rollout: Rollout, run: Run) -> float:
    """How long it usually takes to bring one server back; nothing is brought to it for an incarnation that is retained."""
    retained = Target("revive", 0, rollout.image_to) if run.active or home_retained(sight, run) else None
    return estimate.path_seconds(run.planned or "birth", retained, sight.pool_state.durations, rollout.settings)


def ways_back(ways: Sequence[tuple[str, str, float]]) -> list[str]:
    """(server, revive or birth, seconds) of a rollback, a line for each way: who goes back by it, and how long each of them takes."""
    said = []
    for kind, words in (("revive", "from retained incarnations"), ("birth", "by re-birth")):
        mine = [(name, seconds) for name, how, seconds in ways if how == kind]
        if mine:
            who = ", ".join(name for name, _ in mine) if len(mine) <= 3 else f"{mine[0][0]}, {mine[1][0]} and {len(mine) - 2} more"
            said.append(f"{words}: {who}, about {span(max(seconds for _, seconds in mine))}{' each' if mine[1:] else ''}")
    return said


def home_retained(sight: Sight, run: Run) -> bool:
    """True if an incarnation of the image that the server had is still retained."""
    return run.home is not None and any(seen.digest == run.home.digest for seen in sight.retained(run.server).values())


def no_way_home(sight: Sight, rollout: Rollout, run: Run) -> ImageRef | None:
    """The image that a rollback would have to bring a server back to, and cannot: none of it is retained there, and it is not catalogued."""
    home = run.home or rollout.image_from
    if home is None or run.active or home_retained(sight, run) or home.digest in sight.images:
        return None
    return home


def plan_row(sight: Sight, plan: Plan, settings_note: list[str]) -> Row:
    """A PlanFrame."""
    servers = []
    for run, seconds in zip(plan.runs, plan.estimates, strict=True):
        acting = run.action in ("replace", "birth")
        back = "" if not acting or run.action == "birth" else "retained" if plan.settings.retain > 0 else "rebirth"
        servers.append({
            "name": run.server, "action": run.action, "reason": run.reason, "from": run.home.version if run.home else None,
            "to": plan.image_to.version if acting else None, "order": run.planned, "canary": run.canary,
            "how": run.target.kind if run.target and acting else "", "data_kept": [disk.name for disk in sight.pool.data] if acting else [],
            "rollback": back, "estimate_seconds": round(seconds, 1)})
    return {
        "pool": plan.pool, "kind": plan.kind, "from": plan.image_from.version if plan.image_from else None, "to": plan.image_to.version,
        "digest": plan.image_to.digest, "hash": plan.hash, "generation": sight.pool_state.generation,
        "budget": {"max_surge": plan.budget.surge, "max_unavailable": plan.budget.unavailable}, "servers": servers,
        "blast": {"servers": len(plan.acting), "domains": plan.domains, "worst_loss": plan.worst_loss},
        "needs": _needs(sight, plan), "estimate_seconds": round(plan.estimate, 1),
        "summary": [*_summary(sight, plan), *stops(sight, plan), *settings_note],
    }


def _range_of(sight: Sight, plan: Plan) -> list[str]:
    low, high = (span(plan.estimate * share) for share in estimate.spread(sight.pool_state.durations))
    return [f"most likely between {low} and {high}"] if low != high else []


def _summary(sight: Sight, plan: Plan) -> list[str]:
    count, size = len(plan.acting), sight.pool.servers
    canaries = sum(run.canary for run in plan.runs)
    at_once = []
    if plan.budget.surge and any(run.planned == "create-first" for run in plan.acting):
        at_once.append(f"{plan.budget.surge} extra at a time")
    if plan.budget.unavailable and any(run.planned == "delete-first" for run in plan.acting):
        at_once.append(f"{plan.budget.unavailable} missing at a time")
    if any(run.planned == "in-place" for run in plan.acting):
        at_once.append(f"{plan.budget.unavailable} restart{'s' if plan.budget.unavailable > 1 else ''} at a time")
    decide = "" if not canaries else f", {canaries} canar{'ies' if canaries > 1 else 'y'} then " + (
        "it goes on by itself" if plan.settings.promotion == "auto" or plan.kind == "birth" else "you decide")
    first = f"{count} server{'s' if count > 1 else ''}" + (", " + " and ".join(at_once) if at_once else "") + f", {plan.settings.order} first{decide}"
    floor = max(0, size - max(plan.worst_loss, len(sight.missing)))
    back = "" if plan.kind == "birth" else " · rollback at any time" if plan.kind == "rollout" else ""
    how = [(run.server, run.target.kind, seconds) for run, seconds in zip(plan.runs, plan.estimates, strict=True) if run.target]
    ways = ways_back(how) if plan.kind == "rollback" else []
    ahead = ["the image is brought to the idle slots beforehand, while the servers serve on"] if any(
        run.planned == "in-place" and run.target and run.target.kind == "birth" for run in plan.acting) else []
    return [first, *ways, *ahead, f"at no moment fewer than {floor} of {size} serve · about {span(plan.estimate)}{back}",
            *_range_of(sight, plan)]
