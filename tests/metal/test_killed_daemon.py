"""kill -9 of the daemon at each step of a machine's way: the next one goes on from what the machine shows."""

from __future__ import annotations

import pytest

from tests.lab.daemonlab import figures
from tests.metal.metallab import COMEBACK, MetalLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

STEPS = ("preparing", "booting", "proving", "admitting")


def begun(lab: MetalLab, step: str) -> bool:
    """True once the intent, or the gate, of this step is in the journal of the rollout under way."""
    rollout = lab.pool_row(lab.pool)["rollout"]
    return any(event["type"] == "step-begun" and event["rollout"] == rollout and event["data"]["step"] == step for event in lab.journal()[-60:])


def test_the_daemon_is_killed_at_every_step(metal_lab: MetalLab) -> None:
    lab = metal_lab
    lab.at_rest()
    before = lab.rows(lab.pool)["rack1"]
    to = {"1": "2", "2": "1"}[before["version"]]
    other = lab.inside()["rack2"]

    lab.begin(to, "--servers", "rack1", "--min-healthy-time", "8s")
    for step in STEPS:
        lab.until(lambda step=step: begun(lab, step), 300.0, f"rack1 is at {step}")  # type: ignore[misc]
        lab.kill()
        lab.start()

    row = lab.until_state("done", "paused", seconds=COMEBACK)
    figures(row, lab)
    assert row["state"] == "done", lab.trouble()
    lab.well()
    told = lab.told("rack1")
    assert (told["version"], told["trial"], told["env"]) == (to, "no", "ok")
    assert int(told["epoch"]) > len(STEPS), "each daemon had a higher epoch than the one before"
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
