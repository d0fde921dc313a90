"""The steps of a server's last replacement, with what each took beside the median of its pool."""

from __future__ import annotations

from fleet.core.bench import redirect
from fleet.core.state import State, Target
from fleet.core.timeline import Row, last_replacement, timeline
from tests.core.picture import V1, V2, Book, begun, pool, whole

PATH = ("preparing", "booting", "proving", "admitting", "draining", "retiring")


def walk(book: Book, server: str, **seconds: float) -> None:
    """The first steps of create-first, each with its duration."""
    for step, took in seconds.items():
        op = book.begin(server, step)
        book.now += took
        book.done(server, step, op)


def rows(book: Book, server: str, after: float = 0.0) -> tuple[Row, ...]:
    found = last_replacement(book.state, "web", server)
    assert found is not None
    return timeline(*found, book.state.pool("web").durations, book.now + after)


def test_what_is_over_what_runs_and_what_comes() -> None:
    book = begun(*whole())
    walk(book, "web-1", preparing=1.0, booting=4.0)
    book.begin("web-1", "proving")
    told = rows(book, "web-1", after=2.5)
    assert [(row.step, row.how, row.seconds) for row in told] == [
        ("preparing", "done", 1.0), ("booting", "done", 4.0), ("proving", "now", 2.5), *((step, "ahead", None) for step in PATH[3:])]
    rollout = book.state.rollouts["r1"]
    assert "draining" not in {row.step for row in timeline(rollout, rollout.runs["web-1"], {}, book.now, drains=False)}
    assert book.again().rollouts == book.state.rollouts


def test_a_step_is_long_only_when_three_were_seen_and_by_more_than_two_seconds() -> None:
    book = begun(*whole(5), of=pool(5))
    for server in ("web-1", "web-2"):
        walk(book, server, preparing=0.1, booting=6.0)
    walk(book, "web-3", preparing=1.9, booting=6.0)
    walk(book, "web-4", preparing=0.1, booting=12.5)
    long = {row.step: row.long for row in rows(book, "web-3") if row.seconds is not None}
    assert long == {"preparing": False, "booting": False}, "nineteen times the median, but not two seconds"
    slow = next(row for row in rows(book, "web-4") if row.step == "booting")
    assert (slow.median, slow.long_from, slow.long) == (6.0, 12.0, True)

    fresh = begun(*whole(5), of=pool(5))
    for server in ("web-1", "web-2"):
        walk(fresh, server, preparing=0.1)
    walk(fresh, "web-2", booting=60.0)
    only = next(row for row in rows(fresh, "web-2") if row.step == "booting")
    assert (only.median, only.long) == (60.0, False), "a median of itself says nothing"


def test_a_failure_and_the_way_back_are_told_and_nothing_is_promised_between() -> None:
    book = begun(*whole())
    walk(book, "web-1", preparing=1.0, booting=4.0)
    op = book.begin("web-1", "proving")
    book.now += 20.0
    book.fail("web-1", "proving", op)
    assert [(row.step, row.how) for row in rows(book, "web-1")] == [("preparing", "done"), ("booting", "done"), ("proving", "failed")]
    rollout = book.state.rollouts["r1"]
    book.write(redirect(rollout, rollout.runs["web-1"], "keep-old", "it failed", source=2, target=Target("revive", 1, V1)))
    walk(book, "web-1", admitting=0.2, stopping=1.0)
    assert [(row.step, row.how) for row in rows(book, "web-1")][2:] == [("proving", "failed"), ("admitting", "done"), ("stopping", "done")]


def test_a_step_that_was_left_is_told_with_the_time_it_had() -> None:
    book = begun(*whole())
    walk(book, "web-1", preparing=1.0)
    book.begin("web-1", "booting")
    book.now += 3.0
    rollout = book.state.rollouts["r1"]
    book.write(redirect(rollout, rollout.runs["web-1"], "keep-old", "rolled back", source=2, target=Target("revive", 1, V1), reverting=True))
    assert [(row.step, row.how, row.seconds) for row in rows(book, "web-1")] == [
        ("preparing", "done", 1.0), ("booting", "left", 3.0), ("admitting", "ahead", None), ("stopping", "ahead", None)]


def test_the_newest_rollout_that_did_something_to_the_server_counts() -> None:
    book = begun(*whole())
    assert last_replacement(State(), "web", "web-1") is None
    assert last_replacement(book.state, "web", "web-2") is None, "planned is not done"
    book.begin("web-1", "preparing")
    found = last_replacement(book.state, "web", "web-1")
    assert found is not None
    assert (found[0].id, found[0].image_to) == ("r1", V2)
    assert last_replacement(book.state, "api", "web-1") is None
