"""A real machine's power through a real Redfish service: sushy-tools' emulator in front of a libvirt domain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.baremetal.bmc import cycle
from fleet.core.desired import Bmc, Machine
from fleet.core.errors import Permanent, Transient
from tests.metal.authority import Certified, certify
from tests.metal.emulator import PASSWORD, USER, Emulator, Rack, rack

pytestmark = pytest.mark.lab
DEADLINE = 60.0


@pytest.fixture(scope="module")
def machine() -> Iterator[Rack]:
    with rack() as made:
        yield made


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certify(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, tls: Certified) -> Iterator[Emulator]:
    running = Emulator(tmp_path_factory.mktemp("emulator"), tls)
    yield running
    running.stop()


def named(url: str, ca: Path, folder: Path, password: str = PASSWORD) -> Machine:
    (folder / "password").write_text(password)
    (folder / "password").chmod(0o600)
    return Machine("rack1", "127.0.0.1", bmc=Bmc(url, USER, str(folder / "password"), str(ca)))


async def test_the_power_really_changes(machine: Rack, emulator: Emulator, tls: Certified, tmp_path: Path) -> None:
    bmc = named(emulator.url(machine), tls.authority, tmp_path)
    first = machine.domain().id
    words = await cycle(bmc, False, DEADLINE)
    assert "restart" in words
    again = machine.domain()
    assert again.active
    assert again.id != first, "libvirt started it anew"

    machine.switch_off()
    words = await cycle(bmc, False, DEADLINE)
    assert "was off" in words
    assert machine.domain().active
    assert machine.first_boot_device() == "hd", "its boot order was not touched"


async def test_pxe_comes_first_at_the_next_boot(machine: Rack, emulator: Emulator, tls: Certified, tmp_path: Path) -> None:
    before = machine.domain().id
    words = await cycle(named(emulator.url(machine), tls.authority, tmp_path), True, DEADLINE)
    assert "once from the network" in words
    assert machine.first_boot_device() == "interface"
    assert machine.domain().id != before


async def test_a_wrong_password_and_another_system_change_nothing(machine: Rack, emulator: Emulator, tls: Certified, tmp_path: Path) -> None:
    before = machine.domain().id
    with pytest.raises(Permanent, match="refuses the user 'operator'") as login:
        await cycle(named(emulator.url(machine), tls.authority, tmp_path, "wrong"), False, DEADLINE)
    assert login.value.code == "bmc-login"
    with pytest.raises(Permanent, match="knows no system"):
        await cycle(named(emulator.url(machine)[:-4] + "0000", tls.authority, tmp_path), False, DEADLINE)
    assert machine.domain().id == before


async def test_a_stranger_with_another_authority_gets_no_password(machine: Rack, emulator: Emulator, tmp_path: Path) -> None:
    before, asked = machine.domain().id, emulator.said().count("/redfish/v1")
    other = certify(tmp_path / "other")
    with pytest.raises(Permanent, match="not trusted"):
        await cycle(named(emulator.url(machine), other.authority, tmp_path), False, DEADLINE)
    assert emulator.said().count("/redfish/v1") == asked
    assert machine.domain().id == before


async def test_a_bmc_that_has_stopped(machine: Rack, tls: Certified, tmp_path: Path) -> None:
    stopped = Emulator(tmp_path)
    stopped.stop()
    before = machine.domain().id
    with pytest.raises(Transient, match="cannot be reached"):
        await cycle(named(stopped.url(machine), tls.authority, tmp_path), False, DEADLINE)
    assert machine.domain().id == before
