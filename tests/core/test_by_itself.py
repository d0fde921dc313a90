"""Machines with two slots that boot the other one by themselves, or for a request that came late: what serves is neither left nor written over."""

from __future__ import annotations

from dataclasses import replace

from fleet.core.desired import Amount, SimSettings
from fleet.core.events import Draft
from fleet.core.observed import Seen
from fleet.core.planner import plan
from fleet.core.state import Run, Target
from tests.core.picture import V1, V2, Book, begun, pool, seen, sight, whole

POOL = replace(pool(2), sim=SimSettings(in_place=True))
OTHER = replace(whole(2)[1], place="web-2")


def slots(first: str, second: str) -> tuple[Seen, ...]:
    """web-1 with the old image in one slot and the new one in the other; web-2 serves the old one."""
    return (seen("web-1", 1, V1, first, place="web-1"), seen("web-1", 2, V2, second, place="web-1"), OTHER)  # type: ignore[arg-type]


def rolled(*steps: str) -> Book:
    book = begun(*(replace(one, place=one.server) for one in whole(2)), of=POOL, surge=False, max_surge=Amount(0), max_unavailable=Amount(1))
    book.walk("web-1", "preparing", *steps)
    return book


def decided(book: Book, *fleet: Seen) -> Run:
    """What became of web-1 by the notes of one decision."""
    book.write(*plan(sight(*fleet, of=POOL, state=book.state)).notes)
    return book.state.rollouts["r1"].runs["web-1"]


def test_a_machine_that_went_back_by_itself_is_proved_where_it_is_by_a_rollback_and_not_booted_again() -> None:
    book = rolled("booting", "proving", "admitting")
    book.move("rollback")
    run = decided(book, *slots("running", "failed"))
    assert (run.path, run.target and (run.target.kind, run.target.number), run.reason) == ("fall-back", ("revive", 1), "it went back to 1 by itself")
    begins = plan(sight(*slots("running", "failed"), of=POOL, state=book.state)).actions
    assert [(action.server, action.verb, action.number) for action in begins] == [("web-1", "revive", 1)]


def test_a_machine_that_serves_the_new_image_is_booted_into_its_old_slot_by_a_rollback() -> None:
    book = rolled("booting", "proving", "admitting")
    book.move("rollback")
    run = decided(book, *slots("stopped", "running"))
    assert (run.path, run.target and (run.target.kind, run.target.number)) == ("in-place", ("revive", 1))


def test_an_old_slot_that_a_late_boot_ended_is_booted_again_and_never_written_over() -> None:
    book = rolled("booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "not healthy")
    decided(book, *slots("stopped", "running"))  # the pause
    decided(book, *slots("stopped", "running"))
    for _ in range(3):
        book.walk("web-1", "booting")
        book.fail("web-1", "proving", book.begin("web-1", "proving"), "stopped by itself")
        run = decided(book, *slots("stopped", "running"))
        assert (run.path, run.target and (run.target.kind, run.target.number)) == ("fall-back", ("revive", 1))
    book.walk("web-1", "booting")
    book.fail("web-1", "proving", book.begin("web-1", "proving"), "stopped by itself")
    assert decided(book, *slots("stopped", "running")).step == "quarantined"


def test_no_way_back_is_chosen_while_the_place_does_not_answer() -> None:
    """A daemon has just started: nothing was seen yet of the old slot, which is no reason to write it anew."""
    book = rolled("booting")
    book.begin("web-1", "proving")
    book.write(Draft("daemon-started", data={"epoch": 2, "version": "test"}))
    book.move("rollback")
    decided(book, OTHER)  # web-2, which was not begun, is left alone
    waiting = plan(sight(OTHER, of=POOL, state=book.state, unreachable={"web-1": "no route"}))
    assert not waiting.notes and waiting.waits["web-1"].reason == "waits: web-1 does not answer: no route"
    assert decided(book, *slots("stopped", "running")).target == Target("revive", 1, V1)
