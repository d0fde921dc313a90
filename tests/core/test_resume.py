"""A rollout that is resumed while the server that stopped it is still on its way back."""

from __future__ import annotations

import pytest

from fleet.core.desired import Amount
from fleet.core.events import Draft
from fleet.core.planner import plan
from tests.core.picture import V2, begun, seen, sight, whole
from tests.core.test_planner import actions, note, with_newborn


def test_a_resume_before_the_failed_one_is_back_tries_it_again_once_it_is() -> None:
    """The person has read of it: the same failure does not pause at once again, and the way back is not cut short."""
    book = begun(*whole(), canaries=Amount(1))
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "no answer")
    book.write(*plan(sight(*with_newborn(), state=book.state)).notes)
    book.move("resume-canary", "resumed by ana")
    decision = plan(sight(*with_newborn(), state=book.state))
    assert note(decision)[:2] == ("server-redirected", "web-1"), decision.notes
    book.write(*decision.notes)
    book.walk("web-1", "admitting", "stopping")
    rollout = book.state.rollouts["r1"]
    run = rollout.runs["web-1"]
    assert (rollout.state, run.step, run.path, run.source, run.error) == ("canary", "waiting", "create-first", 1, "")
    assert run.target and (run.target.kind, run.target.number, run.target.image) == ("birth", 3, V2)
    assert actions(plan(sight(*whole(), seen("web-1", 2, V2, "stopped"), state=book.state))) == [("web-1", "stage", 3)]
    assert book.again().rollouts == book.state.rollouts


def test_a_resume_before_the_failed_one_is_back_hides_no_way_back_that_fails() -> None:
    book = begun(*whole(), canaries=Amount(1))
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "no answer")
    book.move("pause")
    book.move("resume-canary", "resumed by ana")
    book.write(Draft("server-settled", pool="web", server="web-1", rollout="r1", data={"state": "quarantined", "reason": "could not be put back"}))
    assert note(plan(sight(*with_newborn(), state=book.state))) == ("rollout-moved", "", "pause")


@pytest.mark.parametrize("cause", ["abort", "rollback"])
def test_who_turns_around_after_a_resume_has_nothing_tried_again(cause: str) -> None:
    book = begun(*whole(), canaries=Amount(1))
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "no answer")
    book.move("pause")
    book.move("resume-canary", "resumed by ana")
    book.write(*plan(sight(*with_newborn(), state=book.state)).notes)
    book.move(cause)
    book.walk("web-1", "admitting", "stopping")
    assert book.state.rollouts["r1"].runs["web-1"].step == "put-back"
