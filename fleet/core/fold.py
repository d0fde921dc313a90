"""state = fold(journal). The only code that changes state; restart is nothing but this, an observation and a plan.

Unknown event types change nothing but the sequence number, so that an older reader survives a newer journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fleet.core import automatic, budget, incarnations
from fleet.core.budget import Budget
from fleet.core.codec import image_in, run_in, settings_in, target_in
from fleet.core.events import Event
from fleet.core.lifecycle import BACKWARD, ENDED, ENDS, FORWARD, SETTLED, TAKES_DOWN, move, next_step
from fleet.core.state import Approval, Glass, PoolState, Proposal, Rejection, Rollout, Run, Server, State, Taken, Target
from fleet.core.steering import told
from fleet.core.values import changed

KEPT_ROLLOUTS = 50
KEPT_DURATIONS = 20
KEPT_STEPS = 24
"""Of one server in one rollout: four ways, there and back."""
SETS = 8
"""Changes of a rollout's settings that it still tells of; the journal has all."""


def fold(state: State, event: Event) -> State:
    """The state after the event."""
    change = _CHANGES.get(event.type)
    after = change(state, event) if change else state
    if event.type in automatic.HEARD and event.pool:
        after = _remembered(after, event)
    return changed(after, seq=event.seq)


def fold_all(state: State, events: Iterable[Event]) -> State:
    """The state after all events, in order."""
    for event in events:
        state = fold(state, event)
    return state


def _remembered(state: State, event: Event) -> State:
    """What mode auto must know of it, whoever did it and whatever mode the pool is in now."""
    pool, rollout = state.pool(event.pool), state.rollouts.get(event.rollout)
    number = event.data.get("number")
    about = automatic.About(in_service=number is not None and number == pool.server(event.server).admitted)
    if rollout is not None:
        failed = {run.server: pool.server(run.server).admitted for run in rollout.runs.values() if run.error} if rollout.ended else {}
        about = changed(about, digest=rollout.image_to.digest if rollout.kind == "rollout" else "", whole=rollout.whole,
                        left={name: admitted for name, admitted in failed.items() if admitted is not None})
    known = automatic.remember(pool.automatic, event, about)
    return state if known is pool.automatic else _pool(state, event.pool, automatic=known)


def _with(mapping: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    copy = dict(mapping)
    copy[key] = value
    return copy


def _pool(state: State, name: str, **changes: Any) -> State:
    return changed(state, pools=_with(state.pools, name, changed(state.pool(name), **changes)))


def _decided(state: State, name: str, **changes: Any) -> State:
    """A change that makes decisions taken before it stale: the pool gets a new generation."""
    generation = state.generation + 1
    return changed(_pool(state, name, generation=generation, **changes), generation=generation)


def _server(state: State, event: Event, **changes: Any) -> State:
    pool = state.pool(event.pool)
    server = changed(pool.server(event.server), **changes)
    return _pool(state, event.pool, servers=_with(pool.servers, event.server, server))


def _rollout(state: State, rollout: Rollout, /, **changes: Any) -> State:
    return changed(state, rollouts=_with(state.rollouts, rollout.id, changed(rollout, **changes)))


def _run(state: State, event: Event, run: Run, **changes: Any) -> State:
    rollout = state.rollouts[event.rollout]
    return _rollout(state, rollout, runs=_with(rollout.runs, run.server, changed(run, **changes)))


def _find_run(state: State, event: Event) -> Run | None:
    rollout = state.rollouts.get(event.rollout)
    return rollout.runs.get(event.server) if rollout else None


def _over(run: Run, at: float, how: str) -> tuple[Taken, ...]:
    """The steps of a run with the one that is over now."""
    return (*run.taken, Taken(run.step, run.since, at, how))[-KEPT_STEPS:]


def _left(run: Run, at: float) -> tuple[Taken, ...]:
    """The same where a run leaves a step that may be under way."""
    return _over(run, at, "left") if run.phase in ("doing", "unknown") else run.taken


def _daemon_started(state: State, event: Event) -> State:
    """Time while no daemon looked does not count, and intents of an earlier daemon are unknown until looked at."""
    state = changed(state, epoch=int(event.data["epoch"]), leapt_at=event.at if event.data.get("leap") else state.leapt_at)
    for rollout in list(state.rollouts.values()):
        if rollout.ended:
            continue
        runs = {name: _waken(run, event.at) for name, run in rollout.runs.items()}
        state = _rollout(state, rollout, runs=runs, progress_at=event.at)
    return state


def _waken(run: Run, at: float) -> Run:
    if not run.active:
        return run
    phase = "unknown" if run.phase == "doing" and run.step != "proving" else run.phase
    return changed(run, phase=phase, since=at, booted_at=at, changed_at=at)


def _daemon_blind(state: State, event: Event) -> State:
    """What nobody could see is held against nobody: deadlines of runs under way start anew, as after a restart."""
    for rollout in list(state.rollouts.values()):
        if rollout.ended:
            continue
        runs = {name: changed(run, since=event.at, booted_at=event.at) if run.active else run for name, run in rollout.runs.items()}
        state = _rollout(state, rollout, runs=runs, progress_at=event.at)
    return state


def _rollout_started(state: State, event: Event) -> State:
    data = event.data
    settings = settings_in(data["settings"])
    runs = {item["server"]: run_in(item, index) for index, item in enumerate(data["runs"])}
    target = image_in(data["to"])
    assert target is not None
    size = int(data.get("servers", len(runs)))
    rollout = Rollout(
        id=event.rollout, pool=event.pool, kind=data["kind"], image_from=image_in(data["from"]), image_to=target, state="planned",
        settings=settings, budget=budget.resolve(settings.max_surge, settings.max_unavailable, size),
        plan_hash=data["plan_hash"], author=event.actor, started_at=event.at, runs=runs, whole=bool(data.get("whole", True)),
        definition=str(data.get("definition", "")), outside=str(data.get("outside", "")), outside_by=event.actor if data.get("outside") else "",
        driven_by=event.actor if data.get("driven") else "", driven_at=event.at,
        progress_at=event.at, told_at=event.at, approvals=tuple(Approval(item["by"], item["uid"], item["at"]) for item in data.get("approvals", ())))
    pool = state.pool(event.pool)
    servers = dict(pool.servers)
    for run in runs.values():
        if run.target is not None:
            server = pool.server(run.server)
            servers[run.server] = changed(server, last_number=max(server.last_number, run.target.number))
    kept = _keep_recent(state.rollouts)
    kept[rollout.id] = rollout
    return _decided(changed(state, rollouts=kept), event.pool, target=target, rollout=rollout.id, servers=servers, **_learned_with(pool, data), proposal=None)


def _proposed(state: State, event: Event) -> State:
    """It waits in the place of the pool's older one, and changes nothing of the pool: decisions taken before it stand."""
    data = event.data
    target = image_in(data["to"])
    assert target is not None
    runs = tuple(run_in(item, index) for index, item in enumerate(data["runs"]))
    return _pool(state, event.pool, proposal=Proposal(
        hash=str(data["hash"]), pool=event.pool, kind=str(data["kind"]), author=event.actor, uid=int(data["uid"]), at=event.at,
        image_from=image_in(data["from"]), image_to=target, settings=settings_in(data["settings"]), runs=runs,
        definition=str(data.get("definition", "")), request=dict(data["request"]), summary=tuple(data.get("summary", ()))))


def _approved(state: State, event: Event) -> State:
    """For the plan that waits, and no other; the author's never counts, and of one person the last one is kept."""
    proposal, uid = state.pool(event.pool).proposal, int(event.data["uid"])
    if proposal is None or proposal.hash != event.data["hash"] or uid in (proposal.uid, -1):
        return state
    others = tuple(one for one in proposal.approvals if one.uid != uid)
    return _pool(state, event.pool, proposal=changed(proposal, approvals=(*others, Approval(event.actor, uid, event.at))))


def _withdrawn(state: State, event: Event) -> State:
    proposal = state.pool(event.pool).proposal
    if proposal is None or proposal.hash != event.data["hash"]:
        return state
    return _pool(state, event.pool, proposal=None)


def _learned_with(pool: PoolState, data: Mapping[str, Any]) -> dict[str, Any]:
    """What one driver takes its time for tells nothing about another."""
    driver = str(data.get("driver", ""))
    if driver in ("", pool.driver):
        return {}
    return {"driver": driver, "durations": {} if pool.driver else pool.durations}


def _keep_recent(rollouts: Mapping[str, Rollout]) -> dict[str, Rollout]:
    ended = [rollout.id for rollout in rollouts.values() if rollout.ended]
    dropped = set(ended[:-KEPT_ROLLOUTS])
    return {key: value for key, value in rollouts.items() if key not in dropped}


def _rollout_moved(state: State, event: Event) -> State:
    rollout = state.rollouts[event.rollout]
    cause = str(event.data["cause"])
    after = move(rollout.state, cause)
    changes: dict[str, Any] = {"state": after, "reason": str(event.data["reason"]), "moved_at": event.at}
    if event.actor != "engine" and cause != "pause":
        changes["told_at"] = event.at
    if "percent" in event.data:
        changes["passed"] = int(event.data["percent"])
    changes |= _outside(event)
    if cause in ("pause", "abort") and rollout.state != "paused":
        changes["resume_to"] = rollout.state
    if cause in ("abort", "rollback"):  # who aborts and then rolls back wants all of it undone
        changes["ending"] = "aborted" if cause == "abort" else ""
        changes["runs"] = {name: changed(run, again=False) if run.again else run for name, run in rollout.runs.items()}
    if cause in ("promoted", "checkpoint-passed", "rollback", "begin", "begin-canary", "begin-rollback") or cause.startswith("resume-"):
        changes["progress_at"] = event.at
    if cause.startswith("resume-"):
        changes |= {"failures": 0, "resume_to": "", "runs": _retry(state, rollout), "driven_by": "", "driven_at": event.at}
    if event.data.get("driven") is False:
        changes |= {"driven_by": "", "driven_at": event.at}
    if event.data.get("driven"):
        changes |= {"driven_by": event.actor, "driven_at": event.at}
    state = _rollout(state, rollout, **changes)
    return _decided(state, event.pool)


def _rollout_driven(state: State, event: Event) -> State:
    rollout = state.rollouts.get(event.rollout)
    return state if rollout is None else _rollout(state, rollout, driven_by=event.actor, driven_at=event.at)


def _outside(event: Event) -> dict[str, Any]:
    """What a person decided about the windows, if this event tells of it. The time before them is no lack of progress."""
    return {"outside": str(event.data["outside"]), "outside_by": event.actor, "progress_at": event.at} if event.data.get("outside") else {}


def _rollout_set(state: State, event: Event) -> State:
    """Settings that count from the next decision on; the event carries the budget, so that no other arithmetic ever gives another."""
    data, limits = event.data, event.data["budget"]
    changes: dict[str, Any] = {"settings": settings_in(data["settings"]), "budget": Budget(limits["surge"], limits["unavailable"]), **_outside(event)}
    if data["changed"]:
        earlier = state.rollouts[event.rollout].changed.split("; ")[-(SETS - 1):]
        changes["changed"] = "; ".join([*filter(None, earlier), f"{told(data['changed'])}, by {event.actor}"])
    return _decided(_rollout(state, state.rollouts[event.rollout], told_at=event.at, **changes), event.pool)


def _retry(state: State, rollout: Rollout) -> dict[str, Run]:
    """Resume tries servers that failed once more, with a new incarnation, once they are back; finished ones are never redone."""
    runs = dict(rollout.runs)
    for run in rollout.runs.values():
        if run.step == "quarantined":
            runs[run.server] = changed(run, error="", reason=f"left as it is: {run.error}")
        if run.reverting or rollout.resume_to == "rolling-back":
            continue
        if run.step in ("put-back", "failed"):
            runs[run.server] = _tried_again(state, rollout, run)
        elif run.active and run.error:
            runs[run.server] = changed(run, again=True)
    return runs


def _tried_again(state: State, rollout: Rollout, run: Run) -> Run:
    server = state.pool(rollout.pool).server(run.server)
    number = max([server.last_number, *server.failed]) + 1
    target = Target("birth", number, rollout.image_to)  # one that was cleared has none left
    source = None if run.planned == "birth" else run.source if server.admitted is None else server.admitted
    return changed(run, step="waiting", phase="idle", path=run.planned, source=source, target=target, again=False,
                   flaps=0, error="", last_words="", reason="tried again after resume", taken=())


def _once_more(state: State, event: Event) -> State:
    """Who settled after a failure that a person knew of when he resumed is tried once more, if he was put back."""
    rollout = state.rollouts[event.rollout]
    run = rollout.runs[event.server]
    if not (run.again and run.settled):
        return state
    after = _tried_again(state, rollout, run) if run.step in ("put-back", "failed") and not run.reverting else changed(run, again=False)
    return _rollout(state, rollout, runs=_with(rollout.runs, run.server, after))


def _rollout_ended(state: State, event: Event) -> State:
    rollout = state.rollouts[event.rollout]
    ending = str(event.data["state"])
    assert ending in ENDED
    cause = {"done": "finished", "rolled-back": "finished", "failed": "stuck", "aborted": "aborted"}[ending]
    state = _rollout(state, rollout, state=move(rollout.state, cause), reason=str(event.data["reason"]), ended_at=event.at)
    return _decided(state, event.pool, rollout=None, target=None, **_pointers(state.pool(event.pool), rollout, ending))


def _pointers(pool: PoolState, rollout: Rollout, ending: str) -> dict[str, Any]:
    """stable moves only on success; previous is what rollback goes to (terraform-provider-aws#34189 went to the bad one).

    A pool of adopted servers has no stable image yet: then it is what they were adopted with.
    """
    left = pool.stable or rollout.image_from
    if rollout.kind != "rollback" and pool.stable is not None and pool.stable.digest == rollout.image_to.digest:
        return {}  # a re-birth leaves no image behind
    if ending == "done":
        if not rollout.whole:
            return {"previous": left}
        return {"stable": rollout.image_to, "previous": left}
    if ending == "rolled-back" and rollout.kind == "rollback" and rollout.whole:
        return {"stable": rollout.image_to, "previous": None}
    if ending == "aborted" and rollout.kind != "rollback" and any(run.step == "serving" for run in rollout.runs.values()):
        return {"previous": left}
    return {}


def _step_begun(state: State, event: Event) -> State:
    run = _find_run(state, event)
    if run is None:
        return state
    step = str(event.data["step"])
    changes: dict[str, Any] = {"step": step, "phase": "doing", "op": str(event.data["op"]), "since": event.at, "changed_at": event.at,
                               "reason": str(event.data["reason"])}
    if step == "booting":
        changes["booted_at"] = event.at
    if run.path in FORWARD and (run.step == "waiting" or (run.step == "preparing" and run.path in TAKES_DOWN)):
        changes["begun_at"] = event.at
    after = _run(state, event, run, **changes)
    if step != "booting" or run.target is None:
        return after
    return (_restarted if run.target.kind == "revive" else _given)(after, event, run.target.number)


def _given(state: State, event: Event, number: int) -> State:
    """A number is used from here on, whoever chose it: when its incarnation is long buried, only the journal knows of it."""
    return _server(state, event, last_number=max(state.pool(event.pool).server(event.server).last_number, number))


def _restarted(state: State, event: Event, number: int) -> State:
    return _server(state, event, **incarnations.restarted(state.pool(event.pool).server(event.server), number))


def _step_done(state: State, event: Event) -> State:
    if not event.rollout:
        return _server(state, event, untidy=())
    run = _find_run(state, event)
    if run is None or run.op != event.data["op"] or run.settled:
        return state
    changes: dict[str, Any] = {"phase": "done", "changed_at": event.at, "taken": _over(run, event.at, "done")}
    if next_step(run.path, run.step) == ENDS[run.path]:
        changes["step"] = ENDS[run.path]
    after = _run(state, event, run, **changes)
    if run.step == "admitting" and run.target is not None:
        after = _server(after, event, **incarnations.admitted(after.pool(event.pool).server(event.server), run, run.target, event.at))
    if run.step == "proving":
        after = _rollout(after, after.rollouts[event.rollout], progress_at=event.at)
    return _learn(_once_more(after, event), event.pool, run.step, event.at - run.since)


def _learn(state: State, pool: str, step: str, seconds: float) -> State:
    durations = state.pool(pool).durations
    known = (*durations.get(step, ()), round(seconds, 3))[-KEPT_DURATIONS:]
    return _pool(state, pool, durations=_with(durations, step, known))


def _step_failed(state: State, event: Event) -> State:
    if not event.rollout:
        since = state.pool(event.pool).server(event.server).untidy[:1] or (event.at,)
        return _server(state, event, untidy=(*since, event.at))
    run = _find_run(state, event)
    if run is None or run.op != event.data["op"] or run.settled:
        return state
    rollout = state.rollouts[event.rollout]
    back = run.path in BACKWARD or run.reverting or rollout.kind == "rollback"
    after = _run(_server(state, event, failed_at=event.at), event, run, phase="failed", changed_at=event.at, error=str(event.data["error"]), last_words=str(event.data["last_words"]),
                 attempts=run.attempts + back, taken=_over(run, event.at, "failed"))
    if back:
        return after
    rollout = after.rollouts[event.rollout]
    after = _rollout(after, rollout, failures=rollout.failures + 1)
    server = after.pool(event.pool).server(event.server)
    if run.target is None or run.step in ("preparing", "draining", "retiring"):
        return after
    return _server(after, event, failed=server.failed | {run.target.number})


def _redirected(state: State, event: Event) -> State:
    run = _find_run(state, event)
    if run is None:
        return state
    data = event.data
    path = str(data["path"])
    target = target_in(data["target"])
    after = _run(state, event, run, path=path, source=data.get("source"), target=target, step="waiting", phase="idle", changed_at=event.at,
                 reverting=bool(data.get("reverting", False)), flaps=0, reason=str(data["reason"]), taken=_left(run, event.at))
    if target is None or target.kind != "birth":
        return after
    last = after.pool(event.pool).server(event.server).last_number
    return _server(after, event, last_number=max(last, target.number))


def _settled(state: State, event: Event) -> State:
    run = _find_run(state, event)
    end = str(event.data["state"])
    assert end in SETTLED
    if run is None:
        return state
    error = "" if end == "serving" else run.error
    after = _run(state, event, run, step=end, phase="done", changed_at=event.at, error=error, reason=str(event.data["reason"]), taken=_left(run, event.at))
    return _once_more(after, event)


def _unhealthy(state: State, event: Event) -> State:
    run = _find_run(state, event)
    if run is None or run.target is None or run.target.number != event.data["number"]:
        return state
    return _run(state, event, run, flaps=run.flaps + 1)


def _retained(state: State, event: Event) -> State:
    server: Server = state.pool(event.pool).server(event.server)
    retained = dict(server.retained)
    retained[int(event.data["number"])] = float(event.data["until"])
    return _server(state, event, retained=retained)


def _buried(state: State, event: Event) -> State:
    return _server(state, event, **incarnations.buried(state.pool(event.pool).server(event.server), int(event.data["number"])))


def _held(state: State, event: Event) -> State:
    return _decided(_server(state, event, held=str(event.data["why"])), event.pool)


def _released(state: State, event: Event) -> State:
    return _decided(_server(state, event, held=None), event.pool)


def _adopted(state: State, event: Event) -> State:
    known = state.pool(event.pool).server(event.server)
    return _decided(_server(state, event, **incarnations.adopted(known, int(event.data["number"]))), event.pool)


def _tainted(state: State, event: Event) -> State:
    known, coming = state.pool(event.pool).server(event.server), event.data.get("coming")
    return _server(state, event, **incarnations.tainted(known, str(event.data["why"]), None if coming is None else int(coming)))


def _unlocked(state: State, event: Event) -> State:
    data = event.data
    return _server(state, event, glass=Glass(int(data["number"]), float(data["until"]), event.actor, str(data["why"])))


def _locked(state: State, event: Event) -> State:
    return _server(state, event, glass=None)


def _rejected(state: State, event: Event) -> State:
    pool = state.pool(event.pool)
    rejection = Rejection(str(event.data["version"]), str(event.data["reason"]))
    return _decided(state, event.pool, rejected=_with(pool.rejected, str(event.data["digest"]), rejection))


def _unrejected(state: State, event: Event) -> State:
    pool = state.pool(event.pool)
    digest = event.data["digest"]
    return _decided(state, event.pool, rejected={key: value for key, value in pool.rejected.items() if key != digest})


_CHANGES: Mapping[str, Callable[[State, Event], State]] = {
    "daemon-started": _daemon_started,
    "daemon-blind": _daemon_blind,
    "plan-proposed": _proposed,
    "plan-approved": _approved,
    "plan-withdrawn": _withdrawn,
    "rollout-started": _rollout_started,
    "rollout-moved": _rollout_moved,
    "rollout-set": _rollout_set,
    "rollout-driven": _rollout_driven,
    "rollout-ended": _rollout_ended,
    "step-begun": _step_begun,
    "step-done": _step_done,
    "step-failed": _step_failed,
    "server-redirected": _redirected,
    "server-settled": _settled,
    "server-unhealthy": _unhealthy,
    "incarnation-retained": _retained,
    "incarnation-buried": _buried,
    "server-held": _held,
    "server-released": _released,
    "server-adopted": _adopted,
    "server-tainted": _tainted,
    "root-unlocked": _unlocked,
    "root-locked": _locked,
    "image-rejected": _rejected,
    "image-unrejected": _unrejected,
}
