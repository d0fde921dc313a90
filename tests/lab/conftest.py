"""Real guests for the tests of this folder: libvirt, the images, and fleets that remove themselves."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab.fleetlab import FleetLab, PoolHere, PoolSpec, remove_stale_folders
from tests.lab.guest import build
from tests.lab.hypervisor import Libvirt, connect

FLAVOURS = {"1": "good", "2": "good", "3-panic": "panic", "3-no-sshd": "no-sshd", "3-dies": "dies-after:3"}

MakeLab = Callable[..., FleetLab]


@pytest.fixture(scope="session")
def libvirt() -> Iterator[Libvirt]:
    """libvirt of this machine, rid of what killed sessions left."""
    connection = connect()
    with contextlib.closing(connection):
        connection.wipe_stale()
        remove_stale_folders()
        yield connection


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family folder of the lab image, good and bad versions, of these tests' own."""
    out = tmp_path_factory.mktemp("lab-images") / "web"
    for version, flavour in FLAVOURS.items():
        done = build(out, version, "--flavour", flavour)
        assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def main_lab(libvirt: Libvirt, web: Path) -> Iterator[FleetLab]:
    """The fleet that several modules share, since births take time: pool `shop`, three servers, created first.

    Each test says with `bring` what it starts from, so each can run alone.
    """
    lab = FleetLab("main", libvirt, {"web": web}, [PoolSpec("shop", 3, rollout={"max_surge": 1, "max_unavailable": 0})])
    try:
        lab.start()
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="session")
def shop(main_lab: FleetLab) -> PoolHere:
    """Its pool."""
    return main_lab.pools["shop"]


@pytest.fixture(scope="module")
def fleet_lab(libvirt: Libvirt, web: Path) -> Iterator[MakeLab]:
    """Makes fleets with a running daemon; all that they made is removed at the end of the module, also after failures."""
    ends = contextlib.ExitStack()

    def make(word: str, *pools: PoolSpec, images: Mapping[str, Path] | None = None, hypervisors: Mapping[str, str] | None = None) -> FleetLab:
        lab = FleetLab(word, libvirt, images or {"web": web}, pools, hypervisors)
        ends.callback(lab.close)
        lab.start()
        return lab

    with ends:
        yield make


@pytest.fixture
def own_web(web: Path, tmp_path: Path) -> Path:
    """A copy of the images that a test may spoil."""
    shutil.copytree(web, tmp_path / "web")
    return tmp_path / "web"
