"""Estimates, what is seen, text made fit for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core import estimate
from fleet.core.desired import RolloutSettings
from fleet.core.errors import Transient
from fleet.core.events import Draft
from fleet.core.observed import Health
from fleet.core.printable import printable
from fleet.core.sight import home_place, longest_gap, span
from fleet.core.state import Target
from tests.core.picture import NOW, SETTINGS, V1, Book, begun, pool, seen, sight, whole


def test_list_scheduling_keeps_all_slots_busy() -> None:
    assert estimate.schedule([], 3) == 0.0
    assert estimate.schedule([5, 5, 5], 1) == 15.0
    assert estimate.schedule([9, 3, 3, 3], 2) == 9.0
    assert estimate.schedule([5.0] * 4, 0) == 20.0


def test_a_path_takes_what_its_steps_usually_take() -> None:
    settings = RolloutSettings(min_healthy_time=10.0)
    known = {"booting": (4.0, 8.0, 6.0), "proving": (2.0,)}
    assert estimate.typical(known, "booting", settings) == 6.0
    assert estimate.typical(known, "proving", settings) == 10.0, "never less than min_healthy_time"
    birth = estimate.path_seconds("birth", Target("birth", 1, V1), known, settings)
    revive = estimate.path_seconds("birth", Target("revive", 1, V1), known, settings)
    assert birth - revive == estimate.GUESS["preparing"]


def test_what_remains_grows_less_and_is_nothing_in_the_end() -> None:
    book = begun(*whole())
    before = estimate.remaining(book.state.rollouts["r1"], {}, NOW)
    book.walk("web-1", "preparing", "booting", "proving", "admitting", "retiring")
    after = estimate.remaining(book.state.rollouts["r1"], {}, NOW)
    assert before[1] < before[0] < before[2]
    assert after[0] < before[0]
    for name in ("web-2", "web-3"):
        book.walk(name, "preparing", "booting", "proving", "admitting", "retiring")
    assert estimate.remaining(book.state.rollouts["r1"], {}, NOW) == (0.0, 0.0, 0.0)


def test_a_range_is_a_guess_until_three_servers_proved_themselves_and_then_what_they_took() -> None:
    assert estimate.spread({}) == estimate.spread({"proving": (10.0, 90.0)}) == (0.7, 1.6)
    assert estimate.spread({"proving": (*[10.0] * 10, *[12.0] * 8, 18.0, 300.0)}) == (10 / 12, 18 / 12), "one outlier widens nothing"


def test_a_run_under_way_needs_what_is_left_of_its_step() -> None:
    book = begun(*whole())
    book.walk("web-1", "preparing", "booting")
    book.begin("web-1", "proving")
    run = book.state.rollouts["r1"].runs["web-1"]
    early, late = (estimate.left_of(run, {}, SETTINGS, book.now + passed) for passed in (0.0, 10.0))
    assert early - late == pytest.approx(10.0)
    assert estimate.left_of(run, {}, SETTINGS, book.now + 1e6) > 0.0


def test_the_admitted_incarnation_serves_and_without_a_word_of_it_the_highest_that_runs() -> None:
    fleet = (seen("web-1", 1), seen("web-1", 2), seen("web-1", 3, state="stopped"))
    assert sight(*fleet).serving("web-1") == fleet[1]
    book = Book()
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": "", "place": "", "name": ""}))
    assert sight(*fleet, state=book.state).serving("web-1") == fleet[0]
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 3, "digest": "", "place": "", "name": ""}))
    assert sight(*fleet, state=book.state).serving("web-1") is None


def test_a_newborn_on_trial_is_not_in_service() -> None:
    book = begun(*whole(1), of=pool(1))
    book.walk("web-1", "preparing", "booting")
    book.begin("web-1", "proving")
    newborn = seen("web-1", 2)
    assert sight(seen("web-1", 1), newborn, of=pool(1), state=book.state).serving("web-1") == seen("web-1", 1)


def test_missing_is_whoever_does_not_serve_well() -> None:
    now = sight(seen("web-1"), seen("web-2"), seen("web-3", state="crashed"), of=pool(4), sick=("web-2",))
    assert now.missing == {"web-2", "web-3", "web-4"}


def test_an_old_look_is_no_knowledge_neither_of_health_nor_of_sickness() -> None:
    old = Health(True, NOW - 900, NOW - 500, "")
    now = sight(*whole(), health={("web-1", 1): old, ("web-2", 1): Health(False, NOW - 900, NOW - 500, "")})
    assert [now.unknown(f"web-{n}") for n in (1, 2, 3)] == [True, True, False]
    assert not now.healthy("web-1", 1)
    assert longest_gap(pool(), 10) < longest_gap(pool(), 10_000)


def test_servers_take_turns_among_the_hypervisors_and_stay_where_they_were_seen() -> None:
    spread = pool(4, hypervisors=("hv1", "hv2"))
    assert [home_place(spread, name) for name in spread.server_names] == ["hv1", "hv2", "hv1", "hv2"]
    assert home_place(pool(), "web-1") == "sim"
    now = sight(seen("web-1", place="hv2"), of=spread, unreachable={"hv2": "no route"})
    assert (now.place("web-1"), now.unreachable("web-1"), now.unreachable("web-3")) == ("hv2", "no route", "")


@pytest.mark.parametrize(("seconds", "words"), [
    (-5, "0s"), (0.4, "0s"), (59.4, "59s"), (60, "1m"), (250, "4m 10s"), (7_800, "2h 10m"), (86_400, "1d"), (532_800, "6d 4h")])
def test_durations_for_people(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(("text", "shown"), [
    ("plain", "plain"), ("\x1b[31mred\x1b[0m", "[31mred[0m"), ("\x9b2J", "2J"), ("a\nb\tc", "a b c"), ("\u202eevil\u2069", "evil"),
    ("zero\u200bwidth\ufeff", "zerowidth"), ("\ud800lone", "lone"), ("x" * 300, "x" * 199 + "…"), ("\U000e0041tag", "tag"), ("  kept in\u00e9 \u65e5\u672c ", "kept in\u00e9 \u65e5\u672c")])
def test_hostile_text_is_made_fit_for_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(), st.integers(2, 50))
def test_whatever_comes_is_one_short_line_of_printable_characters(text: str, cap: int) -> None:
    shown = printable(text, cap)
    assert len(shown) <= cap
    assert not [char for char in shown if ord(char) < 32 or 0x7F <= ord(char) < 0xA0]
    shown.encode("utf-8")


@pytest.mark.parametrize(("where", "said"), [
    ("rack1", "no answer"), ("rack1 (root@10.0.0.1:22)", "no answer"), ("", "no answer"), ("jump1 (root@10.0.0.9:22)", "jump1 (root@10.0.0.9:22): no answer"),
    ("rack10", "rack10: no answer"),
])
def test_an_error_does_not_say_its_place_twice_and_names_another_place(where: str, said: str) -> None:
    assert Transient("no answer", where=where).beside("rack1") == said
