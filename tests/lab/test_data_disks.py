"""A pool with data on real guests: deleted first, its disks survive, and no two domains ever write to one."""

from __future__ import annotations

import pytest

from tests.lab.conftest import MakeLab
from tests.lab.fleetlab import PoolSpec, figures
from tests.lab.watching import Availability, Writers

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

SPEC = PoolSpec("store", 2, more=('data = [{ name = "state", size = "64MiB" }]',), rollout={"max_unavailable": 1})


def test_data_survives_and_is_never_in_two_hands(fleet_lab: MakeLab) -> None:
    lab = fleet_lab("data", SPEC)
    store = lab.pools["store"]
    lab.birth(store)
    for name in store.names:
        wrote = lab.inside(name, f"echo 'the notes of {name}' >/data/state/notes && sync")
        assert wrote.returncode == 0, wrote
    boots = {name: lab.boot_id(name) for name in store.names}

    with Availability(store.ports) as watch, Writers(lab.name) as writers:
        row = lab.roll(store, "2")

    figures(row, lab, fewest_answering=watch.fewest, most_writers=max(writers.most.values()), looks_at_disks=writers.looks)
    assert row["state"] == "done"
    assert watch.fewest >= 1, watch.told()
    for name in store.names:
        assert lab.inside(name, "cat /data/state/notes").stdout == f"the notes of {name}\n"
        assert "IMAGE_VERSION=2\n" in lab.inside(name, "cat /etc/os-release").stdout
        assert lab.boot_id(name) != boots[name]
    disks = {path: names for path, names in writers.seen.items() if "/state." in path}
    assert sorted(len(names) for names in disks.values()) == [2, 2], "each disk went from the old incarnation to the new one"
    assert set(writers.most.values()) == {1}
    assert lab.leftovers() == []
