"""Machines that die together are asked for their last words side by side: nothing of their pool is decided meanwhile."""

from __future__ import annotations

import asyncio
import tempfile

import pytest

from drivers.sim import SimDriver
from fleet.core.desired import Pool
from fleet.core.events import Event
from tests.clocks import run_virtual
from tests.scenarios.stage import staged

FLEET = """
[fleet]
name = "words"
[images.web]
simulated = ["1", "2"]
[pools.web]
driver = "sim"
servers = 8
image = "web"
mode = "manual"
sim = { seed = 1, boot = "2s", in_place = true, faults = { "2" = "never-healthy" } }
[pools.web.rollout]
max_unavailable = 8
max_failures = 8
canaries = 0
promotion = "auto"
min_healthy_time = "3s"
healthy_deadline = "20s"
"""


async def _slow_to_say(patch: pytest.MonkeyPatch) -> None:
    async def words(self: SimDriver, pool: Pool, server: str, number: int) -> str:
        await asyncio.sleep(4.0)  # virtual
        return f"the last words of {server}"

    patch.setattr(SimDriver, "last_words", words)
    failed: list[Event] = []
    with tempfile.TemporaryDirectory() as folder:
        async with staged(FLEET, folder, on_event=lambda event: failed.append(event) if event.type == "step-failed" else None) as stage:
            await stage.birth("1")
            await stage.command("rollout.start", plan={"to": "2"})
            await stage.until(lambda: len(failed) == 8, what="all of them fail")
    assert {event.data["last_words"] for event in failed} == {f"the last words of web-{number}" for number in range(1, 9)}
    assert max(event.at for event in failed) - min(event.at for event in failed) < 10.0


def test_eight_that_die_together_are_asked_together(monkeypatch: pytest.MonkeyPatch) -> None:
    run_virtual(_slow_to_say(monkeypatch))
