"""Approvals (I33): for that plan's hash, unexpired, by somebody else, each person once; and what is told to whoever tries otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core import approvals
from fleet.core.approvals import NOBODY, Unapproved, approvals_left, check_person, clear, ends_at, find, lapse, pending, same
from fleet.core.desired import Access, Amount, Pool
from fleet.core.errors import Refused, Stale
from fleet.core.events import Draft, check_draft
from fleet.core.fold import fold_all
from fleet.core.planner import plan as decide
from fleet.core.proposal import Plan, draw
from fleet.core.state import Proposal, State
from tests.core.picture import NOW, V2, V3, Book, ask, pool, sight, whole

ANA, BOB, EVE = 1001, 1002, 1003
HOUR = 3600.0
TEAM = Access(operators=("user:ana", "user:bob"), approvers=("user:eve",))
REQUEST = {"pool": "web", "to": "2"}


def guarded(count: int = 1, **changes: Any) -> Pool:
    return replace(pool(), approvals=count, approval_expiry=HOUR, **changes)


def drawn(of: Pool | None = None, **changes: Any) -> Plan:
    return draw(sight(*whole(), of=of or guarded()), ask(**changes))


def waiting(count: int = 1, uid: int = ANA, **changes: Any) -> tuple[Book, Pool, Plan]:
    """A pool with a plan that ana proposed at NOW."""
    book, of = Book(NOW), guarded(count)
    plan = drawn(of, **changes)
    book.write(approvals.proposed(plan, of, REQUEST, ["3 servers"], "ana@pts/1", uid, "r1"))
    return book, of, plan


def approve(book: Book, plan_hash: str, uid: int, by: str = "bob") -> State:
    return book.write(Draft("plan-approved", actor=by, pool="web", data={"hash": plan_hash, "uid": uid}))


def kept(book: Book) -> Proposal:
    found = book.state.pool("web").proposal
    assert found is not None
    return found


def left(book: Book, of: Pool, plan: Plan, later: float = 0.0) -> int:
    return approvals_left(book.state, of, plan.hash, NOW + later)


def test_a_plan_of_a_pool_without_approvals_and_every_rollback_starts_at_once() -> None:
    plan = drawn(pool())
    assert clear(State(), pool(), plan, REQUEST, TEAM, NOW) == ()
    back = replace(plan, kind="rollback")
    assert clear(State(), guarded(3), back, REQUEST, TEAM, NOW) == ()
    assert approvals_left(State(), guarded(3), plan.hash, NOW, "rollback") == 0
    assert clear(State(), guarded(3), plan, REQUEST, TEAM, NOW) is None, "it must be proposed first"


def test_a_proposal_comes_back_from_the_journal_as_it_was() -> None:
    book, of, plan = waiting(canaries=Amount(1))
    draft = approvals.proposed(plan, of, REQUEST, ["3 servers"], "ana@pts/1", ANA, "r1")
    check_draft(draft)
    book.events[0] = replace(book.events[0], data=json.loads(json.dumps(draft.data)))
    book.state = book.again()
    same(kept(book), of, plan)
    assert (kept(book).uid, kept(book).author, kept(book).summary, kept(book).request) == (ANA, "ana@pts/1", ("3 servers",), REQUEST)


def test_enough_other_people_and_not_one_less() -> None:
    book, of, plan = waiting(2)
    assert left(book, of, plan) == 2
    approve(book, plan.hash, EVE, "eve")
    with pytest.raises(Unapproved, match=r"waits for 1 more approval of somebody else than ana \(user:bob or root\): `anew plan approve") as caught:
        clear(book.state, of, plan, REQUEST, TEAM, NOW)
    assert (caught.value.exit_code, caught.value.code) == (4, "awaiting-approval")
    approve(book, plan.hash, BOB)
    assert [one.by for one in clear(book.state, of, plan, REQUEST, TEAM, NOW) or ()] == ["eve", "bob"]
    assert left(book, of, plan) == 0


@pytest.mark.parametrize(("uid", "by"), [(ANA, "ana@pts/1"), (ANA, "bob"), (ANA, "root"), (NOBODY, "engine")])
def test_the_authors_approval_never_counts_whatever_the_journal_calls_its_giver(uid: int, by: str) -> None:
    book, of, plan = waiting()
    approve(book, plan.hash, uid, by)
    assert left(book, of, plan) == 1
    with pytest.raises(Refused):
        check_person(kept(book), of, uid, NOW)


def test_one_person_counts_once_from_whatever_terminal() -> None:
    book, of, plan = waiting(2)
    approve(book, plan.hash, EVE, "eve@pts/1")
    approve(book, plan.hash, EVE, "eve@pts/2")
    approve(book, plan.hash, EVE, "mallory")
    assert left(book, of, plan) == 1
    with pytest.raises(Refused, match="one person counts once"):
        check_person(kept(book), of, EVE, NOW)
    check_person(kept(book), of, EVE, NOW + HOUR)  # the first one is too old by then: once more is fine


def test_an_approval_counts_for_that_hash_only() -> None:
    book, of, plan = waiting()
    approve(book, "0123456789abcdef", BOB)
    assert left(book, of, plan) == 1
    approve(book, plan.hash, BOB)
    assert left(book, of, plan) == 0
    assert approvals_left(book.state, of, drawn(of, image=V3).hash, NOW) == 1


def test_an_approval_ends_with_the_last_moment_of_its_time_and_so_does_the_plan() -> None:
    book, of, plan = waiting(2)
    book.now = NOW + HOUR / 2
    approve(book, plan.hash, EVE, "eve")
    book.now = NOW + HOUR
    approve(book, plan.hash, BOB)
    assert left(book, of, plan, 1.5 * HOUR - 1) == 0
    assert left(book, of, plan, 1.5 * HOUR) == 1, "eve's is too old, to the second"
    with pytest.raises(Unapproved, match="that of eve expired"):
        clear(book.state, of, plan, REQUEST, TEAM, NOW + 1.5 * HOUR)
    assert ends_at(kept(book), of) == NOW + 2 * HOUR
    assert pending(book.state, of, NOW + 2 * HOUR - 1) is not None
    assert pending(book.state, of, NOW + 2 * HOUR) is None
    assert clear(book.state, of, plan, REQUEST, TEAM, NOW + 2 * HOUR) is None, "proposed anew"
    with pytest.raises(Refused, match="expired 10s ago; have it proposed anew"):
        find({"web": of}, book.state, NOW + 2 * HOUR + 10, plan.hash)


def test_the_end_of_its_time_is_told_once_and_waited_for() -> None:
    book, of, plan = waiting()
    seen = sight(*whole(), of=of, state=book.state)
    assert decide(seen).wake_at == NOW + HOUR
    assert lapse(seen) == ()
    late = sight(*whole(), of=of, state=book.state, now=NOW + HOUR)
    (note,) = decide(late).notes
    assert (note.type, note.data["hash"], note.data["reason"]) == ("plan-withdrawn", plan.hash, "expired: not approved and started within 1h")
    book.write(note)
    assert decide(replace(late, state=book.state)).notes == ()


def test_the_expiry_of_the_fleet_file_in_force_counts() -> None:
    book, of, plan = waiting()
    approve(book, plan.hash, BOB)
    assert left(book, replace(of, approval_expiry=60.0), plan, 61.0) == 1
    assert left(book, replace(of, approvals=2), plan) == 1
    assert left(book, replace(of, approvals=0), plan) == 0


def test_a_start_ends_a_proposal_and_remembers_who_approved() -> None:
    from fleet.engine.starts import started

    book, of, plan = waiting()
    approve(book, plan.hash, BOB)
    have = clear(book.state, of, plan, REQUEST, TEAM, NOW)
    book.write(*started(plan, of, "r1", "ana", "", have or ()))
    assert book.state.pool("web").proposal is None
    assert [(one.by, one.uid) for one in book.state.rollouts["r1"].approvals] == [("bob", BOB)]
    assert left(book, of, plan) == 1, "an approval is used up by the start"


def test_a_newer_plan_takes_the_place_and_begins_without_approvals() -> None:
    book, of, plan = waiting()
    approve(book, plan.hash, BOB)
    other = drawn(of, image=V3)
    assert clear(book.state, of, other, {"pool": "web", "to": "3"}, TEAM, NOW) is None
    book.write(approvals.proposed(other, of, {"pool": "web", "to": "3"}, [], "bob", BOB, ""))
    assert (kept(book).hash, kept(book).approvals, kept(book).uid) == (other.hash, (), BOB)
    approve(book, plan.hash, EVE)
    assert left(book, of, other) == 1


def test_withdrawn_and_proposed_again_it_begins_without_approvals() -> None:
    book, of, plan = waiting()
    approve(book, plan.hash, BOB)
    book.write(Draft("plan-withdrawn", actor="eve", pool="web", data={"hash": "0123456789abcdef", "reason": ""}))
    assert left(book, of, plan) == 0, "another plan was meant"
    book.write(Draft("plan-withdrawn", actor="eve", pool="web", data={"hash": plan.hash, "reason": ""}))
    book.write(approvals.proposed(plan, of, REQUEST, [], "ana", ANA, ""))
    assert left(book, of, plan) == 1


def test_the_same_request_on_another_fleet_is_stale_with_the_difference() -> None:
    book, of, plan = waiting()
    approve(book, plan.hash, BOB)
    book.write(Draft("server-held", pool="web", server="web-2", data={"why": "a demo"}))
    now = draw(sight(*whole(), of=of, state=book.state), ask())
    with pytest.raises(Stale, match="the fleet is not what plan .* of ana was proposed on") as caught:
        clear(book.state, of, now, {"pool": "web", "to": "2", "kind": "rollout", "overrides": {}}, TEAM, NOW)
    assert caught.value.difference == ("web-2: was replace (33m 20s old), now hold (held: a demo)",)


def test_settings_order_and_the_fleet_file_are_differences_too() -> None:
    book, of, plan = waiting()
    for changes, words in (({"max_failures": 2}, "max_failures was 0, now 2"), ({"image": V3}, "the target was web/2, now web/3"),
                           ({"order": "newest"}, "order was oldest, now newest")):
        with pytest.raises(Stale) as caught:
            same(kept(book), of, drawn(of, **changes))
        assert words in caught.value.difference
    turned = replace(plan, runs=tuple(reversed(plan.runs)), hash="x")
    with pytest.raises(Stale, match="the order is now web-3, web-2, web-1"):
        same(kept(book), of, turned)
    with pytest.raises(Stale, match="the settings of pool web were changed in the fleet file"):
        same(kept(book), replace(of, memory=1), plan)
    same(kept(book), replace(of, approvals=5, mode="auto"), plan)


def test_a_plan_that_only_has_the_same_hash_is_not_what_was_approved() -> None:
    """A hash of 64 bits can be made to fit; what it stands for is compared."""
    book, of, plan = waiting()
    forged = replace(drawn(of, image=V3), hash=plan.hash)
    with pytest.raises(Stale):
        clear(book.state, of, forged, REQUEST, TEAM, NOW)


def test_a_plan_is_found_by_pool_or_hash_and_a_foreign_one_gets_a_sentence() -> None:
    book, of, plan = waiting()
    pools = {"web": of, "db": replace(of, name="db")}
    assert find(pools, book.state, NOW, "web") == find(pools, book.state, NOW, plan.hash[:6]) == kept(book)
    for word in ("db", "0123456789abcdef", plan.hash[:5], ""):
        with pytest.raises(Refused, match=f"no plan of this hash or pool waits for approval \\({plan.hash[:12]} of web\\)"):
            find(pools, book.state, NOW, word)


@pytest.mark.parametrize(("request_", "words"), [
    ({"pool": "web"}, "anew rollout start web"),
    ({"pool": "web", "to": "2", "older_than": "7d", "servers": ["web-1", "web-2"], "overrides": {"max_surge": "25%"}},
     "anew rollout start web --to 2 --older-than 7d --servers web-1,web-2 --max-surge 25%"),
    ({"pool": "web", "to": "2; reboot"}, "anew rollout start web --to '2; reboot'"),
])
def test_the_command_that_starts_it_can_be_typed_as_it_is_told(request_: dict[str, Any], words: str) -> None:
    assert approvals.start_words(request_) == words


def test_who_may_approve_is_told_without_the_author() -> None:
    assert approvals.call("f" * 16, 1, TEAM, "ana@pts/3") == "approval of somebody else than ana (user:eve, user:bob or root): `anew plan approve ffffffffffff`"
    assert "root, or whom [access] names" in approvals.call("f" * 16, 2, Access(operators=("user:ana",)), "ana")
    assert "than root (user:eve, user:ana): " in approvals.call("f" * 16, 1, Access(("user:bob",), ("user:eve", "user:ana")), "root@pts/1")
    assert "(whom [access] names as approver or operator)" in approvals.call("f" * 16, 1, Access(), "root")
    many = Access(operators=tuple(f"user:u{n}" for n in range(9)))
    assert "user:u5, … or root" in approvals.call("f" * 16, 1, many, "ana")


STEPS = st.lists(st.tuples(st.sampled_from(["approve", "wrong hash", "wait", "withdraw", "propose"]), st.sampled_from([ANA, BOB, EVE, NOBODY]),
                           st.sampled_from([1.0, HOUR / 2, HOUR])), max_size=12)


@given(STEPS, st.integers(1, 3))
def test_whatever_happens_only_fresh_approvals_of_different_other_people_for_this_very_plan_count(steps: list[tuple[str, int, float]], count: int) -> None:
    """The rule told a second time, from the list of what happened, against the fold."""
    book, of, plan = waiting(count)
    author, given_at, proposed = ANA, dict[int, float](), True
    for what, uid, seconds in steps:
        if what == "wait":
            book.now += seconds
        elif what == "propose" and uid != NOBODY:
            book.write(approvals.proposed(plan, of, REQUEST, [], "x", uid, ""))
            author, given_at, proposed = uid, {}, True
        elif what == "withdraw":
            book.write(Draft("plan-withdrawn", pool="web", data={"hash": plan.hash, "reason": ""}))
            given_at, proposed = {}, False
        elif what in ("approve", "wrong hash"):
            approve(book, plan.hash if what == "approve" else "0" * 16, uid)
            if what == "approve" and proposed and uid not in (author, NOBODY):
                given_at[uid] = book.now
    fresh = sum(book.now < at + HOUR for at in given_at.values())
    assert approvals_left(book.state, of, plan.hash, book.now) == max(0, count - fresh)
    assert fold_all(State(), book.events) == book.state


def test_a_journal_of_an_older_release_replays_as_ever() -> None:
    """Rollouts that were started before there were approvals have none."""
    from fleet.engine.starts import started

    book = Book()
    (begin,) = started(draw(sight(*whole()), ask(V2)), pool(), "r1", "ana", "")
    data = dict(begin.data)
    del data["approvals"]
    book.write(replace(begin, data=data))
    assert book.state.rollouts["r1"].approvals == ()
    assert book.state.pool("web").proposal is None
