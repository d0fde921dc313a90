"""One server's run: what comes next, which gate holds it, and the way back when it fails.

Rule 1: gates say yes or name the wait. Rule 2: nothing is decided on an observation older than the run's last event.
Rule 3: a paused rollout begins no step, except that a server whose place we emptied is carried back to service (a pause
never changes health). Rule 4: the old incarnation is looked for before its way back is chosen, never assumed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fleet.core import checkpoints, timing
from fleet.core.codec import target_out
from fleet.core.decision import Action, Wait
from fleet.core.events import Draft
from fleet.core.hearing import fell_silent, heard_since
from fleet.core.lifecycle import BACKWARD, FORWARD, SETTLED, STEP_DEADLINES, TAKES_DOWN, VERBS, next_step
from fleet.core.observed import Health, Seen
from fleet.core.sight import Sight, span
from fleet.core.slots import Slots, ahead, revives
from fleet.core.state import Rollout, Run, Target

GRACE = 10.0
"""Seconds an admitted incarnation may be silent before its run fails; min_healthy_time if that is longer."""

MOST_ATTEMPTS = 4
"""So many failures on the way back are answered by another way."""

Step = Draft | Action | Wait


@dataclass(frozen=True, slots=True)
class Bench:
    """What deciding about a run needs: the sight, the rollout, the budget's places, what is left until the next checkpoint, and whether the
    observation is fresh.
    """

    sight: Sight
    rollout: Rollout
    slots: Slots
    checkpoint: tuple[int, int] | None

    def fresh(self, run: Run) -> bool:
        """True if the fleet was observed after the run's last event, and after what was tried beside the run and failed."""
        return self.sight.looked_at(run.server) >= max(run.changed_at, *self.sight.known(run.server).untidy[1:], 0.0)


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
    return _runs(sight.seen(run.server, run.target.number)) and not sight.asked(run.server, run.target.number)


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
        if not waits and _runs(seen) and not sight.asked(run.server, number):
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


def redirect(rollout: Rollout, run: Run, path: str, reason: str, *, source: int | None = None, target: Target | None = None,
             reverting: bool = False) -> Draft:
    """The note that sends a run another way."""
    return Draft("server-redirected", pool=rollout.pool, server=run.server, rollout=rollout.id,
                 data={"path": path, "source": source, "target": target_out(target), "reason": reason, "reverting": reverting})


def settle(rollout: Rollout, run: Run, state: str, reason: str) -> Draft:
    """The note that ends a run in a settled state (`put-back` is one, and also the name of a path: hence two types)."""
    return Draft("server-settled", pool=rollout.pool, server=run.server, rollout=rollout.id, data={"state": state, "reason": reason})


def way_back(bench: Bench, run: Run, why: str) -> Draft:
    """Where a run goes that failed or was turned: to what served before it, by looking at what is really there."""
    if run.path in BACKWARD:
        return _second_way(bench, run, why)
    rollout, sight = bench.rollout, bench.sight
    back = run.reverting or rollout.kind == "rollback"
    new = run.target.number if run.target else None
    old = sight.seen(run.server, run.source)
    if _left_a_stray(sight, run):
        return _past_a_stray(bench, run, old, why, back)
    if run.phase == "failed" and run.step in ("draining", "retiring") and sight.known(run.server).admitted == new and sight.healthy(run.server, new):
        return _not_cleared(bench, run, old, why)
    if run.path == "create-first" and sight.known(run.server).admitted == new and sight.healthy(run.server, new) and not _runs(old):
        return settle(rollout, run, "serving", f"incarnation {new} serves, and {run.source} has stopped")  # if it goes back, then under the budget
    if run.path == "in-place":
        return _own_way_back(bench, run, old, why, back)
    if old is not None and old.state == "running":
        target = Target("revive", old.number, sight.image_of(old))
        if sight.known(run.server).admitted != new or not sight.healthy(run.server, new):
            return redirect(rollout, run, "put-back" if _was_stopped(run) else "keep-old", why, source=new, target=target, reverting=back)
        return redirect(rollout, run, "create-first", why, source=new, target=target, reverting=True)
    if back and run.step == "admitting" and sight.healthy(run.server, new):
        return settle(rollout, run, "quarantined", f"it answers, but could not be admitted: {why}")
    if back and _on_its_way(sight, run):
        return _runs_after_all(rollout, run, run.source, why)
    if back and run.target is not None and run.attempts < 2 and run.target.image.digest in sight.images:
        target = Target("birth", sight.highest(run.server) + 1, run.target.image)
        return redirect(rollout, run, "put-back", f"born anew, since the retained one failed: {why}", source=new, target=target, reverting=True)
    if old is not None:
        return redirect(rollout, run, "put-back", why, source=new, target=Target("revive", old.number, sight.image_of(old)), reverting=back)
    if run.home is not None and run.action == "replace":
        return redirect(rollout, run, "put-back", why, source=new, target=Target("birth", sight.highest(run.server) + 1, run.home), reverting=back)
    return redirect(rollout, run, "clear", why, source=new)


def _left_a_stray(sight: Sight, run: Run) -> bool:
    """True if what gives up its place runs, or ran, without being in service: not proved since it was started, it is no way back."""
    admitted, new = sight.known(run.server).admitted, run.target.number if run.target else None
    return admitted is not None and run.source is not None and admitted not in (run.source, new)


def _past_a_stray(bench: Bench, run: Run, stray: Seen | None, why: str, back: bool) -> Draft:
    """To the last one that was in service, else to one that is retained, else born anew of the image it had; the stray is stopped on the way.
    One that may serve all the while is proved where it is.
    """
    sight = bench.sight
    kept = sight.retained(run.server)
    last = sight.seen(run.server, sight.known(run.server).admitted) or (kept[max(kept)] if kept else None)
    if run.path == "in-place":
        return _own_way_back(bench, run, last, why, back)
    source = run.source if _runs(stray) or run.target is None else run.target.number
    standby = sight.standby(run.server)
    if standby is not None and run.target is not None:
        source, last = run.target.number, standby
    if last is not None:
        return redirect(bench.rollout, run, "put-back", why, source=source, target=Target("revive", last.number, sight.image_of(last)), reverting=back)
    if run.home is not None and run.home.digest in sight.images:
        target = Target("birth", sight.highest(run.server) + 1, run.home)
        return redirect(bench.rollout, run, "put-back", why, source=source, target=target, reverting=back)
    return redirect(bench.rollout, run, "clear", why, source=source)


def _was_stopped(run: Run) -> bool:
    """True if we stopped what served: if it runs all the same, a request that came late has started it, and nobody has proved it since."""
    return run.path == "delete-first" and (run.step in ("booting", "proving", "admitting") or (run.step == "stopping" and run.phase == "done"))


def _runs(seen: Seen | None) -> bool:
    return seen is not None and seen.state == "running"


def _stopped(seen: Seen | None) -> bool:
    return seen is not None and seen.state == "stopped"


def _own_way_back(bench: Bench, run: Run, old: Seen | None, why: str, back: bool) -> Draft:
    """A machine goes back to its old slot, unless it never left it. That it may have gone back by itself is found by the verb."""
    new = run.target.number if run.target else None
    if ahead(run):
        return settle(bench.rollout, run, "put-back", f"not touched, it serves what it did: {why}")
    if back and run.step == "admitting" and bench.sight.healthy(run.server, new):
        return settle(bench.rollout, run, "quarantined", f"it answers, but could not be admitted: {why}")
    if back and _on_its_way(bench.sight, run):
        return _runs_after_all(bench.rollout, run, None, why)
    if old is not None and old.state in ("running", "stopped"):
        target = Target("revive", old.number, bench.sight.image_of(old))
        path = "keep-old" if run.step == "draining" and _runs(old) else "fall-back"
        return redirect(bench.rollout, run, path, why, source=new, target=target, reverting=back)
    if run.home is not None and run.home.digest in bench.sight.images:
        target = Target("birth", bench.sight.highest(run.server) + 1, run.home)
        return redirect(bench.rollout, run, "fall-back", f"its old slot is gone, born anew: {why}", source=new, target=target, reverting=back)
    return settle(bench.rollout, run, "quarantined", f"could not be put back, its old slot is gone and its image is not catalogued: {why}")


def _on_its_way(sight: Sight, run: Run) -> bool:
    """True if what was started runs, and has not failed its proof: of its start, at most the word that it was done is missing."""
    unproved = run.step == "booting" or (run.step == "proving" and run.phase != "failed")
    return unproved and run.target is not None and _runs(sight.seen(run.server, run.target.number))


def _not_cleared(bench: Bench, run: Run, old: Seen | None, why: str) -> Draft:
    """The new one serves and is well; only its predecessor was not got rid of. Nothing that serves is taken down for that."""
    assert run.target is not None
    if old is None or old.state != "running":
        return settle(bench.rollout, run, "serving", f"incarnation {run.target.number} serves, and {run.source} has stopped")
    if run.step == "draining" and bench.sight.healthy(run.server, old.number):
        target = Target("revive", old.number, bench.sight.image_of(old))
        back = run.reverting or bench.rollout.kind == "rollback"
        return redirect(bench.rollout, run, "keep-old", why, source=run.target.number, target=target, reverting=back)
    return settle(bench.rollout, run, "quarantined", f"it serves {run.target.image.version}, but incarnation {run.source} could not be stopped: {why}")


def _second_way(bench: Bench, run: Run, why: str) -> Draft:
    """Putting back failed. A retained incarnation that does not come is born anew from its image; in a rollback, a newborn that does
    not come makes way for the last one that was in service; after that a person is needed."""
    sight, rollout = bench.sight, bench.rollout
    if run.step == "admitting" and run.target is not None and sight.healthy(run.server, run.target.number):
        return settle(rollout, run, "quarantined", f"it answers, but could not be admitted: {why}")
    if run.path not in ("put-back", "fall-back") or run.target is None or run.step == "stopping":
        return settle(rollout, run, "quarantined", f"could not be put back: {why}")
    failed = run.target.number
    if run.step == "booting" and run.attempts < MOST_ATTEMPTS and _runs(sight.seen(run.server, failed)):
        return _runs_after_all(rollout, run, None, why)
    if run.path == "fall-back" and run.step == "proving" and run.attempts < MOST_ATTEMPTS and _stopped(sight.seen(run.server, failed)):
        return redirect(rollout, run, run.path, f"the machine left it again: {why}", source=run.source, target=replace(run.target, kind="revive"),
                        reverting=run.reverting)  # a boot that was asked for long ago came late: its slot is startable, and the way back
    old = sight.seen(run.server, run.source)
    if unwanted(rollout, run) and run.attempts < MOST_ATTEMPTS and old is not None and _stopped(old):
        target = Target("revive", old.number, sight.image_of(old))
        return redirect(rollout, run, run.path, f"it answered again, and failed again: {why}", source=failed, target=target)
    if run.target.kind == "revive" and run.attempts < MOST_ATTEMPTS and run.target.image.digest in sight.images:
        target = Target("birth", sight.highest(run.server) + 1, run.target.image)
        return redirect(rollout, run, run.path, f"the old incarnation did not come back ({why}), born anew", source=failed, target=target,
                        reverting=run.reverting)
    last = sight.seen(run.server, sight.known(run.server).admitted)
    if run.reverting and run.target.kind == "birth" and run.attempts < MOST_ATTEMPTS and last is not None and last.number != failed:
        target = Target("revive", last.number, sight.image_of(last))
        return redirect(rollout, run, run.path, f"not born anew ({why}), back to the last one in service", source=failed, target=target,
                        reverting=run.reverting)
    return settle(rollout, run, "quarantined", f"could not be put back: {why}")


def _runs_after_all(rollout: Rollout, run: Run, source: int | None, why: str) -> Draft:
    """Its start was not confirmed in time, or an abort came before its proof, and it runs: it is proved and admitted, never stopped for that."""
    assert run.target is not None
    path = run.path if run.path in BACKWARD else "fall-back" if run.path == "in-place" else "put-back"
    back = run.reverting or rollout.kind == "rollback"
    how = "it runs after all" if run.phase == "failed" else "it is on its way back already"
    return redirect(rollout, run, path, f"{how}: {why}", source=source, target=replace(run.target, kind="revive"), reverting=back)


def unwanted(rollout: Rollout, run: Run) -> bool:
    """True for one that was to be put back, and stays, or stayed, on the image that it was to leave, since it answered again."""
    return (rollout.kind == "rollout" and run.path == "put-back" and not run.reverting and run.target is not None
            and run.target.image.digest == rollout.image_to.digest)


def again(sight: Sight, rollout: Rollout, run: Run) -> Draft | None:
    """While rolling back: a server that was kept on what it shall leave is tried once more, by birth; then a person is needed."""
    wanted = rollout.image_to if rollout.kind == "rollback" else run.home or rollout.image_from
    if run.step != "put-back" or not run.reverting or run.target is None or wanted is None or run.target.image.digest == wanted.digest:
        return None
    if run.attempts < 2 and wanted.digest in sight.images:
        target = Target("birth", sight.highest(run.server) + 1, wanted)
        return redirect(rollout, run, forward_path(sight, rollout, run), f"tried once more, by re-birth: {run.error}", source=run.target.number,
                        target=target, reverting=True)
    return settle(rollout, run, "quarantined", f"could not be rolled back, it serves {run.target.image.version}: {run.error}")


def forward_path(sight: Sight, rollout: Rollout, run: Run) -> str:
    """The path by which a server that serves is replaced in this rollout."""
    if run.planned != "birth":
        return run.planned
    if sight.pool.in_place:
        return "in-place"
    return "create-first" if rollout.budget.surge and not sight.pool.data else "delete-first"
