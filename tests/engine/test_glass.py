"""Roots in virtual time: broken glass is locked again when its time is over, whoever runs then; a pool is remounted under its budget."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.sim import Faults
from fleet.core.desired import Pool
from fleet.core.errors import AnewError, Invalid, Permanent, Refused
from fleet.core.observed import Facts
from fleet.engine import present, roots
from fleet.engine.plans import draw_plan
from fleet.ports import Way
from tests.clocks import run_virtual
from tests.engine.chaos import Play
from tests.scenarios.stage import Stage, staged

HOUR = 3600.0


@asynccontextmanager
async def serving(faults: Faults | None = None, fleet: Callable[[str], str] = lambda text: text, **play: Any) -> AsyncIterator[Stage]:
    """A pool that was brought up on version 1, and looked into."""
    with tempfile.TemporaryDirectory() as folder:
        async with staged(fleet(Play(**{"surge": "0", "unavailable": "1", "promotion": "auto", **play}).fleet), folder, faults) as stage:
            await stage.birth("1")
            await looked_into(stage)
            yield stage


async def looked_into(stage: Stage) -> None:
    await stage.until(lambda: len(stage.view.facts) == stage.pool.servers, what="every server was looked into")


def told(scene: Callable[[Stage], Awaitable[None]], faults: Faults | None = None, **play: Any) -> None:
    async def story() -> None:
        async with serving(faults, **play) as stage:
            await scene(stage)

    run_virtual(story())


def row(stage: Stage, name: str) -> dict[str, Any]:
    return present.server_row(stage.engine.sight(stage.view), name, {})


def inside(stage: Stage) -> dict[str, bool]:
    """server -> whether its root may be written, in the world itself."""
    return {life.server: life.unlocked for life in stage.world.lives.values() if life.state == "running"}


def locks(stage: Stage) -> list[float]:
    """When the daemon told that a root is locked again."""
    return [event.at for event in stage.journal.events if event.type == "root-locked"]


async def unlocked(stage: Stage, server: str = "web-1", **more: Any) -> float:
    await stage.command("root.set", actor="ana@pts/3", server=server, mode="writable", why="a disk to look at", **more)
    return stage.clock.now()


async def _an_hour(stage: Stage) -> None:
    at = await unlocked(stage)
    assert inside(stage) == {"web-1": True, "web-2": False, "web-3": False}
    [taint] = row(stage, "web-1")["tainted"]
    assert "ana@pts/3" in taint and "for 1h" in taint and "a disk to look at" in taint and "2027-01-15 08:00Z" in taint
    assert row(stage, "web-1")["unlocked"]["until"] == present.moment(at + HOUR)
    assert row(stage, "web-1")["root"] == "writable"
    await stage.clock.sleep(HOUR - 5.0)
    assert inside(stage)["web-1"] and not locks(stage)
    await stage.clock.sleep(10.0)
    assert not inside(stage)["web-1"]
    assert locks(stage) == [pytest.approx(at + HOUR, abs=1.0)]
    assert (row(stage, "web-1")["unlocked"], row(stage, "web-1")["root"]) == (None, "read-only")
    assert row(stage, "web-1")["tainted"] == [taint], "the lock does not take the taint away"


def test_broken_glass_is_locked_again_after_an_hour_and_the_taint_stays() -> None:
    told(_an_hour)


async def _replaced(stage: Stage) -> None:
    await unlocked(stage, lasts="10m")
    _, plan = draw_plan(stage.engine, {"pool": "web", "to": "1"})
    assert {run.server: run.action for run in plan.runs} == {"web-1": "replace", "web-2": "skip", "web-3": "skip"}
    await stage.command("rollout.start", plan={"to": "1"})
    await stage.settle()
    assert row(stage, "web-1")["tainted"] == [] and row(stage, "web-1")["unlocked"] is None
    await stage.clock.sleep(HOUR)
    assert not locks(stage), "who was unlocked serves no more"


def test_a_replacement_ends_taint_and_time() -> None:
    told(_replaced)


async def _comes_back(stage: Stage) -> None:
    await unlocked(stage)
    taint = row(stage, "web-1")["tainted"]
    await stage.command("rollout.start", plan={"to": "2"})
    await stage.settle()
    assert (stage.serving()["web-1"], row(stage, "web-1")["tainted"]) == ("2", [])
    await stage.command("rollback.start")
    await stage.settle()
    assert (stage.serving()["web-1"], row(stage, "web-1")["tainted"]) == ("1", taint)
    assert row(stage, "web-2")["tainted"] == []


def test_the_taint_comes_back_with_the_incarnation_that_has_it() -> None:
    told(_comes_back, retain="1h")


@pytest.mark.parametrize("away", [60.0, 2 * HOUR])
def test_a_daemon_that_starts_again_locks_what_another_one_unlocked(away: float) -> None:
    async def scene(stage: Stage) -> None:
        at = await unlocked(stage)
        await stage.kill()
        await stage.clock.sleep(away)
        assert inside(stage)["web-1"], "nobody was there to lock it"
        await stage.begin()
        await stage.until(lambda: bool(locks(stage)), limit=HOUR + 120.0, what="it is locked again")
        assert not inside(stage)["web-1"]
        assert locks(stage)[0] >= at + HOUR
        assert locks(stage)[0] <= max(at + HOUR, at + away) + 120.0

    told(scene)


def test_a_lock_that_fails_is_told_once_and_tried_until_it_holds() -> None:
    async def scene(stage: Stage) -> None:
        at = await unlocked(stage)
        stage.faults.fail("remount", "permanent", times=5)
        await stage.clock.sleep(3 * HOUR)
        assert not inside(stage)["web-1"] and locks(stage)[0] > at + HOUR + 120.0
        said = [event.data["text"] for event in stage.journal.events if event.type == "warning" and event.server == "web-1"]
        assert len(said) == 1 and said[0].startswith("web-1 was to be locked again, and is not: ")

    told(scene)


def test_glass_of_a_pool_that_is_only_observed_by_now_is_told_to_stay_broken() -> None:
    async def scene(stage: Stage) -> None:
        await unlocked(stage)
        pool = stage.view.pool
        stage.view.pool = replace(pool, mode="observe")
        await stage.clock.sleep(2 * HOUR)
        assert inside(stage)["web-1"]
        said = [event.data["text"] for event in stage.journal.events if event.type == "warning" and event.server == "web-1"]
        assert said == ['web-1 was to be locked again, and is not: pool web is in mode "observe", which touches nothing; it is tried again, ever later']
        stage.view.pool = pool
        await stage.until(lambda: not inside(stage)["web-1"], limit=1000.0, what="it is locked")

    told(scene)


def test_a_longer_time_counts_from_when_it_was_given() -> None:
    async def scene(stage: Stage) -> None:
        await unlocked(stage, lasts="10m")
        await stage.clock.sleep(300.0)
        at = await unlocked(stage, lasts="30m")
        await stage.clock.sleep(1500.0)
        assert inside(stage)["web-1"]
        await stage.clock.sleep(400.0)
        assert locks(stage) == [pytest.approx(at + 1800.0, abs=1.0)]
        assert len(row(stage, "web-1")["tainted"]) == 2

    told(scene)


def test_a_person_may_lock_it_before_its_time() -> None:
    async def scene(stage: Stage) -> None:
        await unlocked(stage)
        await stage.command("root.set", server="web-1", mode="read-only")
        assert not inside(stage)["web-1"] and len(locks(stage)) == 1
        await stage.clock.sleep(2 * HOUR)
        assert len(locks(stage)) == 1

    told(scene)


@pytest.mark.parametrize(("asked", "kind", "said"), [
    ({"why": ""}, Invalid, "say why"),
    ({"why": "x", "lasts": "10s"}, Invalid, "from 1m to 7d"),
    ({"why": "x", "lasts": "8d"}, Invalid, "from 1m to 7d"),
    ({"why": "x", "lasts": "soon"}, Invalid, "found 'soon'|found \"soon\""),
    ({"why": "x", "server": ""}, Refused, "3 servers, and the pool's budget has room for 1"),
    ({"why": "x", "mode": "rw"}, Invalid, "must be read-only, ephemeral or writable"),
])
def test_what_is_refused_leaves_no_trace(asked: dict[str, Any], kind: type[AnewError], said: str) -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(kind, match=said):
            await stage.command("root.set", **{"server": "web-1", "mode": "writable", **asked})
        assert not any(inside(stage).values()) and not row(stage, "web-1")["tainted"]

    told(scene)


def test_what_no_remount_can_make_writable_says_what_to_do_instead() -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(Refused, match="the image in its slot, read-only by construction; put the change into an image"):
            await stage.command("root.set", server="web-1", mode="writable", why="x")

    told(scene, in_place=True)


def test_a_rollout_under_way_keeps_roots_as_they_are_but_for_servers_it_is_not_at_work_on() -> None:
    async def scene(stage: Stage) -> None:
        await stage.command("rollout.start", plan={"to": "2"})
        await stage.until(lambda: stage.last.runs["web-1"].active, what="web-1 is at work")
        refused: tuple[dict[str, Any], ...] = ({"server": "web-1", "mode": "writable", "why": "x"}, {"mode": "read-only", "server": "web-2"})
        for asked in refused:
            with pytest.raises(Refused, match="is under way"):
                await stage.command("root.set", **asked)
        await unlocked(stage, "web-3")
        assert inside(stage)["web-3"]
        await stage.settle()

    told(scene)


@pytest.mark.parametrize("hangs", ["look", "remount"])
def test_a_pause_does_not_wait_for_a_host_that_hangs_while_its_glass_is_broken(hangs: str) -> None:
    async def scene(stage: Stage) -> None:
        await stage.command("rollout.start", plan={"to": "2"})
        await stage.until(lambda: stage.last.runs["web-1"].active, what="web-1 is at work")
        stage.faults.fail("remount", "hang", server="web-3")
        real = stage.driver.probe

        async def hanging(pool: Pool, server: str, number: int) -> Facts:
            await stage.clock.sleep(HOUR if (server, hangs) == ("web-3", "look") else 0.0)
            return await real(pool, server, number)

        stage.driver.probe = hanging  # type: ignore[method-assign]
        breaking = asyncio.ensure_future(unlocked(stage, "web-3"))
        await stage.clock.sleep(0.5)
        asked = stage.clock.now()
        await stage.command("rollout.pause")
        assert stage.clock.now() - asked < 1.0 and not breaking.done()
        with pytest.raises(AnewError, match="did not answer|took longer"):
            await breaking
        assert not stage.view.ordered

    told(scene)


def test_the_lock_of_glass_whose_time_is_over_does_not_end_the_time_of_glass_broken_meanwhile() -> None:
    async def scene(stage: Stage) -> None:
        await unlocked(stage)
        real, looks = stage.driver.probe, list[int]()

        async def slow(pool: Pool, server: str, number: int) -> Facts:
            facts = await real(pool, server, number)
            looks.append(number)
            await stage.clock.sleep(4.0 if len(looks) == 1 else 0.1)
            return facts

        await stage.until(lambda: "web-1" in stage.view.ordered, limit=2 * HOUR, what="it is being locked")
        stage.driver.probe = slow  # type: ignore[method-assign]
        await stage.until(lambda: bool(looks), what="it is looked at whether it is locked")
        with pytest.raises(Refused, match="something ordered for web-1 is under way just now; ask again"):
            await unlocked(stage, lasts="10m")
        await stage.until(lambda: bool(locks(stage)), what="it is locked")
        await unlocked(stage, lasts="10m")
        assert inside(stage)["web-1"] and row(stage, "web-1")["unlocked"]
        await stage.clock.sleep(700.0)
        assert not inside(stage)["web-1"]

    told(scene)


@pytest.mark.parametrize("born", [True, False])
@pytest.mark.parametrize("step", ["booting", "proving"])
def test_a_shell_into_a_machine_that_is_just_coming_taints_what_comes(step: str, born: bool) -> None:
    """A machine has one address, whichever of its slots it runs."""
    async def scene(stage: Stage) -> None:
        stage.driver.way_in = lambda *given: Way("127.0.0.1", 22, "root", ())  # type: ignore[attr-defined]
        await stage.observed()
        await stage.command("rollout.start", plan={"to": "2" if born else "1"})
        await stage.until(lambda: stage.last.runs["web-1"].step == step, what=f"web-1 is {step}")
        await stage.command("shell.open", actor="ana@pts/3", server="web-1")
        await stage.settle()
        assert stage.last.state == "done", stage.describe()
        [taint] = row(stage, "web-1")["tainted"]
        assert taint.startswith("shell by ana@pts/3") and row(stage, "web-2")["tainted"] == []

    async def story() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with staged(Play(surge="0", unavailable="1", promotion="auto", in_place=True).fleet, folder) as stage:
                if born:
                    await stage.birth("1")
                await scene(stage)

    run_virtual(story())


# --- a pool


async def takes(stage: Stage) -> dict[str, str]:
    return {found["name"]: found["takes"] for found in await roots.report(stage.engine, "web")}


def all_unlocked(stage: Stage) -> None:
    for life in stage.world.lives.values():
        stage.world.remount(life, True)


def test_a_pool_is_told_server_by_server_what_it_takes() -> None:
    async def scene(stage: Stage) -> None:
        stage.world.remount(stage.world.lives["web-1", 1], True)
        stage.world.taint("web-2")
        assert await takes(stage) == {"web-1": "remount", "web-2": "replacement", "web-3": "nothing"}
        answer = await stage.command("root.set", mode="read-only")
        assert "web-1: read-only, as seen inside" in answer["message"] and "web-2: root is writable inside; the next rollout replaces it" in answer["message"]
        assert await takes(stage) == {"web-1": "nothing", "web-2": "replacement", "web-3": "nothing"}
        await stage.command("rollout.start", plan={"to": "1", "servers": ["web-2"]})
        await stage.settle()
        assert await takes(stage) == dict.fromkeys(("web-1", "web-2", "web-3"), "nothing")

    told(scene)


def test_a_plan_replaces_a_root_that_is_not_as_promised_though_nobody_marked_it() -> None:
    async def scene(stage: Stage) -> None:
        stage.world.taint("web-2")
        await roots.report(stage.engine, "web")
        _, plan = draw_plan(stage.engine, {"pool": "web", "to": "1"})
        assert {run.server: run.reason for run in plan.acting} == {"web-2": "its root is writable inside, not read-only"}

    told(scene)


@pytest.mark.parametrize("room", [1, 2])
def test_remounts_go_in_batches_of_the_budget_and_each_waits_for_the_one_before_to_be_seen_well(room: int) -> None:
    async def scene(stage: Stage) -> None:
        all_unlocked(stage)
        most, at_work, real = 0, 0, stage.driver.lock_root

        async def watched(*given: Any) -> str:
            nonlocal most, at_work
            at_work += 1
            most = max(most, at_work)
            try:
                return await real(*given)
            finally:
                at_work -= 1

        stage.driver.lock_root = watched  # type: ignore[assignment,method-assign]
        answer = await stage.command("root.set", mode="read-only")
        assert most == room and not any(inside(stage).values())
        assert answer["message"] == "5 servers are read-only, as seen inside"

    told(scene, servers=5, unavailable=str(room))


def test_a_server_that_falls_silent_after_its_remount_ends_it() -> None:
    async def scene(stage: Stage) -> None:
        all_unlocked(stage)
        real = stage.driver.lock_root

        async def harmful(*given: Any) -> str:
            stage.faults.mute.add("web-1")
            return await real(*given)

        stage.driver.lock_root = harmful  # type: ignore[assignment,method-assign]
        with pytest.raises(Permanent, match="web-1 does not serve since its remount.*2 others were not touched"):
            await stage.command("root.set", mode="read-only")
        assert inside(stage) == {"web-1": False, "web-2": True, "web-3": True}

    told(scene)


def test_a_pool_with_no_room_left_is_not_remounted() -> None:
    async def scene(stage: Stage) -> None:
        all_unlocked(stage)
        stage.world.kill("web-3")
        await stage.until(lambda: not stage.engine.sight(stage.view).available("web-3"), what="web-3 is seen dead")
        with pytest.raises(Refused, match="1 of 3 servers do not serve.*look at web-3 first"):
            await stage.command("root.set", mode="read-only")
        assert inside(stage) == {"web-1": True, "web-2": True}

    told(scene)


def test_a_pool_too_large_for_one_command_is_gone_on_with_when_asked_again() -> None:
    async def scene(stage: Stage) -> None:
        all_unlocked(stage)
        answer = await stage.command("root.set", mode="read-only")
        left = sum(inside(stage).values())
        assert 0 < left < 40 and f"{left} more, 1 at a time: ask again to go on" in answer["message"]
        while any(inside(stage).values()):
            assert len(asyncio.all_tasks()) < 200
            await stage.command("root.set", mode="read-only")
            assert sum(inside(stage).values()) < left
            left = sum(inside(stage).values())

    told(scene, servers=40)


def test_only_what_the_fleet_file_says_is_promised() -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(Refused, match='the root mode of pool web is "read-only", set by pools.web.root'):
            await stage.command("root.set", mode="ephemeral")

    told(scene)


def test_a_driver_whose_roots_are_images_says_what_to_do_instead_and_what_takes_a_replacement() -> None:
    async def scene(stage: Stage) -> None:
        stage.world.taint("web-2")
        await stage.until(lambda: stage.view.facts["web-2", 1].root == "writable", what="it is seen inside")
        stage.engine.drivers = {"sim": SimpleNamespace(surge=True)}
        with pytest.raises(Refused, match=r"attached read-only, and no remount makes it writable; put the change into an image and roll it out; to try something "
                                          r'by hand, set pools.web.root = "ephemeral"'):
            await stage.command("root.set", server="web-1", mode="writable", why="x")
        assert await takes(stage) == {"web-1": "nothing", "web-2": "replacement", "web-3": "nothing"}
        answer = await stage.command("root.set", mode="read-only")
        assert answer["message"] == "web-2: root is writable inside; the next rollout replaces it"
        assert row(stage, "web-2")["tainted"] == ["its root is writable"]
        stage.engine.drivers = {"sim": stage.driver}

    told(scene)
