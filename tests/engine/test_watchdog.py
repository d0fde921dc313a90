"""A real engine whose budget check lets everybody pass is stopped by the watchdog, before anybody is harmed."""

from __future__ import annotations

import tempfile

import pytest

from fleet.core.slots import Slots
from tests.clocks import run_virtual
from tests.scenarios.stage import staged

FLEET = """
[fleet]
name = "dog"
[images.web]
simulated = ["1", "2"]
[pools.web]
driver = "sim"
servers = 4
image = "web"
mode = "manual"
sim = {{ seed = 1, boot = "2s", in_place = {in_place} }}
[pools.web.rollout]
max_surge = {surge}
max_unavailable = {unavailable}
canaries = 0
promotion = "auto"
min_healthy_time = "3s"
"""


async def _rolls_out(patch: pytest.MonkeyPatch, surge: int, unavailable: int, in_place: bool) -> None:
    """The oracle judges the world all along; the reason names the rule."""
    with tempfile.TemporaryDirectory() as folder:
        async with staged(FLEET.format(surge=surge, unavailable=unavailable, in_place=str(in_place).lower()), folder) as stage:
            await stage.birth("1")
            for name in ("refusal", "may_go_on", "may_take_down"):
                patch.setattr(Slots, name, lambda self, *who: "")
            await stage.command("rollout.start", plan={"to": "2"})
            await stage.settle()
            assert stage.last.state == "paused" and stage.last.reason.startswith("watchdog I2: "), stage.describe()
            assert stage.oracle is not None and stage.oracle.count_well(stage.clock.now()) >= 4 - unavailable
            stage.oracle.check()


@pytest.mark.parametrize(("surge", "unavailable", "in_place"), [(1, 0, False), (0, 1, False), (1, 1, False), (0, 1, True)])
def test_an_engine_without_its_budget_check_is_stopped(monkeypatch: pytest.MonkeyPatch, surge: int, unavailable: int, in_place: bool) -> None:
    run_virtual(_rolls_out(monkeypatch, surge, unavailable, in_place))
