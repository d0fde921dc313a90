"""What /v1/servers/NAME tells of a server's last replacement, as the engine made it."""

from __future__ import annotations

import tempfile
from typing import Any

from fleet.engine.present import replacement_row
from tests.clocks import run_virtual
from tests.scenarios.stage import Stage, staged

FLEET = """
[fleet]
name = "steps"
[images.web]
simulated = ["1", "2", "3"]
[pools.web]
driver = "sim"
servers = 4
image = "web"
mode = "manual"
sim = { seed = 1, boot = "2s", faults = { "3" = "never-healthy" } }
[pools.web.rollout]
max_surge = 1
max_unavailable = 0
canaries = 1
promotion = "auto"
min_healthy_time = "3s"
healthy_deadline = "20s"
"""


def told(stage: Stage, server: str) -> dict[str, Any]:
    row = replacement_row(stage.engine.sight(stage.view), server)
    assert row is not None
    return row


async def _there_and_failed() -> tuple[dict[str, Any], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        async with staged(FLEET, folder) as stage:
            await stage.birth("1")
            await stage.command("rollout.start", plan={"to": "2"})
            await stage.until(lambda: stage.rollout is None, what="the rollout")
            well = told(stage, "web-4")
            await stage.command("rollout.start", plan={"to": "3"})
            await stage.until(lambda: any(run.step == "put-back" for run in stage.rollout.runs.values()) if stage.rollout else False, what="the canary is put back")
            assert stage.rollout is not None
            return well, told(stage, next(run.server for run in stage.rollout.runs.values() if run.error))


def test_steps_have_times_and_medians_and_a_failure_has_the_probes_words_and_the_console() -> None:
    well, failed = run_virtual(_there_and_failed())
    assert (well["from"], well["to"], well["state"], well["active"], well["error"]) == ("1", "2", "serving", False, "")
    assert [row["step"] for row in well["steps"]] == ["preparing", "booting", "proving", "admitting", "retiring"], "this pool has no hook to drain"
    assert {row["how"] for row in well["steps"]} == {"done"}
    proving = well["steps"][2]
    assert proving["seconds"] >= 3.0
    assert proving["median_seconds"] >= 3.0
    assert proving["long_from_seconds"] >= proving["median_seconds"] + 2.0
    assert well["seconds"] >= sum(row["seconds"] for row in well["steps"]) - 0.5

    broken = next(row for row in failed["steps"] if row["how"] == "failed")
    assert (broken["step"], broken["long"]) == ("proving", True)
    assert failed["error"].startswith("not healthy within 20s: sim: ")
    assert failed["last_words"].splitlines()
    assert failed["state"] == "put-back"
