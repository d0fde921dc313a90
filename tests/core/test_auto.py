"""Mode auto: what is due, who came of age, and every reason why nothing is begun."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.auto import SPREAD, Around, due_at, judge, newer, of_age, share
from fleet.core.automatic import AUTHOR, Automatic
from fleet.core.events import Draft
from fleet.core.observed import Health, ImageRef, Seen
from fleet.core.proposal import Ask, draw
from fleet.core.sight import Sight
from fleet.core.state import PoolState, Rejection, Server, State
from fleet.core.windows import Window
from fleet.engine.starts import started
from tests.core.picture import IMAGES, NOW, V1, V2, V3, Book, pool, seen, sight, whole

HOUR = 3600.0
TODAY = NOW % 86_400.0
"""Seconds of the day at NOW, in UTC."""


def idle(*incarnations: Seen, stable: ImageRef | None = V1, known: Automatic | None = None, held: tuple[str, ...] = (), now: float = NOW,
         unreachable: dict[str, str] | None = None, health: dict[tuple[str, int], Health] | None = None, **settings: Any) -> Sight:
    """A pool in mode auto with no rollout under way; all of its servers were admitted."""
    lives = incarnations or whole()
    servers = {one.server: Server(admitted=one.number, held="a new disk" if one.server in held else None) for one in lives}
    state = State(pools={"web": PoolState(stable=stable, servers=servers, automatic=known or Automatic())})
    of = replace(pool(len(lives)), **{"mode": "auto", **settings})
    return sight(*lives, of=of, state=state, now=now, unreachable=unreachable, health=health)


def around(offered: ImageRef | None = V2, first: str = "") -> Around:
    return Around("lab", 100, True, offered, first)


def window(opens_in: float, length: float) -> tuple[Window, ...]:
    """A daily window that opens so many seconds after NOW."""
    return (Window((0, 1, 2, 3, 4, 5, 6), int((TODAY + opens_in) % 86_400.0), length, "UTC"),)


def test_the_newest_image_is_begun_for_the_whole_pool_by_the_pools_own_settings() -> None:
    here = idle()
    verdict = judge(here, around())
    assert (verdict.due, verdict.waits) == ("image 2", "")
    assert verdict.plan is not None
    assert (verdict.plan.image_to, verdict.plan.whole, verdict.plan.settings) == (V2, True, here.pool.rollout)


def test_nothing_is_due_on_the_newest_image() -> None:
    assert judge(idle(), around(V1)) == judge(idle(), around(None))
    assert not judge(idle(), around(V1)).due


def test_a_clock_in_doubt_makes_nobody_old_until_a_person_starts_a_rollout() -> None:
    here = idle(max_age=HOUR, now=NOW + 365 * 24 * HOUR)
    judged = judge(here, around(None))
    assert judged.plan is not None and "older than" in judged.due
    doubted = replace(here, state=replace(here.state, leapt_at=NOW + 1.0))
    assert judge(doubted, around(None)).plan is None
    assert judge(doubted, around(None)).waits.startswith("age waits until a person starts a rollout here")
    newer_image = judge(doubted, around(V2)).plan
    assert newer_image is not None and newer_image.image_to == V2, "what does not hang on the clock goes on"
    trusted = idle(max_age=HOUR, now=NOW + 365 * 24 * HOUR, known=Automatic(acknowledged_at=NOW + 2.0))
    assert judge(replace(trusted, state=replace(trusted.state, leapt_at=NOW + 1.0)), around(None)).plan is not None


@pytest.mark.parametrize("mode", ["observe", "manual"])
def test_other_modes_are_told_what_is_due_and_nothing_is_begun(mode: str) -> None:
    verdict = judge(idle(mode=mode, max_age=HOUR, windows=window(HOUR, HOUR)), around())
    assert verdict.due.startswith("image 2") and verdict.plan is None and not verdict.waits


GATES: list[tuple[str, dict[str, Any], Around, str]] = [
    ("no image is stable", {"stable": None}, around(), "waits for the first rollout, which a person starts: no image is stable here yet"),
    ("approvals", {"approvals": 2}, around(), "waits for 2 approvals, and for a person to start it"),
    ("another pool", {}, around(first="waits for pool db: image 3 is due there"), "waits for pool db: image 3 is due there"),
    ("a server out of reach", {"unreachable": {"sim": "no route"}}, around(),
     "waits: web-1 is out of reach (no route); hold it to go on without it"),
    ("an unknown health", {"health": {("web-2", 1): Health(True, NOW - 900.0, NOW - 600.0, "")}}, around(),
     "waits: the health of web-2 is not known yet"),
    ("an aborted image", {"known": Automatic(declined={V2.digest: "its rollout r1 was aborted"})}, around(),
     "2 not again by itself: its rollout r1 was aborted"),
    ("an open breaker", {"known": Automatic(breaker="the breaker: 3 of 3")}, around(), "stopped by the breaker: 3 of 3"),
    ("everybody held", {"held": ("web-1", "web-2", "web-3")}, around(), "nothing to do for web/2: held: a new disk"),
]


@pytest.mark.parametrize(("changes", "where", "waits"), [gate[1:] for gate in GATES], ids=[gate[0] for gate in GATES])
def test_every_wait_has_its_reason(changes: dict[str, Any], where: Around, waits: str) -> None:
    verdict = judge(idle(**changes), where)
    assert (verdict.waits, verdict.plan) == (waits, None)


def test_a_held_server_keeps_nobody_waiting() -> None:
    gone = idle(unreachable={"sim": "no route"}, held=("web-1", "web-2", "web-3"))
    assert "out of reach" not in judge(gone, around()).waits


def test_outside_the_windows_nothing_is_begun_and_the_opening_is_told() -> None:
    verdict = judge(idle(windows=window(HOUR, HOUR)), around())
    assert verdict.waits.startswith("waits for the window, opens ") and verdict.plan is None
    assert verdict.opens == NOW + HOUR
    assert judge(idle(windows=window(-HOUR, 2 * HOUR)), around()).plan is not None


def test_nothing_is_begun_if_too_little_is_left_for_one_server() -> None:
    """Before anything was learned a server is taken to need longer than the 20 s that are left."""
    closing = idle(windows=window(-HOUR, HOUR + 20.0))
    verdict = judge(closing, around())
    assert verdict.plan is None and ": one server takes about " in verdict.waits
    learned = replace(closing.pool_state, durations={step: (1.0,) * 20 for step in ("preparing", "booting", "proving", "admitting", "draining", "retiring")})
    quick = replace(closing, state=State(pools={"web": learned}))
    assert judge(quick, around()).plan is not None, "a pool that is known to be quick fits"


def test_what_was_rejected_is_not_offered_and_a_stable_image_that_is_gone_says_nothing() -> None:
    assert newer(PoolState(stable=V1, rejected={V3.digest: Rejection("3", "x")}), IMAGES, V2) == V2
    assert newer(PoolState(stable=V3), {V1.digest: IMAGES[V1.digest]}, V1) is None


# --- age

def test_old_servers_are_born_anew_on_the_stable_image_and_no_others() -> None:
    old = (seen("web-1", 1, V1, born=NOW - 10 * HOUR), seen("web-2", 1, V1, born=NOW - 10.0), seen("web-3", 1, V1, born=NOW - 10 * HOUR))
    plan = judge(idle(*old, max_age=HOUR), around(V1)).plan
    assert plan is not None and plan.image_to == V1
    assert {run.server for run in plan.acting} == {"web-1", "web-3"}
    assert [run.target.image for run in plan.acting if run.target] == [V1, V1]
    held = judge(idle(*old, max_age=HOUR, held=("web-1",)), around(V1)).plan
    assert held is not None and {run.server for run in held.acting} == {"web-3"}


def test_age_never_ships_an_image_that_waits_for_a_person() -> None:
    declined = Automatic(declined={V2.digest: "its rollout r1 was aborted"})
    plan = judge(idle(max_age=10.0, known=declined), around()).plan
    assert plan is not None and plan.image_to == V1


def test_a_new_image_comes_before_age_since_it_makes_everybody_young() -> None:
    verdict = judge(idle(max_age=10.0), around())
    assert verdict.plan is not None and (verdict.plan.image_to, len(verdict.plan.acting)) == (V2, 3)
    assert verdict.due == "image 2 and re-birth of 3 servers, older than 10s"


def test_an_age_that_nobody_knows_is_no_age() -> None:
    assert not of_age(idle(seen("web-1", 0, V1, born=0.0), max_age=1.0), "lab")


def test_five_hundred_that_were_born_together_come_of_age_one_after_another() -> None:
    age, born = 7 * 86_400.0, NOW - 1.0
    lives = tuple(seen(f"web-{n}", 1, V1, born=born) for n in range(1, 501))
    here = idle(*lives, max_age=age)
    dues = sorted(due_at(here, "lab", one.server, age) or 0.0 for one in lives)
    assert dues[0] >= born + age and dues[-1] <= born + age * (1 + SPREAD)
    tenth = age * SPREAD / 10
    counts = [sum(born + age + part * tenth <= at < born + age + (part + 1) * tenth for at in dues) for part in range(10)]
    assert min(counts) > 25 and max(counts) < 80, counts
    assert not of_age(replace(here, now=born + age), "lab")
    half = of_age(replace(here, now=born + age * (1 + SPREAD / 2)), "lab")
    assert 200 < len(half) < 300
    assert len(of_age(replace(here, now=born + age * (1 + SPREAD)), "lab")) == 500


@given(st.text(max_size=8), st.text(max_size=8), st.integers(1, 10_000))
def test_a_share_is_the_same_in_every_process_and_another_for_the_next_incarnation(fleet: str, name: str, number: int) -> None:
    first = share(fleet, name, f"{name}-1", number)
    share.cache_clear()
    assert 0.0 <= first < 1.0 and share(fleet, name, f"{name}-1", number) == first
    assert share(fleet, name, f"{name}-1", number + 1) != first


def test_a_share_is_pinned_so_that_a_release_moves_nobody() -> None:
    assert share("lab", "web", "web-1", 1) == pytest.approx(0.5187, abs=1e-4)


# --- what ended badly is not tried again

def ended(state: str, actor: str = AUTHOR) -> Book:
    """A rollout to 2, begun by `actor`, that ended so."""
    book = Book()
    here = sight(*whole(), of=pool(), now=book.now)
    plan = judge(replace(idle(), pool=replace(pool(), mode="auto"), now=here.now), around()).plan
    assert plan is not None
    book.write(*started(plan, pool(), "r1", actor, ""))
    book.move("begin")
    if state != "done":
        book.move("abort" if state == "aborted" else "rollback")
    book.write(Draft("rollout-ended", pool="web", rollout="r1", data={"state": state, "reason": ""}))
    return book


def test_what_was_aborted_or_failed_is_not_tried_again_until_a_person_starts_it() -> None:
    assert not ended("done").state.pool("web").automatic.declined
    for state in ("aborted", "failed"):
        book = ended(state)
        assert list(book.state.pool("web").automatic.declined) == [V2.digest]
        plan = judge(idle(), around()).plan
        assert plan is not None
        again = Book()
        again.write(*(Draft(event.type, event.actor, event.pool, event.server, event.rollout, event.data) for event in book.events))
        again.write(*started(plan, pool(), "r2", "ana@pts/1", ""))
        assert not again.state.pool("web").automatic.declined
        assert again.again() == again.state


def test_a_persons_abort_of_a_persons_rollout_counts_too() -> None:
    assert V2.digest in ended("aborted", "ana@pts/1").state.pool("web").automatic.declined


def test_an_unrejected_image_may_be_tried_again() -> None:
    book = ended("aborted")
    book.write(Draft("image-unrejected", "ana", "web", data={"digest": V2.digest, "version": "2"}))
    assert not book.state.pool("web").automatic.declined


def test_a_persons_trial_on_one_server_does_not_let_it_loose_on_the_rest() -> None:
    book = ended("aborted")
    part = draw(idle(), Ask("rollout", V2, pool().rollout, True, 100, servers=("web-1",)))
    book.write(*started(part, pool(), "r2", "ana@pts/1", ""))
    book.move("begin", rollout="r2")
    book.write(Draft("rollout-ended", pool="web", rollout="r2", data={"state": "done", "reason": ""}))
    assert V2.digest in book.state.pool("web").automatic.declined


def test_a_server_whose_replacement_failed_is_not_tried_again_for_its_age() -> None:
    """Else a rollout that tolerates failures would begin again as soon as it is done, for ever."""
    book = Book()
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": V1.digest, "place": "sim", "name": ""}))
    here = idle(max_age=10.0)
    plan = judge(here, around(V1)).plan
    assert plan is not None
    book.write(*started(plan, here.pool, "r1", AUTHOR, ""))
    book.move("begin")
    book.fail("web-1", "booting", book.begin("web-1", "booting"))
    book.write(Draft("server-settled", pool="web", server="web-1", rollout="r1", data={"state": "put-back", "reason": "put back"}))
    book.write(Draft("rollout-ended", pool="web", rollout="r1", data={"state": "done", "reason": ""}))
    known = book.state.pool("web").automatic
    assert known.spared == {"web-1": 1}
    again = judge(idle(max_age=10.0, known=known), around(V1)).plan
    assert again is not None and {run.server for run in again.acting} == {"web-2", "web-3"}
    alone = judge(idle(seen("web-1"), max_age=10.0, known=known), around(V1))
    assert (alone.plan, alone.waits) == (None, "web-1 not again by itself: the last replacement failed")
    reborn = judge(idle(seen("web-1", 3), max_age=10.0, known=known), around(V1)).plan
    assert reborn is not None, "a person replaced it, and the next incarnation comes of age as any other"


def test_a_machine_cannot_claim_to_be_older_than_the_journal_knows() -> None:
    liar = seen("web-1", 1, V1, born=1.0)
    here = idle(liar, max_age=HOUR)
    assert of_age(here, "lab") == ("web-1",)
    pools = {"web": replace(here.pool_state, servers={"web-1": Server(admitted=1, admitted_at=NOW - 60.0)})}
    assert not of_age(replace(here, state=State(pools=pools)), "lab")
