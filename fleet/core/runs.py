"""One server's run: what comes next, and which gate holds it. Its way back, when it fails, is in wayback.py.

Rule 1: gates say yes or name the wait. Rule 2: nothing is decided on an observation older than the run's last event.
Rule 3: a paused rollout begins no step, except that a server whose place we emptied is carried back to service (a pause
never changes health).
"""

from __future__ import annotations

from fleet.core import checkpoints, timing
from fleet.core.bench import Bench, redirect, running, settle
from fleet.core.decision import Action, Wait
from fleet.core.events import Draft
from fleet.core.hearing import fell_silent, heard_since
from fleet.core.lifecycle import BACKWARD, FORWARD, SETTLED, STEP_DEADLINES, TAKES_DOWN, VERBS, next_step
from fleet.core.observed import Health
from fleet.core.sight import Sight, span
from fleet.core.slots import revives
from fleet.core.state import Rollout, Run, Target
from fleet.core.wayback import way_back

GRACE = 10.0
"""Seconds an admitted incarnation may be silent before its run fails; min_healthy_time if that is longer."""

Step = Draft | Action | Wait


def advance(bench: Bench, run: Run) -> Step:
    """What an active run does now."""
    if run.step == "preparing" and _turned(bench.rollout, run):
        return settle(bench.rollout, run, "skipped", "not touched, it serves what it did")
    if run.server in bench.sight.busy:
        return Wait(run.reason or run.step, run.since + deadline_of(run.step, run.path, bench.rollout), "the step fails")
    if not bench.fresh(run):
        return Wait("looking at what is there")
    away = bench.sight.unreachable(run.server)
    if away and (run.step != "proving" or run.phase in ("done", "failed") or _turned(bench.rollout, run)):
        return _silent(bench, run, away)
    if run.phase == "failed" or _turned(bench.rollout, run):
        why = run.error if run.phase == "failed" else "aborted" if bench.rollout.ending else "rolled back"
        return Wait("waits: its health is not known yet") if _unheard(bench.sight, run) else way_back(bench, run, why)
    if run.phase == "done" or run.step == "waiting":
        return enter_next(bench, run)
    if run.step == "proving":
        return _prove(bench, run)
    gone = _still_healthy(bench, run) if run.path == "create-first" and run.step in ("draining", "retiring") else None
    return gone if gone is not None else _begin(bench, run, run.step, op=run.op)


def _silent(bench: Bench, run: Run, away: str) -> Step:
    """A place that does not answer is waited for. An abort does not wait for ever for a machine that may be dead: it has a boot's time."""
    reason, rollout = f"waits: {run.place} does not answer: {away}", bench.rollout
    if not (rollout.ending and bench.sight.pool.in_place):
        return Wait(reason)
    limit = run.changed_at + rollout.settings.healthy_deadline
    if bench.sight.now < limit:
        return Wait(reason, limit, "it is left as it is, and the rollout ends")
    return settle(rollout, run, "quarantined", f"left as it is, since {run.place} does not answer: {away}; look at its console, "
                  f"or `anew machine recover {run.server}`, then roll out again")


def deadline_of(step: str, path: str, rollout: Rollout) -> float:
    """Seconds a step's verb may take. A machine's boot is part of what healthy_deadline allows (drivers.md, step 8)."""
    if step == "draining":
        return rollout.settings.drain_deadline
    if step == "booting" and path in ("in-place", "fall-back"):
        return rollout.settings.healthy_deadline
    return STEP_DEADLINES.get(step, 60.0)


def _turned(rollout: Rollout, run: Run) -> bool:
    """True if a run must turn back: the rollout is rolled back, or aborted before this server's point of no return.

    An abort turns a rollback around just so: what serves goes on serving.
    """
    if run.path not in FORWARD:
        return False
    if rollout.ending == "aborted":
        return not (_emptied(run) or _carried(run))
    rolling_back = "rolling-back" in (rollout.state, rollout.resume_to if rollout.state == "paused" else "")
    return rolling_back and rollout.kind != "rollback" and not run.reverting


def _emptied(run: Run) -> bool:
    """True if we stopped the incarnation that served, so that standing still would keep the server down."""
    if run.path in BACKWARD:
        return True
    return run.path in TAKES_DOWN and run.step in ("stopping", "booting", "proving", "admitting")


def _drained(run: Run) -> bool:
    """True if the pool's hook has taken the server out of service already: a pause must not leave it there."""
    return run.path in TAKES_DOWN and run.step == "draining"


def _carried(run: Run) -> bool:
    """True if an abort carries it to its end: past admission, or a server that was down and comes back by its retained incarnation."""
    return _past_admission(run) or (run.path == "birth" and revives(run))


def _past_admission(run: Run) -> bool:
    return (run.step in ("draining", "retiring") and run.path == "create-first") or run.step == "admitting"


def _unheard(sight: Sight, run: Run) -> bool:
    """True if what is to serve runs, and was not asked lately: which way back there is depends on whether it is well."""
    if run.target is None or run.step not in ("admitting", "draining", "retiring"):
        return False
    return running(sight.seen(run.server, run.target.number)) and not sight.asked(run.server, run.target.number)


def enter_next(bench: Bench, run: Run) -> Step:
    """Begin the next step that has something to do, if its gate is open."""
    step = next_step(run.path, run.step)
    while step not in SETTLED and _empty(bench, run, step):
        step = next_step(run.path, step)
    if step in SETTLED:
        return settle(bench.rollout, run, step, f"incarnation {run.target.number} stays in service" if run.target else run.reason)
    if bench.rollout.state == "paused" and not _emptied(run) and not _drained(run) and not (bench.rollout.ending and _carried(run)):
        why = f": {bench.rollout.reason}" if bench.rollout.reason else ""
        return Wait(f"paused before {step}{why}")
    if run.step == "preparing" and run.path in FORWARD and run.server in bench.sight.held:
        return settle(bench.rollout, run, "skipped", f"held: {bench.sight.known(run.server).held}; it was only prepared, and serves what it did")
    held = _gate(bench, run, step)
    return held if held is not None else _begin(bench, run, step)


def _empty(bench: Bench, run: Run, step: str) -> bool:
    """True if the step has nothing to do for this run."""
    sight = bench.sight
    if step == "draining":
        return not sight.pool.hooks.drain or sight.seen(run.server, run.source) is None
    if step == "preparing":
        return run.target is None or run.target.kind == "revive"
    if step in ("stopping", "retiring"):
        seen = sight.seen(run.server, run.source)
        return seen is None or seen.state == "stopped"
    if step == "booting" and run.path == "keep-old":
        return True
    return run.target is None and step in ("booting", "proving", "admitting")


def _gate(bench: Bench, run: Run, step: str) -> Step | None:
    """None if the step may begin."""
    if run.path == "delete-first" and step in ("draining", "stopping") and run.step in ("waiting", "preparing", "draining"):
        reason = bench.slots.may_take_down(run.server)
        return Wait(reason) if reason else None
    if run.path == "in-place" and step in ("draining", "booting") and run.step in ("waiting", "preparing"):
        reason = _not_its_turn(bench, run) or bench.slots.may_go_on(run)
        barred, opens = ("", None) if reason or run.reverting else timing.barred(bench.sight, bench.rollout, run)
        return Wait(reason or barred, opens) if reason or barred else None
    if run.path == "create-first" and step in ("draining", "retiring"):
        return _still_healthy(bench, run)
    return _answers_again(bench, run) if run.path == "put-back" and step == "stopping" else None


def _answers_again(bench: Bench, run: Run) -> Draft | None:
    """One in service that was to be put back since it was silent, and answers before it was stopped. Where nobody else may be missing it is
    proved and admitted once more, as if it came back (the watchdog would bar its way for ever); if it is to go, then under the budget.
    """
    sight = bench.sight
    serving = sight.serving(run.server)
    if serving is None or serving.number != run.source or not sight.available(run.server) or not bench.slots.may_take_down(run.server):
        return None
    return redirect(bench.rollout, run, "put-back", f"incarnation {serving.number} answers again, and nobody else may be missing",
                    source=run.target.number if run.target else None, target=Target("revive", serving.number, sight.image_of(serving)),
                    reverting=run.reverting or bench.rollout.kind == "rollback")


def _not_its_turn(bench: Bench, run: Run) -> str:
    """"" or the rollout's own gate before which a prepared machine stands."""
    if run.canary or run.reverting:
        return ""
    if bench.rollout.state == "canary":
        return "prepared, waits for the canaries"
    if bench.rollout.state == "checkpoint":
        return "prepared, waits at the checkpoint"
    if past := checkpoints.closed(bench.checkpoint, bench.slots.taken):
        return f"prepared, {past}"
    return "prepared, waits for a person to promote the canaries" if bench.rollout.state == "awaiting-promotion" else ""


def _still_healthy(bench: Bench, run: Run) -> Step | None:
    """The old incarnation goes only while the new one answers, whichever daemon began it."""
    if run.target is None or bench.sight.healthy(run.server, run.target.number):
        return None
    if _unheard(bench.sight, run):
        return Wait("waits: its health is not known yet")
    health = bench.sight.health.get((run.server, run.target.number))
    words = health.words if health else "was not probed"
    waits, limit = _time_left(bench, run.changed_at, max(GRACE, bench.rollout.settings.min_healthy_time))
    if waits:
        return Wait(f"the new incarnation does not answer: {words}", limit, "the server is put back" if limit else "")
    return _fail(run, bench, f"was admitted, then stopped answering: {words}")


def _begin(bench: Bench, run: Run, step: str, op: str = "") -> Action:
    verb, whom = VERBS[step]
    number = run.source if whom == "source" else run.target.number if run.target else None
    if verb == "birth" and run.target is not None:
        verb = run.target.kind
    return Action(server=run.server, step=step, verb=verb, number=-1 if number is None else number, path=run.path, reason=_doing(run, step),
                  rollout=bench.rollout.id, place=run.place, target=run.target, op=op, deadline=deadline_of(step, run.path, bench.rollout))


def _doing(run: Run, step: str) -> str:
    """The step in words, for the screen and the journal."""
    version = run.target.image.version if run.target else "?"
    number = run.target.number if run.target else 0
    return {
        "preparing": f"bringing image {version} to {run.place}" + (", it serves on" if run.path == "in-place" else ""),
        "draining": f"draining incarnation {run.source}",
        "stopping": f"stopping incarnation {run.source}, kept",
        "booting": f"{'starting retained' if run.target and run.target.kind == 'revive' else 'booting'} incarnation {number}, image {version}",
        "proving": f"proving incarnation {number}, image {version}",
        "admitting": f"admitting incarnation {number}",
        "retiring": f"retiring incarnation {run.source}, kept",
    }[step]


def _prove(bench: Bench, run: Run) -> Step:
    """The health gate: without a gap for min_healthy_time, as the controller itself saw it, and the root as promised inside."""
    assert run.target is not None
    sight, settings, number = bench.sight, bench.rollout.settings, run.target.number
    seen = sight.seen(run.server, number)
    if not sight.unreachable(run.server) and (seen is None or seen.state != "running"):
        state = "is gone" if seen is None else f"{seen.state}{': ' + seen.note if seen.note else ''}"
        return _fail(run, bench, f"incarnation {number} stopped by itself ({state})")
    health = sight.health.get((run.server, number))
    since = _well_since(run, health) if health else 0.0
    if health is None or not health.healthy:
        words = health.words if health else "not probed yet"
        waits, limit = _time_left(bench, boots_since(sight, run), settings.healthy_deadline)
        if not waits and running(seen) and not sight.asked(run.server, number):
            return Wait("proving: its health is not known yet")
        if not waits:
            flaps = f"; it had answered {run.flaps} times and stopped again" if run.flaps else ""
            return _fail(run, bench, f"not healthy within {span(settings.healthy_deadline)}: {words}{flaps}")
        return Wait(f"proving: {words}", limit, "the server is put back" if limit else "")
    if not sight.asked(run.server, number):
        return Wait("proving: was not asked for too long")
    if health.last < since:
        return Wait("proving: was not asked since", max(since + settings.min_healthy_time, sight.now + 1.0), "it is looked at again")
    passed = sight.now - since
    if passed < settings.min_healthy_time:
        return Wait(f"healthy for {span(passed)} of {span(settings.min_healthy_time)}, {health.words}",
                    since + settings.min_healthy_time, "it is admitted")
    return _look_inside(bench, run, health.words)


def _well_since(run: Run, health: Health) -> float:
    """From when a healthy answer counts. Who was well before its boot was asked for (a machine that went back by itself, one that ran after
    all), or before the daemon was away for a while, is judged by what was seen since its proof began, and loses nothing else by it.
    """
    return max(health.since, run.since) if run.path == "fall-back" or health.since < run.booted_at else health.since


def boots_since(sight: Sight, run: Run) -> float:
    """From when healthy_deadline counts: a birth that was tried for long, since its place did not answer, boots from when it was made."""
    seen = sight.seen(run.server, run.target.number) if run.target and run.target.kind == "birth" and not sight.pool.in_place else None
    return max(run.booted_at, min(seen.born_at, run.since)) if seen else run.booted_at


def _time_left(bench: Bench, since: float, allowed: float) -> tuple[bool, float | None]:
    """(whether a silent incarnation may still be waited for, until when). Silence counts only while the probes can be relied on."""
    sight, rollout = bench.sight, bench.rollout
    if sight.now < since + allowed:
        return True, since + allowed
    if fell_silent(sight, rollout):
        return True, None
    limit = max(since, heard_since(sight, rollout)) + allowed
    return sight.now < limit, limit


def _look_inside(bench: Bench, run: Run, words: str) -> Step:
    assert run.target is not None
    facts = bench.sight.facts.get((run.server, run.target.number))
    if facts is None:
        return Wait("looking inside")
    if facts.root == "writable" and bench.sight.pool.root == "read-only":
        return _fail(run, bench, "the root filesystem is writable inside, the pool promises read-only")
    found = {"root": facts.root, "words": words, "os": facts.os}
    return Draft("step-done", pool=bench.rollout.pool, server=run.server, rollout=bench.rollout.id,
                 data={"op": run.op, "step": run.step, "facts": found})


def _fail(run: Run, bench: Bench, error: str) -> Draft:
    return Draft("step-failed", pool=bench.rollout.pool, server=run.server, rollout=bench.rollout.id,
                 data={"op": run.op, "step": run.step, "error": error, "last_words": "", "number": run.target.number if run.target else None})
