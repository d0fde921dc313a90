"""What may be changed in mid-rollout: checkpoints before and behind, settings without effect, budgets that would strand somebody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.core import budget, checkpoints, steering
from fleet.core.budget import Budget
from fleet.core.codec import settings_out
from fleet.core.desired import Amount
from fleet.core.events import Draft
from fleet.core.observed import Health
from fleet.core.planner import plan
from fleet.core.state import Rollout
from tests.core.picture import NOW, V2, Book, begun, pool, seen, sight, whole

TEN = [f"web-{n}" for n in range(1, 11)]
WALK = ("preparing", "booting", "proving", "admitting", "draining", "retiring")


def change(book: Book, **settings: Any) -> Rollout:
    """`rollout set`, as the inbox writes it."""
    rollout = book.state.rollouts["r1"]
    after = replace(rollout.settings, **settings)
    limits = budget.resolve(after.max_surge, after.max_unavailable, len(rollout.runs))
    book.write(Draft("rollout-set", actor="ana", pool="web", rollout="r1", data={
        "changed": steering.changes(rollout.settings, after), "settings": settings_out(after),
        "budget": {"surge": limits.surge, "unavailable": limits.unavailable}}))
    return book.state.rollouts["r1"]


def rolled(count: int, **settings: Any) -> Book:
    """Ten servers, of which so many are done."""
    book = begun(*whole(10), of=pool(10), **settings)
    for name in TEN[:count]:
        book.walk(name, *WALK)
    return book


def decides(book: Book, done: int) -> str:
    """What the rollout does next, when so many servers run the new image."""
    fleet = [seen(name, 2, V2) if TEN.index(name) < done else seen(name) for name in TEN]
    decision = plan(sight(*fleet, of=pool(10), state=book.state))
    if decision.notes:
        return f"{decision.notes[0].data.get('cause')} {decision.notes[0].data.get('percent', '')}".strip()
    return ", ".join(action.server for action in decision.actions)


@pytest.mark.parametrize(("done", "points", "next_is"), [
    (3, (30,), "checkpoint-reached 30"), (3, (50,), "web-4"), (3, (20,), "web-4"), (3, (20, 30), "checkpoint-reached 30"), (3, (), "web-4")])
def test_checkpoints_set_in_mid_rollout_stop_it_where_it_has_not_been_yet(done: int, points: tuple[int, ...], next_is: str) -> None:
    book = rolled(done)
    change(book, checkpoints=points)
    assert decides(book, done) == next_is


def test_a_checkpoint_that_was_opened_stays_open_whatever_is_set_later() -> None:
    book = rolled(3, checkpoints=(30, 60))
    assert decides(book, 3) == "checkpoint-reached 30"
    book.write(Draft("rollout-moved", pool="web", rollout="r1", data={"cause": "checkpoint-reached", "state": "checkpoint", "reason": "", "percent": 30}))
    assert change(book, checkpoints=(30, 50)).state == "checkpoint"
    book.move("promoted")
    assert checkpoints.bound(book.state.rollouts["r1"]) == (50, 5)
    assert decides(book, 3) == "web-4"


def test_a_lowered_budget_begins_nobody_and_carries_on_who_is_begun() -> None:
    book = rolled(0, max_surge=Amount(3))
    for name in TEN[:3]:
        book.walk(name, "preparing")
    book.now += 1.0
    rollout = change(book, max_surge=Amount(1))
    assert rollout.budget == Budget(1, 0)
    assert rollout.changed == "max_surge 3 → 1, by ana"
    assert change(book, retain=60.0).changed == "max_surge 3 → 1, by ana; retain 1d → 1m, by ana", "the first change is told still"
    for seconds in range(20):
        rollout = change(book, retain=100.0 + seconds)
    assert rollout.changed.count("; ") == 7 and rollout.changed.endswith("→ 1m59s, by ana")
    decision = plan(sight(*whole(10), of=pool(10), state=book.state))
    assert [(action.server, action.step) for action in decision.actions] == [(name, "booting") for name in TEN[:3]]
    assert decision.waits["web-4"].reason == "waits: budget 3 of 1 used by web-1, web-2, web-3"


def test_whoever_decided_on_what_was_before_is_told_so() -> None:
    book = rolled(0)
    before = book.state.pool("web").generation
    change(book, max_failures=1)
    assert book.state.pool("web").generation > before


def test_a_setting_of_a_shorter_proof_counts_for_who_is_being_proved() -> None:
    book = begun(*whole(1), of=pool(1), min_healthy_time=60.0)
    book.walk("web-1", "preparing", "booting")
    book.begin("web-1", "proving")

    def notes() -> list[str]:
        healthy = {("web-1", 2): Health(True, NOW - 8.0, NOW, "tcp 22")}
        return [note.type for note in plan(sight(seen("web-1"), seen("web-1", 2, V2), of=pool(1), state=book.state, health=healthy)).notes]

    assert not notes()
    change(book, min_healthy_time=5.0)
    assert "step-done" in notes()


@pytest.mark.parametrize(("kind", "state", "name", "words"), [
    ("rollout", "canary", "canaries", "who goes first was chosen in the plan"), ("rollout", "rolling", "order", "was chosen in the plan"),
    ("rollout", "awaiting-promotion", "promotion", "`anew rollout promote r1` lets it go on"), ("rollout", "rolling", "promotion", "has no more effect"),
    ("rollback", "rolling-back", "checkpoints", "nothing on the way back"), ("rollout", "rolling-back", "on_failure", "nothing on the way back"),
    ("birth", "rolling", "checkpoint_pause", "nothing in a birth"),
    ("rollout", "canary", "promotion", ""), ("rollout", "rolling-back", "max_unavailable", ""), ("birth", "rolling", "max_unavailable", "")])
def test_what_can_change_nothing_any_more_is_refused(kind: str, state: str, name: str, words: str) -> None:
    rollout = replace(rolled(0).state.rollouts["r1"], kind=kind, state=state)
    paused = replace(rollout, state="paused", resume_to=state)
    for one in (rollout, paused):
        said = steering.refusal(one, [name])
        assert (words in said) if words else not said


def test_a_budget_that_would_leave_somebody_waiting_for_ever_is_refused() -> None:
    rollout = rolled(8).state.rollouts["r1"]
    assert steering.stranded(rollout, Budget(0, 2)).startswith("max_surge cannot become 0 in mid-rollout: web-9 and 1 more go create-first")
    assert not steering.stranded(rollout, Budget(1, 0))
    assert not steering.stranded(rolled(10).state.rollouts["r1"], Budget(0, 1))
    down = begun(*whole(), max_surge=Amount(0), max_unavailable=Amount(1)).state.rollouts["r1"]
    assert "max_unavailable cannot become 0" in steering.stranded(down, Budget(1, 0))
    assert steering.idle(down, Budget(1, 1)) == "; nobody left goes create-first, so no extra ones will be made"
    assert steering.idle(rollout, Budget(1, 1)) == "; everybody left goes create-first, so nobody more will be missing"
    assert not steering.idle(rollout, Budget(2, 0))


def test_changes_are_told_as_an_override_writes_them() -> None:
    before = rolled(0).state.rollouts["r1"].settings
    after = replace(before, max_unavailable=Amount(25, True), checkpoints=(25, 50), checkpoint_pause=1800.0, min_healthy_time=90.0)
    assert steering.told(steering.changes(before, after)) == (
        "max_unavailable 0 → 25%, min_healthy_time 5s → 1m30s, checkpoints none → 25%,50%, checkpoint_pause manual → 30m")
