"""What is done next, and why not: every action and every wait with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.core.decision import Action, Decision
from fleet.core.desired import Amount
from fleet.core.events import Draft
from fleet.core.observed import Facts, Health, Seen
from fleet.core.planner import plan
from tests.core.picture import NOW, V1, V2, Book, begun, pool, seen, sight, whole

HALF = {"max_surge": Amount(0), "max_unavailable": Amount(1)}


def actions(decision: Decision) -> list[tuple[str, str, int]]:
    return [(action.server, action.verb or action.step, action.number) for action in decision.actions]


def waits(decision: Decision) -> dict[str, str]:
    return {name: wait.reason for name, wait in decision.waits.items()}


def note(decision: Decision) -> tuple[str, str, Any]:
    assert len(decision.notes) == 1, decision
    data = decision.notes[0].data
    return decision.notes[0].type, decision.notes[0].server, data.get("cause") or data.get("path") or data.get("state") or data.get("error")


def with_newborn(*others: Seen) -> tuple[Seen, ...]:
    """web-1 has a second incarnation that runs."""
    return (*whole(), seen("web-1", 2, V2), *others)


def test_nothing_is_decided_before_the_fleet_was_seen() -> None:
    assert plan(replace(sight(), observed=None)) == Decision(look=True)


def test_the_first_server_starts_and_the_others_are_told_what_they_wait_for() -> None:
    decision = plan(sight(*whole(), state=begun(*whole()).state))
    assert actions(decision) == [("web-1", "stage", 2)]
    assert decision.actions[0].reason == "bringing image 2 to sim"
    assert waits(decision) == {"web-2": "waits: budget 1 of 1 used by web-1", "web-3": "waits: budget 1 of 1 used by web-1"}


def test_both_kinds_of_budget_are_used_at_once_each_within_its_own_limit() -> None:
    book = begun(*whole(6), of=pool(6), max_surge=Amount(2), max_unavailable=Amount(1))
    decision = plan(sight(*whole(6), of=pool(6), state=book.state))
    assert [action.path for action in decision.actions] == ["create-first", "create-first", "delete-first"]
    book = begun(*whole(6), of=pool(6), max_surge=Amount(1), max_unavailable=Amount(1))
    book.walk("web-2", "preparing", "stopping", "booting", "proving", "admitting")
    book.begin("web-1", "preparing")
    fleet = (*whole(6)[:1], seen("web-2", 2, V2), *whole(6)[2:])
    decision = plan(sight(*fleet, of=pool(6), state=book.state, busy=("web-1",)))
    assert actions(decision) == [("web-4", "stage", 2)]
    assert waits(decision)["web-3"] == "waits: extra 1 of 1 used by web-1"


def test_canaries_go_first_and_a_person_promotes() -> None:
    book = begun(*whole(), canaries=Amount(1), promotion="manual", max_surge=Amount(2))
    decision = plan(sight(*whole(), state=book.state))
    assert actions(decision) == [("web-1", "stage", 2)]
    assert waits(decision) == {"web-2": "waits for the canaries", "web-3": "waits for the canaries"}
    book.walk("web-1", "preparing", "booting", "proving", "admitting", "retiring")
    fleet = (seen("web-1", 2, V2), *whole()[1:])
    assert note(plan(sight(*fleet, state=book.state))) == ("rollout-moved", "", "canaries-proved")
    book.move("canaries-proved")
    decision = plan(sight(*fleet, state=book.state))
    assert not decision.actions
    assert waits(decision)["web-2"] == "waits for a person to promote the canaries"


def test_a_newborn_is_proved_by_time_without_a_gap() -> None:
    book = begun(*whole())
    book.now = NOW - 60
    book.walk("web-1", "preparing", "booting")
    book.begin("web-1", "proving")

    def look(health: Health | None, facts: dict[tuple[str, int], Facts] | None = None) -> Decision:
        now = sight(*with_newborn(), state=book.state, facts=facts)
        healths = {key: value for key, value in now.health.items() if key != ("web-1", 2)} | ({("web-1", 2): health} if health else {})
        return plan(replace(now, health=healths))

    assert waits(look(None))["web-1"] == "proving: not probed yet"
    assert waits(look(Health(False, NOW - 5, NOW, "tcp 22: refused")))["web-1"] == "proving: tcp 22: refused"
    assert waits(look(Health(True, NOW - 3, NOW, "tcp 22: up")))["web-1"] == "healthy for 3s of 5s, tcp 22: up"
    assert waits(look(Health(True, NOW - 90, NOW - 40, "tcp 22: up")))["web-1"] == "proving: was not asked for too long"
    assert waits(look(Health(True, NOW - 50, NOW - 40, "tcp 22: up")))["web-1"] == "proving: was not asked for too long"
    assert look(Health(True, NOW - 3, NOW, "")).waits["web-1"].deadline == NOW + 2
    assert note(look(Health(True, NOW - 6, NOW, "")))[0] == "step-done"
    assert note(look(Health(True, NOW - 6, NOW, ""), {("web-1", 2): Facts("writable")})) == (
        "step-failed", "web-1", "the root filesystem is writable inside, the pool promises read-only")


def test_a_newborn_that_ends_or_is_too_late_fails_with_the_reason() -> None:
    book = begun(*whole(), healthy_deadline=30.0)
    book.now = NOW - 60
    book.walk("web-1", "preparing", "booting")
    book.begin("web-1", "proving")
    book.write(Draft("server-unhealthy", pool="web", server="web-1", rollout="r1", data={"number": 2, "words": ""}))
    late = sight(*with_newborn(), state=book.state, health={("web-1", 2): Health(False, NOW - 5, NOW, "refused")})
    assert note(plan(late))[2] == "not healthy within 30s: refused; it had answered 1 times and stopped again"
    crashed = sight(*whole(), seen("web-1", 2, V2, "crashed"), state=book.state)
    assert note(plan(crashed))[2] == "incarnation 2 stopped by itself (crashed)"
    gone = sight(*whole(), state=book.state)
    assert note(plan(gone))[2] == "incarnation 2 stopped by itself (is gone)"


def test_nothing_is_decided_on_a_look_older_than_the_last_event() -> None:
    book = begun(*whole())
    book.now = NOW + 5
    book.walk("web-1", "preparing")
    decision = plan(sight(*whole(), state=book.state))
    assert decision.look and not decision.actions
    assert waits(decision)["web-1"] == "looking at what is there"


def test_nobody_is_touched_whose_health_nobody_knows() -> None:
    book = begun(*whole(), **HALF)
    decision = plan(replace(sight(*whole(), state=book.state), health={}))
    assert not decision.actions
    assert set(waits(decision).values()) == {"waits: its health is not known yet"}


def test_the_old_one_goes_only_while_the_new_one_answers() -> None:
    book = begun(*whole())
    book.walk("web-1", "preparing", "booting", "proving", "admitting")
    healthy = sight(*with_newborn(), state=book.state)
    assert actions(plan(healthy))[0] == ("web-1", "retire", 1)
    silent = Health(False, NOW - 1, NOW, "refused")
    book.now = NOW - 2
    book.write(Draft("server-healthy", pool="web", server="web-1", rollout="r1", data={"number": 2, "words": ""}))
    waiting = plan(sight(*with_newborn(), state=book.state, health={("web-1", 2): silent}, now=NOW - 1))
    assert waits(waiting)["web-1"] == "the new incarnation does not answer: refused"
    failed = plan(sight(*with_newborn(), state=book.state, health={("web-1", 2): replace(silent, last=NOW + 30)}, now=NOW + 30))
    assert note(failed)[2] == "was admitted, then stopped answering: refused"


def failed_at(step: str, *walked: str, **changes: Any) -> Book:
    book = begun(*whole(), **changes)
    book.walk("web-1", *walked)
    book.fail("web-1", step, book.begin("web-1", step))
    book.move("pause")
    return book


def way(book: Book, *fleet: Seen, **changes: Any) -> tuple[str, Any, Any]:
    decision = plan(sight(*fleet, state=book.state, **changes))
    data = decision.notes[0].data
    target = data.get("target")
    return data.get("path") or data["state"], data.get("source"), (target["kind"], target["number"]) if target else None


def test_ways_back_of_create_first() -> None:
    book = failed_at("proving", "preparing", "booting")
    assert way(book, *with_newborn()) == ("keep-old", 2, ("revive", 1)), "the old one still runs"
    crashed = (seen("web-1", 1, state="crashed"), *whole()[1:], seen("web-1", 2, V2))
    assert way(book, *crashed) == ("put-back", 2, ("revive", 1)), "the old one died meanwhile"
    lost = (*whole()[1:], seen("web-1", 2, V2))
    assert way(book, *lost) == ("put-back", 2, ("birth", 3)), "the old one is gone"
    book = failed_at("retiring", "preparing", "booting", "proving", "admitting")
    assert way(book, *with_newborn())[0] == "quarantined", "the new one serves: it is not taken down since the old one does not stop"
    stopped = (seen("web-1", 1, state="stopped"), *whole()[1:], seen("web-1", 2, V2))
    assert way(book, *stopped)[0] == "serving", "it had stopped after all"
    book = failed_at("draining", "preparing", "booting", "proving", "admitting")
    assert way(book, *with_newborn()) == ("keep-old", 2, ("revive", 1)), "not drained: the old one is admitted again"


def test_ways_back_of_delete_first() -> None:
    stopped = (seen("web-1", 1, state="stopped"), *whole()[1:])
    for step, walked in (("booting", ("preparing", "stopping")), ("proving", ("preparing", "stopping", "booting"))):
        assert way(failed_at(step, *walked, **HALF), *stopped, seen("web-1", 2, V2)) == ("put-back", 2, ("revive", 1))
    for book in (failed_at("preparing", **HALF), failed_at("draining", "preparing", **HALF), failed_at("stopping", "preparing", **HALF)):
        assert way(book, *whole()) == ("keep-old", 2, ("revive", 1)), "it was never stopped"


def test_ways_back_of_a_birth() -> None:
    book = begun(kind="birth")
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"))
    book.move("pause")
    assert way(book, seen("web-1", 1, V2)) == ("clear", 1, None)


def test_a_way_back_that_fails_is_answered_once_more_and_then_by_a_person() -> None:
    book = failed_at("proving", "preparing", "stopping", "booting", **HALF)
    book.write(*plan(sight(seen("web-1", 1, state="stopped"), seen("web-1", 2, V2), *whole()[1:], state=book.state)).notes)
    stopped = (seen("web-1", 1, state="stopped"), seen("web-1", 2, V2, "stopped"), *whole()[1:])
    book.walk("web-1", "stopping")
    book.fail("web-1", "booting", book.begin("web-1", "booting"))
    assert way(book, *stopped) == ("put-back", 1, ("birth", 3))
    book.write(*plan(sight(*stopped, state=book.state)).notes)
    book.fail("web-1", "booting", book.begin("web-1", "booting"))
    assert way(book, *stopped)[0] == "quarantined"


def test_while_a_place_does_not_answer_nothing_is_done_there() -> None:
    book = failed_at("proving", "preparing", "booting")
    decision = plan(sight(*with_newborn(), state=book.state, unreachable={"sim": "no route"}))
    assert not decision.notes and not decision.actions
    assert waits(decision)["web-1"] == "waits: sim does not answer: no route"


def test_a_failed_canary_stops_the_rollout_at_once_whatever_is_tolerated() -> None:
    book = begun(*whole(), canaries=Amount(1), max_failures=2)
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "no answer")
    decision = plan(sight(*with_newborn(), state=book.state))
    assert note(decision) == ("rollout-moved", "", "pause")
    assert decision.notes[0].data["reason"] == "web-1 failed: no answer"


def test_a_tolerated_failure_stops_nobody() -> None:
    book = begun(*whole(), max_failures=1)
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"))
    assert note(plan(sight(*with_newborn(), state=book.state)))[0] == "server-redirected"


def test_on_failure_rollback_turns_around_and_rejects_the_image() -> None:
    book = begun(*whole(), on_failure="rollback")
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "no answer")
    decision = plan(sight(*with_newborn(), state=book.state))
    assert [draft.type for draft in decision.notes] == ["rollout-moved", "image-rejected"]
    assert decision.notes[1].data["version"] == "2"


@pytest.mark.parametrize(("walked", "path", "expected"), [
    ((), "create-first", "paused: by bob"),
    (("preparing",), "create-first", "paused before booting: by bob"),
    (("preparing", "booting"), "create-first", "paused before proving: by bob"),
    (("preparing", "booting", "proving", "admitting"), "create-first", "paused before retiring: by bob"),
    (("preparing",), "delete-first", "paused before stopping: by bob"),
])
def test_a_pause_holds_whoever_can_stand_still(walked: tuple[str, ...], path: str, expected: str) -> None:
    book = begun(*whole(), **({} if path == "create-first" else HALF))
    book.walk("web-1", *walked)
    book.move("pause", "by bob")
    fleet = with_newborn() if "booting" in walked else whole()
    decision = plan(sight(*fleet, state=book.state))
    assert not decision.actions and not decision.notes
    assert waits(decision)["web-1"] == expected


@pytest.mark.parametrize("walked", [("preparing", "stopping"), ("preparing", "stopping", "booting")])
def test_a_pause_leaves_nobody_down(walked: tuple[str, ...]) -> None:
    book = begun(*whole(), **HALF)
    book.walk("web-1", *walked)
    book.move("pause")
    fleet = (seen("web-1", 1, state="stopped"), *whole()[1:], *([seen("web-1", 2, V2)] if "booting" in walked else []))
    assert [action.server for action in plan(sight(*fleet, state=book.state)).actions] == ["web-1"]


def test_an_abort_turns_back_who_is_not_admitted_and_ends_when_all_are_whole() -> None:
    book = begun(*whole())
    book.walk("web-1", "preparing", "booting")
    book.begin("web-1", "proving")
    book.move("abort", "aborted by bob")
    assert note(plan(sight(*with_newborn(), state=book.state))) == ("server-redirected", "web-1", "keep-old")
    book = begun(*whole(), **HALF)
    book.walk("web-1", "preparing", "stopping")
    book.move("abort", "aborted by bob")
    down = (seen("web-1", 1, state="stopped"), *whole()[1:])
    assert actions(plan(sight(*down, state=book.state))) == [("web-1", "birth", 2)], "who is down is carried to the end"
    book = begun(*whole())
    book.move("abort", "aborted by bob")
    assert note(plan(sight(*whole(), state=book.state))) == ("rollout-ended", "", "aborted")


def test_nobody_waits_for_bytes_of_an_image_that_is_left() -> None:
    for cause in ("abort", "rollback"):
        book = begun(*whole())
        book.begin("web-1", "preparing")
        book.move(cause)
        told = []
        for _ in range(2):
            decision = plan(sight(*whole(), state=book.state, busy=("web-1",)))
            told += [draft.server for draft in decision.notes if draft.type == "server-settled"]
            book.write(*decision.notes)
        assert "web-1" in told


def test_a_rollback_in_the_middle_leaves_alone_puts_back_and_reverts() -> None:
    book = begun(*whole(4), of=pool(4), max_surge=Amount(2))
    book.walk("web-1", "preparing", "booting", "proving", "admitting", "retiring")
    book.walk("web-2", "preparing", "booting")
    book.move("rollback", "by bob")
    fleet = (seen("web-1", 1, state="stopped"), seen("web-1", 2, V2), *whole(4)[1:], seen("web-2", 2, V2))
    now = sight(*fleet, of=pool(4), state=book.state)
    first = plan(now)
    assert {draft.server: draft.data.get("path") or draft.data["state"] for draft in first.notes} == {
        "web-1": "create-first", "web-3": "skipped", "web-4": "skipped"}
    assert first.notes[0].data["reason"] == "goes back to 1 from the retained incarnation"
    book.write(*first.notes)
    assert note(plan(sight(*fleet, of=pool(4), state=book.state))) == ("server-redirected", "web-2", "keep-old")


def test_a_rollback_does_not_stop_the_only_one_that_serves_because_its_old_one_died() -> None:
    """Nobody may be missing: it goes back as every finished one does, the retained or newborn one first."""
    book = begun(*whole())
    book.walk("web-1", "preparing", "booting", "proving", "admitting")
    book.move("rollback", "by bob")
    fleet = (seen("web-1", 1, state="crashed"), seen("web-1", 2, V2), *whole()[1:])
    told: list[str] = []
    for _ in range(4):
        decision = plan(sight(*fleet, state=book.state))
        told += [draft.data.get("path") or draft.data["state"] for draft in decision.notes if draft.server == "web-1"]
        if not decision.notes:
            break
        book.write(*decision.notes)
    assert told == ["serving", "create-first"] and actions(decision) == [("web-1", "stage", 3)]


def test_a_rollback_that_is_paused_carries_nobody_on_to_what_is_left() -> None:
    book = begun(*whole(), **HALF)
    book.walk("web-1", "preparing", "stopping", "booting")
    book.move("rollback")
    book.move("pause")
    down = (seen("web-1", 1, state="stopped"), *whole()[1:], seen("web-1", 2, V2))
    assert note(plan(sight(*down, state=book.state))) == ("server-redirected", "web-1", "put-back")


def test_a_held_server_is_skipped_in_the_middle() -> None:
    book = begun(*whole())
    book.write(Draft("server-held", pool="web", server="web-2", data={"why": "a demo"}))
    decision = plan(sight(*whole(), state=book.state))
    assert note(decision) == ("server-settled", "web-2", "skipped")
    assert decision.notes[0].data["reason"] == "held: a demo"


def test_below_its_minimum_only_the_sick_are_touched() -> None:
    book = begun(*whole(4), of=pool(4), max_surge=Amount(2))
    decision = plan(sight(*whole(4), of=pool(4), state=book.state, sick=("web-3",)))
    assert actions(decision) == [("web-3", "stage", 2)]
    assert waits(decision)["web-1"] == "waits: the pool is below its minimum, web-3 not healthy"
    book = begun(*whole(4), of=pool(4), **HALF)
    decision = plan(sight(*whole(4), of=pool(4), state=book.state, sick=("web-3",)))
    assert actions(decision) == [("web-3", "stage", 2)]
    assert waits(decision)["web-1"] == "waits: budget 1 of 1 used by web-3"


def test_everybody_silent_at_once_pauses_and_a_sick_pool_may_be_repaired() -> None:
    book = begun(*whole(), **HALF)
    sick = {(f"web-{n}", 1): Health(False, NOW - 1, NOW, "refused") for n in (1, 2, 3)}
    decision = plan(sight(*whole(), state=book.state, health=sick))
    assert decision.notes[0].data["reason"] == "all 3 servers stopped answering at once: look at the probe and the network first"
    before = {key: replace(health, since=NOW - 500) for key, health in sick.items()}
    assert actions(plan(sight(*whole(), state=book.state, health=before))) == [("web-1", "stage", 2)]


def silent(*keys: tuple[str, int], since: float) -> dict[tuple[str, int], Health]:
    return {key: Health(False, since, since + 60.0, "refused") for key in keys}


def test_what_was_admitted_and_falls_silent_with_all_the_others_is_not_given_up() -> None:
    book = begun(*whole())
    book.walk("web-1", "preparing", "booting", "proving", "admitting")
    fleet, now = with_newborn(), NOW + 60.0
    all_of_them = silent(("web-1", 1), ("web-1", 2), ("web-2", 1), ("web-3", 1), since=NOW)
    book.write(*plan(sight(*fleet, state=book.state, now=now, health=all_of_them)).notes)
    assert book.state.rollouts["r1"].reason == "all 3 servers stopped answering at once: look at the probe and the network first"
    decision = plan(sight(*fleet, state=book.state, now=now, health=all_of_them))
    assert not decision.notes and not decision.actions and waits(decision)["web-1"].startswith("paused before retiring")
    book = begun(*whole())
    book.walk("web-1", "preparing", "booting", "proving", "admitting")
    decision = plan(sight(*fleet, state=book.state, now=now, health=silent(("web-1", 2), since=NOW)))
    assert decision.notes[0].type == "step-failed", "the others answer: it is its own fault"


def test_a_probe_fault_that_begins_just_before_a_server_is_found_healthy_is_known_by_the_others() -> None:
    book = begun(*whole(), **HALF)
    book.now = NOW + 0.5
    book.walk("web-1", "preparing", "stopping", "booting", "proving", "admitting")
    fleet = (seen("web-1", 1, state="stopped"), seen("web-1", 2, V2), *whole()[1:])
    health = {**silent(("web-2", 1), ("web-3", 1), since=NOW), **silent(("web-1", 2), since=NOW + 1.0)}
    assert note(plan(sight(*fleet, state=book.state, now=NOW + 2.0, health=health)))[2] == "pause"


def test_no_progress_within_the_deadline_pauses_and_waiting_for_a_person_does_not_count() -> None:
    book = begun(*whole(), progress_deadline=60.0, canaries=Amount(1), promotion="manual")
    decision = plan(sight(*whole(), state=book.state, now=NOW + 60))
    assert decision.notes[0].data["reason"] == "no server became healthy for 1m"
    book.walk("web-1", "preparing", "booting", "proving", "admitting", "retiring")
    book.move("canaries-proved")
    fleet = (seen("web-1", 2, V2), *whole()[1:])
    assert not plan(sight(*fleet, state=book.state, now=NOW + 9e6)).notes


def test_the_next_look_is_at_the_nearest_deadline() -> None:
    book = begun(*whole(), progress_deadline=100.0)
    assert plan(sight(*whole(), state=book.state)).wake_at == book.now + 100.0


def test_the_end_is_told_with_its_tally() -> None:
    book = begun(*whole())
    for name in ("web-1", "web-2", "web-3"):
        book.walk(name, "preparing", "booting", "proving", "admitting", "retiring")
    decision = plan(sight(*(seen(f"web-{n}", 2, V2) for n in (1, 2, 3)), state=book.state))
    assert decision.notes[0].data == {"state": "done", "reason": "3 of 3 on 2"}


def settled(*fleet: Seen, retained: dict[int, float] | None = None, **changes: Any) -> Decision:
    book = Book()
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 2, "digest": "", "place": "", "name": ""}))
    for number, until in (retained or {}).items():
        book.write(Draft("incarnation-retained", pool="web", server="web-1", data={"number": number, "digest": "", "version": "", "until": until}))
    return plan(sight(*fleet, of=pool(1), state=book.state, **changes))


OLD, NEW = seen("web-1", 1, V1, "stopped"), seen("web-1", 2, V2)


def test_between_rollouts_what_was_replaced_is_noted_kept_and_then_removed() -> None:
    noted = settled(OLD, NEW)
    assert (noted.notes[0].type, noted.notes[0].data["number"]) == ("incarnation-retained", 1)
    kept = settled(OLD, NEW, retained={1: NOW + 60})
    assert (kept.actions, kept.wake_at) == ((), NOW + 60)
    assert actions(settled(OLD, NEW, retained={1: NOW - 1})) == [("web-1", "bury", 1)]


@pytest.mark.parametrize("changes", [{"sick": ("web-1",)}, {"busy": ("web-1",)}])
def test_nothing_is_removed_while_its_heir_is_not_well(changes: dict[str, Any]) -> None:
    assert not settled(OLD, NEW, retained={1: NOW - 1}, **changes).actions


def test_nothing_is_removed_while_nothing_serves() -> None:
    assert not settled(OLD, replace(NEW, state="crashed"), retained={1: NOW - 1}).actions


def test_a_stray_that_runs_beside_the_one_in_service_is_stopped() -> None:
    decision = settled(replace(OLD, state="running"), NEW)
    assert actions(decision) == [("web-1", "retire", 1)]
    assert isinstance(decision.actions[0], Action) and decision.actions[0].reason == "a stray incarnation, not in service"


@pytest.mark.parametrize(("made_after", "fails"), [(0.0, True), (290.0, False), (500.0, False)])
def test_healthy_deadline_counts_from_the_birth_that_was_made_not_from_the_first_try(made_after: float, fails: bool) -> None:
    """301 seconds after the intent; a clock that is ahead where it was born grants nothing beyond its proving."""
    book = begun(*whole())
    book.walk("web-1", "preparing")
    op, began = book.begin("web-1", "booting"), book.now
    book.now = began + 295.0
    book.done("web-1", "booting", op)
    book.begin("web-1", "proving")

    def gate(after: float) -> list[str]:
        now = began + after
        health = {(name, 1): Health(True, began - 50.0, now) for name in ("web-1", "web-2", "web-3")}
        health["web-1", 2] = Health(False, began, now, "tcp 22: refused")
        decision = plan(sight(*whole(), seen("web-1", 2, V2, born=began + made_after), state=book.state, health=health, now=now))
        return [note.type for note in decision.notes]

    assert ("step-failed" in gate(301.0)) is fails
    assert "step-failed" in gate(min(made_after, 295.0) + 301.0)
