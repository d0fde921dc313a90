"""plan(sight) -> Decision: what the engine does next for one pool, with a reason for every action and every wait.

Pure. The engine writes the notes, folds, and plans again until there are none; then it carries out the actions
(engine/loop.py). Order of thought: the rollout's own transitions, then runs under way, then who may start, then what
retention allows to go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf

from fleet.core import approvals, breaker, checkpoints, timing, watchdog
from fleet.core.bench import Bench, redirect, settle
from fleet.core.decision import Action, Decision, Wait
from fleet.core.desired import redefined
from fleet.core.events import Draft
from fleet.core.hearing import fell_silent
from fleet.core.lifecycle import FORWARD, move
from fleet.core.observed import Seen
from fleet.core.runs import advance, enter_next
from fleet.core.sight import Sight, span
from fleet.core.slots import Slots, ahead, revives
from fleet.core.state import Rollout, Run, Server, Target
from fleet.core.wayback import again, forward_path, unwanted

HOUSEKEEPING_DEADLINE = 120.0
TIDY_AGAIN = 60.0, 3600.0
"""Seconds after which tidying up that failed is tried again: at least, and at most. Between them, for as long as it has failed already."""
NAMED_WAITS = 20
"""So many servers at the head of the queue are told what exactly they wait for; the rest wait for their turn."""
THEIR_TURN = Wait("waits for its turn")


def plan(sight: Sight) -> Decision:
    """The next notes or actions of one pool."""
    rollout = sight.rollout
    if sight.observed is None:
        return Decision(look=True)
    if stopped := breaker.notes(sight):
        return Decision(notes=stopped)
    if rollout is None:
        ended = approvals.lapse(sight)
        return Decision(notes=ended) if ended else _housekeep(sight)
    notes = _turn(sight, rollout)
    return Decision(notes=notes) if notes else _work(sight, rollout)


# --- the rollout's own transitions -----------------------------------------------------------------------------------

def _turn(sight: Sight, rollout: Rollout) -> tuple[Draft, ...]:
    if rollout.state == "planned":
        return (_move(rollout, _first_cause(rollout), ""),)
    if broken := watchdog.breach(sight, rollout):
        return (_move(rollout, "pause", broken),)
    failing = _failing(rollout)
    if rollout.state in ("canary", "rolling") and failing is not None:
        return _stop(rollout, failing)
    if rollout.state == "rolling-back":
        turned = tuple(_turn_runs(sight, rollout))
        if turned:
            return turned
    why = _edited(sight, rollout) or _late(sight, rollout) or _deaf(sight, rollout)
    if why:
        return (_move(rollout, "pause", why),)
    return _finish(sight, rollout)


def _first_cause(rollout: Rollout) -> str:
    if rollout.kind == "rollback":
        return "begin-rollback"
    return "begin-canary" if any(run.canary for run in rollout.runs.values()) else "begin"


def _move(rollout: Rollout, cause: str, reason: str, **more: int) -> Draft:
    return Draft("rollout-moved", pool=rollout.pool, rollout=rollout.id,
                 data={"cause": cause, "state": move(rollout.state, cause), "reason": reason, **more})


def _failing(rollout: Rollout) -> Run | None:
    """The failed server that stops the rollout: any canary, or the first beyond max_failures. Who resumed knew of those before."""
    failed = [run for run in rollout.runs.values() if run.error and not (run.reverting or run.again)]
    if not failed:
        return None
    if rollout.failures > rollout.settings.max_failures or any(run.canary or run.step == "quarantined" for run in failed):
        return max(failed, key=lambda run: run.changed_at)
    return None


def _stop(rollout: Rollout, failing: Run) -> tuple[Draft, ...]:
    reason = f"{failing.server} failed: {failing.error}"
    if rollout.settings.on_failure == "rollback" and rollout.kind != "birth":
        return rollback_notes(rollout, reason, "engine")
    return (_move(rollout, "pause", reason),)


def rollback_notes(rollout: Rollout, reason: str, actor: str) -> tuple[Draft, ...]:
    """What turns a rollout around: the transition, and the rejection of its image for this pool (rollout.md rule 10)."""
    moved = _move(rollout, "rollback", reason)
    return (Draft(moved.type, actor=actor, pool=moved.pool, rollout=moved.rollout, data=moved.data),
            reject_note(rollout.pool, rollout.id, rollout.image_to.digest, rollout.image_to.version, reason, actor))


def reject_note(pool: str, rollout: str, digest: str, version: str, reason: str, actor: str) -> Draft:
    """An image that no engine, window, age or channel chooses again for the pool until a person un-rejects it."""
    return Draft("image-rejected", actor=actor, pool=pool, rollout=rollout, data={"digest": digest, "version": version, "reason": reason})


def _turn_runs(sight: Sight, rollout: Rollout) -> Iterator[Draft]:
    """Rolled back: servers not begun are left alone, finished ones go back under the budget, sick ones first."""
    for run in rollout.runs.values():
        more = again(sight, rollout, run)
        if more is not None:
            yield more
        elif rollout.kind == "rollback":
            continue
        elif run.step == "waiting" and not run.reverting and run.path in FORWARD:
            yield settle(rollout, run, "skipped", "not touched, still on the old image")
        elif not run.reverting and (run.step == "serving" or (run.step == "put-back" and unwanted(rollout, run))):
            yield _revert(sight, rollout, run)


def _revert(sight: Sight, rollout: Rollout, run: Run) -> Draft:
    home = run.home or rollout.image_from
    if home is None or run.target is None:
        return settle(rollout, run, "skipped", "nothing to go back to: it was born in this rollout")
    mine = sight.by_server.get(run.server, {})
    went = [number for number, seen in mine.items() if sight.pool.in_place and seen.state == "running" and seen.digest == home.digest]
    if went and went[0] != run.target.number:
        target = Target("revive", went[0], home)
        return redirect(rollout, run, "fall-back", f"it went back to {home.version} by itself", source=run.target.number, target=target, reverting=True)
    retained = [number for number, seen in sight.retained(run.server).items() if seen.digest == home.digest]
    if retained:
        target = Target("revive", max(retained), home)
    elif home.digest in sight.images:
        target = Target("birth", sight.highest(run.server) + 1, home)
    else:
        return settle(rollout, run, "quarantined", f"nothing to go back to: image {home} is not catalogued and no incarnation of it is retained")
    path = forward_path(sight, rollout, run)
    how = "from the retained incarnation" if target.kind == "revive" else "by re-birth"
    return redirect(rollout, run, path, f"goes back to {home.version} {how}", source=run.target.number, target=target, reverting=True)


def _edited(sight: Sight, rollout: Rollout) -> str:
    """A rollout makes servers of the definition it was planned with, or none; the way back is not barred by it."""
    if rollout.state not in ("canary", "rolling") or not redefined(rollout.definition, sight.pool):
        return ""
    return f"the fleet file now defines pool {rollout.pool} differently than when this rollout began; put it back and resume, or abort and start anew"


def _late(sight: Sight, rollout: Rollout) -> str:
    """The progress deadline. Paused and waiting-for-a-person time does not count: those states are not asked."""
    limit = _limit(sight, rollout)
    if limit is None or sight.now < limit:
        return ""
    if all(run.settled for run in rollout.runs.values()):
        return ""
    return f"no server became healthy for {span(rollout.settings.progress_deadline)}"


def _limit(sight: Sight, rollout: Rollout) -> float | None:
    """Until when some server must have become healthy. Not while all that is done is to prepare machines, which serve meanwhile: a
    large image over a slow line takes its time, and each `stage` has a deadline of its own.
    """
    if rollout.state not in ("canary", "rolling", "rolling-back"):
        return None
    active = sight.under_way
    prepared = [run for run in active if ahead(run)]
    if len(prepared) == len(active) and any(run.phase == "doing" for run in prepared):
        return None
    return max([timing.counts_from(sight, rollout), *(run.changed_at for run in prepared)]) + rollout.settings.progress_deadline


def _deaf(sight: Sight, rollout: Rollout) -> str:
    """Everybody fell silent at once: the fault is rather the probe's than the servers', and none of them is touched for it."""
    silent = fell_silent(sight, rollout) if rollout.state in ("canary", "rolling", "rolling-back") else 0
    if silent == 1:
        return "the last server that ran stopped answering as well: look at the probe and the network first"
    return f"all {silent} servers stopped answering at once: look at the probe and the network first" if silent else ""


def _finish(sight: Sight, rollout: Rollout) -> tuple[Draft, ...]:
    runs = rollout.runs.values()
    if rollout.state == "paused" and rollout.ending and not sight.under_way:
        return (_end(rollout, "aborted", rollout.reason),)
    if rollout.state == "canary" and all(run.settled for run in runs if run.canary):
        more = any(not run.settled for run in runs)
        if more and rollout.kind == "rollout" and not any(run.canary and _arrived(rollout, run) for run in runs):
            return (_move(rollout, "canaries-proved", f"no canary proved the image: {_why_none(rollout)}; promote to go on without one"),)
        if rollout.settings.promotion == "auto" or rollout.kind == "birth" or not more:
            return (_move(rollout, "promoted", "canaries healthy"),)
        return (_move(rollout, "canaries-proved", "canaries healthy; promote to go on"),)
    if at := checkpoints.reached(rollout):
        return (_move(rollout, "checkpoint-reached", at[1], percent=at[0]),)
    opens = checkpoints.opens_at(rollout)
    if opens is not None and sight.now >= opens:
        return (_move(rollout, "checkpoint-passed", "the checkpoint's pause has passed"),)
    if rollout.state == "rolling" and all(run.settled for run in runs):
        return (_end(rollout, "done", _tally(rollout)),)
    if rollout.state == "rolling-back" and all(run.settled for run in runs):
        stuck = [run.server for run in runs if run.step == "quarantined"]
        if stuck:
            return (_end(rollout, "failed", f"{', '.join(stuck)} could not be rolled back"),)
        why = "" if rollout.reason.startswith("resumed by ") else rollout.reason
        return (_end(rollout, "rolled-back", why or (_tally(rollout) if rollout.kind == "rollback" else "what it had changed went back")),)
    return ()


def _why_none(rollout: Rollout) -> str:
    """What became of the canaries, where none of them serves the new image."""
    return ", ".join(f"{run.server} {run.step} ({run.reason})" for run in list(rollout.runs.values())[:3] if run.canary)


def _end(rollout: Rollout, state: str, reason: str) -> Draft:
    return Draft("rollout-ended", pool=rollout.pool, rollout=rollout.id, data={"state": state, "reason": reason})


def _tally(rollout: Rollout) -> str:
    acting = [run for run in rollout.runs.values() if run.action in ("replace", "birth")]
    bad = [run.server for run in acting if not _arrived(rollout, run)]
    return f"{len(acting) - len(bad)} of {len(acting)} on {rollout.image_to.version}" + (f"; not done: {', '.join(bad[:5])}" if bad else "")


def _arrived(rollout: Rollout, run: Run) -> bool:
    """True if the server is in service on the rollout's image, by whichever path."""
    return run.step in ("serving", "put-back") and run.target is not None and run.target.image.digest == rollout.image_to.digest


# --- runs under way, and who may start -------------------------------------------------------------------------------

def _work(sight: Sight, rollout: Rollout) -> Decision:
    slots = Slots(sight, rollout)
    bench = Bench(sight, rollout, slots, checkpoints.ahead_of(rollout))
    notes: list[Draft] = []
    actions: list[Action] = []
    waits: dict[str, Wait] = {}
    for run in sight.under_way:
        step = advance(bench, run)
        if isinstance(step, Action) and ahead(run) and step.step != "preparing":
            slots.take(run)
        _sort_in(step, run, notes, actions, waits)
    if notes:
        return Decision(notes=tuple(notes))
    tidying = _strays(sight, rollout)
    _start_more(bench, notes, actions, waits, {action.server: action.number for action in tidying})
    actions, barred = watchdog.sift(sight, rollout, actions)
    if barred and rollout.state in watchdog.WATCHED:
        return Decision(notes=(_move(rollout, "pause", next(iter(barred.values()))),))
    if barred and rollout.ending:
        return Decision(notes=tuple(settle(rollout, rollout.runs[name], "quarantined", f"left as it is: {why}") for name, why in barred.items()))
    waits.update((name, Wait(why)) for name, why in barred.items())
    look_at = frozenset(name for name, wait in waits.items() if wait.reason == "looking at what is there")
    return Decision(notes=tuple(notes), actions=() if notes else (*tidying, *actions), waits=waits, look=bool(look_at), look_at=look_at,
                    wake_at=_wake_at(bench, waits))


def _sort_in(step: Draft | Action | Wait, run: Run, notes: list[Draft], actions: list[Action], waits: dict[str, Wait]) -> None:
    if isinstance(step, Draft):
        notes.append(step)
    elif isinstance(step, Action):
        actions.append(step)
    else:
        waits[run.server] = step


def _start_more(bench: Bench, notes: list[Draft], actions: list[Action], waits: dict[str, Wait], tidied: Mapping[str, int]) -> None:
    """`tidied`: server -> its stray that is stopped in this decision."""
    candidates, held = _candidates(bench), bench.sight.held
    if held:
        notes += [settle(bench.rollout, run, "skipped", f"held: {bench.sight.known(run.server).held}") for run in candidates if run.server in held]
        candidates = [run for run in candidates if run.server not in held]
    for position, run in enumerate(candidates):
        if position - len(actions) >= NAMED_WAITS and bench.slots.shut(run):
            waits.update(dict.fromkeys((other.server for other in candidates[position:]), THEIR_TURN))
            break
        reason = _refusal(bench, run)
        if run.server in tidied:
            reason = f"waits: incarnation {tidied[run.server]}, which runs beside what serves, is stopped first"
        opens: float | None = None
        if not reason and not (_prepares(run) or run.reverting):
            reason, opens = timing.barred(bench.sight, bench.rollout, run)
        if reason:
            waits[run.server] = Wait(reason, opens, "it is looked at again" if opens else "")
            continue
        step = enter_next(bench, run)
        if isinstance(step, Action):
            bench.slots.take(run)
        _sort_in(step, run, notes, actions, waits)


def why_waiting(sight: Sight, rollout: Rollout) -> dict[str, Wait]:
    """What keeps each server that has not begun, with nothing decided and nobody booked: who could begin now waits for its turn."""
    bench = Bench(sight, rollout, Slots(sight, rollout), checkpoints.ahead_of(rollout))
    waits: dict[str, Wait] = {}
    for position, run in enumerate(_candidates(bench)):
        named = position < NAMED_WAITS or not bench.slots.shut(run)
        waits[run.server] = Wait(reason) if named and (reason := _refusal(bench, run)) else THEIR_TURN
    return waits


def _refusal(bench: Bench, run: Run) -> str:
    """"" or the reason why the run may not begin, as far as it is the rollout's own."""
    return _closed(bench.rollout, run) or _not_yet(bench, run) or _before_checkpoint(bench, run) or bench.slots.refusal(run)


def _candidates(bench: Bench) -> list[Run]:
    """In the plan's order, but the sick first (after the canaries): touching them takes nothing away."""
    waiting = [run for run in bench.rollout.runs.values() if run.step == "waiting" and not run.active]
    missing = bench.sight.missing
    if missing:
        back = bench.rollout.state == "rolling-back"
        waiting.sort(key=lambda run: (not run.canary and not back, run.server not in missing, run.index))
    return waiting


def _closed(rollout: Rollout, run: Run) -> str:
    """"" if the server may start in this state, else why not. A machine is prepared while others prove themselves."""
    if rollout.state == "checkpoint" and not _prepares(run):
        return "waits at the checkpoint" + (" for a person" if rollout.settings.checkpoint_pause is None else "")
    if rollout.state == "awaiting-promotion" and not _prepares(run):
        return "waits for a person to promote the canaries"
    if rollout.state == "paused":
        return rollout.reason if rollout.reason.startswith("paused by ") else f"paused: {rollout.reason}"
    return ""


def _prepares(run: Run) -> bool:
    """True if the run begins with what takes nothing away."""
    return run.path == "in-place" and not revives(run)


def _before_checkpoint(bench: Bench, run: Run) -> str:
    if run.reverting or run.path not in FORWARD or run.canary or _prepares(run):
        return ""
    return checkpoints.closed(bench.checkpoint, bench.slots.taken)


def _not_yet(bench: Bench, run: Run) -> str:
    if bench.rollout.state == "canary" and not run.canary and not run.reverting and run.path in FORWARD:
        if not _prepares(run):
            return "waits for the canaries"
        if any(other.canary and other.step in ("waiting", "preparing") and other.phase != "done" for other in bench.rollout.runs.values()):
            return "waits: the canaries are prepared first"
    if run.server in bench.sight.busy:
        return "waits: what was begun on it before is not over yet"
    if not bench.fresh(run):
        return "looking at what is there"
    unreachable = bench.sight.unreachable(run.server)
    return f"waits: {run.place} does not answer: {unreachable}" if unreachable else ""


def _wake_at(bench: Bench, waits: Mapping[str, Wait]) -> float | None:
    rollout = bench.rollout
    times = [wait.deadline for wait in waits.values() if wait.deadline is not None]
    if (opens := checkpoints.opens_at(rollout)) is not None:
        times.append(opens)
    if (limit := _limit(bench.sight, rollout)) is not None:
        times.append(limit)
    return min((time for time in times if time < inf), default=None)


# --- what retention allows to go -------------------------------------------------------------------------------------

def _housekeep(sight: Sight) -> Decision:
    """Between rollouts: note what is retained, stop strays, bury what has been retained long enough."""
    notes: list[Draft] = []
    actions: list[Action] = []
    proposal = sight.pool_state.proposal
    wake: list[float] = [] if proposal is None else [approvals.ends_at(proposal, sight.pool)]
    for server in sight.pool.server_names:
        mine = sight.by_server.get(server, {})
        if server not in sight.busy:
            notes += _gone(sight, server, mine)
        if len(mine) < 2 or server in sight.busy:
            continue
        serving = sight.serving(server)
        if (due := _tidied_from(sight.known(server))) > sight.now:
            wake.append(due)
        actions += _stop_strays(sight, server, mine)
        for number, seen in mine.items():
            if serving is not None and number != serving.number and seen.state != "running":
                _keep_or_bury(sight, seen, notes, actions, wake)
    return Decision(notes=tuple(notes), actions=() if notes else tuple(actions), wake_at=min(wake, default=None))


def _tidied_from(known: Server) -> float:
    """From when on something may be stopped or removed beside what serves. A place that is away for long is not asked all the time."""
    if not known.untidy:
        return 0.0
    began, last = known.untidy
    least, most = TIDY_AGAIN
    return last + min(max(last - began, least), most)


def _gone(sight: Sight, server: str, mine: Mapping[int, Seen]) -> list[Draft]:
    """Retained incarnations that are not there any more: removed by hand, or by a daemon that did not live to say so (I17)."""
    if sight.observed is None or sight.observed.unreachable:
        return []
    return [Draft("incarnation-buried", pool=sight.pool.name, server=server, data={"number": number, "why": "it is not there any more"})
            for number in sight.known(server).retained if number not in mine]


def _strays(sight: Sight, rollout: Rollout) -> list[Action]:
    """In a rollout: what runs beside a server that is not under way uses its budget, and is stopped as it is between rollouts."""
    if rollout.state == "paused":
        return []
    away = {*sight.busy, *(run.server for run in sight.under_way)}
    return [action for server in sight.pool.server_names if server not in away for action in _stop_strays(sight, server, sight.by_server.get(server, {}))]


def _stop_strays(sight: Sight, server: str, mine: Mapping[int, Seen]) -> list[Action]:
    """Of one server whose incarnation in service answers: one at a time."""
    running = [seen for seen in mine.values() if seen.state == "running"] if len(mine) > 1 else []
    if len(running) < 2 or sight.known(server).admitted is None or not _may_tidy(sight, server):
        return []
    serving = sight.serving(server)
    return [_house_action(seen, "retiring", "retire", "a stray incarnation, not in service") for seen in running if seen is not serving][:1]


def _may_tidy(sight: Sight, server: str) -> bool:
    return sight.available(server) and not sight.unreachable(server) and _tidied_from(sight.known(server)) <= sight.now


def _keep_or_bury(sight: Sight, seen: Seen, notes: list[Draft], actions: list[Action], wake: list[float]) -> None:
    known = sight.known(seen.server)
    available = _may_tidy(sight, seen.server)
    if sight.pool.in_place and seen.state != "stopped":
        return  # the slot of a trial that failed: nothing to go back to, and nothing to remove before it is written again
    until = known.retained.get(seen.number)
    if until is None:
        notes.append(Draft("incarnation-retained", pool=sight.pool.name, server=seen.server, data={
            "number": seen.number, "digest": seen.digest, "version": seen.version, "until": sight.now + sight.pool.rollout.retain}))
    elif until > sight.now:
        wake.append(until)
    elif available and not (known.restarted or sight.clock_in_doubt):
        if (proved := _proved_at(sight, seen.server)) > sight.now:
            wake.append(proved)
        else:
            actions.append(_house_action(seen, "burying", "bury", "its retention ended"))


def _proved_at(sight: Sight, server: str) -> float:
    """When what serves has answered for as long as a proof, or is looked at again: who crashed and came back by itself is an heir only then."""
    serving, proof = sight.serving(server), sight.pool.rollout.min_healthy_time
    health = sight.health.get((server, serving.number)) if serving else None
    if health is not None and health.last - health.since >= proof:
        return sight.now
    return max(health.since + proof if health else 0.0, sight.now + 1.0)


def _house_action(seen: Seen, step: str, verb: str, reason: str) -> Action:
    return Action(server=seen.server, step=step, verb=verb, number=seen.number, path="", reason=reason, place=seen.place,
                  deadline=HOUSEKEEPING_DEADLINE)
