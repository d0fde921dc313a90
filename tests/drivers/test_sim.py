"""The simulated world keeps the driver port's promises, is the same for the same seed, and survives its
daemon.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.sim import Faults, make_probe
from drivers.sim.chance import seconds_for
from drivers.sim.faults import Outcome
from fleet.core.desired import Desired, HealthCheck, SimSettings
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.ports import Birth, Console, Driver, Operation, Surroundings
from tests.clocks import SeededRng, run_virtual
from tests.drivers import conformance
from tests.drivers.sim_world import SIM, SimHarness, harness, image


@pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
def test_conformance(case: conformance.Case, tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await case(h)

    run_virtual(story())


# -- time and chance ---------------------------------------------------------------------------------------


def test_a_server_is_healthy_only_after_its_boot(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth()
            begun = h.clock.now()
            while not h.well():
                await h.clock.sleep(0.01)
            boot = seconds_for(SIM, "boot", "web-1", 1)
            assert 1.4 <= boot <= 2.6
            assert h.clock.now() - begun == pytest.approx(boot, abs=0.02)
            facts = await h.sim.probe(h.pool, "web-1", 1)
            assert (facts.root, facts.version, len(facts.boot_id)) == ("read-only", "1", 36)

    run_virtual(story())


def test_the_world_does_not_depend_on_the_order_of_calls(tmp_path: Path) -> None:
    async def ready(folder: Path, order: tuple[str, ...]) -> dict[str, float]:
        async with harness(folder) as h:
            for server in order:
                await h.birth(server=server)
            return {life.server: round(life.ready_at - life.started_at, 9) for life in h.world.lives.values()}

    there = run_virtual(ready(tmp_path / "a", ("web-1", "web-2", "web-3")))
    back = run_virtual(ready(tmp_path / "b", ("web-3", "web-2", "web-1")))
    assert there == back
    assert len(set(there.values())) == 3, "jitter makes servers differ"


# -- faults of an image ------------------------------------------------------------------------------------


def test_images_that_never_become_well(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1, "panics")
            await h.birth(2, "dead")
            await h.clock.sleep(60)
            states = {seen.number: seen.state for seen in (await h.sim.observe(h.pool)).incarnations}
            assert states == {1: "running", 2: "crashed"}
            assert not h.well(1) and not h.well(2)
            assert (await h.sim.probe(h.pool, "web-1", 1)).boot_id == ""
            for number in (1, 2):
                words = await h.sim.last_words(h.pool, "web-1", number)
                assert "Kernel panic - not syncing: Attempted to kill init!" in words.splitlines()[-1]

    run_virtual(story())


def test_an_image_that_is_well_and_dies(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1, "flaky")
            boot = seconds_for(SIM, "boot", "web-1", 1)
            await h.clock.sleep(boot + 2.9)
            assert h.well()
            await h.clock.sleep(0.2)
            assert not h.well()
            (seen,) = (await h.sim.observe(h.pool)).incarnations
            assert seen.state == "crashed"
            assert "Kernel panic" in await h.sim.last_words(h.pool, "web-1", 1)

    run_virtual(story())


def test_a_root_that_can_be_written_to_is_seen_inside(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1, "soft")
            await h.birth(1, "1", "web-2")
            await h.clock.sleep(3)
            assert (await h.sim.probe(h.pool, "web-1", 1)).root == "writable"
            assert (await h.sim.probe(h.pool, "web-2", 1)).root == "read-only"
            h.world.taint("web-2")
            assert (await h.sim.probe(h.pool, "web-2", 1)).root == "writable"

    run_virtual(story())


def test_a_remount_lasts_over_another_daemon_until_it_is_undone_or_the_server_stops(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1)
            await h.clock.sleep(3)
            assert "writable now" in await h.sim.lock_root(h.pool, "web-1", "writable", h.op())
        async with harness(tmp_path) as h:
            assert (await h.sim.probe(h.pool, "web-1", 1)).root == "writable"
            assert await h.sim.root_fixed(h.pool, "web-1") == ""
            await h.sim.lock_root(h.pool, "web-1", "read-only", h.op())
            assert (await h.sim.probe(h.pool, "web-1", 1)).root == "read-only"
            await h.sim.lock_root(h.pool, "web-1", "writable", h.op())
            await h.sim.retire(h.pool, "web-1", 1, h.op())
            with pytest.raises(Refused, match="it does not run"):
                await h.sim.lock_root(h.pool, "web-1", "writable", h.op())
            await h.sim.revive(h.pool, "web-1", 1, h.op())
            await h.clock.sleep(3)
            assert (await h.sim.probe(h.pool, "web-1", 1)).root == "read-only", "it boots as its image says"

    run_virtual(story())


def test_a_root_that_its_image_makes_writable_is_not_remounted(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1, "soft")
            await h.clock.sleep(3)
            assert "a lock would not last" in await h.sim.root_fixed(h.pool, "web-1")
            with pytest.raises(Refused, match="a lock would not last"):
                await h.sim.lock_root(h.pool, "web-1", "read-only", h.op())

    run_virtual(story())


def test_a_fault_no_world_knows_is_a_sentence(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            with pytest.raises(Permanent, match='knows no fault "sings"'):
                await h.birth(1, "odd")

    run_virtual(story())


# -- the fault menu ----------------------------------------------------------------------------------------


def test_the_nth_call_fails_as_asked(tmp_path: Path) -> None:
    faults = Faults()
    faults.fail("birth", "transient", nth=2)
    faults.fail("birth", "permanent", nth=3)

    async def story() -> None:
        async with harness(tmp_path, faults) as h:
            await h.birth(1)
            with pytest.raises(Transient):
                await h.birth(1, server="web-2")
            with pytest.raises(Permanent):
                await h.birth(1, server="web-2")
            await h.birth(1, server="web-2")
        assert faults.used == [("birth", "web-2", "transient"), ("birth", "web-2", "permanent")]

    run_virtual(story())


def test_done_but_timed_out_is_found_by_observe(tmp_path: Path) -> None:
    faults = Faults()
    faults.fail("birth", "lost")

    async def story() -> None:
        async with harness(tmp_path, faults) as h:
            with pytest.raises(Transient):
                await h.birth(1)
            assert [seen.state for seen in (await h.sim.observe(h.pool)).incarnations] == ["running"]

    run_virtual(story())


@pytest.mark.parametrize(("outcome", "done"), [("hang", "running"), ("done-then-hang", "stopped")])
def test_a_verb_that_hangs_can_be_cancelled(tmp_path: Path, outcome: Outcome, done: str) -> None:
    faults = Faults()
    faults.fail("retire", outcome)

    async def story() -> None:
        async with harness(tmp_path, faults) as h:
            await h.birth(1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(30):
                    await h.sim.retire(h.pool, "web-1", 1, h.op())
            assert [seen.state for seen in (await h.sim.observe(h.pool)).incarnations] == [done]

    run_virtual(story())


def test_a_late_effect_comes_after_its_caller_gave_up(tmp_path: Path) -> None:
    faults = Faults(late_by=5.0)
    faults.fail("birth", "late")

    async def story() -> None:
        async with harness(tmp_path, faults) as h:
            with pytest.raises(Transient):
                await h.birth(1)
            assert (await h.sim.observe(h.pool)).incarnations == ()
            await h.clock.sleep(6)
            assert [seen.state for seen in (await h.sim.observe(h.pool)).incarnations] == ["running"]

    run_virtual(story())


def test_an_incarnation_dies_when_asked(tmp_path: Path) -> None:
    faults = Faults()
    faults.crash("web-1", 1, after=10.0)

    async def story() -> None:
        async with harness(tmp_path, faults) as h:
            await h.birth(1)
            await h.birth(1, server="web-2")
            await h.clock.sleep(9)
            assert h.well(server="web-1") and h.well(server="web-2")
            await h.clock.sleep(2)
            assert not h.well(server="web-1") and h.well(server="web-2")
            h.world.kill("web-2")
            assert not h.well(server="web-2")
            await h.sim.revive(h.pool, "web-2", 1, h.op())
            await h.clock.sleep(3)
            assert h.well(server="web-2")

    run_virtual(story())


def test_a_verb_keeps_its_deadline(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1)
            begun = h.clock.now()
            with pytest.raises(Transient, match=r"not done within its 0\.1 s"):
                await h.sim.retire(h.pool, "web-1", 1, h.op(deadline=0.1))
            assert h.clock.now() - begun == pytest.approx(0.1, abs=1e-5)

    run_virtual(story())


def test_a_check_that_is_broken_says_so_about_everybody(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            seen = await h.birth(1)
            await h.clock.sleep(3)
            drivers: dict[str, Driver] = {}
            around = Surroundings(Desired("lab", {}, {}, {}), str(tmp_path), h.clock, SeededRng(), drivers)
            async with make_probe(around) as probe:
                ask = HealthCheck("sim")
                assert await probe.check(h.pool, ask, seen) == (False, "sim: pool web has no simulated world")
                drivers["sim"] = h.sim
                passed, words = await probe.check(h.pool, ask, seen)
                assert passed and words.startswith("sim: healthy, booted in ")
                h.sim.faults.deaf = True
                assert await probe.check(h.pool, ask, seen) == (False, "sim: the check itself is broken")

    run_virtual(story())


# -- the world's own judgement -----------------------------------------------------------------------------


def test_what_must_never_happen_is_kept_as_a_breach(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            pool = conformance.with_data(h)
            await conformance.born(h, 1, pool)
            with pytest.raises(Transient):
                await conformance.born(h, 2, pool)
            with pytest.raises(Permanent):
                await h.sim.birth(pool, Birth("web-2", 1, image("9"), "sim", h.clock.now()), h.op())
            await h.sim.retire(pool, "web-1", 1, h.op())
            await h.sim.bury(pool, "web-1", 1, h.op())
            with pytest.raises(Refused):
                await conformance.born(h, 1, pool)
            breaches = "\n".join(h.world.breaches)
        assert "data disk state was to be attached while web-1.1 (running) holds it" in breaches
        assert "birth of web/9, which was never staged" in breaches
        assert "number of a buried incarnation" in breaches
        assert breaches.count("\n") == 2

    run_virtual(story())


def test_while_a_machine_is_on_trial_what_it_falls_back_to_is_not_written_over(tmp_path: Path) -> None:
    """As anew-host refuses it: a boot that came late, when its rollout had long gone back, may have brought it there."""
    async def story() -> None:
        async with harness(tmp_path, sim=replace(SIM, in_place=True)) as h:
            async def boot(number: int) -> None:
                await h.sim.stage(h.pool, image(str(number)), "web-1", h.op())
                await h.sim.birth(h.pool, Birth("web-1", number, image(str(number)), "web-1", h.clock.now()), h.op())

            await boot(1)
            await h.sim.commit(h.pool, "web-1", 1, h.op())
            await boot(2)
            with pytest.raises(Refused, match="web-1: .*on trial.* falls back to"):
                await h.sim.stage(h.pool, image("3"), "web-1", h.op())
            await h.sim.stage(h.pool, image("3"), "web-2", h.op())
            await h.sim.commit(h.pool, "web-1", 2, h.op())
            await boot(3)
            assert [one.number for one in h.world.seen()] == [2, 3]

    run_virtual(story())


def test_a_machine_that_went_back_by_itself_does_not_keep_what_it_left(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path, sim=replace(SIM, in_place=True)) as h:
            for number, version in ((1, "1"), (2, "flaky")):
                await h.sim.stage(h.pool, image(version), "web-1", h.op())
                await h.sim.birth(h.pool, Birth("web-1", number, image(version), "web-1", h.clock.now()), h.op())
                if number == 1:
                    await h.sim.commit(h.pool, "web-1", 1, h.op())
            await h.clock.sleep(30.0)
            assert h.well(1), "its try is over"
            with pytest.raises(Refused, match="web-1: incarnation 2 is not the one that runs; 1 is"):
                await h.sim.commit(h.pool, "web-1", 2, h.op())

    run_virtual(story())


def test_an_older_daemon_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1)
            await h.sim.commit(h.pool, "web-1", 1, h.op(epoch=2))
            with pytest.raises(Refused, match="epoch 1 is over") as caught:
                await h.sim.retire(h.pool, "web-1", 1, h.op(epoch=1))
            assert caught.value.code == "stale-epoch"

    run_virtual(story())


def test_any_single_fault_ends_in_an_error_of_ours(tmp_path: Path) -> None:
    """Fail call 1, then call 2, … of every verb, in each way that returns; then the same calls again finish
    the work.
    """

    async def work(h: SimHarness) -> None:
        numbers = {seen.number: seen.state for seen in (await h.sim.observe(h.pool)).incarnations}
        await h.sim.stage(h.pool, image("1"), "sim", h.op())
        order = Birth("web-1", 1, image("1"), "sim", 0.0)
        if numbers.get(1) not in ("running", "stopped"):
            await h.sim.birth(h.pool, order, Operation("birth", 1, "r", 60))
        await h.sim.commit(h.pool, "web-1", 1, h.op())
        await h.sim.retire(h.pool, "web-1", 1, h.op())
        await h.sim.revive(h.pool, "web-1", 1, h.op())

    async def story(folder: Path, verb: str, outcome: Outcome) -> None:
        faults = Faults()
        faults.fail(verb, outcome)
        async with harness(folder, faults) as h:
            with pytest.raises(AnewError):
                await work(h)
            await h.clock.sleep(20)
            await work(h)
            assert [seen.state for seen in (await h.sim.observe(h.pool)).incarnations] == ["running"]
            assert not h.world.breaches

    outcomes: tuple[Outcome, ...] = ("transient", "permanent", "lost", "late")
    for verb in ("observe", "stage", "birth", "commit", "retire", "revive"):
        for outcome in outcomes:
            if verb != "observe" or outcome in ("transient", "permanent"):
                run_virtual(story(tmp_path / f"{verb}-{outcome}", verb, outcome))


def test_ten_thousand_servers_are_observed_in_no_time(tmp_path: Path) -> None:
    async def story() -> float:
        async with harness(tmp_path, sim=SimSettings(boot=0.0), servers=10_000) as h:
            for server in h.pool.server_names:
                await h.birth(server=server)
            await h.sim.retire(h.pool, "web-77", 1, h.op())
            begun = time.process_time()
            observed = await h.sim.observe(h.pool)
            spent = time.process_time() - begun
            assert len(observed.incarnations) == 10_000
            return spent

    assert run_virtual(story()) < 0.05


def test_the_console_tells_the_boot_as_it_happens(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1)
            console: Console = h.sim
            said = b""
            async for more in console.console(h.pool, "web-1", 1):
                said += more
                if b"login:" in said:
                    break
            assert said.startswith(b"[    0.000") and h.well()
            await h.sim.retire(h.pool, "web-1", 1, h.op())
            await h.sim.bury(h.pool, "web-1", 1, h.op())
            assert [more async for more in console.console(h.pool, "web-1", 1)] == []

    run_virtual(story())
