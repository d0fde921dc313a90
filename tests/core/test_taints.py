"""A taint is of an incarnation: it goes when another one is admitted, and comes back with it."""

from __future__ import annotations

from fleet.core.codec import target_out
from fleet.core.desired import Amount
from fleet.core.events import Draft
from fleet.core.state import Target
from tests.core.picture import NOW, V1, V2, Book, begun, pool, seen

WHY = "shell by ana@pts/3, 2026-11-22 14:02Z"


def touched() -> Book:
    """web-1 serves incarnation 1, somebody was on it, and a rollout to 2 has made its successor, incarnation 2."""
    book = begun(seen("web-1", 1, V1), of=pool(1), image=V2, surge=False, max_surge=Amount(0), max_unavailable=Amount(1))
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": "", "place": "", "name": ""}))
    book.write(Draft("server-tainted", pool="web", server="web-1", data={"why": WHY}))
    return book


def tainted(book: Book) -> tuple[str, ...]:
    return book.state.pool("web").server("web-1").tainted


def redirected(book: Book, path: str, target: Target, source: int | None = None) -> Book:
    data = {"path": path, "target": target_out(target), "source": source, "reason": "no"}
    book.write(Draft("server-redirected", pool="web", server="web-1", rollout="r1", data=data))
    return book


def test_its_replacement_is_clean() -> None:
    book = touched()
    book.walk("web-1", "preparing", "stopping", "booting", "proving")
    assert tainted(book) == (WHY,)
    book.walk("web-1", "admitting")
    assert tainted(book) == ()


def test_one_that_was_put_back_was_not_replaced() -> None:
    book = touched()
    book.walk("web-1", "preparing", "stopping", "booting")
    redirected(book, "put-back", Target("revive", 1, V1)).walk("web-1", "stopping", "preparing", "booting", "proving", "admitting")
    assert tainted(book) == (WHY,)


def test_a_rollback_to_it_brings_its_taint_back_and_its_burial_ends_it() -> None:
    book = touched()
    book.walk("web-1", "preparing", "stopping", "booting", "proving", "admitting")
    book.write(Draft("incarnation-retained", pool="web", server="web-1", data={"number": 1, "digest": "", "version": "", "until": NOW + 60}))
    again = Book(book.now)
    again.write(*(Draft(event.type, event.actor, event.pool, event.server, event.rollout, event.data) for event in book.events))
    redirected(again, "put-back", Target("revive", 1, V1)).walk("web-1", "stopping", "preparing", "booting", "proving", "admitting")
    assert tainted(again) == (WHY,)
    book.write(Draft("incarnation-buried", pool="web", server="web-1", data={"number": 1}))
    assert not book.state.pool("web").server("web-1").stained, "nothing is remembered of what is gone"


def test_one_that_the_journal_has_no_word_of_keeps_its_taint_too_when_it_is_put_back() -> None:
    book = begun(seen("web-1", 1, V1), of=pool(1), image=V2, surge=False, max_surge=Amount(0), max_unavailable=Amount(1))
    book.write(Draft("server-tainted", pool="web", server="web-1", data={"why": WHY}))
    book.walk("web-1", "preparing", "stopping", "booting")
    redirected(book, "put-back", Target("revive", 1, V1), source=2).walk("web-1", "stopping", "preparing", "booting", "proving", "admitting")
    assert tainted(book) == (WHY,)
    assert book.state.pool("web").server("web-1").before == (), "what was to take its place never served"
