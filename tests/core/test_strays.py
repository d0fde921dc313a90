"""What runs without being in service was not proved since it was started: no way leads back to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.core.desired import Amount
from fleet.core.events import Draft
from fleet.core.observed import Health, Seen
from fleet.core.planner import plan
from fleet.core.proposal import draw
from fleet.core.state import Target
from tests.core.picture import NOW, V1, V2, V3, Book, ask, begun, pool, seen, sight, whole

SERVED, STRAY, NEW = seen("web-1", 1, V1, "stopped"), seen("web-1", 2, V2), seen("web-1", 3, V3)
GONE = replace(STRAY, state="stopped")


def way_back(*there: Seen, walked: tuple[str, ...], fails: str, kept: bool = True) -> dict[str, Any]:
    """web-1 served 1 and was left with 2, which failed; it is rolled on to 3, and step `fails` fails. Where it is sent, and from where it came."""
    book, of = Book(), pool(1)
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": "", "place": "", "name": ""}))
    book.state = replace(book.state, pools={"web": replace(book.state.pool("web"), stable=V1)})
    before = (SERVED, STRAY) if kept else (STRAY,)
    drawn = draw(sight(*before, of=of, state=book.state, now=book.now), ask(V3, surge=False, max_surge=Amount(0), max_unavailable=Amount(1)))
    book.start(drawn, of)
    book.move("begin")
    book.walk("web-1", *walked)
    book.fail("web-1", fails, book.begin("web-1", fails))
    book.move("pause")
    notes = plan(sight(*there, of=of, state=book.state)).notes
    assert [note.type for note in notes] == ["server-redirected"]
    return dict(notes[0].data)


@pytest.mark.parametrize(("walked", "fails", "there", "stops"), [
    (("preparing",), "stopping", (SERVED, STRAY), 2),
    (("preparing", "stopping"), "booting", (SERVED, GONE), 3),
    (("preparing", "stopping", "booting"), "proving", (SERVED, GONE, NEW), 3),
])
def test_it_goes_back_to_the_last_one_in_service_never_to_the_stray(walked: tuple[str, ...], fails: str, there: tuple[Seen, ...], stops: int) -> None:
    back = way_back(*there, walked=walked, fails=fails)
    assert (back["path"], back["source"], back["target"]["kind"], back["target"]["number"]) == ("put-back", stops, "revive", 1)


def test_without_one_that_was_in_service_it_is_born_anew_but_not_of_the_image_of_the_stray() -> None:
    back = way_back(STRAY, walked=("preparing",), fails="stopping", kept=False)
    assert (back["path"], back["source"], back["target"]["kind"], back["target"]["image"]["version"]) == ("put-back", 2, "birth", "1")


@pytest.mark.parametrize(("fails", "path"), [("stopping", "keep-old"), ("booting", "put-back")])
def test_what_was_stopped_and_runs_again_is_proved_before_it_is_the_way_back(fails: str, path: str) -> None:
    """A late request started it, so that the disk is held: it is not taken for one that never stopped."""
    book = begun(*whole(), max_surge=Amount(0), max_unavailable=Amount(1))
    book.walk("web-1", *("preparing", "stopping")[:1 if fails == "stopping" else 2])
    book.fail("web-1", fails, book.begin("web-1", fails), "data disk state is held by incarnation 1")
    book.move("pause")
    book.write(*plan(sight(*whole(), state=book.state)).notes)
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.source, run.target and (run.target.kind, run.target.number)) == (path, 2, ("revive", 1))
    first = plan(sight(*whole(), state=book.state)).actions[0]
    assert (first.verb, first.number) == {"keep-old": ("commit", 1), "put-back": ("revive", 1)}[path]


def doubled(*, fails: bool = False) -> tuple[Book, tuple[Seen, ...]]:
    """A rollout with one extra place, and web-1 runs twice from before it. `fails`: it was tried in vain to stop its stray, a while ago."""
    book, fleet = Book(), (*whole(), seen("web-1", 2, V2))
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": "", "place": "", "name": ""}))
    if fails:
        book.write(Draft("step-failed", pool="web", server="web-1", data={"op": "op", "step": "retiring", "error": "no", "last_words": "", "number": 2}))
    book.start(draw(sight(*fleet, state=book.state, now=book.now), ask(V3)))
    book.move("begin")
    return book, fleet


def test_in_a_rollout_too_what_runs_beside_a_server_is_stopped_and_then_its_turn_comes() -> None:
    book, fleet = doubled()
    decision = plan(sight(*fleet, state=book.state))
    assert [(action.server, action.verb, action.number, action.rollout) for action in decision.actions] == [("web-1", "retire", 2, "")]
    assert decision.waits["web-1"].reason == "waits: incarnation 2, which runs beside what serves, is stopped first"
    assert decision.waits["web-2"].reason == "waits: extra 1 of 1 used by web-1"
    gone = (*fleet[:3], replace(fleet[3], state="stopped"))
    assert [(action.server, action.verb) for action in plan(sight(*gone, state=book.state)).actions] == [("web-1", "stage")]


def test_a_server_that_runs_twice_uses_the_place_of_an_extra_one_for_itself_too() -> None:
    book, fleet = doubled(fails=True)
    decision = plan(sight(*fleet, state=book.state))
    assert decision.actions == ()
    assert decision.waits["web-1"].reason == "waits: extra 1 of 1 used by web-1"


def test_a_server_that_is_down_waits_until_what_runs_beside_another_is_stopped_but_not_once_that_was_tried_in_vain() -> None:
    """Both are in flight in reality, and one may be. What cannot be stopped is an extra one: a sick pool would never be repaired."""
    for fails, born in ((False, []), (True, [("web-2", "stage")])):
        book, fleet = Book(), (*whole(), seen("web-1", 2, V2))
        book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": "", "place": "", "name": ""}))
        if fails:
            book.write(Draft("step-failed", pool="web", server="web-1", data={"op": "op", "step": "retiring", "error": "no", "last_words": "", "number": 2}))
        down = (fleet[0], replace(fleet[1], state="crashed"), *fleet[2:])
        book.start(draw(sight(*down, state=book.state, now=book.now), ask(V3)))
        book.move("begin")
        decision = plan(sight(*down, state=book.state))
        assert [(action.server, action.verb) for action in decision.actions if action.server != "web-1"] == born
        if not fails:
            assert decision.waits["web-2"].reason == "waits: incarnation 2, which runs beside web-1, is stopped first"
            under_way = plan(sight(*down, state=book.state, busy=("web-1",)))
            assert under_way.actions == () and under_way.waits["web-2"] == decision.waits["web-2"]
            gone = (*down[:3], replace(down[3], state="stopped"))
            assert [(action.server, action.verb) for action in plan(sight(*gone, state=book.state)).actions] == [("web-2", "stage")]


def test_what_served_before_and_is_stopped_beside_another_keeps_no_server_that_is_down_waiting() -> None:
    down = (*whole()[:1], seen("web-1", 2, V2), seen("web-2", 1, V1, "crashed"), whole()[2])
    book = served(1, 2)
    book.start(draw(sight(*down, state=book.state, now=book.now), ask(V3)))
    book.move("begin")
    assert [(action.server, action.verb) for action in plan(sight(*down, state=book.state)).actions] == [("web-1", "retire"), ("web-2", "stage")]


def test_a_sick_server_that_runs_twice_does_not_wait_for_itself() -> None:
    """Its stray is stopped only beside one that answers, and uses the one extra place: the sick one makes room, which takes nothing away."""
    fleet = (*whole(), seen("web-1", 2, V2))
    book = served(1, 2)
    sick = {("web-1", 2): Health(False, NOW - 50.0, NOW, "refused")}
    book.start(draw(sight(*fleet, state=book.state, health=sick, now=book.now), ask(V3)))
    book.move("begin")
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.source, run.reason) == ("delete-first", 2, "incarnation 2 is not healthy, and 1 runs beside it")
    book.walk("web-1", "preparing")
    decision = plan(sight(*fleet, state=book.state, health=sick))
    assert [(action.server, action.verb, action.number) for action in decision.actions] == [("web-1", "retire", 2)]
    assert decision.waits["web-2"].reason == "waits: budget 1 of 1 used by web-1"


def test_a_server_that_falls_sick_while_it_runs_twice_is_told_what_it_waits_for() -> None:
    book, fleet = doubled()
    decision = plan(sight(*fleet, state=book.state, sick=("web-1",)))
    assert decision.waits["web-1"].reason == "waits: incarnation 2 runs beside it, extra 1 of 1, and is stopped once incarnation 1 answers"


def test_a_paused_rollout_stops_nothing_beside_a_server() -> None:
    book, fleet = doubled()
    book.move("pause")
    assert plan(sight(*fleet, state=book.state)).actions == ()


LEFT = (seen("web-1", 1, V1), seen("web-1", 2, V2, "crashed"), *whole(3, V2)[1:])
"""The one that web-1 had before could not be stopped when the new one was admitted, and the new one has died."""


def served(*numbers: int) -> Book:
    """web-1 served these, one after the other."""
    book = Book()
    for number in numbers:
        book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": number, "digest": "", "place": "", "name": ""}))
    return book


def left(*fleet: Seen, sick: tuple[str, ...] = (), **settings: Any) -> Book:
    """A rollout to a third image where web-1 should serve incarnation 2, and served 1 before."""
    book = served(1, 2)
    book.start(draw(sight(*fleet, state=book.state, sick=sick, now=book.now), ask(V3, **settings)))
    book.move("begin")
    return book


def test_what_served_before_and_runs_on_where_the_new_one_died_is_replaced_like_one_that_serves() -> None:
    """It may serve for all we know: nothing is stopped before a new one has taken its place."""
    run = left(*LEFT).state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.source, run.home, run.reason) == ("create-first", 1, V1, "incarnation 1 runs, 2 should")
    run = left(*LEFT, sick=("web-1",)).state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.source, run.home, run.reason) == ("delete-first", 1, V2, "incarnation 1 runs, but is not in service")


def test_what_may_serve_for_all_we_know_is_stopped_under_the_budget_only() -> None:
    dead = (*LEFT[:2], seen("web-2", 1, V2, "crashed"), LEFT[3])
    book = left(*dead, max_surge=Amount(0), max_unavailable=Amount(1))
    assert [(action.server, action.verb) for action in plan(sight(*dead, state=book.state)).actions] == [("web-2", "stage")]
    book.walk("web-1", "preparing")
    assert plan(sight(*dead, state=book.state)).waits["web-1"].reason == "waits: missing 1 of 1 used by web-2"
    assert [(action.server, action.verb) for action in plan(sight(*LEFT, state=book.state)).actions] == [("web-1", "retire")]


@pytest.mark.parametrize(("walked", "fails", "there"), [
    (("preparing",), "booting", LEFT), (("preparing", "booting"), "proving", (NEW, *LEFT)),
])
def test_where_its_successor_fails_it_is_proved_where_it_is(walked: tuple[str, ...], fails: str, there: tuple[Seen, ...]) -> None:
    book = left(*LEFT)
    book.walk("web-1", *walked)
    book.fail("web-1", fails, book.begin("web-1", fails))
    book.move("pause")
    book.write(*plan(sight(*there, state=book.state)).notes)
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.source, run.target) == ("put-back", 3, Target("revive", 1, V1))


BACK = (seen("web-1", 1, V1, "crashed"), seen("web-1", 2, V2), *whole(3, V1)[1:])
"""What a rollback took out of service could not be stopped, and the older one, to which it went back, has died."""


def test_what_a_rollback_left_running_is_replaced_like_one_that_serves_where_the_older_one_died() -> None:
    """Its number is the higher one: what counts is that it was in service."""
    state = served(1, 2, 1).state
    run = draw(sight(*BACK, state=state), ask(V3)).runs[0]
    assert (run.server, run.path, run.source, run.home, run.reason) == ("web-1", "create-first", 2, V2, "incarnation 2 runs, 1 should")


def test_of_two_that_served_before_the_last_one_may_serve() -> None:
    both = (seen("web-1", 1, V1), seen("web-1", 2, V2), seen("web-1", 3, V3, "crashed"))
    standby = sight(*both, of=pool(1), state=served(2, 1, 3).state).standby("web-1")
    assert standby is not None and standby.number == 1


def test_what_never_served_does_not_for_all_we_know_whatever_its_number() -> None:
    newborn = (seen("web-1", 2, V2), seen("web-1", 3, V3, "crashed"))
    assert sight(*newborn, of=pool(1), state=served(1, 3).state).standby("web-1") is None


def test_what_is_buried_did_not_serve_before() -> None:
    book = served(1, 2)
    assert book.state.pool("web").server("web-1").before == (1,)
    book.write(Draft("incarnation-buried", pool="web", server="web-1", data={"number": 1}))
    assert book.state.pool("web").server("web-1").before == ()


def test_what_a_late_request_started_in_the_way_of_the_way_back_is_stopped_and_the_old_one_is_started_again() -> None:
    """It holds the data disk: neither the old one nor one born anew could start beside it."""
    of = pool(1, data=True)
    book = begun(*whole(1), of=of, image=V2, surge=False, max_surge=Amount(0), max_unavailable=Amount(1))
    book.walk("web-1", "preparing", "stopping", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"))
    both = (seen("web-1", 1, V1, "stopped"), seen("web-1", 2, V2))
    for _ in range(2):  # the pause, and the way back
        book.write(*plan(sight(*both, of=of, state=book.state)).notes)
    book.walk("web-1", "stopping")
    book.fail("web-1", "booting", book.begin("web-1", "booting"), "data disk state is held by incarnation 2")
    book.write(*plan(sight(*both, of=of, state=book.state)).notes)
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.source, run.target) == ("put-back", 2, Target("revive", 1, V1))
    assert run.reason == "incarnation 2 runs again, and is in its way: data disk state is held by incarnation 2"
    assert [(action.verb, action.number) for action in plan(sight(*both, of=of, state=book.state)).actions] == [("retire", 2)]


def test_what_was_in_service_before_and_may_serve_is_not_stopped_for_being_in_the_way() -> None:
    """1 was in service before 2, and answers while 2 does not run: to stop it would leave nobody."""
    of = pool(1)
    book = served(1, 2)
    book.start(draw(sight(seen("web-1", 2, V2), of=of, state=book.state, now=book.now), ask(V3, surge=False, max_surge=Amount(0), max_unavailable=Amount(1))), of)
    book.move("begin")
    book.walk("web-1", "preparing", "stopping")
    book.fail("web-1", "booting", book.begin("web-1", "booting"))
    there = (seen("web-1", 1, V1), seen("web-1", 2, V2, "stopped"))
    for _ in range(2):  # the pause, and the way back
        book.write(*plan(sight(*there, of=of, state=book.state)).notes)
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.target) == ("put-back", Target("revive", 2, V2))
    book.fail("web-1", "booting", book.begin("web-1", "booting"))
    book.write(*plan(sight(*there, of=of, state=book.state)).notes)
    assert book.state.rollouts["r1"].runs["web-1"].source != 1
    assert ("retire", 1) not in [(action.verb, action.number) for action in plan(sight(*there, of=of, state=book.state)).actions]
