"""A stock guest: Debian with its own cloud-init, an ephemeral root, and the identity from a NoCloud seed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.conftest import MakeLab
from tests.lab.fleetlab import PoolSpec, figures
from tests.lab.guest import REPO

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(1800)]

SPEC = PoolSpec("deb", 1, image="debian", root="ephemeral", memory="512MiB",
                rollout={"healthy_deadline": "12m", "progress_deadline": "14m"})


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The family folder, from the cache of `make image-debian`."""
    out = tmp_path_factory.mktemp("debian-image") / "debian"
    made = subprocess.run([str(REPO / "vagrant/images/debian/build.sh"), "--out", str(out)], capture_output=True, text=True, timeout=900, check=False)
    assert made.returncode == 0, made.stderr
    return out


def test_cloud_init_takes_its_identity_and_leaves_nothing_behind(fleet_lab: MakeLab, debian: Path) -> None:
    lab = fleet_lab("debian", SPEC, images={"debian": debian})
    pool, server = lab.pools["deb"], lab.pools["deb"].names[0]
    key = lab.pin(server)

    lab.birth(pool)

    figures(lab.rollout(pool), lab)
    said = lab.inside(server, "hostname; cat /var/lib/cloud/data/instance-id; cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub; "
                              "touch /x && rm /x && stat -f -c %T /")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == [server, f"{server}.1", key, "ext2/ext3"], (
        "ssh with the pinned key and anew's own client key came in; an ephemeral root can be written to")
    files = lab.libvirt.volumes(lab.name)
    assert not [name for name in files if name.startswith("anew-seed-")], "the seed is gone once the server is healthy"
    assert f"anew-overlay-{server}.1.qcow2" in files
    assert "anew-seed-" not in next(one.kept for one in lab.domains(pool)), "nor does the kept definition name it"

    lab.client.command("doctor.fix", pool=pool.name, kind="fleet", key=lab.name)

    assert lab.domains() == []
    left = lab.libvirt.volumes(lab.name)
    assert not [name for name in left if not name.startswith("anew-image-")], "buried: overlay and console log went with it"
