"""Mode auto in a whole daemon on virtual time: what people are shown, and that the other modes touch nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.engine import present
from tests.clocks import run_virtual
from tests.scenarios.stage import Stage, staged

FLEET = """\
[fleet]
name = "story"
[images.web]
simulated = ["1", "2"]
[pools.web]
driver = "sim"
servers = 3
image = "web"
max_age = "1h"
mode = "{mode}"
sim = {{ seed = 1, boot = "2s", jitter = 0.0 }}
[pools.web.rollout]
canaries = 0
min_healthy_time = "3s"
"""
CLOSED = '[[pools.web.windows]]\nstart = "02:00"\nlength = "1h"\ntime_zone = "Europe/Berlin"\n'


def row(stage: Stage) -> tuple[str, str]:
    """(due, auto) of the pool's row."""
    shown = present.pool_row(stage.engine.sight(stage.view), None, "", stage.view.auto)
    return str(shown["due"]), str(shown["auto"])


@pytest.mark.parametrize(("mode", "windows", "due", "auto", "began"), [
    ("observe", "", "image 2 and re-birth of 3 servers, older than 1h", "", 0),
    ("manual", "", "image 2 and re-birth of 3 servers, older than 1h", "", 0),
    ("auto", CLOSED, "image 2 and re-birth of 3 servers, older than 1h", "waits for the window, opens Sat 02:00", 0),
    ("auto", "", "", "", 1)])
def test_a_pool_says_what_is_due_and_only_mode_auto_begins_it(
        tmp_path: Path, mode: str, windows: str, due: str, auto: str, began: int) -> None:
    async def past() -> Stage:
        async with staged(FLEET.format(mode="manual"), str(tmp_path)) as stage:
            await stage.birth("1")
            await stage.clock.sleep(7200.0)
            return stage

    async def play() -> None:
        before = await past()
        fleet = FLEET.format(mode=mode).replace("[pools.web.rollout]", f"{windows}[pools.web.rollout]")
        async with staged(fleet, str(tmp_path), events=before.journal.events) as stage:
            await stage.observed()
            await stage.clock.sleep(60.0)
            assert row(stage) == (due, auto)
            begun = [event for event in stage.journal.events if event.type == "rollout-started"][1:]
            assert [event.actor for event in begun] == ["anew"] * began
            assert set(stage.serving().values()) == {"2" if began else "1"}

    run_virtual(play())
