"""What is refused or waited for before harm is done: bytes that are not the image's, a hypervisor that does not answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab.conftest import MakeLab
from tests.lab.fleetlab import PoolSpec
from tests.lab.hypervisor import URI
from tests.lab.test_killed_daemon import wait_for_step

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def spoil(path: Path) -> None:
    """Change one byte and nothing else that is cheap to see: neither the size nor the time of change."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(before.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", ["vmlinuz", "root.squashfs"])
def test_an_image_altered_after_it_was_catalogued_boots_no_guest(fleet_lab: MakeLab, own_web: Path, name: str) -> None:
    lab = fleet_lab("altered", PoolSpec("altered", 1), images={"web": own_web})
    pool = lab.pools["altered"]
    assert [row["problem"] for row in lab.client.get("/v1/images")["images"] if row["version"] == "1"] == [""]
    spoil(own_web / "1" / name)

    done = lab.anew("rollout", "start", pool.name, "--to", "1", "--yes", "--wait", "--json")

    assert done.code == 2, lab.trouble(done)
    assert f"{own_web}/1/{name}: the file was altered" in done.err
    assert lab.domains() == [], "no guest was even defined"
    verified = lab.anew("image", "verify", "web/1")
    assert verified.code != 0
    assert name in verified.out + verified.err


def test_an_image_altered_while_it_is_rolled_out_boots_no_further_guest(fleet_lab: MakeLab, own_web: Path) -> None:
    """The file is hashed again where the next guest would boot from it. The first is proved for long enough that it is spoilt before then."""
    lab = fleet_lab("rotten", PoolSpec("rotten", 2, rollout={"min_healthy_time": "15s"}), images={"web": own_web})
    pool = lab.pools["rotten"]
    started = lab.anew("rollout", "start", pool.name, "--to", "1", "--yes", "--json", "--canaries", "1")
    assert started.code == 0, lab.trouble(started)
    first = wait_for_step(lab, started.data["rollout"], "proving")
    spoil(own_web / "1" / "root.squashfs")

    done = lab.anew("rollout", "wait", started.data["rollout"], "--json")

    assert done.code == 4, lab.trouble(done)
    error = {run["name"]: run["error"] for run in done.data["servers"] if run["name"] != first}
    assert list(error) == [pool.names[1]]
    assert f"{own_web}/1/root.squashfs" in error[pool.names[1]], error
    assert "is not what its manifest says" in error[pool.names[1]]
    assert {domain.tag["server"] for domain in lab.domains()} == {first}


def test_a_silent_hypervisor_says_why_and_the_other_goes_on(fleet_lab: MakeLab) -> None:
    uri = "qemu+ssh://root@127.0.0.1:1/system"
    lab = fleet_lab("far", PoolSpec("pair", 2, hypervisors=("here", "far")), hypervisors={"here": URI, "far": uri})
    pool = lab.pools["pair"]
    near, far = pool.names
    lab.until(lambda: "far" in lab.pool_row(pool)["unreachable"], 60.0, "the silence of the far hypervisor")
    started = lab.anew("rollout", "start", pool.name, "--to", "1", "--yes", "--json", "--canaries", "0", "--max-unavailable", "100%")
    assert started.code == 0, lab.trouble(started)

    lab.until(lambda: bool(lab.rows(pool)[near]["healthy"]), 180.0, "the server of the hypervisor that answers")

    row = lab.rows(pool)[far]
    assert (row["healthy"], row["incarnation"]) == (False, None)
    assert "far does not answer: " in row["reason"], row
    runs = {run["name"]: run for run in lab.client.get(f"/v1/rollouts/{started.data['rollout']}")["servers"]}
    assert (runs[near]["step"], runs[far]["step"]) == ("serving", "held")
    assert "far does not answer" in runs[far]["reason"]
    assert "far does not answer" in lab.anew("plan", pool.name, "--to", "1").err
    assert "! far: " in lab.anew("status").out
    assert ("hypervisor", "far") in [(found["kind"], found["key"]) for found in lab.anew("doctor", "--json").data["findings"]]
