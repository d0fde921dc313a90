"""Drawing a plan: who, in which order, how, why, and a hash that changes when the fleet does and not when it grows older."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.core.desired import Amount
from fleet.core.errors import Invalid, Refused
from fleet.core.events import Draft
from fleet.core.proposal import Plan, differences, draw
from tests.core.picture import NOW, V1, V2, V3, Book, ask, pool, seen, sight, whole


def names(plan: Plan) -> list[str]:
    return [run.server for run in plan.runs]


def reasons(plan: Plan) -> dict[str, str]:
    return {run.server: f"{run.action}: {run.reason}" for run in plan.runs}


@pytest.mark.parametrize(("order", "expected"), [
    ("oldest", ["web-3", "web-1", "web-2"]), ("newest", ["web-2", "web-1", "web-3"]), ("name", ["web-1", "web-2", "web-3"])])
def test_the_order_is_the_pools(order: str, expected: list[str]) -> None:
    fleet = (seen("web-1", born=NOW - 50), seen("web-2", born=NOW - 10), seen("web-3", born=NOW - 90))
    assert names(draw(sight(*fleet), ask(order=order))) == expected


def test_canaries_are_spread_over_the_hypervisors() -> None:
    fleet = [seen(f"web-{n}", born=NOW - 100 + n, place="hv1" if n < 4 else "hv2") for n in range(1, 7)]
    plan = draw(sight(*fleet, of=pool(6)), ask(canaries=Amount(2)))
    assert [run.server for run in plan.runs if run.canary] == ["web-1", "web-4"]
    assert names(plan) == ["web-1", "web-4", "web-2", "web-3", "web-5", "web-6"]
    assert plan.domains == 2


def test_every_server_has_an_action_and_a_reason() -> None:
    book = Book()
    book.write(Draft("server-held", pool="web", server="web-2", data={"why": "a demo (ana)"}),
               Draft("server-tainted", pool="web", server="web-3", data={"why": "its root is writable"}))
    fleet = (seen("web-1", image=V2), seen("web-2"), seen("web-3", image=V2), seen("web-4", born=NOW - 7200), seen("web-5"),
             seen("web-6", state="stopped"), seen("web-8", place="hv2"))
    plan = draw(sight(*fleet, of=pool(8), state=book.state, sick=("web-5",), unreachable={"hv2": "no route"}), ask())
    assert reasons(plan) == {
        "web-1": "skip: already 2", "web-2": "hold: held: a demo (ana)", "web-3": "replace: tainted: its root is writable", "web-4": "replace: 2h old",
        "web-5": "replace: not healthy, 1m 40s old", "web-6": "birth: not running", "web-7": "birth: absent", "web-8": "hold: hv2 does not answer: no route"}
    assert [run.server for run in plan.acting] == names(plan)[:5]


def test_a_running_incarnation_that_nobody_admitted_is_stopped_before_its_server_is_born_anew() -> None:
    book = Book()
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 1, "digest": V1.digest, "place": "", "name": ""}))
    fleet = (seen("web-1", 1, state="crashed"), seen("web-1", 2, V2), seen("web-2"))
    run = draw(sight(*fleet, of=pool(2), state=book.state), ask(order="name")).runs[0]
    assert (run.server, run.action, run.planned, run.source) == ("web-1", "replace", "delete-first", 2)
    assert run.target is not None and run.target.number == 3
    assert run.reason == "incarnation 2 runs, but is not in service"


@pytest.mark.parametrize(("surge", "unavailable", "driver", "data", "paths"), [
    (1, 0, True, False, ["create-first"] * 4),
    (0, 1, True, False, ["delete-first"] * 4),
    (2, 1, True, False, ["create-first", "create-first", "delete-first", "create-first"]),
    (1, 1, False, False, ["delete-first"] * 4),
    (1, 1, True, True, ["delete-first"] * 4),
])
def test_create_first_where_the_driver_can_and_the_budget_allows(surge: int, unavailable: int, driver: bool, data: bool, paths: list[str]) -> None:
    plan = draw(sight(*whole(4), of=pool(4, data=data)), ask(surge=driver, max_surge=Amount(surge), max_unavailable=Amount(unavailable)))
    assert [run.planned for run in plan.runs] == paths
    assert plan.worst_loss == min(unavailable, paths.count("delete-first"))


def test_a_budget_of_extra_ones_only_is_refused_where_there_can_be_none() -> None:
    with pytest.raises(Refused, match="cannot run old and new side by side") as caught:
        draw(sight(*whole()), ask(surge=False))
    assert caught.value.where == "pools.web.rollout.max_unavailable"


def test_a_selection_narrows_and_an_empty_one_is_an_error() -> None:
    plan = draw(sight(*whole()), ask(servers=("web-3", "web-1")))
    assert names(plan) == ["web-1", "web-3"] and not plan.whole
    assert draw(sight(*whole()), ask()).whole
    assert names(draw(sight(*whole()), ask(older_than=1500.0))) == ["web-1", "web-2"]
    for wrong, words in ((ask(servers=()), "names no server"), (ask(servers=("web-9",)), "no server web-9 in pool web; it has web-1 to web-3"),
                         (ask(older_than=9e9), "no server of pool web is older than")):
        with pytest.raises(Invalid, match=words):
            draw(sight(*whole()), wrong)


def test_nothing_to_do_is_refused_with_the_reasons() -> None:
    with pytest.raises(Refused, match="nothing to do for web/1: already 1"):
        draw(sight(*whole()), ask(V1))


def test_a_rejected_image_is_refused_with_why_and_with_what_to_do() -> None:
    book = Book()
    book.write(Draft("image-rejected", pool="web", data={"digest": V2.digest, "version": "2", "reason": "eats mail"}))
    with pytest.raises(Refused, match=r"rejected for pool web: eats mail; `anew image unreject web/2 --pool web`"):
        draw(sight(*whole(), state=book.state), ask())
    book.write(Draft("image-unrejected", pool="web", data={"digest": V2.digest, "version": "2"}))
    assert draw(sight(*whole(), state=book.state), ask()).acting


def test_a_second_rollout_of_a_pool_and_an_unobserved_pool_are_refused() -> None:
    book = Book()
    book.start(draw(sight(*whole()), ask()))
    with pytest.raises(Refused, match="rollout r1 of pool web is planned"):
        draw(sight(*whole(), state=book.state), ask(V3))
    with pytest.raises(Refused, match="not observed yet"):
        draw(replace(sight(*whole()), observed=None), ask())


def test_an_empty_pool_is_born() -> None:
    plan = draw(sight(), ask(kind="birth", canaries=Amount(1)))
    assert [(run.action, run.planned, run.canary) for run in plan.runs] == [("birth", "birth", True), ("birth", "birth", False), ("birth", "birth", False)]
    assert plan.image_from is None


def test_rollback_takes_the_sick_first_and_retained_incarnations_where_they_exist() -> None:
    fleet = [*whole(3, V2)[:0], *(seen(f"web-{n}", 2, V2, born=NOW - n) for n in (1, 2, 3)),
             seen("web-1", 1, state="stopped"), seen("web-3", 1, state="stopped")]
    book = Book()
    for name in ("web-1", "web-2", "web-3"):
        book.write(Draft("server-adopted", pool="web", server=name, data={"number": 2, "digest": "", "place": "", "name": ""}))
    plan = draw(sight(*fleet, state=book.state, sick=("web-2",)), ask(V1, "rollback", canaries=Amount(2)))
    assert [(run.server, run.target.kind, run.target.number) for run in plan.runs if run.target] == [
        ("web-2", "birth", 3), ("web-3", "revive", 1), ("web-1", "revive", 1)]
    assert not [run for run in plan.runs if run.canary]


def test_a_failed_incarnation_is_never_gone_back_to() -> None:
    book = Book()
    book.write(Draft("server-adopted", pool="web", server="web-1", data={"number": 3, "digest": "", "place": "", "name": ""}))
    fleet = (seen("web-1", 3, V2), seen("web-1", 1, V1, "stopped"), seen("web-1", 2, V1, "stopped"))
    now = sight(*fleet, of=pool(1), state=book.state)
    server = replace(book.state.pool("web").server("web-1"), failed=frozenset({2}))
    state = replace(book.state, pools={"web": replace(book.state.pool("web"), servers={"web-1": server})})
    target = draw(replace(now, state=state), ask(V1, "rollback")).runs[0].target
    assert target is not None and (target.kind, target.number) == ("revive", 1)


def test_numbers_are_never_used_again() -> None:
    book = Book()
    book.start(draw(sight(*whole()), ask()))
    book.move("begin")
    book.move("abort")
    book.write(Draft("rollout-ended", pool="web", rollout="r1", data={"state": "aborted", "reason": ""}))
    assert {run.target.number for run in draw(sight(*whole(), state=book.state), ask(V3)).acting if run.target} == {3}


def test_the_hash_is_stable_against_ages_and_reasons() -> None:
    one = draw(sight(*whole()), ask())
    later = draw(sight(*whole(), now=NOW + 86_400.0), ask())
    assert one.hash == later.hash
    assert one.runs[0].reason != later.runs[0].reason


@pytest.mark.parametrize("changed", [
    lambda: draw(sight(*whole()), ask(V3)),
    lambda: draw(sight(*whole()), ask(max_surge=Amount(2))),
    lambda: draw(sight(*whole()), ask(servers=("web-1",))),
    lambda: draw(sight(*whole(2)), ask()),
    lambda: draw(sight(*whole()[:2], seen("web-3", image=V2)), ask()),
    lambda: draw(sight(*whole()[:2], seen("web-3", 4)), ask()),
    lambda: draw(sight(*whole()[:2], seen("web-3", place="hv9")), ask()),
])
def test_the_hash_changes_with_what_would_be_done(changed: object) -> None:
    assert callable(changed)
    assert changed().hash != draw(sight(*whole()), ask()).hash


def test_what_changed_between_two_plans_is_told_in_sentences() -> None:
    book = Book()
    book.write(Draft("server-held", pool="web", server="web-3", data={"why": "x"}))
    before, after = draw(sight(*whole()), ask()), draw(sight(*whole(), state=book.state), ask())
    assert differences(before, after) == (f"web-3: was replace ({before.runs[2].reason}), now hold (held: x)",)
    assert differences(before, draw(sight(*whole()), ask(V3))) == ("the target was web/2, now web/3",), "said once, not of each server"
    assert differences(before, draw(sight(*whole()), ask(min_healthy_time=90.0))) == ("min_healthy_time was 5s, now 1m30s",)
    another = (*whole()[:1], seen("web-2", 4, V1), *whole()[2:])
    assert differences(before, draw(sight(*another), ask()))[0] == "web-2: incarnation 1 ran there, now 4"
    other = replace(before, runs=(before.runs[0], replace(before.runs[1], home=V3), before.runs[2]))
    assert differences(before, other) == ("web-2: what is made of it, or what it goes back to, is another incarnation or image by now",)
    assert "web-1 is no longer a canary" in differences(draw(sight(*whole()), ask(canaries=Amount(1))), before)
    assert "web-2 is no longer in the plan" in differences(before, draw(sight(*whole()), ask(servers=("web-1",))))


def test_much_of_a_fleet_at_once_must_be_typed() -> None:
    assert not draw(sight(*whole()), ask(fleet_size=15)).typed_number
    assert draw(sight(*whole()), ask(fleet_size=14)).typed_number
    assert not draw(sight(*whole(1), of=pool(1)), ask(fleet_size=1)).typed_number


def test_what_is_left_behind_is_stable_or_what_most_run() -> None:
    mixed = (seen("web-1", image=V3), seen("web-2", image=V1), seen("web-3", image=V1))
    assert draw(sight(*mixed), ask()).image_from == V1
    book = Book()
    pool_state = replace(book.state.pool("web"), stable=V3)
    assert draw(sight(*mixed, state=replace(book.state, pools={"web": pool_state})), ask()).image_from == V3
