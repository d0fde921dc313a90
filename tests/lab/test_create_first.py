"""The main job on real guests: three servers to a new image and back, created first, and none is ever missed."""

from __future__ import annotations

import pytest

from tests.lab.fleetlab import FleetLab, PoolHere, figures
from tests.lab.watching import Availability

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def in_service(lab: FleetLab, pool: PoolHere) -> set[tuple[int, str]]:
    """(incarnation, version) of the pool's servers."""
    return {(row["incarnation"], row["version"]) for row in lab.rows(pool).values()}


def test_three_servers_go_to_the_new_version_and_none_is_ever_missed(main_lab: FleetLab, shop: PoolHere) -> None:
    lab = main_lab
    lab.bring(shop, "1")
    keys = {name: lab.pin(name) for name in shop.names}
    boots = {name: lab.boot_id(name) for name in shop.names}
    old = {name: row["incarnation"] for name, row in lab.rows(shop).items()}

    with Availability(shop.ports) as watch:
        row = lab.roll(shop, "2")

    figures(row, lab, fewest_answering=watch.fewest, looks=watch.looks)
    assert row["state"] == "done"
    assert watch.fewest == 3, watch.told()
    now = lab.rows(shop)
    for name in shop.names:
        assert now[name]["version"] == "2"
        assert now[name]["incarnation"] > old[name]
        touched = lab.inside(name, "hostname; grep ' / ' /proc/mounts; touch /x")
        assert touched.stdout.startswith(f"{name}\n")
        assert "squashfs ro" in touched.stdout
        assert "Read-only file system" in touched.stderr
        assert lab.pin(name) == keys[name], "the host key is the same in the new incarnation: ssh accepted no other"
        assert lab.boot_id(name) != boots[name]
        assert lab.server(name)["facts"]["root"] == "read-only"
    ports = {int(one.tag["address"].rpartition(":")[2]): one.tag["server"] for one in lab.domains(shop) if one.active}
    assert ports.items() <= shop.ports.items(), "the ports that were watched are those of these servers"


def test_and_back_without_a_rebuild(main_lab: FleetLab, shop: PoolHere) -> None:
    lab = main_lab
    if lab.pool_row(shop)["versions"] != {"2": 3}:
        lab.bring(shop, "1")
        lab.bring(shop, "2")
    ones = sorted((one for one in lab.domains(shop) if one.tag["version"] == "1"), key=lambda one: int(one.tag["number"]))
    old = {one.tag["server"]: one for one in ones}
    assert set(old) == set(shop.names), "each server's latest incarnation of version 1 is retained"
    assert not any(one.active for one in old.values())

    with Availability(shop.ports) as watch:
        done = lab.anew("rollback", shop.name, "--yes", "--wait", "--json", "--why", "the story goes back")

    assert done.code == 3, lab.trouble(done)
    figures(done.data, lab, fewest_answering=watch.fewest, looks=watch.looks)
    assert done.data["state"] == "rolled-back"
    assert watch.fewest == 3, watch.told()
    assert {row["version"] for row in lab.rows(shop).values()} == {"1"}
    now = {one.tag["server"]: one for one in lab.domains(shop) if one.active}
    for name in shop.names:
        assert (now[name].uuid, now[name].tag["born-at"]) == (old[name].uuid, old[name].tag["born-at"]), "revived, not born again"
        assert "IMAGE_VERSION=1\n" in lab.inside(name, "cat /etc/os-release").stdout
    assert [one["version"] for one in lab.pool_row(shop)["image"]["rejected"]] == ["2"]
    assert lab.leftovers() == []
