"""A rollback says beforehand who goes back in seconds by a retained incarnation, who is born anew, and how long that takes (rule 9)."""

from __future__ import annotations

from dataclasses import replace

from fleet.core.desired import Amount
from fleet.core.proposal import draw
from fleet.core.state import PoolState
from fleet.engine.present import plan_row, rollback_cost
from fleet.engine.turnaround import turnaround_row
from tests.core.picture import V1, V2, Book, ask, begun, seen, sight, whole

DOWN = {"max_surge": Amount(0), "max_unavailable": Amount(1)}
SLOW = {"preparing": (60.0,), "proving": (20.0,)}
"""An image takes a minute to be brought here, which a retained incarnation does not need."""
NEW = tuple(seen(f"web-{n}", 2, V2) for n in (1, 2, 3))


def slow(book: Book) -> Book:
    known = book.state.pools.get("web", PoolState())
    book.state = replace(book.state, pools={"web": replace(known, durations=SLOW)})
    return book


def test_the_plan_of_a_rollback_names_both_ways_and_their_times() -> None:
    now = sight(seen("web-1", 1, V1, "stopped"), seen("web-2", 1, V1, "stopped"), *NEW, state=slow(Book()).state)
    summary = plan_row(now, draw(now, ask(V1, "rollback", surge=False, **DOWN)), [])["summary"]
    assert summary[1:3] == ["from retained incarnations: web-1, web-2, about 25s each", "by re-birth: web-3, about 1m 25s"]


def test_turning_a_rollout_around_says_the_same_in_the_middle_of_it() -> None:
    book = begun(*whole(), surge=False, **DOWN)
    for name in ("web-1", "web-2"):
        book.walk(name, "preparing", "stopping", "booting", "proving", "admitting")
    slow(book)
    now = sight(seen("web-1", 1, V1, "stopped"), *NEW[:2], *whole()[2:], state=book.state)
    row = turnaround_row(now, book.state.rollouts["r1"])
    assert row["summary"][1:3] == ["from retained incarnations: web-1, about 25s", "by re-birth: web-2, about 1m 25s"]
    assert row["estimate_seconds"] == 110.0
    assert rollback_cost(now, book.state.rollouts["r1"]) == "2 servers, 1 from retained, 1 by re-birth, about 1m 50s"


def test_of_many_only_some_are_named() -> None:
    fleet = tuple(one for n in range(1, 6) for one in (seen(f"web-{n}", 1, V1, "stopped"), seen(f"web-{n}", 2, V2)))
    of = replace(sight().pool, servers=5)
    now = sight(*fleet, of=of, state=slow(Book()).state)
    summary = plan_row(now, draw(now, ask(V1, "rollback", surge=False, **DOWN)), [])["summary"]
    assert summary[1] == "from retained incarnations: web-1, web-2 and 3 more, about 25s each"


def test_a_birth_has_nothing_to_go_back_to_and_names_no_cost() -> None:
    book = begun(kind="birth", surge=False, **DOWN)
    assert book.state.rollouts["r1"].kind == "birth"
    for name in ("web-1", "web-2"):
        book.walk(name, "preparing", "booting", "proving", "admitting")
    now = sight(*(replace(one, number=1) for one in NEW[:2]), state=slow(book).state)
    assert rollback_cost(now, book.state.rollouts["r1"]) == ""


def test_who_cannot_go_back_is_named_beforehand() -> None:
    book = begun(*whole(), surge=False, **DOWN)
    for name in ("web-1", "web-2"):
        book.walk(name, "preparing", "stopping", "booting", "proving", "admitting")
    slow(book)
    now = sight(seen("web-1", 1, V1, "stopped"), *NEW[:2], *whole()[2:], state=book.state)
    now = replace(now, images={V2.digest: now.images[V2.digest]})
    assert rollback_cost(now, book.state.rollouts["r1"]) == "2 servers, 1 from retained, 1 not at all (web-2: image web/1 is not catalogued), about 25s"
    rows = {row["name"]: row for row in turnaround_row(now, book.state.rollouts["r1"])["servers"]}
    assert (rows["web-2"]["action"], rows["web-2"]["reason"]) == (
        "hold", "nothing to go back to: no incarnation of web/1 is retained there, and the image is not catalogued")
    assert turnaround_row(now, book.state.rollouts["r1"])["estimate_seconds"] == 25.0
