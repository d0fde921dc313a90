"""Three ways in which an image is bad, on real guests: the rollout stops, its server is put back, the others are untouched."""

from __future__ import annotations

import pytest

from tests.lab.fleetlab import FleetLab, PoolHere, figures
from tests.lab.watching import Availability

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

BAD = [
    ("3-panic", (), "stopped by itself", "Kernel panic - not syncing"),
    # The deadline is long enough for a boot on a busy machine: six seconds when idle.
    ("3-no-sshd", ("--healthy-deadline", "60s"), "not healthy within 1m", "READY 3-no-sshd"),
    ("3-dies", ("--min-healthy-time", "20s", "--healthy-deadline", "60s"), "it had answered", "died 3 s after its first connection"),
]


def state_of(lab: FleetLab, pool: PoolHere) -> dict[str, tuple[int, str, str]]:
    """server -> (incarnation, version, boot id): nothing of it changes while a server is left alone."""
    return {name: (row["incarnation"], row["version"], lab.boot_id(name)) for name, row in lab.rows(pool).items()}


def serving_ports(lab: FleetLab, pool: PoolHere) -> dict[int, str]:
    """Where the servers answer now. The newborn's port is left to anew: 3-dies counts from its very first connection."""
    return {int(row["address"].rpartition(":")[2]): name for name, row in lab.rows(pool).items()}


@pytest.mark.parametrize(("version", "options", "error", "words"), BAD, ids=[bad[0] for bad in BAD])
def test_a_bad_image_stops_at_its_canary(
    main_lab: FleetLab, shop: PoolHere, version: str, options: tuple[str, ...], error: str, words: str
) -> None:
    lab = main_lab
    lab.bring(shop, "1")
    before = state_of(lab, shop)

    with Availability(serving_ports(lab, shop)) as watch:
        row = lab.roll(shop, version, *options, expect=4)
        lab.until(lambda: [run["step"] for run in lab.rollout(shop)["servers"] if run["error"]] == ["put-back"], 120.0, "the way back")

    shown = lab.rollout(shop)
    figures({**shown, "state": row["state"]}, lab, fewest_answering=watch.fewest)
    assert (row["state"], shown["state"]) == ("paused", "paused")
    bad = [run for run in shown["servers"] if run["error"]]
    assert [(run["step"], run["canary"]) for run in bad] == [("put-back", True)]
    assert error in bad[0]["error"]
    assert words in bad[0]["last_words"]
    assert {run["step"] for run in shown["servers"] if not run["error"]} == {"waiting"}
    assert bad[0]["name"] in shown["reason"] and error in shown["reason"]
    assert watch.fewest == 3, watch.told()
    assert state_of(lab, shop) == before
    assert f"{bad[0]['name']} failed" in lab.anew("status").out.replace("\n", " ")
    assert not [one for one in lab.domains(shop) if one.active and one.tag["version"] == version]
    lab.anew("rollout", "abort", shop.name)
    lab.until(lambda: not lab.pool_row(shop)["rollout"], 60.0, "the end")
    assert lab.leftovers() == []
