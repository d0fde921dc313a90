"""What runs and answers although nobody was told: it is proved by what is heard of it, and not stopped for that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.core.decision import Decision
from fleet.core.desired import Amount, SimSettings
from fleet.core.events import Draft
from fleet.core.observed import Health, Observed, Running, Seen
from fleet.core.planner import plan
from fleet.core.proposal import draw
from fleet.core.state import Target
from tests.core.picture import NOW, V1, V2, Book, ask, begun, pool, seen, sight, whole

HALF: dict[str, Any] = {"max_surge": Amount(0), "max_unavailable": Amount(1)}


def acts(decision: Decision) -> tuple[str, str, int]:
    first = decision.actions[0]
    return first.server, first.verb, first.number


def test_what_runs_though_its_start_was_not_confirmed_is_proved_and_not_stopped() -> None:
    book = begun(*whole(), **HALF)
    book.walk("web-1", "preparing", "stopping")
    book.fail("web-1", "booting", book.begin("web-1", "booting"))
    away = (seen("web-1", 1, state="stopped"), *whole()[1:])
    for _ in range(2):  # the pause, and the way back
        book.write(*plan(sight(*away, state=book.state)).notes)
    assert book.state.rollouts["r1"].runs["web-1"].path == "put-back"
    book.fail("web-1", "booting", book.begin("web-1", "booting"), "no answer in time")
    book.write(*plan(sight(*whole(), state=book.state)).notes)
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.source, run.target and (run.target.kind, run.target.number), run.reason) == (
        "put-back", None, ("revive", 1), "it runs after all: no answer in time")
    assert acts(plan(sight(*whole(), state=book.state))) == ("web-1", "revive", 1)


def test_a_rollback_does_not_stop_what_it_started_since_the_start_was_not_confirmed() -> None:
    for settings, walked in (({}, ()), (HALF, ("stopping",))):
        book = begun(*whole(image=V2), kind="rollback", image=V1, **settings)
        book.walk("web-1", *walked)
        book.fail("web-1", "booting", book.begin("web-1", "booting"), "no answer in time")
        home, left = seen("web-1", 2, V1), seen("web-1", 1, V2, "stopped" if walked else "crashed")
        fleet = (home, left, *whole(image=V2)[1:])
        book.write(*plan(sight(*fleet, state=book.state)).notes)
        run = book.state.rollouts["r1"].runs["web-1"]
        assert (run.path, run.target and (run.target.kind, run.target.number), run.reason) == (
            "put-back", ("revive", 2), "it runs after all: no answer in time")
        assert acts(plan(sight(*fleet, state=book.state))) == (("web-1", "revive", 2) if walked else ("web-1", "retire", 1))


@pytest.mark.parametrize("left", ["crashed", "failed", "stopped"])
def test_a_machine_that_runs_what_a_rollback_booted_is_proved_there_and_never_booted_anew(left: Running) -> None:
    """Whatever became of the slot it left; the boot was only not confirmed in time."""
    of = replace(pool(2), sim=SimSettings(in_place=True))
    book = begun(*whole(2, V2), seen("web-1", 0, V1, "stopped"), of=of, kind="rollback", image=V1, surge=False, **HALF)
    book.fail("web-1", "booting", book.begin("web-1", "booting"), "no answer in time")
    fleet = (seen("web-1", 0, V1), seen("web-1", 1, V2, left), whole(2, V2)[1])
    book.write(*plan(sight(*fleet, of=of, state=book.state)).notes)
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.target and (run.target.kind, run.target.number), run.reason) == (
        "fall-back", ("revive", 0), "it runs after all: no answer in time")
    assert acts(plan(sight(*fleet, of=of, state=book.state))) == ("web-1", "revive", 0)


def test_an_abort_does_not_stop_what_a_rollback_has_started_where_nothing_else_runs() -> None:
    for step in ("booting", "proving"):
        book = begun(*whole(image=V2), kind="rollback", image=V1)
        book.walk("web-1", *(("booting",) if step == "proving" else ()))
        op = book.begin("web-1", step)
        if step == "booting":
            book.done("web-1", step, op)
        book.move("abort")
        fleet = (seen("web-1", 2, V1), seen("web-1", 1, V2, "crashed"), *whole(image=V2)[1:])
        book.write(*plan(sight(*fleet, state=book.state)).notes)
        run = book.state.rollouts["r1"].runs["web-1"]
        assert (run.path, run.target and (run.target.kind, run.target.number), run.reason) == (
            "put-back", ("revive", 2), "it is on its way back already: aborted")
        assert acts(plan(sight(*fleet, state=book.state))) == ("web-1", "retire", 1)


def test_no_way_back_is_chosen_before_what_serves_was_asked_once_since_the_daemon_started() -> None:
    """Taken for a sick one, it would be stopped and put back, which the watchdog bars for ever once it answers."""
    book = begun(*whole())
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": "", "place": "", "name": ""}))
    book.walk("web-1", "preparing", "booting", "proving")
    book.done("web-1", "admitting", book.begin("web-1", "admitting"))
    book.begin("web-1", "retiring")
    book.move("rollback")
    book.write(Draft("daemon-started", data={"epoch": 2}))
    fleet = (seen("web-1", 1, state="stopped"), seen("web-1", 2, V2), *whole()[1:])
    book.write(*(note for note in plan(sight(*fleet, state=book.state)).notes if note.server != "web-1"))
    well = sight(*fleet, state=book.state)

    def look(heard: Health | None) -> Decision:
        others = {key: health for key, health in well.health.items() if key != ("web-1", 2)}
        return plan(replace(well, health=others if heard is None else {**others, ("web-1", 2): heard}))

    for heard in (None, Health(True, NOW - 90.0, NOW - 60.0, "tcp 22")):
        assert look(heard).waits["web-1"].reason == "waits: its health is not known yet"
    chosen = [look(Health(answers, NOW - 1.0, NOW, "tcp 22")).notes[0] for answers in (True, False)]
    assert [(note.server, note.data.get("state") or note.data["path"]) for note in chosen] == [("web-1", "serving"), ("web-1", "put-back")]


def answering_again() -> tuple[Book, tuple[Seen, ...]]:
    """web-1 was admitted, fell silent, and is to go back, where nobody may be missing; now it answers again."""
    book = begun(*whole(), max_failures=1)
    book.walk("web-1", "preparing", "booting", "proving", "admitting")
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 2, "digest": "", "place": "", "name": ""}))
    book.fail("web-1", "retiring", book.begin("web-1", "retiring"), "was admitted, then stopped answering")
    fleet = (seen("web-1", 1, state="stopped"), seen("web-1", 2, V2), *whole()[1:])
    book.write(*plan(sight(*fleet, state=book.state, sick=("web-1",))).notes)
    assert book.state.rollouts["r1"].runs["web-1"].path == "put-back"
    assert acts(plan(sight(*fleet, state=book.state, sick=("web-1",)))) == ("web-1", "retire", 2)
    book.write(*plan(sight(*fleet, state=book.state)).notes)
    return book, fleet


def test_who_answers_again_before_it_was_put_back_is_proved_anew_where_nobody_may_be_missing() -> None:
    """Its way back would take it out of service, which the watchdog bars, and so nobody could end the rollout but by an abort."""
    book, fleet = answering_again()
    run = book.state.rollouts["r1"].runs["web-1"]
    assert (run.path, run.source, run.target, run.reason) == (
        "put-back", 1, Target("revive", 2, V2), "incarnation 2 answers again, and nobody else may be missing")
    assert acts(plan(sight(*fleet, state=book.state))) == ("web-1", "revive", 2)


def test_who_answered_again_and_failed_again_goes_back_after_all() -> None:
    book, fleet = answering_again()
    book.walk("web-1", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "not healthy within 5m")
    [note] = plan(sight(*fleet, state=book.state, sick=("web-1",))).notes
    assert (note.data["path"], note.data["source"], note.data["target"]["number"]) == ("put-back", 2, 1)


def test_who_answered_again_goes_back_with_the_others_when_all_is_rolled_back() -> None:
    book, fleet = answering_again()
    book.walk("web-1", "booting", "proving", "admitting")
    assert book.state.rollouts["r1"].runs["web-1"].step == "put-back"
    book.move("rollback")
    notes = {note.server: note.data for note in plan(sight(*fleet, state=book.state)).notes}
    assert (notes["web-1"]["path"], notes["web-1"]["source"], notes["web-1"]["target"]["number"]) == ("create-first", 2, 1)


def test_who_answered_all_along_is_proved_by_what_was_heard_since_its_proof_began_anew() -> None:
    """The daemon was away for less than a gap, or the server ran after all when it was started again: no answer is lost by it."""
    book = begun(*whole())
    book.now = NOW - 60
    book.walk("web-1", "preparing", "booting")
    book.begin("web-1", "proving")
    book.now = NOW - 3
    book.write(Draft("daemon-blind", data={"seconds": 8.0}))

    def look(last: float, now: float) -> Decision:
        return plan(sight(*whole(), seen("web-1", 2, V2), state=book.state, now=now, health={("web-1", 2): Health(True, NOW - 40, last, "up")}))

    assert look(NOW - 4, NOW + 4).waits["web-1"].reason == "proving: was not asked since"
    assert look(NOW, NOW).waits["web-1"].reason == "healthy for 3s of 5s, up"
    assert look(NOW + 2, NOW + 2).notes[0].type == "step-done"


def test_an_old_one_whose_stop_an_earlier_daemon_began_goes_only_while_the_new_one_answers() -> None:
    """Nobody looked for a while: that its successor was well when the stop was decided tells nothing of now."""
    book = begun(*whole())
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": "", "place": "", "name": ""}))
    book.walk("web-1", "preparing", "booting", "proving")
    book.done("web-1", "admitting", book.begin("web-1", "admitting"))
    op = book.begin("web-1", "retiring")
    book.now = NOW - 30.0
    book.write(Draft("daemon-started", data={"epoch": 2}))
    well = sight(*whole(), seen("web-1", 2, V2), state=book.state)

    def look(heard: Health | None) -> Decision:
        others = {key: health for key, health in well.health.items() if key != ("web-1", 2)}
        return plan(replace(well, health=others if heard is None else {**others, ("web-1", 2): heard}))

    assert look(None).waits["web-1"].reason == "waits: its health is not known yet"
    begins = look(Health(True, NOW - 1.0, NOW, "tcp 22")).actions[0]
    assert (begins.server, begins.verb, begins.number, begins.op) == ("web-1", "retire", 1, op)
    (failed,) = look(Health(False, NOW - 29.0, NOW, "crashed")).notes
    assert (failed.type, failed.data["error"]) == ("step-failed", "was admitted, then stopped answering: crashed")


def test_who_was_put_back_on_the_image_that_the_rollout_is_to_renew_stays_as_it_is() -> None:
    """A tainted server is replaced by one of the same image: that it was put back is told by nobody answering again."""
    book = Book()
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": "", "place": "", "name": ""}),
               Draft("server-tainted", pool="web", server="web-1", data={"why": "shell"}))
    book.start(draw(sight(*whole(), state=book.state, now=book.now), ask(V1, max_failures=1)))
    book.move("begin")
    book.walk("web-1", "preparing", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "not healthy within 5m")
    gone = (seen("web-1", 1, V1, "stopped"), seen("web-1", 2, V1, "stopped"), *whole()[1:])
    book.write(*plan(sight(*gone, state=book.state)).notes)
    lost = book.state
    book.fail("web-1", "booting", book.begin("web-1", "booting"), "no disk")
    (note,) = plan(sight(*gone, state=book.state)).notes
    assert (note.data["target"]["kind"], note.data["target"]["number"]) == ("birth", 3), "never to the one that failed its proof"
    book.state = lost
    book.walk("web-1", "booting", "proving", "admitting")
    book.move("rollback")
    assert not [note for note in plan(sight(*whole(), state=book.state)).notes if note.server == "web-1" and note.type == "server-redirected"]


def test_after_a_step_that_failed_the_next_rollout_too_looks_before_it_touches_the_server() -> None:
    """Nobody knows what a failed step left behind, and the rollout that failed may have been aborted before anybody looked again."""
    book = begun(*whole(1), of=pool(1))
    book.fail("web-1", "preparing", book.begin("web-1", "preparing"))
    book.move("abort")
    book.write(Draft("rollout-ended", pool="web", rollout="r1", data={"state": "aborted", "reason": ""}))
    book.start(draw(sight(*whole(1), of=pool(1), state=book.state), ask()), pool(1), "r2")
    book.move("begin", rollout="r2")

    def decided(looked: float) -> Decision:
        return plan(replace(sight(*whole(1), of=pool(1), state=book.state), observed=Observed("web", looked, whole(1))))

    assert not decided(book.now - 1.0).actions
    assert acts(decided(book.now + 1.0)) == ("web-1", "stage", 3)
