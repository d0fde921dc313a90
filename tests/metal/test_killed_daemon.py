"""kill -9 of the daemon at each step of a machine's way: the next one goes on from what the machine shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.daemonlab import figures
from tests.metal.metallab import COMEBACK, MetalLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

STEPS = ("preparing", "booting", "proving", "admitting")


def begun(lab: MetalLab, rollout: str, step: str = "") -> list[dict[str, Any]]:
    """The intents, and the gates, of this step (or of all) in the rollout's journal, also if it has ended meanwhile."""
    return [event for event in lab.journal() if event["type"] == "step-begun" and event["rollout"] == rollout and step in ("", event["data"]["step"])]


def test_the_daemon_is_killed_at_every_step(metal_lab: MetalLab) -> None:
    lab = metal_lab
    lab.at_rest()
    before = lab.rows(lab.pool)["rack1"]
    to = {"1": "2", "2": "1"}[before["version"]]
    other = lab.inside()["rack2"]

    lab.begin(to, "--servers", "rack1", "--min-healthy-time", "8s")
    rollout = lab.rollout(lab.pool)["id"]
    for step in STEPS:
        lab.until(lambda step=step: bool(begun(lab, rollout, step)), 300.0, f"rack1 is at {step}")  # type: ignore[misc]
        lab.kill()
        lab.start()

    row = lab.until_state("done", "paused", seconds=COMEBACK)
    figures(row, lab)
    assert row["state"] == "done", lab.trouble()
    lab.well()
    told = lab.told("rack1")
    assert (told["version"], told["trial"], told["env"]) == (to, "no", "ok")
    epochs = [event["data"]["epoch"] for event in lab.journal() if event["type"] == "daemon-started"]
    assert epochs == sorted(set(epochs)) and len(epochs) > len(STEPS), "each daemon had a higher epoch than the one before"
    last = max(event["data"]["epoch"] for event in begun(lab, rollout) if event["data"]["verb"] == "commit")
    assert last <= int(told["epoch"]) <= epochs[-1], "the last step was done before the last daemon was killed, or by the next"
    assert lab.rows(lab.pool)["rack1"]["incarnation"] > before["incarnation"]
    assert lab.inside()["rack2"] == other, "the other machine was not touched"
    assert lab.anew("journal", "verify").code == 0


def test_a_controller_of_an_older_epoch_is_refused_by_the_machine(metal_lab: MetalLab) -> None:
    lab = metal_lab
    lab.at_rest()
    lab.until(lambda: int(lab.told("rack1")["epoch"]) > 0, 60.0, "an operation was done there")
    boot = lab.boot_id("rack1")
    done = lab.machines["rack1"].ssh(f"anew-host reboot 0 00000000000000aa {boot}")
    assert done.returncode == 3
    assert "error stale-epoch" in done.stdout
    assert lab.boot_id("rack1") == boot
