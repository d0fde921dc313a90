"""What the daemon sees of a pool of machines: a look at a few of them, and what a boot ends."""

from __future__ import annotations

from dataclasses import replace

from fleet.core.desired import Pool
from fleet.core.observed import Observed, Seen
from fleet.engine.view import PoolView

POOL = Pool("web", "baremetal", 3, "web", machines=("rack1", "rack2", "rack3"))


def seen(server: str, number: int, state: str = "running") -> Seen:
    return Seen(server, number, f"sha256:{number}", str(number), state, 0.0, place=server)  # type: ignore[arg-type]


def looked(*incarnations: Seen, **unreachable: str) -> Observed:
    return Observed("web", 0.0, incarnations, unreachable=unreachable)


def view_of(*incarnations: Seen, at: float = 10.0, **unreachable: str) -> PoolView:
    view = PoolView(POOL)
    view.take_in(looked(*incarnations, **unreachable), at)
    return view


def states(view: PoolView) -> set[tuple[str, int, str]]:
    assert view.observed is not None
    return {(item.server, item.number, item.state) for item in view.observed.incarnations}


def test_a_look_at_a_few_leaves_the_others_as_they_were() -> None:
    view = view_of(seen("rack1", 1), seen("rack2", 1), rack3="silent")
    view.take_in_some(looked(seen("rack1", 2), seen("rack1", 1, "stopped")), 12.0, frozenset({"rack1"}))
    assert states(view) == {("rack1", 2, "running"), ("rack1", 1, "stopped"), ("rack2", 1, "running")}
    assert view.observed is not None
    assert (view.observed.at, view.observed.unreachable) == (10.0, {"rack3": "silent"})
    assert view.looked == {"rack1": 12.0}


def test_a_machine_falls_silent_and_comes_back_in_such_looks() -> None:
    view = view_of(seen("rack1", 1), seen("rack2", 1), seen("rack3", 1))
    view.take_in_some(looked(rack1="no answer"), 12.0, frozenset({"rack1"}))
    assert view.observed is not None
    assert view.observed.unreachable == {"rack1": "no answer"}
    assert ("rack1", 1, "running") in states(view), "the last word about it stands"
    view.take_in_some(looked(seen("rack1", 1)), 13.0, frozenset({"rack1"}))
    assert view.observed.unreachable == {}


def test_no_look_overwrites_an_outcome_that_is_newer() -> None:
    view = view_of(seen("rack1", 1), seen("rack2", 1))
    view.confirm(12.0, "rack1", 2, seen("rack1", 2))
    view.take_in_some(looked(seen("rack1", 1), seen("rack2", 3)), 11.0, frozenset({"rack1", "rack2"}))
    assert ("rack1", 2, "running") in states(view) and ("rack2", 3, "running") in states(view)
    view.take_in(looked(seen("rack1", 1), seen("rack2", 1)), 11.5)
    assert ("rack1", 2, "running") in states(view), "nor one at the whole pool that began before"
    view.take_in(looked(seen("rack1", 3)), 14.0)
    assert ("rack1", 3, "running") in states(view) and view.looked == {}


def test_a_look_at_machines_nobody_asked_for_says_nothing_of_them() -> None:
    view = view_of(seen("rack1", 1), seen("rack2", 1))
    view.take_in_some(looked(seen("rack1", 2), seen("rack2", 9), rack3="silent"), 12.0, frozenset({"rack1"}))
    assert states(view) == {("rack1", 2, "running"), ("rack2", 1, "running")}
    assert view.observed is not None and view.observed.unreachable == {}


def test_a_boot_ends_what_ran_on_that_machine_and_nowhere_else() -> None:
    view = view_of(seen("rack1", 1), seen("rack1", 0, "crashed"), seen("rack2", 1))
    view.end_others(12.0, "rack1", 2)
    view.confirm(12.0, "rack1", 2, replace(seen("rack1", 1), number=2))
    assert states(view) == {("rack1", 2, "running"), ("rack1", 1, "stopped"), ("rack1", 0, "crashed"), ("rack2", 1, "running")}
