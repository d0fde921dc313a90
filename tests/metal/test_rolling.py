"""The main job on real machines: forward one at a time, back by one command and a reboot, forward again."""

from __future__ import annotations

import pytest

from tests.lab.daemonlab import figures
from tests.metal.metallab import MetalLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def fingerprint(lab: MetalLab, name: str) -> str:
    """What must outlive every version: the host key in use, and a file that a service wrote under /var."""
    return lab.machines[name].said("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; cat /etc/machine-id; cat /var/lib/kept")


def test_forward_back_and_forward_again(metal_lab: MetalLab) -> None:
    lab = metal_lab
    lab.bring("1")
    for machine in lab.machines.values():
        machine.said("mkdir -p /var/lib; echo precious > /var/lib/kept; sync")
    before = {name: fingerprint(lab, name) for name in lab.machines}

    plan = lab.anew("plan", "metal", "--to", "2", "--json")
    assert plan.code == 0, lab.trouble(plan)
    assert {row["order"] for row in plan.data["servers"]} == {"in-place"}
    with lab.watched() as watch:
        forward = lab.roll(lab.pool, "2")
    figures(forward, lab, fewest_answering=watch.fewest, looks=watch.looks)
    assert forward["state"] == "done"
    assert watch.fewest == 1, watch.told()
    for name, machine in lab.machines.items():
        assert lab.told(name)["version"] == "2"
        assert lab.told(name)["trial"] == "no"
        assert lab.told(name)["root"].startswith("read-only")
        assert machine.ssh("touch /usr/probe").returncode != 0
        assert "Read-only file system" in machine.ssh("touch /usr/probe").stderr
        assert fingerprint(lab, name) == before[name]
        assert lab.rows(lab.pool)[name]["root"] == "read-only"

    with lab.watched() as watch:
        done = lab.anew("rollback", "metal", "--yes", "--wait", "--json")
    assert done.code == 3, lab.trouble(done)
    figures(lab.rollout(lab.pool), lab, fewest_answering=watch.fewest, looks=watch.looks)
    assert watch.fewest == 1, watch.told()
    assert {lab.told(name)["version"] for name in lab.machines} == {"1"}
    uploads = [event for event in lab.journal() if event["rollout"] == done.data["id"] and event["data"].get("verb") == "stage"]
    assert uploads == [], "a rollback brings nothing to a machine"
    assert {name: fingerprint(lab, name) for name in lab.machines} == before

    lab.client.command("image.unreject", pool="metal", version="2")
    again = lab.roll(lab.pool, "2")
    figures(again, lab)
    assert {lab.told(name)["version"] for name in lab.machines} == {"2"}
    assert {name: fingerprint(lab, name) for name in lab.machines} == before
