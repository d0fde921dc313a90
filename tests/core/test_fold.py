"""state = fold(journal): pointers, memory of servers, retries; and every value that goes to the journal comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.codec import image_in, image_out, run_in, run_out, settings_in, settings_out, target_in, target_out
from fleet.core.desired import Amount, RolloutSettings
from fleet.core.errors import BrokenMachine
from fleet.core.events import EVENT_TYPES, Draft, check_draft
from fleet.core.fold import KEPT_DURATIONS, KEPT_ROLLOUTS
from fleet.core.observed import ImageRef
from fleet.core.proposal import draw
from fleet.core.state import Run, State, Target
from tests.core.picture import V1, V2, V3, Book, ask, begun, pool, sight, whole

TEXT = st.text(max_size=20)
REFS = st.builds(ImageRef, TEXT, TEXT, TEXT)
TARGETS = st.builds(Target, st.sampled_from(["birth", "revive"]), st.integers(0, 99), REFS)
AMOUNTS = st.builds(Amount, st.integers(0, 100), st.booleans())
RUNS = st.builds(Run, server=TEXT, action=st.sampled_from(["replace", "birth", "skip", "hold"]), planned=TEXT, place=TEXT, canary=st.booleans(),
                 source=st.none() | st.integers(0, 9), target=st.none() | TARGETS, home=st.none() | REFS, reason=TEXT)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(st.none() | REFS, st.none() | TARGETS)
def test_images_and_targets_come_back(image: ImageRef | None, target: Target | None) -> None:
    assert image_in(through_json(image_out(image))) == image
    assert target_in(through_json(target_out(target))) == target


@given(RUNS, st.integers(0, 50))
def test_a_run_comes_back_as_it_was_planned(run: Run, index: int) -> None:
    back = run_in(through_json(run_out(run)), index)
    assert run_out(back) == run_out(run)
    assert (back.index, back.path) == (index, run.planned)
    assert back.settled == (run.action in ("skip", "hold"))


@given(st.builds(RolloutSettings, max_unavailable=AMOUNTS, max_surge=AMOUNTS, canaries=AMOUNTS, min_healthy_time=st.floats(0, 1e6)))
def test_settings_come_back_and_an_older_or_newer_journal_is_read(settings: RolloutSettings) -> None:
    out = through_json(settings_out(settings))
    assert settings_in(out) == settings
    assert settings_in({**out, "of_a_later_release": 1}) == settings
    del out["order"]
    assert settings_in(out).order == "oldest"


def test_every_type_of_event_can_be_folded_or_left_alone() -> None:
    book = begun(*whole())
    book.begin("web-1", "preparing")
    samples: dict[str, Any] = {"number": 1, "until": 5.0, "epoch": 3, "digest": "d", "version": "1", "reason": "x", "state": "put-back", "path": "clear",
                               "changed": {}, "settings": {}, "budget": {"surge": 1, "unavailable": 0},
                               "target": None, "cause": "pause", "op": "op1", "step": "preparing", "error": "e", "last_words": "", "why": "w",
                               "uid": 7}
    for kind, (_, required) in EVENT_TYPES.items():
        if kind in ("rollout-started", "rollout-ended", "plan-proposed"):
            continue
        draft = Draft(kind, pool="web", server="web-1", rollout="r1", data={name: samples.get(name, "") for name in required})
        check_draft(draft)
        before = book.state.seq
        assert book.write(draft).seq == before + 1
    assert book.write(Draft("of-a-later-release", pool="web")).seq == len(book.events)
    assert book.again() == book.state


def test_a_draft_without_a_required_field_is_refused() -> None:
    with pytest.raises(KeyError, match="lacks reason"):
        check_draft(Draft("rollout-moved", data={"cause": "pause", "state": "paused"}))
    with pytest.raises(KeyError):
        check_draft(Draft("made-up"))


def finish(book: Book, ending: str = "done") -> State:
    return book.write(Draft("rollout-ended", pool="web", rollout="r1", data={"state": ending, "reason": ""}))


def all_served(book: Book) -> Book:
    for name in book.state.rollouts["r1"].runs:
        book.walk(name, "preparing", "booting", "proving", "admitting", "retiring")
    return book


def test_stable_moves_only_on_success_and_previous_is_what_rollback_goes_to() -> None:
    book = all_served(begun(*whole()))
    assert book.state.pool("web").target == V2
    assert book.state.pool("web").stable is None
    pool = finish(book).pool("web")
    assert (pool.stable, pool.target, pool.rollout) == (V2, None, None)


def test_previous_is_what_stable_was_and_re_birth_by_age_moves_no_pointer() -> None:
    book = all_served(begun(*whole()))
    finish(book)
    for name, image in (("r2", V1), ("r3", V1)):
        book.start(draw(sight(*whole()), ask(image, older_than=1.0)), rollout=name)
        book.move("begin", rollout=name)
        book.write(Draft("rollout-ended", pool="web", rollout=name, data={"state": "done", "reason": ""}))
        pool = book.state.pool("web")
        assert (pool.stable, pool.previous) == (V1, V2)


@pytest.mark.parametrize("ending", ["done", "aborted"])
def test_re_birth_of_some_servers_forgets_no_way_back(ending: str) -> None:
    """The way back from 2 is to 1, however many servers were born anew on 2 since."""
    book = all_served(begun(*whole()))
    finish(book)
    book.start(draw(sight(*whole()), ask(V1, older_than=1.0)), rollout="r2")
    book.move("begin", rollout="r2")
    book.write(Draft("rollout-ended", pool="web", rollout="r2", data={"state": "done", "reason": ""}))
    book.start(draw(sight(*whole()), ask(V1, servers=("web-1",), older_than=1.0)), rollout="r3")
    book.move("begin", rollout="r3")
    for step in ("preparing", "booting", "proving", "admitting", "retiring"):
        book.done("web-1", step, book.begin("web-1", step, rollout="r3"), rollout="r3")
    if ending == "aborted":
        book.move("abort", rollout="r3")
    book.write(Draft("rollout-ended", pool="web", rollout="r3", data={"state": ending, "reason": ""}))
    assert (book.state.pool("web").stable, book.state.pool("web").previous) == (V1, V2)


def test_a_newborn_counts_its_age_from_its_admission_and_a_revived_one_from_its_birth() -> None:
    book = begun(*whole())
    book.walk("web-1", "preparing", "booting", "proving", "admitting")
    assert book.state.pool("web").server("web-1").admitted_at == book.now
    book.write(Draft("server-redirected", pool="web", server="web-1", rollout="r1", data={
        "path": "put-back", "source": 2, "target": target_out(Target("revive", 1, V1)), "reason": "", "reverting": True}))
    book.walk("web-1", "stopping", "booting", "proving", "admitting")
    server = book.state.pool("web").server("web-1")
    assert (server.admitted, server.admitted_at) == (1, 0.0)


def test_step_times_of_one_driver_tell_nothing_about_another() -> None:
    book = begun(*whole())
    book.walk("web-1", "preparing")
    finish(all_served(book))
    assert book.state.pool("web").durations["preparing"]
    book.start(draw(sight(*whole()), ask(V1, older_than=1.0)), rollout="r2")
    assert book.state.pool("web").durations["preparing"], "the same driver goes on learning"
    book.move("begin", rollout="r2")
    book.write(Draft("rollout-ended", pool="web", rollout="r2", data={"state": "done", "reason": ""}))
    book.start(draw(sight(*whole()), ask(V2)), replace(pool(), driver="libvirt"), rollout="r3")
    assert not book.state.pool("web").durations


def test_a_rollout_of_some_servers_leaves_stable_where_it_is() -> None:
    book = begun(*whole(), servers=("web-2",))
    book.walk("web-2", "preparing", "booting", "proving", "admitting", "retiring")
    pool = finish(book).pool("web")
    assert pool.stable is None


def test_an_outcome_of_another_intent_changes_nothing() -> None:
    book = begun(*whole())
    book.begin("web-1", "preparing")
    before = book.state.rollouts["r1"]
    book.done("web-1", "preparing", "somebody-else")
    book.fail("web-1", "preparing", "somebody-else")
    assert book.state.rollouts["r1"] == before


def test_a_failed_newborn_is_remembered_and_a_retry_gets_a_new_number() -> None:
    book = begun(*whole())
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "never answered")
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.phase, run.error) == ("failed", "never answered")
    assert book.state.rollouts["r1"].failures == 1
    assert book.state.pool("web").server("web-1").failed == {2}
    book.write(Draft("server-redirected", pool="web", server="web-1", rollout="r1",
                     data={"path": "keep-old", "source": 2, "target": target_out(Target("revive", 1, V1)), "reason": "back"}))
    book.move("pause")
    book.walk("web-1", "admitting", "stopping")
    assert book.state.rollouts["r1"].runs["web-1"].step == "put-back"
    book.move("resume-rolling")
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.step, run.path, run.source, run.error, run.attempts) == ("waiting", "create-first", 1, "", 0)
    assert run.target == Target("birth", 3, V2)
    assert book.state.rollouts["r1"].failures == 0


def test_a_number_that_a_retry_began_to_use_is_never_given_again() -> None:
    """Its retention may end before the next plan: then nothing but the journal knows of it."""
    book = begun(*whole())
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "never answered")
    book.write(Draft("server-redirected", pool="web", server="web-1", rollout="r1",
                     data={"path": "keep-old", "source": 2, "target": target_out(Target("revive", 1, V1)), "reason": "back"}))
    book.move("pause")
    book.walk("web-1", "admitting", "stopping")
    book.move("resume-rolling")
    book.walk("web-1", "preparing")
    book.begin("web-1", "booting")
    book.move("abort")
    book.write(Draft("rollout-ended", pool="web", rollout="r1", data={"state": "aborted", "reason": "by hand"}))
    assert draw(sight(*whole(), state=book.state), ask(V3)).runs[0].target == Target("birth", 4, V3)


def test_a_way_back_to_put_back_is_begun_and_not_ended() -> None:
    book = begun(*whole(), max_surge=Amount(0), max_unavailable=Amount(1))
    book.walk("web-1", "preparing", "stopping", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"))
    book.write(Draft("server-redirected", pool="web", server="web-1", rollout="r1",
                     data={"path": "put-back", "source": 2, "target": target_out(Target("revive", 1, V1)), "reason": "back"}))
    run = book.state.rollouts["r1"].runs["web-1"]
    assert run.active and not run.settled


def test_a_restart_makes_open_intents_unknown_and_time_begins_anew() -> None:
    book = begun(*whole(), max_surge=Amount(2))
    book.walk("web-2", "preparing", "booting")
    book.begin("web-1", "preparing")
    book.begin("web-2", "proving")
    book.now += 1000.0
    book.write(Draft("daemon-started", data={"epoch": 7, "version": ""}))
    runs = book.state.rollouts["r1"].runs
    assert book.state.epoch == 7
    assert [runs[name].phase for name in ("web-1", "web-2", "web-3")] == ["unknown", "doing", "idle"]
    assert runs["web-2"].booted_at == book.now == book.state.rollouts["r1"].progress_at


def test_illegal_moves_are_broken_machines() -> None:
    book = begun(*whole())
    for cause in ("begin", "promoted", "resume-rolling", "finished", "nonsense"):
        with pytest.raises(BrokenMachine):
            begun(*whole()).move(cause) if cause != "finished" else book.move("begin-rollback")


def test_memory_is_bounded() -> None:
    book = Book()
    now = sight(*whole())
    for number in range(KEPT_ROLLOUTS + 20):
        name = f"r{number}"
        book.start(draw(now, ask()), rollout=name)
        book.move("begin", rollout=name)
        book.move("abort", rollout=name)
        book.write(Draft("rollout-ended", pool="web", rollout=name, data={"state": "aborted", "reason": ""}))
    assert len(book.state.rollouts) <= KEPT_ROLLOUTS + 1
    book.start(draw(now, ask()), rollout="last")
    book.move("begin", rollout="last")
    for _ in range(KEPT_DURATIONS + 5):
        book.done("web-1", "preparing", book.begin("web-1", "preparing", rollout="last"), rollout="last")
    assert len(book.state.pool("web").durations["preparing"]) == KEPT_DURATIONS


def test_decisions_make_older_ones_stale_and_progress_does_not() -> None:
    book = begun(*whole())
    before = book.state.pool("web").generation
    book.walk("web-1", "preparing")
    assert book.state.pool("web").generation == before
    book.move("pause")
    book.write(Draft("server-held", pool="web", server="web-3", data={"why": "x"}))
    assert book.state.pool("web").generation == before + 2
    assert book.state.pool("db").generation == 0
