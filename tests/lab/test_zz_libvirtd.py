"""libvirtd restarted in the middle of a rollout: guests live on, anew connects anew and ends what it began.

The last file of this folder, since everybody else's connection breaks too. It restarts only a libvirtd that the lab's
script started itself.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.fleetlab import FleetLab, PoolHere, figures
from tests.lab.guest import REPO
from tests.lab.test_killed_daemon import wait_for_step
from tests.lab.watching import Availability

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

SCRIPT = REPO / "vagrant/provision/libvirt.sh"
STATE = Path("/run/anew-lab")


@pytest.fixture(autouse=True)
def ours() -> None:
    """Skips unless the lab's script started libvirtd, by hand or through systemd."""
    if not (STATE / "libvirtd.started").exists() and not (STATE / "service").exists():
        pytest.skip("libvirtd was not started by vagrant/provision/libvirt.sh, so these tests leave it alone")


def test_libvirtd_is_restarted_in_the_middle(main_lab: FleetLab, shop: PoolHere) -> None:
    lab = main_lab
    if lab.pool_row(shop)["versions"] not in ({"1": 3}, {"2": 3}):
        lab.bring(shop, "1")
    target = "2" if lab.pool_row(shop)["versions"] == {"1": 3} else "1"
    there = {(one.tag["server"], one.tag["number"]) for one in lab.domains(shop)}

    with Availability(shop.ports) as watch:
        started = lab.anew("rollout", "start", shop.name, "--to", target, "--yes", "--json")
        assert started.code == 0, lab.trouble(started)
        wait_for_step(lab, started.data["rollout"], "booting")
        again = subprocess.run([str(SCRIPT), "restart"], capture_output=True, text=True, timeout=120, check=False)
        assert again.returncode == 0, again.stderr
        done = lab.anew("rollout", "wait", started.data["rollout"], "--json")

    assert done.code == 0, lab.trouble(done)
    figures(done.data, lab, fewest_answering=watch.fewest)
    assert done.data["state"] == "done"
    assert watch.fewest == 3, watch.told()
    assert {row["version"] for row in lab.rows(shop).values()} == {target}
    born = {(one.tag["server"], one.tag["number"]) for one in lab.domains(shop)} - there
    assert sorted(server for server, _ in born) == shop.names, "one birth a server, none twice"
    assert lab.leftovers() == []
