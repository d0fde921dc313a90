"""SQLite's rule: let call 1 of a verb go wrong, then call 2, … until a play meets no fault any more; every time it ends well."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from drivers.sim import Faults
from drivers.sim.faults import Outcome
from fleet.core.errors import Permanent, Refused, Transient
from tests.clocks import run_virtual
from tests.engine.chaos import Order, Play, VerbFault, bring_to_an_end, obey, perform
from tests.scenarios.stage import staged

PLAYS = {
    "create-first": Play(servers=2, surge="1", unavailable="0", promotion="auto", cure="resume"),
    "create-first, rolled back": Play(servers=2, surge="1", unavailable="0", canaries="0", cure="rollback", orders=(Order(8.0, "rollback"),)),
    "with data": Play(servers=2, surge="0", unavailable="1", promotion="auto", data=True, cure="resume"),
    "in place": Play(servers=2, surge="0", unavailable="1", promotion="auto", in_place=True, cure="resume"),
    "in place, rolled back": Play(servers=2, surge="0", unavailable="1", canaries="0", in_place=True, cure="rollback",
                                  orders=(Order(8.0, "rollback"),)),
    "rolled back": Play(servers=2, surge="0", unavailable="1", canaries="0", cure="rollback", orders=(Order(8.0, "rollback"),)),
}
VERBS: dict[str, tuple[Outcome, ...]] = {
    "stage": ("transient", "permanent", "hang", "lost", "done-then-hang", "late"),
    "birth": ("transient", "permanent", "hang", "lost", "done-then-hang"),
    "commit": ("transient", "permanent", "hang", "lost", "done-then-hang", "late"),
    "retire": ("transient", "permanent", "hang", "lost", "done-then-hang", "late"),
    "revive": ("transient", "permanent", "hang", "lost", "done-then-hang"),
    "observe": ("transient", "permanent", "hang"),
    "probe": ("transient", "permanent", "hang"),
}
BURIALS: tuple[Outcome, ...] = ("transient", "permanent", "hang", "lost", "done-then-hang", "late")
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


@pytest.mark.parametrize("outcome", BURIALS)
def test_whichever_burial_goes_wrong_what_is_retained_goes_once_its_time_is_over(outcome: Outcome) -> None:
    """Nobody waits for a burial: it is tried again, by this daemon or the next, until the world and the journal say that it is gone."""

    async def story(nth: int) -> bool:
        faults = Faults()
        with tempfile.TemporaryDirectory() as folder:
            async with staged(replace(PLAYS["create-first"], retain="5s").fleet, folder, faults) as stage:
                await stage.birth("1")
                faults.fail("bury", outcome, nth=nth)
                await stage.command("rollout.start", plan={"to": "2"})
                await stage.until(lambda: stage.rollout is None, what="the rollout")
                await stage.until(lambda: all(number == 2 for _, number in stage.world.lives), limit=1200.0, what="the old ones are gone")
                await stage.until(lambda: not any(stage.state.pool("web").server(name).retained for name in stage.pool.server_names), what="the journal says so")
                assert stage.serving() == {"web-1": "2", "web-2": "2"}
        return bool(faults.used)

    for nth in range(1, MOST_CALLS):
        if not run_virtual(story(nth)):
            assert nth == 3, "each of the two was buried once"
            break


@pytest.mark.parametrize("outcome", ["error", "timed out"])
@pytest.mark.parametrize("which", ["drain", "admit"])
@pytest.mark.parametrize("name", PLAYS)
def test_whichever_hook_goes_wrong_it_ends_and_no_promise_is_broken(name: str, which: str, outcome: str) -> None:
    for nth in range(1, MOST_CALLS):
        if not run_virtual(hooked(PLAYS[name], which, outcome, nth), limit=400_000.0):
            break


@pytest.mark.parametrize("outcome", ["error", "timed out"])
@pytest.mark.parametrize("name", ["create-first", "with data", "in place"])
def test_a_newborn_whose_admit_hook_goes_wrong_is_cleared_and_born_anew_by_a_resume(name: str, outcome: str) -> None:
    """It never was in service, so that nothing is taken away by stopping it, though nobody may be missing."""
    for nth in range(1, MOST_CALLS):
        if not run_virtual(hooked(PLAYS[name], "admit", outcome, nth, past=""), limit=400_000.0):
            assert nth > 2, "each of the two was admitted"
            break


async def hooked(play: Play, which: str, outcome: str, nth: int, past: str = "1") -> bool:
    """A play in which the nth run of a hook goes wrong; False if there was none. No process is started. `past`: "" for an empty pool."""
    calls = -1000

    async def around(what: str, hook: Callable[[], Awaitable[None]]) -> None:
        nonlocal calls
        calls += what == which
        if what == which and calls == nth:
            if outcome == "error":
                raise Permanent("the hook ended with 3")
            raise Transient("the hook was not done", code="deadline")

    fleet = play.fleet.replace("[pools.web.rollout]", '[pools.web.hooks]\ndrain = ["drain"]\nadmit = ["admit"]\n[pools.web.rollout]')
    with tempfile.TemporaryDirectory() as folder:
        async with staged(fleet, folder, Faults(), seed=play.seed) as stage:
            stage.engine.actor.around_hook = around
            await (stage.birth(past) if past else stage.observed())
            calls = 0
            await stage.command("rollout.start", plan={"to": "2"})
            for order in play.orders:
                await stage.clock.sleep(order.after)
                await obey(stage, order.what)
            await bring_to_an_end(stage, play)
            assert sorted(stage.serving()) == ["web-1", "web-2"], stage.describe()
    return calls >= nth


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


def test_a_rollback_of_a_rollout_that_ended_while_it_was_asked_for_begins_no_other_one() -> None:
    """Somebody typed the number of servers that had moved by then; the way back of all of them was asked of nobody."""

    async def story() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with staged(PLAYS["rolled back"].fleet, folder, Faults()) as stage:
                await stage.birth("1")
                await stage.command("rollout.start", plan={"to": "2"})
                await stage.until(lambda: stage.rollout is None, what="it is done")
                ended, count = stage.last.id, len(stage.engine.record.state.rollouts)
                with pytest.raises(Refused, match=f"rollout {ended} is done by now; look again"):
                    await stage.command("rollback.start", rollout=ended)
                assert stage.rollout is None and len(stage.engine.record.state.rollouts) == count
                await stage.command("rollback.start")
                again = stage.last.id
                with pytest.raises(Refused, match="by now; look again"):
                    await stage.command("rollback.start", rollout=ended)
                assert stage.last.id == again and stage.rollout is not None

    run_virtual(story(), limit=10_000.0)


def test_a_rollback_that_was_planned_turns_around_no_rollout_that_has_begun_since() -> None:
    async def story() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with staged(PLAYS["rolled back"].fleet, folder, Faults()) as stage:
                await stage.birth("1")
                await stage.command("rollout.start", plan={"to": "2"})
                with pytest.raises(Refused, match=f"rollout {stage.last.id} has begun since this rollback was planned"):
                    await stage.command("rollback.start", plan={"kind": "rollback"}, plan_hash="0" * 16)
                assert stage.last.state != "rolling-back"
                await stage.until(lambda: stage.rollout is None, what="it goes on")
                assert stage.last.state == "done"

    run_virtual(story(), limit=10_000.0)
