"""SQLite's rule: let call 1 of a verb go wrong, then call 2, … until a play meets no fault any more; every time it ends well."""

from __future__ import annotations

import tempfile
from dataclasses import replace

import pytest

from drivers.sim import Faults
from drivers.sim.faults import Outcome
from tests.clocks import run_virtual
from tests.engine.chaos import Order, Play, VerbFault, perform
from tests.scenarios.stage import staged

PLAYS = {
    "create-first": Play(servers=2, surge="1", unavailable="0", promotion="auto", cure="resume"),
    "with data": Play(servers=2, surge="0", unavailable="1", promotion="auto", data=True, cure="resume"),
    "in place": Play(servers=2, surge="0", unavailable="1", promotion="auto", in_place=True, cure="resume"),
    "in place, rolled back": Play(servers=2, surge="0", unavailable="1", canaries="0", in_place=True, cure="rollback",
                                  orders=(Order(8.0, "rollback"),)),
    "rolled back": Play(servers=2, surge="0", unavailable="1", canaries="0", cure="rollback", orders=(Order(8.0, "rollback"),)),
}
VERBS: dict[str, tuple[Outcome, ...]] = {
    "stage": ("transient", "permanent", "lost"),
    "birth": ("transient", "permanent", "hang", "lost", "done-then-hang"),
    "commit": ("transient", "permanent", "hang", "lost", "done-then-hang"),
    "retire": ("transient", "permanent", "hang", "lost", "done-then-hang", "late"),
    "revive": ("transient", "permanent", "hang", "lost", "done-then-hang"),
    "observe": ("transient", "permanent", "hang"),
    "probe": ("transient", "permanent", "hang"),
}
MOST_CALLS = 12
"""Far more than a play of two servers has of one verb; observing and probing go on for ever."""


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", PLAYS)
def test_whichever_call_goes_wrong_it_ends_and_no_promise_is_broken(name: str, verb: str) -> None:
    for outcome in VERBS[verb]:
        for nth in range(1, MOST_CALLS):
            play = replace(PLAYS[name], faults=(VerbFault(verb, outcome, nth),), patient=True)
            if not run_virtual(perform(play), limit=400_000.0):
                break



def test_a_birth_that_takes_effect_when_nobody_waits_for_it_any_more_is_cleared_up() -> None:
    """No budget can hold what was given up; but it is seen, counted, and stopped when the rollout has ended."""

    async def story() -> None:
        play = PLAYS["rolled back"]
        faults = Faults(late_by=20.0)
        with tempfile.TemporaryDirectory() as folder:
            async with staged(play.fleet, folder, faults) as stage:
                await stage.birth("1")
                assert stage.oracle is not None
                stage.oracle.changed = lambda server, now: None  # type: ignore[method-assign]
                faults.fail("birth", "late", times=99)
                await stage.command("rollout.start", plan={"to": "2"})
                await stage.until(lambda: stage.last.runs["web-1"].step == "booting", what="the birth is under way")
                await stage.clock.sleep(1.0)
                await stage.command("rollback.start")
                while stage.rollout is not None:
                    await stage.settle()
                    if stage.rollout is not None:
                        await stage.command("rollout.resume")
                await stage.clock.sleep(60.0)
                running = sorted(f"{life.server}.{life.number}" for life in stage.world.lives.values() if life.state == "running")
                assert running == ["web-1.1", "web-2.1"]

    run_virtual(story())
