"""Tidying up beside what serves: tried once a decision, so that it is judged anew each time; after failures ever later, and quietly."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from drivers.sim import Faults
from drivers.sim.faults import Outcome
from tests.clocks import run_virtual
from tests.engine.chaos import Play
from tests.scenarios.stage import Stage, staged

HOUR = 3600.0


@asynccontextmanager
async def rolled(faults: Faults) -> AsyncIterator[Stage]:
    """Two servers have just gone to 2; the burial of what they were is begun."""
    play = Play(servers=2, surge="1", unavailable="0", promotion="auto")
    with tempfile.TemporaryDirectory() as folder:
        async with staged(play.fleet.replace("retain = \"10m\"", "retain = \"5s\""), folder, faults) as stage:
            await stage.birth("1")
            await stage.command("rollout.start", plan={"to": "2"})
            await stage.until(lambda: tidied(stage, "step-begun") > 0, what="a burial is begun")
            yield stage


def tidied(stage: Stage, kind: str) -> int:
    """So many events of this kind about burials."""
    return sum(event.type == kind and event.data["step"] == "burying" for event in stage.journal.events)


def gone(stage: Stage) -> bool:
    return all(number == 2 for _, number in stage.world.lives)


def test_a_burial_that_could_not_be_done_is_not_done_later_beside_an_heir_that_died_meanwhile() -> None:
    """The oracle breaks the test at a `bury` of the last way back."""

    async def story() -> None:
        faults = Faults()
        faults.fail("bury", "transient", times=12)
        async with rolled(faults) as stage:
            stage.world.kill("web-1")
            stage.world.kill("web-2")
            await stage.clock.sleep(HOUR)
            assert not gone(stage)

    run_virtual(story())


@pytest.mark.parametrize("outcome", ["transient", "permanent"])
def test_what_cannot_be_buried_for_long_is_tried_ever_later_and_changes_nothing_else(outcome: Outcome) -> None:
    async def story() -> None:
        faults = Faults()
        faults.fail("bury", outcome, times=10_000)
        async with rolled(faults) as stage:
            await stage.clock.sleep(2 * HOUR)
            assert 10 <= tidied(stage, "step-failed") <= 20
            assert stage.last.state == "done"
            assert stage.serving() == {"web-1": "2", "web-2": "2"}
            faults._rules.clear()
            await stage.until(lambda: gone(stage), limit=HOUR + 60.0, what="the old ones are gone")

    run_virtual(story())


def test_a_place_that_is_away_is_not_asked_to_bury_anything_and_does_it_soon_after_it_is_back() -> None:
    async def story() -> None:
        faults = Faults()
        async with rolled(faults) as stage:
            faults.unreachable["sim"] = "no route to it"
            await stage.clock.sleep(HOUR)
            assert tidied(stage, "step-failed") <= 2
            faults.unreachable.clear()
            await stage.until(lambda: gone(stage), limit=120.0, what="the old ones are gone")

    run_virtual(story())
