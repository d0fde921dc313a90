"""Replay: the film of every golden story ends as the story did and shows what the screen showed, and no file does it any harm."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.events import Draft, Event
from fleet.core.fold import fold_all
from fleet.core.state import Rollout, State
from fleet.engine import present, replay
from fleet.engine.replay import Film, Reel
from fleet.engine.reread import event_in
from fleet.engine.tell import whole_page, whole_row
from fleet.engine.view import PoolView
from fleet.store.chain import make_row, prepare
from tests.scenarios.stage import Stage
from tests.scenarios.story import STORIES, Story, stories

Row = dict[str, Any]
Shown = dict[tuple[str, int], tuple[float, Row]]
SAME = ("id", "pool", "kind", "image", "from", "to", "state", "reason", "checkpoint", "ending", "author", "plan_hash", "started_at", "ended_at",
        "typical_seconds", "counts", "failures", "max_failures", "outside", "outside_by", "changed", "on_disconnect", "driven_by", "approvals")
SAME_OF_A_SERVER = ("name", "step", "cell", "path", "canary", "since", "error", "last_words")
"""What the screen shows from the journal alone. The rest is also made of what was observed and probed."""


class Told:
    """A story that was told: its journal, the state it ended in, and each rollout's row as a screen saw it, by (id, number of the last event)."""

    def __init__(self, path: Path) -> None:
        self.shown: Shown = {}
        self.stage: Stage
        story = Story(path)
        story.watch = self._watch
        story.trace()
        self.rows: list[Row] = json.loads(json.dumps([whole_row(event) for event in self.stage.journal.events]))
        self.rollouts = dict(self.stage.state.rollouts)

    def _watch(self, stage: Stage) -> None:
        self.stage, told = stage, stage.on_waits

        def on_waits(view: PoolView) -> None:
            told(view)
            rollout = stage.engine.last_rollout(view.pool.name)
            if rollout is not None:
                row = present.rollout_row(stage.engine.sight(view), rollout, view.waits)
                self.shown[rollout.id, stage.state.seq] = (stage.clock.now(), row)

        stage.on_waits = stage.engine.on_waits = on_waits

    def film(self, rollout: str) -> Film:
        return film(self.rows, rollout)


@cache
def told(name: str) -> Told:
    return Told(STORIES / f"{name}.toml")


def last(name: str) -> tuple[list[Row], Rollout]:
    """The journal of a story, and its last rollout."""
    found = told(name)
    return copy.deepcopy(found.rows), list(found.rollouts.values())[-1]


def reel_of(rows: Sequence[Any], wanted: str = "", checked: bool = False) -> Reel:
    reel = Reel(wanted, checked)
    for row in rows:
        reel.take(row)
    return reel


def film(rows: Sequence[Any], wanted: str = "") -> Film:
    reel = reel_of(rows, wanted)
    assert reel.fault == ""
    return reel.film()


@pytest.mark.parametrize("path", stories(), ids=lambda path: path.stem)
def test_the_film_of_a_story_ends_as_it_did_and_shows_what_the_screen_showed(path: Path) -> None:
    found, compared = Told(path), 0
    for rollout in found.rollouts.values():
        shot = found.film(rollout.id)
        assert shot.notes == ()
        assert shot.rollout(len(shot)) == rollout
        numbers = [row["seq"] for row in shot.rows(len(shot), len(shot))]
        for (of, seq), (at, row) in found.shown.items():
            n = sum(number <= seq for number in numbers)
            if of == rollout.id and n:
                picture = shot.picture(n, at)
                assert {key: picture[key] for key in SAME} == {key: row[key] for key in SAME}, f"moment {n}"
                assert [[run[key] for key in SAME_OF_A_SERVER] for run in picture["servers"]] == [
                    [run[key] for key in SAME_OF_A_SERVER] for run in row["servers"]], f"moment {n}"
                compared += 1
    assert compared or not found.shown


@pytest.mark.parametrize(("name", "reasons"), [
    ("create-first", {"waits for its turn", "waits: budget 1 of 1 used by web-1", "waits: budget 1 of 1 used by web-2"}),
    ("checkpoints", {"waits for its turn", "waits for the checkpoint at 25%", "waits for the checkpoint at 50%", "waits at the checkpoint for a person"}),
    ("canaries-manual", {"waits for its turn", "waits for the canaries", "waits for a person to promote the canaries"})])
def test_every_wait_has_its_reason(name: str, reasons: set[str]) -> None:
    rows, rollout = last(name)
    shot = film(rows, rollout.id)
    assert {run["reason"] for n in range(1, len(shot) + 1) for run in shot.picture(n, shot.times[n - 1])["servers"] if run["cell"] == "."} == reasons


def test_a_moment_is_the_same_from_wherever_one_comes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, rollout = last("checkpoints")
    monkeypatch.setattr(replay, "SPACING", 5)
    monkeypatch.setattr(replay, "MAX_KEPT", 40)  # so that what is kept is thinned out on the way
    shot = film(rows, rollout.id)
    forward = [(shot.rollout(n), shot.picture(n, shot.times[n - 1])) for n in range(1, len(shot) + 1)]
    for n in [*range(len(shot), 0, -1), 3, len(shot), 1, len(shot) // 2]:
        assert (shot.rollout(n), shot.picture(n, shot.times[n - 1])) == forward[n - 1]


def test_failures_are_where_something_failed() -> None:
    rows, rollout = last("never-boots")
    shot = film(rows, rollout.id)
    types = [shot.rows(n, 1)[0]["type"] for n in shot.failures]
    assert types[0] == "step-failed"
    assert "rollout-moved" in types, "that the engine paused it is what somebody looks for, too"
    rows, rollout = last("create-first")
    assert film(rows, rollout.id).failures == ()


def test_the_last_rollout_is_taken_unless_another_is_asked_for_by_its_beginning() -> None:
    found = told("create-first")
    first, second = list(found.rollouts)[:2]
    assert film(found.rows).id == second
    assert film(found.rows, first[:4]).id == first
    reel = reel_of(found.rows, first)
    assert reel.done
    assert "no rollout ffffffff in it" in reel_of(found.rows, "ffffffff").fault
    assert "beginning of 2" in reel_of([{**row, "rollout": "ab" + row["rollout"]} if row["rollout"] else row for row in found.rows], "ab").fault


def test_what_came_from_a_journal_without_its_plans_says_so() -> None:
    rows, rollout = last("create-first")
    for row in rows:
        row["data"] = {key: value for key, value in row["data"].items() if key not in ("runs", "settings")}
    assert "export it again" in reel_of(rows, rollout.id).fault


def test_a_newer_journal_is_read_as_far_as_it_is_known() -> None:
    rows, rollout = last("create-first")
    stranger = {**rows[-1], "type": "server-sang", "data": {"song": [1, 2]}}
    mixed = [row for known in rows for row in ({**stranger, "time": known["time"]}, known)]
    for n, row in enumerate(mixed, 1):
        row["seq"] = n
    shot = film(mixed, rollout.id)
    assert shot.rollout(len(shot)) == rollout
    assert shot.notes == (f"{len(rows)} events of a newer anew left out (server-sang).",)


def test_rows_in_no_order_and_rows_twice_are_left_out() -> None:
    rows, rollout = last("create-first")
    shot = film([row for row in rows for _ in (1, 2)], rollout.id)
    assert shot.rollout(len(shot)) == rollout
    assert "out of order" in shot.notes[0]


def chained(rows: Sequence[Row]) -> list[Row]:
    """The rows with the chain values that a real journal gives them."""
    previous, made = "", []
    for row in rows:
        draft = Draft(row["type"], row["actor"], row["pool"], row["server"], row["rollout"], row["data"], row["request"])
        previous = make_row(row["seq"], row["time"], prepare(draft), previous).chain
        made.append({**row, "chain": previous})
    return made


def test_a_record_that_was_changed_is_told_from_a_whole_one() -> None:
    rows, rollout = last("create-first")
    whole = chained(rows)
    assert reel_of(json.loads(json.dumps(whole)), rollout.id, checked=True).film().notes == ()
    changed = next(n for n, row in enumerate(whole) if row["type"] == "step-done" and row["rollout"] == rollout.id)
    whole[changed]["actor"] = "somebody else"
    assert reel_of(whole, rollout.id, checked=True).film().notes[0].startswith(f"Row {whole[changed]['seq']} does not follow")


def test_a_page_of_whole_rows_is_short_where_plans_are_large_and_never_empty() -> None:
    events = told("create-first").stage.journal.events
    assert whole_page(events, 1_000) == [whole_row(event) for event in events]
    assert [row["type"] for row in whole_page(events[1:], 0)] == ["rollout-started"]
    until = whole_page(events, 4)
    assert sum(row["type"] == "rollout-started" for row in until) == 1
    assert len(until) < len(events)
    assert whole_page(events[len(until):], 4)[0]["seq"] == until[-1]["seq"] + 1


# --- hostile rows

def spoil(value: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, True, -1, 10**30, 1e308, "", "x" * 5000, "\x1b]0;owned\x07", "\ud800", [], {}, [[]], {"a": {}}, ["x"], value])


@st.composite
def forged(draw: st.DrawFn) -> list[Any]:
    """A story's journal with some fields, anywhere in it, replaced by what nobody expects there."""
    rows, _ = last(draw(st.sampled_from(("create-first", "never-boots", "checkpoints", "hold"))))
    for _ in range(draw(st.integers(1, 6))):
        at: Any = rows[draw(st.integers(0, len(rows) - 1))]
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], (dict, list)) and at[key] and draw(st.booleans()):
                at = at[key]
                continue
            at[key] = draw(spoil(at[key]))
            break
    return rows


@settings(max_examples=150, deadline=None)
@given(forged())
def test_no_forged_record_ends_in_more_than_a_sentence(rows: list[Any]) -> None:
    reel = reel_of(rows)
    if reel.fault:
        assert reel.fault.endswith(".")
        return
    shot = reel.film()
    for n in range(1, len(shot) + 1, 5):
        shot.picture(n, shot.times[n - 1])
        shot.tally(n)
        for row in shot.rows(n, 3):
            assert row["text"].isprintable()
    assert sorted(shot.times) == list(shot.times)


def test_health_of_no_incarnation_is_passed_over() -> None:
    rows, rollout = last("create-first")
    for row in rows:
        if row["type"] == "server-healthy":
            row["data"]["number"] = None
    assert len(reel_of(rows, rollout.id).film()) > 1


@pytest.mark.parametrize("row", [
    None, [], "x", 7, {}, {"seq": 1}, {"seq": True, "at": "2026-01-01T00:00:00Z"}, {"seq": 1, "time": float("nan")}, {"seq": 1, "time": -5.0},
    {"seq": 1, "at": "yesterday"}, {"seq": 1, "time": 1.0, "type": "remark", "actor": "a\nb", "pool": "", "server": "", "rollout": "", "data": {}}])
def test_what_is_no_row_is_a_sentence(row: Any) -> None:
    with pytest.raises(ValueError):
        event_in(row)
    reel = reel_of([row])
    assert "There is no rollout in it: 1 lines were read, 1 of them could not be used." in reel.fault


def test_the_rows_of_a_journal_come_back_as_the_events_they_were() -> None:
    events: tuple[Event, ...] = tuple(told("never-boots").stage.journal.events)
    again = tuple(event_in(json.loads(json.dumps(whole_row(event)))) for event in events)
    assert [event.at for event in again] == [event.at for event in events]
    assert fold_all(State(), again) == fold_all(State(), events)
