"""Machines with two slots: who is taken down, who is not, and that a rollout of them comes to an end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.core.decision import Decision
from fleet.core.desired import Amount, SimSettings
from fleet.core.errors import Refused
from fleet.core.events import Draft
from fleet.core.observed import Health
from fleet.core.planner import plan
from fleet.core.proposal import draw
from fleet.core.state import Target
from tests.core.picture import NOW, V1, V2, Book, ask, begun, pool, seen, sight, whole

POOL = replace(pool(4), sim=SimSettings(in_place=True))
ONE = {"max_surge": Amount(0), "max_unavailable": Amount(1)}


def prepared(servers: int, **changes: Amount) -> Book:
    """Every machine's idle slot is written."""
    book = begun(*whole(servers), of=replace(POOL, servers=servers), surge=False, **{**ONE, **changes})
    for number in range(1, servers + 1):
        book.walk(f"web-{number}", "preparing")
    return book


def taken_down(book: Book, servers: int, **changes: object) -> list[str]:
    decision = plan(sight(*whole(servers), of=replace(POOL, servers=servers), state=book.state, **changes))  # type: ignore[arg-type]
    return [action.server for action in decision.actions if action.step != "preparing"]


@pytest.mark.parametrize(("allowed", "sick", "down"), [
    (1, (), ["web-1"]), (2, (), ["web-1", "web-2"]), (3, (), ["web-1", "web-2", "web-3"]),
    (1, ("web-4",), ["web-4"]), (2, ("web-4",), ["web-1", "web-4"]), (2, ("web-3", "web-4"), ["web-3", "web-4"]),
])
def test_of_many_that_are_prepared_one_decision_takes_down_as_many_as_may_be_missing(allowed: int, sick: tuple[str, ...], down: list[str]) -> None:
    assert taken_down(prepared(4, max_unavailable=Amount(allowed)), 4, sick=sick) == down


def test_a_restart_of_the_daemon_frees_no_place() -> None:
    book = prepared(4)
    book.begin("web-1", "booting")
    book.state = book.again()
    assert taken_down(book, 4, busy=("web-1",)) == []


def test_a_machine_that_still_does_what_an_ended_rollout_began_is_not_begun_again() -> None:
    book = begun(*whole(2), of=replace(POOL, servers=2), surge=False, **ONE)
    decision = plan(sight(*whole(2), of=replace(POOL, servers=2), state=book.state, busy=("web-1",)))
    assert [action.server for action in decision.actions] == ["web-2"]
    assert decision.waits["web-1"].reason == "waits: what was begun on it before is not over yet"


def test_the_way_back_is_still_known_when_preparing_failed_in_the_first_rollout_and_it_is_resumed() -> None:
    """Nothing was ever admitted on a machine that anew did not install: what served is what the plan saw."""
    book = begun(*whole(2), of=replace(POOL, servers=2), surge=False, **ONE)
    book.fail("web-1", "preparing", book.begin("web-1", "preparing"), "disk full")
    for _ in range(4):
        decision = plan(sight(*whole(2), of=replace(POOL, servers=2), state=book.state))
        if not decision.notes:
            break
        book.write(*decision.notes)
    assert book.state.rollouts["r1"].state == "paused"
    book.move("resume-rolling")
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.step, run.source, run.target) == ("waiting", 1, Target("birth", 3, V2))


def test_an_abort_waits_a_boot_s_time_for_a_machine_that_is_silent_and_no_longer() -> None:
    book = prepared(2)
    book.fail("web-1", "booting", book.begin("web-1", "booting"), "it has not come back")
    book.move("abort")
    of, dead = replace(POOL, servers=2), {"web-1": "no route to host"}
    machines = [replace(one, place=one.server) for one in whole(2)]
    book.write(*plan(sight(*machines, of=of, state=book.state, unreachable=dead)).notes)
    limit = book.now + book.state.rollouts["r1"].settings.healthy_deadline
    waiting = plan(sight(*machines, of=of, state=book.state, unreachable=dead, now=limit - 1.0))
    assert not waiting.notes and waiting.waits["web-1"].deadline == waiting.wake_at == limit
    over = plan(sight(*machines, of=of, state=book.state, unreachable=dead, now=limit)).notes
    assert [note.data["state"] for note in over] == ["quarantined"] and "anew machine recover web-1" in over[0].data["reason"]
    book.write(*over)
    assert plan(sight(*machines, of=of, state=book.state, unreachable=dead, now=limit)).notes[0].data["state"] == "aborted"


@pytest.mark.parametrize("step", ["waiting", "preparing", "booting", "proving"])
def test_a_machine_that_left_the_fleet_file_in_mid_rollout_does_not_keep_it_from_ending(step: str) -> None:
    book = begun(*whole(2), of=replace(POOL, servers=2), surge=False, **ONE)
    steps = ("preparing", "booting", "proving")
    if step != "waiting":
        book.walk("web-2", *steps[:steps.index(step)])
        book.fail("web-2", step, book.begin("web-2", step), "pool web has no machine web-2")
    book.move("abort")
    of, now = replace(POOL, servers=1), NOW
    for _ in range(40):
        rollout = book.state.active("web")
        if rollout is None:
            break
        decision = plan(sight(seen("web-1", 1, V1), of=of, state=book.state, now=now))
        book.now, now = now, now + 1.0
        book.write(*decision.notes)
        for action in decision.actions:  # the driver has no such machine any more
            assert action.server == "web-2"
            book.fail("web-2", action.step, book.begin("web-2", action.step), "pool web has no machine web-2")
    ended = book.state.rollouts["r1"]
    assert ended.state == "aborted" and ended.runs["web-1"].step == "waiting"


def test_a_machine_that_came_back_by_itself_and_has_been_well_since_before_it_was_found_there_is_proved() -> None:
    """Nothing is booted on this way back: its health may be older than the way, but min_healthy_time is counted from its beginning."""
    book = prepared(2)
    book.fail("web-1", "booting", book.begin("web-1", "booting"), "came back by itself")
    of = replace(POOL, servers=2)
    book.move("pause")
    book.write(*plan(sight(*whole(2), of=of, state=book.state)).notes)
    assert book.state.rollouts["r1"].runs["web-1"].path == "fall-back"
    book.walk("web-1", "booting")
    book.begin("web-1", "proving", "fall-back")
    enough = book.state.rollouts["r1"].settings.min_healthy_time
    early = plan(sight(*whole(2), of=of, state=book.state, now=book.now + enough / 2))
    assert not early.notes and early.waits["web-1"].deadline == book.now + enough
    (proved,) = plan(sight(*whole(2), of=of, state=book.state, now=book.now + enough)).notes
    assert (proved.type, proved.data["step"]) == ("step-done", "proving")


def test_a_machine_that_could_not_be_prepared_is_not_among_those_before_a_checkpoint() -> None:
    """Nothing was taken from it; counted among them, it would make too many for the checkpoint, which then stopped nobody."""
    of = replace(POOL, servers=4)
    book = begun(*whole(4), of=of, surge=False, checkpoints=(25,), max_failures=1, **ONE)
    book.fail("web-4", "preparing", book.begin("web-4", "preparing"), "no room")
    book.write(*plan(sight(*whole(4), of=of, state=book.state)).notes)
    assert book.state.rollouts["r1"].runs["web-4"].step == "put-back"
    book.walk("web-1", "preparing", "booting", "proving", "admitting")
    (stop,) = plan(sight(seen("web-1", 2, V2), *whole(4)[1:], of=of, state=book.state)).notes
    assert (stop.data["cause"], stop.data["reason"]) == ("checkpoint-reached", "checkpoint at 25%: 1 servers done; promote to go on")


def test_machines_that_a_rollback_boots_again_tell_nothing_about_the_probes_until_they_have_answered() -> None:
    book = prepared(2, max_unavailable=Amount(2))
    for name in ("web-1", "web-2"):
        book.write(Draft("server-adopted", pool="web", server=name, data={"number": 1, "digest": "", "place": "", "name": ""}))
        book.walk(name, "booting")
    slots = [seen(name, number, V1 if number == 1 else V2, "running" if number == 2 else "stopped") for name in ("web-1", "web-2") for number in (1, 2)]
    of = replace(POOL, servers=2)
    book.move("rollback")
    book.write(*plan(sight(*slots, of=of, state=book.state)).notes)
    book.now = NOW
    for name in ("web-1", "web-2"):
        book.walk(name, "booting")
        book.begin(name, "proving")
    refused = {(name, 1): Health(False, NOW + 1.0, NOW + 2.0, "refused") for name in ("web-1", "web-2")}

    def causes() -> list[str]:
        return [note.data["cause"] for note in plan(sight(*whole(2), of=of, state=book.state, now=NOW + 2.0, health=refused)).notes]

    assert causes() == []
    for kind in ("server-healthy", "server-unhealthy"):
        book.write(*(Draft(kind, pool="web", server=name, rollout="r1", data={"number": 1, "words": ""}) for name in ("web-1", "web-2")))
    assert causes() == ["pause"]


def test_a_machine_without_slots_is_in_the_plan_with_the_reason_why_nothing_is_done_to_it() -> None:
    plain = replace(seen("web-2", 0, V1), digest="", unfit="it has no way to boot two images in turn")
    drawn = draw(sight(seen("web-1", 1, V1), plain, of=replace(POOL, servers=2)), ask(surge=False, max_surge=Amount(0), max_unavailable=Amount(1)))
    assert [(run.server, run.action, run.reason) for run in drawn.runs][1:] == [("web-2", "hold", plain.unfit)]
    with pytest.raises(Refused, match="nothing to do for .*: it has no way to boot two images"):
        draw(sight(plain, of=replace(POOL, servers=2)), ask(surge=False, servers=("web-2",), max_surge=Amount(0), max_unavailable=Amount(1)))


def test_a_rollback_says_beforehand_who_goes_back_by_a_retained_slot_and_who_is_born_anew() -> None:
    """The slot of web-2's old incarnation was written over since; web-1 still has it."""
    fleet = (seen("web-1", 1, V1, "stopped"), seen("web-1", 2, V2), seen("web-2", 2, V2))
    asked = ask(V1, "rollback", surge=False, max_surge=Amount(0), max_unavailable=Amount(1))
    runs = draw(sight(*fleet, of=replace(POOL, servers=2)), asked).runs
    assert [(run.target and run.target.kind, run.reason) for run in runs] == [
        ("revive", "runs 2, back to retained incarnation 1"), ("birth", "runs 2, by re-birth, none is retained")]


def test_a_rollback_touches_no_machine_that_has_nothing_to_go_back_to() -> None:
    """What it ran before anew came is in no catalogue, and its slot was written over."""
    strange = replace(V1, version="debian", digest="")
    old = replace(seen("web-1", 0, V1, "stopped"), digest="", version="debian")
    asked = ask(strange, "rollback", surge=False, max_surge=Amount(0), max_unavailable=Amount(1))
    runs = draw(sight(old, seen("web-1", 2, V2), seen("web-2", 2, V2), of=replace(POOL, servers=2)), asked).runs
    assert [(run.server, run.action) for run in runs] == [("web-1", "replace"), ("web-2", "hold")]
    assert runs[1].reason == f"nothing to go back to: no incarnation of {strange} is retained there, and the image is not catalogued"


def test_machines_that_are_being_prepared_and_serve_are_not_late() -> None:
    """A large image over a slow line: `stage` has an hour, and nobody is away meanwhile."""
    of = replace(POOL, servers=2)
    book = begun(*whole(2), of=of, surge=False, **ONE)
    deadline = book.state.rollouts["r1"].settings.progress_deadline
    one = book.begin("web-1", "preparing")
    two = book.begin("web-2", "preparing")

    def decide(at: float) -> Decision:
        book.now = at
        return plan(sight(*whole(2), of=of, state=book.state, now=at, busy=tuple(name for name, run in book.state.rollouts["r1"].runs.items()
                                                                                if run.phase == "doing")))

    waiting = decide(NOW + 2 * deadline)
    assert not waiting.notes and (waiting.wake_at is None or waiting.wake_at > NOW + 2 * deadline)
    book.done("web-2", "preparing", two)
    book.done("web-1", "preparing", one)
    assert [(action.server, action.step) for action in decide(NOW + 2 * deadline + 1).actions] == [("web-1", "booting")]
    book.begin("web-1", "booting")
    late = decide(NOW + 3 * deadline + 2)
    assert [(note.type, note.data["state"]) for note in late.notes] == [("rollout-moved", "paused")]
