"""Who falls silent where nobody else can be heard is not taken for a sick server before a person, and one more question, said so."""

from __future__ import annotations

from dataclasses import replace

from fleet.core.desired import Amount
from fleet.core.events import Draft
from fleet.core.observed import Health, Seen
from fleet.core.planner import plan
from tests.core.picture import NOW, V2, begun, pool, seen, sight, whole

HALF = {"max_surge": Amount(0), "max_unavailable": Amount(1)}


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
