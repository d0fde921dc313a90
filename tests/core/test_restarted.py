"""A retained incarnation that is started again: its retention is over, and nothing beside it is removed until it is admitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fleet.core.bench import redirect, settle
from fleet.core.decision import Decision
from fleet.core.desired import Amount
from fleet.core.events import Draft
from fleet.core.observed import Health, Seen
from fleet.core.planner import plan
from fleet.core.proposal import draw
from fleet.core.state import Server, Target
from tests.core.picture import NOW, V1, V2, Book, ask, begun, pool, seen, sight, whole

OLD, NEW = seen("web-1", 1, V1), seen("web-1", 2, V2)
STOPPED = replace(OLD, state="stopped")


def rolled_back_to_the_retained(*incarnations: Seen, admitted: int, keep: float) -> Book:
    """web-1 serves 2 and is on its way back to the retained 1, which is being started."""
    book = begun(*incarnations, of=pool(1), image=V1, kind="rollback", surge=False, max_surge=Amount(0), max_unavailable=Amount(1))
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": admitted, "digest": "", "place": "", "name": ""}))
    book.write(Draft("incarnation-retained", pool="web", server="web-1", data={"number": 1, "digest": "", "version": "", "until": NOW + keep}))
    book.walk("web-1", "preparing", "stopping")
    return book


def known(book: Book, server: str = "web-1") -> Server:
    return book.state.pool("web").server(server)


def ended(book: Book) -> Book:
    book.write(Draft("rollout-moved", pool="web", rollout="r1", data={"cause": "abort", "state": "paused", "reason": ""}))
    book.write(Draft("rollout-ended", pool="web", rollout="r1", data={"state": "aborted", "reason": ""}))
    return book


def test_retention_counts_from_when_it_stops_again_not_from_when_it_was_first_replaced() -> None:
    book = rolled_back_to_the_retained(STOPPED, NEW, admitted=2, keep=60.0)
    assert known(book).retained == {1: NOW + 60.0}
    book.done("web-1", "booting", book.begin("web-1", "booting"))
    later = NOW + 61.0
    decision = plan(sight(STOPPED, NEW, of=pool(1), state=ended(book).state, now=later))
    assert [(note.type, note.data["until"]) for note in decision.notes] == [("incarnation-retained", later + pool(1).rollout.retain)]


def test_nothing_is_removed_beside_one_in_service_that_was_started_again_and_not_admitted_since() -> None:
    book = rolled_back_to_the_retained(STOPPED, NEW, admitted=1, keep=60.0)
    book.walk("web-1", "booting", "proving")
    op = book.begin("web-1", "admitting")
    book.write(Draft("incarnation-retained", pool="web", server="web-1", data={"number": 2, "digest": "", "version": "", "until": NOW}))
    fleet = OLD, replace(NEW, state="stopped")

    def removed(book: Book) -> bool:
        book.write(Draft("rollout-ended", pool="web", rollout="r1", data={"state": "failed", "reason": ""}))
        return bool(plan(sight(*fleet, of=pool(1), state=book.state, now=NOW + 1.0)).actions)

    admitted = Book(book.now)
    admitted.write(*(Draft(event.type, event.actor, event.pool, event.server, event.rollout, event.data) for event in book.events))
    admitted.done("web-1", "admitting", op)
    book.fail("web-1", "admitting", op)
    assert not removed(book)
    assert removed(admitted)


def test_nothing_is_removed_beside_one_that_came_back_by_itself_before_it_answered_as_long_as_a_proof() -> None:
    book = Book()
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 2, "digest": "", "place": "", "name": ""}))
    book.write(Draft("incarnation-retained", pool="web", server="web-1", data={"number": 1, "digest": "", "version": "", "until": NOW - 1.0}))

    def look(answers_for: float) -> Decision:
        return plan(sight(STOPPED, NEW, of=pool(1), state=book.state, health={("web-1", 2): Health(True, NOW - answers_for, NOW, "tcp 22")}))

    assert (look(1.0).actions, look(1.0).wake_at) == ((), NOW + 4.0)
    assert [(action.verb, action.number) for action in look(5.0).actions] == [("bury", 1)]


def test_what_could_not_be_removed_is_tried_again_later_and_later_until_it_is_gone() -> None:
    book = Book(NOW)
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 2, "digest": "", "place": "", "name": ""}))
    book.write(Draft("incarnation-retained", pool="web", server="web-1", data={"number": 1, "digest": "", "version": "", "until": NOW - 1.0}))

    def tried_at() -> float:
        wakes = plan(sight(STOPPED, NEW, of=pool(1), state=book.state, now=book.now)).wake_at
        assert wakes is not None
        assert plan(sight(STOPPED, NEW, of=pool(1), state=book.state, now=wakes)).actions
        return wakes - NOW

    tries = []
    for _ in range(9):
        book.fail("web-1", "burying", book.begin("web-1", "burying", rollout=""), rollout="")
        tries.append(tried_at())
        book.now = NOW + tries[-1]
    assert tries == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3840.0, 7440.0, 11040.0]
    book.done("web-1", "burying", book.begin("web-1", "burying", rollout=""), rollout="")
    assert plan(sight(STOPPED, NEW, of=pool(1), state=book.state, now=book.now)).actions
    assert book.state == book.again()


def test_who_was_started_again_and_could_not_be_admitted_is_missed_by_the_others_and_replaced_before_them() -> None:
    """It may not serve, so that nobody else is taken down beside it; it may serve, so that it is not taken for a sick one."""
    of = pool(3)
    one: dict[str, Any] = {"max_surge": Amount(0), "max_unavailable": Amount(1)}
    book = begun(*whole(), of=of, surge=False, **one)
    for name in ("web-1", "web-2", "web-3"):
        book.write(Draft("server-adopted", pool="web", server=name, data={"number": 1, "digest": "", "place": "", "name": ""}))
    book.walk("web-2", "preparing", "stopping")
    book.write(redirect(book.state.rollouts["r1"], book.state.rollouts["r1"].runs["web-2"], "put-back", "", target=Target("revive", 1, V1)))
    book.walk("web-2", "booting", "proving")
    assert known(book, "web-2").restarted
    book.write(settle(book.state.rollouts["r1"], book.state.rollouts["r1"].runs["web-2"], "quarantined", ""))
    held = plan(sight(*whole(), of=of, state=book.state))
    assert not held.actions and held.waits["web-1"].reason == "waits: missing 1 of 1 used by web-2"
    ended(book)
    there = draw(sight(*whole(), of=of, state=book.state), ask(V1, "rollback", surge=False, **one)).runs
    assert [(run.server, run.action) for run in there] == [("web-2", "replace"), ("web-1", "skip"), ("web-3", "skip")]
    assert there[0].reason == "incarnation 1 was started again, and not admitted since"
    book.start(draw(sight(*whole(), of=of, state=book.state), ask(V2, surge=False, **one)), of, "r2")
    book.move("begin", rollout="r2")
    first = plan(sight(*whole(), of=of, state=book.state))
    assert [action.server for action in first.actions] == ["web-2"]
