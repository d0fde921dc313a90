"""The breaker of mode auto: who counts, when it opens, what it pauses, and how it closes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.core import breaker
from fleet.core.automatic import AUTHOR
from fleet.core.desired import Breaker, Pool
from fleet.core.events import Draft
from fleet.core.observed import Health
from fleet.core.proposal import draw
from fleet.core.sight import Sight
from fleet.engine.starts import started
from tests.core.picture import NOW, V1, Book, ask, pool, sight, whole

RULE = Breaker(40, 5, 600.0)


def auto(servers: int = 5, **changes: Any) -> Pool:
    return replace(pool(servers), mode="auto", breaker=RULE, **changes)


def admitted(servers: int = 5) -> Book:
    """The journal of a pool whose servers serve incarnation 1."""
    book = Book()
    for n in range(1, servers + 1):
        book.write(Draft("server-adopted", pool="web", server=f"web-{n}", data={"number": 1, "digest": V1.digest, "place": "sim", "name": ""}))
    return book


def here(book: Book, sick: tuple[str, ...] = (), of: Pool | None = None, now: float = NOW, **more: Any) -> Sight:
    return sight(*whole(5), of=of or auto(), state=book.state, sick=sick, now=now, **more)


def silence(book: Book, *names: str, at: float = NOW - 10.0) -> None:
    book.now = at
    for name in names:
        book.write(Draft("server-unhealthy", pool="web", server=name, data={"number": 1, "words": "refused"}))


@pytest.mark.parametrize(("rule", "servers", "needed"), [
    (Breaker(20, 5, 600.0), 10, 2), (Breaker(20, 5, 600.0), 11, 3), (Breaker(20, 5, 600.0), 500, 100), (Breaker(20, 5, 600.0), 2, 1),
    (Breaker(50, 4, 600.0), 2, 2), (Breaker(100, 5, 600.0), 3, 3), (Breaker(1, 1, 600.0), 7, 1)])
def test_how_many_unwell_servers_open_it(rule: Breaker, servers: int, needed: int) -> None:
    assert breaker.limit(rule, servers) == needed


def test_it_opens_at_its_share_and_names_the_servers() -> None:
    book = admitted()
    assert not breaker.notes(here(book, sick=("web-1",)))
    (opened,) = breaker.notes(here(book, sick=("web-1", "web-4")))
    assert opened.data == {"servers": ["web-1", "web-4"], "reason": "the breaker: 2 of 5 servers unwell within 10m (web-1, web-4)"}
    book.write(opened)
    assert breaker.open_reason(here(book)) == opened.data["reason"]
    assert not breaker.notes(here(book, sick=("web-1", "web-4"))), "it opens once"


@pytest.mark.parametrize("changes", [{"mode": "manual"}, {"mode": "observe"}, {"breaker": None}])
def test_only_mode_auto_has_one_and_it_may_be_off(changes: dict[str, Any]) -> None:
    of = replace(auto(), **changes)
    assert not breaker.notes(here(admitted(), sick=("web-1", "web-2", "web-3"), of=of))


def test_who_was_well_again_counts_for_as_long_as_the_rule_says() -> None:
    book = admitted()
    silence(book, "web-1", "web-2", at=NOW - 599.0)
    assert breaker.unwell(here(book), RULE) == {"web-1", "web-2"}
    assert not breaker.unwell(here(book, now=NOW + 2.0), RULE)


def test_held_servers_newcomers_and_those_nobody_asked_do_not_count() -> None:
    book = admitted(4)
    book.write(Draft("server-held", "ana", "web", "web-1", data={"why": "a new disk"}))
    asleep = {("web-2", 1): Health(False, NOW - 900.0, NOW - 800.0, "")}
    assert breaker.unwell(here(book, sick=("web-1", "web-5"), health=asleep), RULE) == set()
    assert breaker.unwell(here(book, sick=("web-3",)), RULE) == {"web-3"}


def moving(actor: str, state: str) -> Book:
    """A rollout of `actor`, in this state."""
    book = admitted()
    plan = draw(sight(*whole(5), of=auto(), state=book.state, now=book.now), ask(canaries=auto().rollout.max_surge if state == "canary" else auto().rollout.canaries))
    book.write(*started(plan, auto(), "r1", actor, ""))
    book.move("begin-canary" if state == "canary" else "begin")
    if state == "rolling-back":
        book.move("rollback")
    return book


@pytest.mark.parametrize(("actor", "state", "paused"), [
    (AUTHOR, "rolling", True), (AUTHOR, "canary", True), (AUTHOR, "rolling-back", False), ("ana@pts/1", "rolling", False)])
def test_it_pauses_what_anew_began_but_no_persons_rollout_and_no_way_back(actor: str, state: str, paused: bool) -> None:
    book = moving(actor, state)
    notes = breaker.notes(here(book, sick=("web-4", "web-5")))
    assert [note.type for note in notes] == ["breaker-opened", *(["rollout-moved"] if paused else [])]
    book.write(*notes)
    assert (book.state.rollouts["r1"].state == "paused") is paused


def test_a_persons_resume_acknowledges_it_and_only_news_opens_it_again() -> None:
    book = moving(AUTHOR, "rolling")
    book.write(*breaker.notes(here(book, sick=("web-4", "web-5"))))
    book.now = NOW + 1.0
    book.write(Draft("rollout-moved", "ana@pts/1", "web", rollout="r1", data={"cause": "resume-rolling", "state": "rolling", "reason": ""}))
    still: dict[str, Any] = {"sick": ("web-4", "web-5"), "now": NOW + 2.0}
    assert not breaker.open_reason(here(book, **still)) and not breaker.notes(here(book, **still))
    silence(book, "web-1", "web-2", at=NOW + 3.0)
    assert breaker.notes(here(book, sick=("web-4", "web-5"), now=NOW + 4.0))[0].data["servers"] == ["web-1", "web-2"]
    well = admitted()
    well.write(*book_of(book))
    well.write(Draft("server-healthy", pool="web", server="web-4", data={"number": 1, "words": ""}))
    assert "web-4" in breaker.unwell(here(well, sick=("web-4", "web-5"), now=NOW + 4.0), RULE), "who was well in between counts again"


def book_of(book: Book) -> tuple[Draft, ...]:
    """What the journal has after the adoption of the five."""
    return tuple(Draft(event.type, event.actor, event.pool, event.server, event.rollout, event.data) for event in book.events[5:])


def test_it_closes_by_itself_once_all_were_well_for_its_whole_time() -> None:
    book = admitted()
    book.now = NOW
    book.write(*breaker.notes(here(book, sick=("web-1", "web-4"))))
    since = {(f"web-{n}", 1): Health(True, NOW + 100.0, NOW + 699.0, "") for n in range(1, 6)}
    assert not breaker.notes(here(book, now=NOW + 699.0, health=since))
    late = {key: replace(health, last=NOW + 700.0) for key, health in since.items()}
    (closed,) = breaker.notes(here(book, now=NOW + 700.0, health=late))
    assert closed.type == "breaker-closed"
    flapped = {**late, ("web-3", 1): Health(True, NOW + 650.0, NOW + 700.0, "")}
    assert not breaker.notes(here(book, now=NOW + 700.0, health=flapped))
    book.write(closed)
    assert not breaker.open_reason(here(book))
    assert book.again() == book.state
