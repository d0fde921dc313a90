"""Who falls silent where nobody else can be heard is not taken for a sick server before a person, and one more question, said so; nor is who was not asked."""

from __future__ import annotations

from dataclasses import replace

from fleet.core.decision import Decision
from fleet.core.desired import Amount
from fleet.core.events import Draft
from fleet.core.observed import Health, Seen
from fleet.core.planner import plan
from tests.core.picture import NOW, V2, Book, begun, pool, seen, sight, whole

HALF = {"max_surge": Amount(0), "max_unavailable": Amount(1)}
TWO_AWAY = {"surge": False, "max_surge": Amount(0), "max_unavailable": Amount(2)}


def silent(fleet: tuple[Seen, ...], since: float, last: float) -> dict[tuple[str, int], Health]:
    return {(one.server, one.number): Health(False, since, last, "refused") for one in fleet}


def test_who_was_last_asked_in_the_instant_in_which_a_person_decided_is_asked_once_more() -> None:
    book = begun(*whole(), **HALF)
    decided = book.now
    heard = silent(whole(), since=decided, last=decided)
    stands = plan(sight(*whole(), state=book.state, now=decided, health=heard))
    assert not stands.actions
    assert stands.waits["web-1"].reason == "waits: it was silent when nobody was heard, and is asked once more"
    asked = plan(sight(*whole(), state=book.state, now=decided + 1.0, health=silent(whole(), since=decided, last=decided + 1.0)))
    assert [(action.server, action.verb) for action in asked.actions] == [("web-1", "stage")]


def test_the_last_one_that_runs_in_service_is_not_stopped_since_it_fell_silent() -> None:
    """All others died of the new image: if this is the probe's fault, nobody would serve any more."""
    book = begun(*whole(), **HALF)
    for name in ("web-2", "web-3"):
        book.walk(name, "preparing", "stopping", "booting", "proving", "admitting")
    dead = [seen(name, 2, V2, state="crashed") for name in ("web-2", "web-3")]
    fleet = (whole()[0], *dead)
    news = silent(fleet[:1], since=NOW - 1, last=NOW)
    [note] = plan(sight(*fleet, state=book.state, health=news)).notes
    assert note.data["reason"] == "the last server that ran stopped answering as well: look at the probe and the network first"
    book.now = NOW
    book.write(note)
    data = {"cause": "resume-rolling", "state": "rolling", "reason": ""}
    book.write(Draft("rollout-moved", actor="ana", pool="web", rollout="r1", data=data))  # a person knows it: it may be repaired
    later = {key: replace(health, last=NOW + 1) for key, health in news.items()}
    decision = plan(sight(*fleet, state=book.state, now=NOW + 1, health=later))
    assert [(action.server, action.verb) for action in decision.actions] == [("web-1", "stage")]


def test_the_only_server_of_a_pool_is_repaired_by_its_rollout() -> None:
    one, of = whole(1), pool(1)
    book = begun(*one, of=of, **HALF)
    decision = plan(sight(*one, of=of, state=book.state, health=silent(one, since=NOW - 1, last=NOW)))
    assert [(action.server, action.verb) for action in decision.actions] == [("web-1", "stage")]


def test_who_is_silent_with_all_others_is_not_repaired_beside_one_on_its_way_back() -> None:
    """A person rolled back while no probe answered: what the rollout took itself counts, whether it went forward or back."""
    book = being_put_back(surge=1)
    book.now = NOW
    book.write(Draft("rollout-moved", actor="ana", pool="web", rollout="r1", data={"cause": "resume-rolling", "state": "rolling", "reason": ""}))
    heard = silent(whole(), since=NOW - 3.0, last=NOW + 1.0)
    decision = plan(sight(*whole(), state=book.state, now=NOW + 1.0, health=heard))
    assert not [action for action in decision.actions if action.verb == "retire"]
    assert decision.waits["web-2"].reason == "waits: missing 1 of 1 used by web-1"


def being_put_back(surge: int = 0) -> Book:
    """web-1 could not be replaced, and its old incarnation is started again."""
    book = begun(*whole(), surge=False, max_surge=Amount(surge), max_unavailable=Amount(1))
    book.now = NOW - 100
    book.walk("web-1", "preparing", "stopping")
    book.fail("web-1", "booting", book.begin("web-1", "booting"))
    away = (seen("web-1", 1, state="stopped"), *whole()[1:])
    for _ in range(2):  # the pause, and the way back
        book.write(*plan(sight(*away, state=book.state)).notes)
    book.walk("web-1", "booting")
    book.begin("web-1", "proving")
    return book


def test_who_was_not_asked_by_a_new_daemon_has_not_failed_its_proof_however_long_the_first_look_took() -> None:
    book = being_put_back()
    book.write(Draft("daemon-started", data={"epoch": 2}))
    late = NOW + 1000
    well = sight(*whole(), state=book.state, now=late)

    def look(heard: Health | None) -> Decision:
        others = {key: replace(health, since=NOW) for key, health in well.health.items() if key != ("web-1", 1)}
        return plan(replace(well, health=others if heard is None else {**others, ("web-1", 1): heard}))

    for heard in (None, Health(False, late - 90, late - 60, "refused")):
        assert (look(heard).notes, look(heard).waits["web-1"].reason) == ((), "proving: its health is not known yet")
    (failed,) = look(Health(False, late - 1, late, "refused")).notes
    assert failed.data["error"] == "not healthy within 5m: refused"


def test_the_first_to_be_silent_is_not_taken_for_a_sick_one_before_somebody_else_was_asked() -> None:
    """web-1 is away and web-4 has died, as many as may. The probes break, and web-3 is the first to be asked: it serves for all we know."""
    book = begun(*whole(4), of=pool(4), **TWO_AWAY)
    book.walk("web-1", "preparing", "stopping")
    book.begin("web-1", "booting")
    fleet = (seen("web-1", 1, state="stopped"), *whole(4)[1:3], seen("web-4", 1, state="crashed"))

    def look(since: float, last: float, well_since: float, answered: float) -> Decision:
        health = {("web-3", 1): Health(False, since, last, "refused"), ("web-2", 1): Health(True, well_since, answered, "up")}
        return plan(sight(*fleet, of=pool(4), state=book.state, busy=("web-1",), health=health))

    first, last = (NOW - 2, NOW - 1, NOW - 500, NOW - 2.5), (NOW - 2, NOW - 2, NOW - 500, NOW - 1)
    nobody_yet, since_then = (NOW - 2, NOW - 1, NOW - 500, NOW - 60), (NOW - 3, NOW - 2, NOW - 1, NOW)
    for picture in (first, last, nobody_yet, since_then):
        unsure = look(*picture)
        assert unsure.waits["web-3"].reason == "waits: it was silent when nobody was heard, and is asked once more"
        assert [action.server for action in unsure.actions] == ["web-4"]
    between, back_between, all_along = (NOW - 2, NOW, NOW - 500, NOW - 1), (NOW - 3, NOW - 1, NOW - 2, NOW), (NOW - 30, NOW - 1, NOW - 500, NOW)
    for picture in (between, back_between, all_along):
        assert [action.server for action in look(*picture).actions] == ["web-3"]
