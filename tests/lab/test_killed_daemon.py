"""kill -9 of the daemon in the middle of a rollout of real guests, twice: a new one ends it as if nothing had been."""

from __future__ import annotations

import time

import pytest

from tests.lab.fleetlab import FleetLab, PoolHere, figures
from tests.lab.watching import Availability

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def wait_for_step(lab: FleetLab, rollout: str, step: str) -> str:
    """The first server that is seen in the step. Some steps are short: look often."""
    end = time.monotonic() + 300.0
    while time.monotonic() < end:
        row = lab.client.get(f"/v1/rollouts/{rollout}")
        for run in row["servers"]:
            if run["step"] == step:
                return str(run["name"])
        assert not row["ended_at"], lab.trouble()
    raise AssertionError(f"nobody was ever {step}\n{lab.trouble()}")


def test_killed_while_booting_and_again_while_proving(main_lab: FleetLab, shop: PoolHere) -> None:
    lab = main_lab
    lab.bring(shop, "1")
    old = {name: row["incarnation"] for name, row in lab.rows(shop).items()}
    there = {(one.tag["server"], one.tag["number"]) for one in lab.domains(shop)}

    with Availability(shop.ports) as watch:
        started = lab.anew("rollout", "start", shop.name, "--to", "2", "--yes", "--json")
        assert started.code == 0, lab.trouble(started)
        rollout = started.data["rollout"]
        booting = wait_for_step(lab, rollout, "booting")
        lab.kill()
        lab.start()
        proving = wait_for_step(lab, rollout, "proving")
        lab.kill()
        lab.start()
        done = lab.anew("rollout", "wait", rollout, "--json")

    assert done.code == 0, lab.trouble(done)
    figures(done.data, lab, killed_while={"booting": booting, "proving": proving}, fewest_answering=watch.fewest)
    assert done.data["state"] == "done"
    assert watch.fewest == 3, watch.told()
    assert {row["version"] for row in lab.rows(shop).values()} == {"2"}
    born = {(one.tag["server"], one.tag["number"]) for one in lab.domains(shop)} - there
    last = {name: max(int(one.tag["number"]) for one in lab.domains(shop) if one.tag["server"] == name) for name in old}
    assert born == {(name, str(number)) for name, number in last.items()}, "one birth a server, none twice"
    assert lab.leftovers() == []
    assert lab.anew("journal", "verify").code == 0
