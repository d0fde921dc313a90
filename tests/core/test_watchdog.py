"""The watchdog judges what is really there, whatever the budget's bookkeeping says: each rule broken, and what is nobody's breach."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from fleet.core.decision import Decision
from fleet.core.desired import Amount, SimSettings
from fleet.core.observed import Health, Seen
from fleet.core.planner import plan
from fleet.core.slots import Slots
from tests.core.picture import NOW, V1, V2, Book, begun, pool, seen, sight, whole

DOWN = {"max_surge": Amount(0), "max_unavailable": Amount(1)}
BOTH = {"max_surge": Amount(1), "max_unavailable": Amount(1)}
BORN = NOW - 5.0
"""Since the rollout began, which is ten seconds ago."""


def paused_for(decision: Decision) -> str:
    """The reason for which this decision pauses the rollout, "" if it does not."""
    moved = [note.data for note in decision.notes if note.type == "rollout-moved"]
    return str(moved[0]["reason"]) if moved and moved[0]["cause"] == "pause" else ""


def admitted(book: Book, names: Iterable[str]) -> None:
    """They are done in this rollout: incarnation 2 serves."""
    for name in names:
        book.walk(name, "preparing", "stopping", "booting", "proving", "admitting")


# --- each rule, broken ------------------------------------------------------------------------------------------------

def test_i1_more_are_taken_down_than_may_be_missing() -> None:
    book = begun(*whole(), **BOTH)
    rollout = book.state.rollouts["r1"]
    book.state = replace(book.state, rollouts={"r1": replace(rollout, runs={
        name: replace(run, planned="delete-first", path="delete-first") for name, run in rollout.runs.items()})})
    for name in ("web-1", "web-2"):
        book.walk(name, "preparing", "stopping")
    gone = [seen(f"web-{n}", 1, V1, "stopped") for n in (1, 2)]
    decision = plan(sight(*gone, *whole()[2:], state=book.state))
    assert paused_for(decision) == "watchdog I1: 2 servers were taken down (web-1, web-2), 1 may be missing"


def test_i2_the_journal_tells_of_more_in_flight_than_the_budget() -> None:
    book = begun(*whole(4), of=pool(4), max_surge=Amount(2))
    for name in ("web-1", "web-2", "web-3"):
        book.begin(name, "preparing")
    decision = plan(sight(*whole(4), of=pool(4), state=book.state, busy=("web-1", "web-2", "web-3")))
    assert paused_for(decision) == "watchdog I2: 3 servers in flight (web-1, web-2, web-3), 2 may be"


def test_i2_the_target_shows_one_in_flight_that_the_journal_does_not_tell_of() -> None:
    """Another controller, say: its newborn runs beside ours."""
    book = begun(*whole(4), of=pool(4), **DOWN)
    admitted(book, ["web-1"])
    book.walk("web-2", "preparing", "stopping")
    fleet = (seen("web-1", 2, V2), seen("web-1", 9, V2, born=BORN), seen("web-2", 1, V1, "stopped"), *whole(4)[2:])
    decision = plan(sight(*fleet, of=pool(4), state=book.state))
    assert paused_for(decision) == "watchdog I2: 2 servers in flight (web-1, web-2), 1 may be"


def test_i2_more_servers_run_twice_than_may_be_extra() -> None:
    book = begun(*whole(), **DOWN)
    book.walk("web-1", "preparing")
    decision = plan(sight(*whole(), seen("web-3", 7, V2, born=BORN), state=book.state))
    assert paused_for(decision) == "watchdog I2: web-3 runs twice, 0 may"


def test_i2_one_server_that_runs_three_times_is_two_extra() -> None:
    book = begun(*whole(), max_surge=Amount(1))
    fleet = (*whole(), seen("web-3", 2, V2, born=NOW - 5.0), seen("web-3", 3, V2, born=NOW - 5.0))
    decision = plan(sight(*fleet, state=book.state))
    assert paused_for(decision) == "watchdog I2: web-3 runs more than once, 1 may"


@pytest.mark.parametrize("state", ["rolling", "rolling-back"])
def test_i10_two_running_incarnations_hold_one_data_disk(state: str) -> None:
    book = begun(*whole(), of=pool(data=True), **DOWN)
    book.state = replace(book.state, rollouts={"r1": replace(book.state.rollouts["r1"], state=state)})
    writers = [replace(seen("web-1", number, born=born), data_held=("state",)) for number, born in ((1, NOW - 100.0), (2, BORN))]
    decision = plan(sight(*writers, *whole()[1:], of=pool(data=True), state=book.state))
    assert paused_for(decision) == ("watchdog I10: incarnations 1 and 2 of web-1 both have its data disk state attached for writing; "
                                    "stop one of them by hand, then look at the disk")


# --- acts that would break one, with the budget's own check gone ------------------------------------------------------

@pytest.fixture
def no_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget's bookkeeping lets everybody pass."""
    for name in ("refusal", "may_go_on", "may_take_down"):
        monkeypatch.setattr(Slots, name, lambda self, *who: "")


@pytest.mark.usefixtures("no_slots")
def test_nobody_is_begun_beyond_the_budget() -> None:
    book = begun(*whole())
    decision = plan(sight(*whole(), state=book.state))
    assert paused_for(decision) == "watchdog I2: web-2 was to be begun beside web-1, 1 may be in flight"


@pytest.mark.usefixtures("no_slots")
def test_nobody_is_stopped_beyond_the_minimum() -> None:
    book = begun(*whole(), **DOWN)
    for name in ("web-1", "web-2"):
        book.walk(name, "preparing")
    decision = plan(sight(*whole(), state=book.state))
    assert paused_for(decision).startswith("watchdog I2: web-2 was to be begun beside web-1")
    book = begun(*whole(), **BOTH)
    book.walk("web-2", "preparing")
    decision = plan(sight(*whole(), state=book.state, sick=("web-3",)))
    assert paused_for(decision) == "watchdog I1: web-2 was to be taken out of service beside web-3, 1 may be missing"


@pytest.mark.usefixtures("no_slots")
def test_no_machine_is_booted_into_its_other_slot_beyond_the_minimum() -> None:
    of = replace(pool(3), sim=SimSettings(in_place=True))
    book = begun(*whole(), of=of, surge=False, max_surge=Amount(0), max_unavailable=Amount(2))
    for name in ("web-1", "web-2"):
        book.walk(name, "preparing")
    decision = plan(sight(*whole(), of=of, state=book.state, sick=("web-3",)))
    assert paused_for(decision) == "watchdog I1: web-2 was to be taken out of service beside web-1, web-3, 2 may be missing"


@pytest.mark.usefixtures("no_slots")
def test_an_abort_does_not_wait_for_an_act_that_the_watchdog_bars() -> None:
    """The run is left as it is, and the rollout ends."""
    book = begun(*whole(), **BOTH)
    book.walk("web-1", "preparing", "booting", "proving")
    rollout = book.state.rollouts["r1"]
    stopping = replace(rollout.runs["web-1"], path="put-back", step="waiting", phase="idle", source=1)
    book.state = replace(book.state, rollouts={"r1": replace(rollout, state="paused", ending="aborted", runs={**rollout.runs, "web-1": stopping})})
    decision = plan(sight(*whole(), state=book.state, sick=("web-2",)))
    assert [(note.type, note.data["state"]) for note in decision.notes] == [("server-settled", "quarantined")]
    assert decision.notes[0].data["reason"].startswith("left as it is: watchdog I1: web-1 was to be taken out of service beside web-2")


# --- what is nobody's breach ------------------------------------------------------------------------------------------

def test_servers_that_die_by_themselves_are_no_breach() -> None:
    book = begun(*whole(4), of=pool(4), **DOWN)
    book.walk("web-1", "preparing", "stopping")
    fleet = (seen("web-1", 1, V1, "stopped"), seen("web-2", 1, V1, "crashed"), *whole(4)[2:])
    decision = plan(sight(*fleet, of=pool(4), state=book.state, sick=("web-3",)))
    assert not decision.notes and [action.server for action in decision.actions] == ["web-1"]


def test_a_sick_server_may_be_stopped_though_the_pool_is_below_its_minimum() -> None:
    book = begun(*whole(), **DOWN)
    book.walk("web-3", "preparing")
    decision = plan(sight(*whole(), state=book.state, sick=("web-2", "web-3")))
    assert not decision.notes and ("web-3", "stopping") in [(action.server, action.step) for action in decision.actions]


def test_what_ran_beside_the_one_in_service_before_the_rollout_is_no_breach() -> None:
    book = begun(*whole(), seen("web-3", 7, V1), **DOWN)
    decision = plan(sight(*whole(), seen("web-3", 7, V1), state=book.state))
    assert not paused_for(decision)


def test_a_place_that_does_not_answer_is_no_breach() -> None:
    """The last word about its servers stands: that one of them was on its way is no news."""
    book = begun(*whole(), **DOWN)
    book.walk("web-1", "preparing", "stopping", "booting")
    fleet = (seen("web-1", 1, V1, "stopped"), seen("web-1", 2, V2, born=BORN), *whole()[1:])
    assert not plan(sight(*fleet, state=book.state, unreachable={"sim": "no route"}, sick=("web-1", "web-2"))).notes


@pytest.mark.parametrize("turned", [False, True])
def test_a_newborn_that_was_never_admitted_is_not_taken_out_of_service(turned: bool) -> None:
    """It answers, but its admission failed, or was given up: it is stopped, though everybody is missing and nobody may be."""
    book = begun(image=V1, kind="birth")
    book.walk("web-1", "preparing", "booting", "proving")
    op = book.begin("web-1", "admitting")
    if turned:
        rollout = book.state.rollouts["r1"]
        waiting = replace(rollout.runs["web-1"], step="proving", phase="done")
        book.state = replace(book.state, rollouts={"r1": replace(rollout, state="paused", ending="aborted", runs={**rollout.runs, "web-1": waiting})})
    else:
        book.fail("web-1", "admitting", op)
    newborn = seen("web-1", 1, V1, born=BORN)
    for _ in range(4):
        decision = plan(sight(newborn, state=book.state))
        assert "watchdog" not in paused_for(decision) and not any("watchdog" in str(note.data.get("reason")) for note in decision.notes)
        if decision.actions:
            break
        book.write(*decision.notes)
    assert [(action.server, action.step, action.number) for action in decision.actions] == [("web-1", "stopping", 1)]


def test_a_budget_that_was_made_smaller_is_no_breach() -> None:
    """Who was begun before a person decided anew is carried to the end."""
    book = begun(*whole(4), of=pool(4), max_surge=Amount(2))
    for name in ("web-1", "web-2"):
        book.begin(name, "preparing")
    rollout = book.state.rollouts["r1"]
    smaller = replace(rollout, budget=replace(rollout.budget, surge=1), told_at=book.now + 1.0)
    book.state = replace(book.state, rollouts={"r1": smaller})
    assert not plan(sight(*whole(4), of=pool(4), state=book.state, busy=("web-1", "web-2"))).notes


def test_whoever_resumes_has_read_the_facts() -> None:
    """The same ones do not stop him again, others do."""
    book = begun(*whole(4), of=pool(4), **DOWN)
    admitted(book, ["web-1"])
    stray = seen("web-1", 9, V2, born=BORN)
    fleet: tuple[Seen, ...] = (seen("web-1", 2, V2), stray, *whole(4)[1:])
    first = plan(sight(*fleet, of=pool(4), state=book.state))
    assert paused_for(first) == "watchdog I2: web-1 runs twice, 0 may"
    book.write(*first.notes)
    book.now = NOW
    book.write(replace(first.notes[0], actor="ana", data={"cause": "resume-rolling", "state": "rolling", "reason": "resumed by ana"}))
    known = {("web-1", 9): Health(True, NOW, NOW + 1.0)}
    assert not paused_for(plan(sight(*fleet, of=pool(4), state=book.state, now=NOW + 1.0, health=known)))
    more = seen("web-3", 9, V2, born=NOW + 0.5)
    again = plan(sight(*fleet, more, of=pool(4), state=book.state, now=NOW + 1.0))
    assert paused_for(again) == "watchdog I2: 2 servers run twice (web-1, web-3), 0 may"
