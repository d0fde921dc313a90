"""The main job on real guests: three servers to a new image and back, created first, one always more than promised."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab.conftest import MakeLab
from tests.lab.fleetlab import FleetLab, PoolHere, PoolSpec, seconds_between
from tests.lab.watching import Availability

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(fleet_lab: MakeLab) -> FleetLab:
    """Three servers on version 1."""
    made = fleet_lab("main", PoolSpec("shop", 3, rollout={"max_surge": 1, "max_unavailable": 0}))
    made.birth(made.pools["shop"])
    return made


@pytest.fixture(scope="module")
def shop(lab: FleetLab) -> PoolHere:
    """The pool."""
    return lab.pools["shop"]


def versions(lab: FleetLab, pool: PoolHere) -> dict[str, tuple[int, str]]:
    """server -> (incarnation, version) in service."""
    return {name: (row["incarnation"], row["version"]) for name, row in lab.rows(pool).items()}


def test_three_servers_go_to_the_new_version_and_none_is_ever_missed(
    lab: FleetLab, shop: PoolHere, record_property: Callable[[str, object], None]
) -> None:
    assert set(versions(lab, shop).values()) == {(1, "1")}
    keys = {name: lab.pin(name) for name in shop.names}
    before = {name: lab.boot_id(name) for name in shop.names}

    with Availability(shop.ports) as watch:
        row = lab.roll(shop, "2")

    assert row["state"] == "done"
    assert watch.fewest == 3, watch.told()
    assert set(versions(lab, shop).values()) == {(2, "2")}
    for name in shop.names:
        touched = lab.inside(name, "hostname; touch /x; grep ' / ' /proc/mounts")
        assert touched.stdout.startswith(f"{name}\n")
        assert "Read-only file system" in touched.stderr
        assert "squashfs ro" in touched.stdout
        assert lab.pin(name) == keys[name], "the same host key in the new incarnation: ssh above accepted no other"
        assert lab.boot_id(name) != before[name]
        assert lab.server(name)["facts"]["root"] == "read-only"
    told = {domain.tag["server"]: domain.tag["address"] for domain in lab.domains() if domain.active}
    assert {int(address.rpartition(":")[2]): name for name, address in told.items()}.items() <= shop.ports.items()
    record_property("seconds", seconds_between(row, lab.journal()))
    record_property("fewest answering", watch.fewest)
    record_property("looks", watch.looks)


def test_and_back_without_a_rebuild(lab: FleetLab, shop: PoolHere, record_property: Callable[[str, object], None]) -> None:
    assert set(versions(lab, shop).values()) == {(2, "2")}
    old = {domain.tag["server"]: domain for domain in lab.domains() if domain.tag["number"] == "1"}
    assert set(old) == set(shop.names)
    assert not any(domain.active for domain in old.values())

    with Availability(shop.ports) as watch:
        done = lab.anew("rollback", shop.name, "--yes", "--wait", "--json", "--why", "the story goes back")

    assert done.code == 3, lab.trouble(done)
    assert done.data["state"] == "rolled-back"
    assert watch.fewest == 3, watch.told()
    assert set(versions(lab, shop).values()) == {(1, "1")}
    now = {domain.tag["server"]: domain for domain in lab.domains() if domain.active}
    for name in shop.names:
        assert (now[name].uuid, now[name].tag["born-at"]) == (old[name].uuid, old[name].tag["born-at"]), "revived, not born again"
        assert lab.inside(name, "cat /etc/os-release").stdout.count("IMAGE_VERSION=1\n") == 1
    assert [row["version"] for row in lab.pool_row(shop)["image"]["rejected"]] == ["2"]
    record_property("seconds", seconds_between(done.data, lab.journal()))
    record_property("fewest answering", watch.fewest)
