"""Four ways in which an image is bad, on real machines: each is back on its old slot, most by themselves; the rollout stops, the
other machine is left alone.
"""

from __future__ import annotations

import re

import pytest

from tests.lab.daemonlab import figures
from tests.metal.metallab import COMEBACK, MetalLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

REJECTED = "came back to"
BAD = [
    ("3-panic", (), REJECTED, "Kernel panic - not syncing"),
    ("3-no-sshd", (), REJECTED, "anew:"),
    ("3-hang", (), REJECTED, "softdog: Initiating system reboot"),
    # It is healthy at first, but not for as long as it must be; nobody blesses it, and its dead-man brings the old slot back.
    ("3-dies", ("--min-healthy-time", "60s", "--healthy-deadline", "5m"), "had answered|by itself", "web: dies"),
]


@pytest.mark.parametrize(
    ("version", "options", "error", "words"),
    [pytest.param(*bad, id=bad[0], marks=[pytest.mark.long] if bad[0] != "3-panic" else []) for bad in BAD])
def test_a_bad_image_stops_at_its_canary(metal_lab: MetalLab, version: str, options: tuple[str, ...], error: str, words: str) -> None:
    lab = metal_lab
    lab.bring("1")
    before = lab.inside()

    with lab.watched() as watch:
        row = lab.roll(lab.pool, version, *options, expect=4)
        lab.until(lambda: any(run["step"] == "put-back" for run in lab.rollout(lab.pool)["servers"]), COMEBACK, "the way back")

    shown = lab.rollout(lab.pool)
    figures({**shown, "state": row["state"]}, lab, fewest_answering=watch.fewest)
    assert (row["state"], shown["state"]) == ("paused", "paused")
    (bad,) = [run for run in shown["servers"] if run["error"]]
    assert (bad["step"], bad["canary"]) == ("put-back", True)
    assert re.search(error, bad["error"]), bad
    assert words in bad["last_words"], bad
    assert bad["name"] in shown["reason"]
    after = lab.inside()
    (other,) = set(lab.machines) - {bad["name"]}
    assert after[other] == before[other], "the other machine was not touched"
    assert after[bad["name"]][:2] == before[bad["name"]][:2], "the same incarnation serves again"
    assert after[bad["name"]][2] != before[bad["name"]][2], "after a boot"
    assert lab.told(bad["name"])["trial"] == "no"
    slots = [value for key, value in lab.told(bad["name"]).items() if key.startswith("slot.")]
    assert sorted(part for line in slots for part in line.split() if part.startswith("state=")) == ["state=blessed", "state=rejected"]
    assert watch.fewest == 1, watch.told()
    assert f"{bad['name']} failed" in " ".join(lab.anew("status").out.split())
    lab.anew("rollout", "abort", "metal")
    lab.until(lambda: not lab.pool_row(lab.pool)["rollout"], 60.0, "the end")
