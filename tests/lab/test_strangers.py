"""Domains that anew did not make: one with our name is left alone, one that is adopted is replaced, retained and revived."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import MakeLab
from tests.lab.fleetlab import FleetLab, PoolHere, PoolSpec, figures
from tests.lab.hypervisor import Domain
from tests.lab.watching import Availability, banner

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def lab(fleet_lab: MakeLab) -> FleetLab:
    """One pool for each test, a server each; both empty."""
    surge = {"max_surge": 1, "max_unavailable": 0}
    return fleet_lab("strangers", PoolSpec("clash", 1, rollout=surge), PoolSpec("old", 1, rollout=surge))


@pytest.fixture
def clashing(lab: FleetLab) -> Iterator[Domain]:
    """Somebody's running domain that is called as our first incarnation will be. It has nothing to boot."""
    name = f"{lab.pools['clash'].names[0]}.1"
    xml = f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
    try:
        yield lab.libvirt.define(xml, start=True)
    finally:
        lab.libvirt.remove(name)


@pytest.fixture
def by_hand(lab: FleetLab, web: Path) -> Iterator[Domain]:
    """A server that an administrator once made by hand from version 1, serving on a port of its own."""
    lab.folder.chmod(0o711)
    home = lab.folder / "by-hand"
    shutil.copytree(web / "1", home)
    home.chmod(0o755)
    name = f"legacy-{lab.pools['old'].name}"
    try:
        yield lab.libvirt.define(plain_xml(name, home, lab.pools["old"].first_port), start=True)
    finally:
        lab.libvirt.remove(name)


def plain_xml(name: str, home: Path, port: int) -> str:
    """A domain as one writes it by hand: nothing of anew in it."""
    return f"""
    <domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
      <name>{name}</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>
      <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{home}/vmlinuz</kernel><initrd>{home}/initrd.img</initrd>
        <cmdline>console=ttyS0 quiet panic=1 no_timer_check mitigations=off</cmdline></os>
      <features><acpi/></features>
      <devices>
        <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{home}/root.squashfs'/>
          <target dev='vda' bus='virtio'/><readonly/></disk>
        <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
        <serial type='pty'/><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng><memballoon model='none'/>
      </devices>
      <qemu:commandline>
        <qemu:arg value='-netdev'/><qemu:arg value='user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22'/>
        <qemu:arg value='-device'/><qemu:arg value='virtio-net-pci,netdev=n0,addr=0x10'/>
      </qemu:commandline>
    </domain>"""


def without_metadata(xml: str) -> str:
    """The domain but for what anew added."""
    domain = ET.fromstring(xml)
    for element in domain.findall("metadata"):
        domain.remove(element)
    return ET.canonicalize(ET.tostring(domain, encoding="unicode"), strip_text=True)


def test_a_foreign_domain_with_our_name_is_left_alone(lab: FleetLab, clashing: Domain) -> None:
    pool = lab.pools["clash"]
    row = lab.roll(pool, "1", expect=4)

    said = lab.rollout(pool)
    figures({**said, "state": row["state"]}, lab)
    failed = next(run for run in said["servers"] if run["error"])
    assert f"a domain called {clashing.name} exists already (UUID {clashing.uuid})" in failed["error"]
    assert "anew does not touch it: rename or remove it" in failed["error"]
    now = lab.libvirt.named(clashing.name)
    assert now == clashing, "the same domain, still running, not a byte of it changed"
    assert lab.domains(pool) == []
    told = lab.anew("doctor", "--json").data["findings"]
    assert [(row["kind"], row["fix"]) for row in told if row["key"] == clashing.name] == [("foreign", "")]
    lab.anew("rollout", "abort", pool.name)
    lab.until(lambda: not lab.pool_row(pool)["rollout"], 60.0, "the end")
    assert lab.libvirt.named(clashing.name) == clashing


def adopt(lab: FleetLab, pool: PoolHere, domain: Domain) -> None:
    """Through the command line, once it is seen to serve and to be foreign."""
    lab.until(lambda: banner(pool.first_port).startswith(b"SSH-"), 120.0, "the first answer of the server made by hand")
    lab.until(lambda: domain.name in [row["name"] for row in lab.client.get("/v1/foreign")["foreign"]], 30.0, "listed as foreign")
    done = lab.anew("adopt", domain.name, pool.name, "--as", pool.names[0], "--yes")
    assert done.code == 0, lab.trouble(done)
    lab.until(lambda: bool(lab.rows(pool)[pool.names[0]]["healthy"]), 60.0, "healthy as one of the pool")


def test_an_adopted_server_is_replaced_retained_and_revived(lab: FleetLab, by_hand: Domain) -> None:
    pool, server = lab.pools["old"], lab.pools["old"].names[0]
    adopt(lab, pool, by_hand)
    now = lab.libvirt.named(by_hand.name)
    assert now is not None
    assert (now.id, now.active) == (by_hand.id, True), "it was neither stopped nor started again"
    assert without_metadata(now.kept) == without_metadata(by_hand.kept)
    assert (lab.rows(pool)[server]["incarnation"], lab.rows(pool)[server]["version"]) == (0, "adopted")

    with Availability(pool.ports) as watch:
        row = lab.roll(pool, "1")
        figures(row, lab, fewest_answering=watch.fewest)
        assert (lab.rows(pool)[server]["incarnation"], lab.rows(pool)[server]["version"]) == (1, "1")
        retained = lab.libvirt.named(by_hand.name)
        assert retained is not None and not retained.active
        assert [one["incarnation"] for one in lab.rows(pool)[server]["retained"]] == [0]

        back = lab.anew("rollback", pool.name, "--yes", "--wait", "--json")
        assert back.code == 3, lab.trouble(back)
        figures(back.data, lab, fewest_answering=watch.fewest)

    assert watch.fewest == 1, watch.told()
    again = lab.libvirt.named(by_hand.name)
    assert again is not None
    assert (again.uuid, again.active) == (by_hand.uuid, True)
    assert lab.rows(pool)[server]["incarnation"] == 0
    assert lab.leftovers() == []
