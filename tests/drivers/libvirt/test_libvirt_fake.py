"""The driver on libvirt's own in-memory hypervisor: every promise of the port, and whom it leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from drivers.libvirt import api, make
from fleet.core.desired import DataDisk
from fleet.core.errors import Permanent, Refused, Transient
from fleet.core.observed import Leftover
from fleet.ports import Birth
from tests.drivers import conformance
from tests.drivers.libvirt_world import (
    Switch,
    World,
    remove_everything,
    small_image,
    surroundings,
    user_pool,
)
from tests.drivers.real import Count

URI = "test:///default"


@pytest.fixture(name="kept")
def _kept() -> Iterator[libvirt.virConnect]:
    """libvirt forgets its pretended machines with the last connection to them."""
    api.start_events()
    connection = libvirt.open(URI)
    yield connection
    connection.close()


@pytest.fixture(name="world")
async def _world(tmp_path: Path, kept: libvirt.virConnect, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    switch, fleet = Switch(), "fake-" + Count().token().lstrip("0")
    monkeypatch.setattr(api, "open_connection", switch.open)
    pool, image = user_pool(23100), small_image(tmp_path / "images" / "1")
    async with make(surroundings(fleet, pool, tmp_path / "state", URI, grace=0.2)) as driver:
        yield World(driver, pool, image, fleet, switch, half=0.01)
    remove_everything(URI, fleet)


@pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
async def test_conformance(case: conformance.Case, world: World) -> None:
    await case(world)


async def born(w: World, server: str = "web-1", number: int = 1) -> str:
    return (await w.driver.birth(w.pool, Birth(server, number, w.image, w.place, w.born_at()), w.op())).address


async def test_each_server_has_its_home_port_and_the_newcomer_another(world: World) -> None:
    assert await born(world, "web-1", 1) == "127.0.0.1:23100"
    assert await born(world, "web-2", 1) == "127.0.0.1:23101"
    assert await born(world, "web-1", 2) == "127.0.0.1:23102"
    assert await born(world, "web-2", 2) == "127.0.0.1:23103"
    with pytest.raises(Transient, match="none of the pool's ports 23100 to 23103 is free"):
        await born(world, "web-2", 3)


async def test_a_revived_one_moves_when_its_port_was_given_away(world: World) -> None:
    await born(world, "web-1", 1)
    await world.driver.retire(world.pool, "web-1", 1, world.op())
    assert await born(world, "web-1", 2) == "127.0.0.1:23100"
    seen = await world.driver.revive(world.pool, "web-1", 1, world.op())
    assert seen.address == "127.0.0.1:23102"


async def test_births_at_once_get_different_ports(world: World) -> None:
    pool = replace(world.pool, servers=8, network=replace(world.pool.network, first_port=23120))
    orders = [Birth(server, 1, world.image, "hv1", 1.0) for server in pool.server_names]
    seen = await asyncio.gather(*(world.driver.birth(pool, order, world.op()) for order in orders))
    assert len({one.address for one in seen}) == 8


async def test_a_namesake_is_refused_by_name_and_left_alone(world: World, kept: libvirt.virConnect) -> None:
    other = kept.defineXML("<domain type='test'><name>web-1.1</name><memory>1024</memory><os><type>hvm</type></os></domain>")
    before = other.XMLDesc(0)
    try:
        with pytest.raises(Refused, match=r"web-1\.1 exists already"):
            await born(world)
        (foreign,) = [one for one in (await world.driver.observe(world.pool)).foreign if one.name == "web-1.1"]
        assert "bears the name of a server" in foreign.note
        for verb in (world.driver.retire, world.driver.bury):
            await verb(world.pool, "web-1", 1, world.op())
        assert kept.lookupByName("web-1.1").XMLDesc(0) == before
    finally:
        other.undefine()


async def test_a_clone_with_our_tag_is_foreign(world: World, kept: libvirt.virConnect) -> None:
    await born(world)
    xml = kept.lookupByName("web-1.1").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    uuid = kept.lookupByName("web-1.1").UUIDString()
    tag = f'uuid="{uuid}"'
    assert tag in xml, "the tag names the UUID it is for"
    clone = kept.defineXML(xml.replace(f"<uuid>{uuid}</uuid>", "").replace("<name>web-1.1<", "<name>clone<"))
    try:
        observed = await world.driver.observe(world.pool)
        assert [one.uuid for one in observed.incarnations] == [uuid]
        assert "it is a copy of web-1.1" in {one.name: one.note for one in observed.foreign}["clone"]
    finally:
        clone.undefine()


async def test_a_domain_of_another_fleet_is_foreign_and_cannot_be_adopted(world: World, tmp_path: Path) -> None:
    await born(world)
    around = surroundings(world.fleet + "-b", world.pool, tmp_path / "b", URI)
    async with make(around) as other:
        observed = await other.observe(world.pool)
        assert observed.incarnations == ()
        (foreign,) = [one for one in observed.foreign if one.name == "web-1.1"]
        assert f"belongs to the fleet {world.fleet}" in foreign.note
        with pytest.raises(Refused):
            await other.adopt(world.pool, "web-1", foreign, world.op())
    assert (await world.driver.observe(world.pool)).incarnations[0].state == "running"


async def test_adoption_adds_a_tag_and_touches_nothing_else(world: World) -> None:
    (foreign,) = [one for one in (await world.driver.observe(world.pool)).foreign if one.name == "test"]
    for _ in range(2):
        seen = await world.own.adopt(world.pool, "web-2", foreign, world.op())
        assert (seen.server, seen.number, seen.version, seen.state) == ("web-2", 0, "adopted", "running")
    with pytest.raises(Refused, match="web-2.0"):
        await world.own.adopt(world.pool, "web-1", foreign, world.op())
    observed = await world.driver.observe(world.pool)
    assert "test" not in {one.name for one in observed.foreign}
    await world.driver.commit(world.pool, "web-2", 0, world.op())
    await world.driver.retire(world.pool, "web-2", 0, world.op())
    assert (await world.driver.revive(world.pool, "web-2", 0, world.op())).state == "running"


async def test_what_stopped_without_us_is_crashed(world: World, kept: libvirt.virConnect) -> None:
    await born(world)
    kept.lookupByName("web-1.1").destroy()
    (seen,) = (await world.driver.observe(world.pool)).incarnations
    assert seen.state == "crashed"
    assert "anew did not stop it" in seen.note
    await world.driver.retire(world.pool, "web-1", 1, world.op())
    (seen,) = (await world.driver.observe(world.pool)).incarnations
    assert (seen.state, seen.note) == ("stopped", "")


async def test_committed_starts_with_the_machine_and_retired_does_not(world: World, kept: libvirt.virConnect) -> None:
    await born(world)
    assert kept.lookupByName("web-1.1").autostart() == 0
    await world.driver.commit(world.pool, "web-1", 1, world.op())
    assert kept.lookupByName("web-1.1").autostart() == 1
    await world.driver.retire(world.pool, "web-1", 1, world.op())
    assert kept.lookupByName("web-1.1").autostart() == 0


async def test_a_seed_lives_only_from_birth_to_commit(world: World, kept: libvirt.virConnect, tmp_path: Path) -> None:
    def seeds() -> list[Path]:
        return sorted((tmp_path / "state").rglob("anew-seed-*"))

    await born(world)
    (seed,) = seeds()
    assert seed.stat().st_mode & 0o777 == 0o600
    assert f"file='{seed}'" in kept.lookupByName("web-1.1").XMLDesc(0)
    await world.driver.commit(world.pool, "web-1", 1, world.op())
    assert seeds() == []
    assert "anew-seed" not in kept.lookupByName("web-1.1").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    await world.driver.retire(world.pool, "web-1", 1, world.op())
    await world.driver.revive(world.pool, "web-1", 1, world.op())
    assert seeds() == [seed]
    await world.driver.retire(world.pool, "web-1", 1, world.op())
    assert seeds() == []


async def test_an_older_daemon_is_refused(world: World) -> None:
    await world.driver.birth(world.pool, Birth("web-1", 1, world.image, "hv1", 1.0), world.op(epoch=7))
    for verb in (world.driver.commit, world.driver.retire):
        with pytest.raises(Refused, match="newer daemon"):
            await verb(world.pool, "web-1", 1, world.op(epoch=6))
    await world.driver.retire(world.pool, "web-1", 1, world.op(epoch=8))


async def test_altered_image_bytes_never_boot(world: World) -> None:
    file = Path(world.image.folder) / "root.squashfs"
    file.write_bytes(file.read_bytes().replace(b"root", b"r00t"))
    for _ in range(2):
        with pytest.raises(Permanent, match=r"root\.squashfs.*not what its manifest says"):
            await born(world)
    assert (await world.driver.observe(world.pool)).incarnations == ()


async def test_staged_bytes_that_change_later_never_boot(world: World, tmp_path: Path) -> None:
    await born(world)
    await world.driver.retire(world.pool, "web-1", 1, world.op())
    sha = world.image.files["vmlinuz"].sha256
    (staged,) = (tmp_path / "state").rglob(f"anew-image-web-{sha}")
    staged.write_bytes(b"another kernel")
    with pytest.raises(Permanent, match="missing or changed"):
        await world.driver.revive(world.pool, "web-1", 1, world.op())
    assert await born(world, "web-1", 2), "a birth brings the file again"
    assert staged.read_bytes() == (Path(world.image.folder) / "vmlinuz").read_bytes()


async def test_a_missing_image_file_is_named(world: World) -> None:
    (Path(world.image.folder) / "initrd.img").unlink()
    with pytest.raises(Permanent, match=r"initrd\.img"):
        await world.driver.stage(world.pool, world.image, "hv1", world.op())


async def test_two_stagings_at_once_bring_the_bytes_once(world: World) -> None:
    await asyncio.gather(*(world.driver.stage(world.pool, world.image, "hv1", world.op()) for _ in range(5)))
    assert (await world.driver.observe(world.pool)).leftovers == ()


async def test_a_long_data_disk_name_is_refused_before_anything_is_made(world: World) -> None:
    pool = replace(world.pool, data=(DataDisk("a-name-longer-than-a-serial", 2**20),))
    with pytest.raises(Permanent, match="20 bytes"):
        await world.driver.birth(pool, Birth("web-1", 1, world.image, "hv1", 1.0), world.op())
    assert (await world.driver.observe(pool)).incarnations == ()


async def test_leftovers_are_listed_and_only_they_are_swept(world: World, tmp_path: Path) -> None:
    pool = replace(world.pool, data=(DataDisk("state", 2**20),))
    await world.driver.birth(pool, Birth("web-1", 1, world.image, "hv1", 1.0), world.op())
    storage = tmp_path / "state" / "libvirt" / "storage" / world.fleet
    old = "anew-image-web-" + "0" * 64
    for name in (old, old + ".part", "anew-seed-web-9.3.fwcfg", "anew-console-web-9.3.log", "holiday.raw", "anew-seed-db-1.3.iso"):
        (storage / name).write_bytes(b"x")
    found = {one.key: one for one in (await world.driver.observe(pool)).leftovers}
    assert set(found) == {old, old + ".part", "anew-seed-web-9.3.fwcfg", "anew-console-web-9.3.log"}
    assert found["anew-seed-web-9.3.fwcfg"].kind == "seed"
    for leftover in found.values():
        await world.own.sweep(pool, leftover, world.op())
    for key in ("state.web-1", "holiday.raw", "anew-seed-web-1.1.fwcfg", old, "../../verified.json"):
        with pytest.raises(Refused):
            await world.own.sweep(pool, Leftover("hv1", "volume", key), world.op())
    assert (await world.driver.observe(pool)).leftovers == ()
    assert (storage / "holiday.raw").exists()


async def test_an_unknown_hypervisor_is_named(world: World) -> None:
    with pytest.raises(Refused, match='no hypervisor is called "hv9"'):
        await world.driver.birth(world.pool, Birth("web-1", 1, world.image, "hv9", 1.0), world.op())


async def test_an_incarnation_that_cannot_be_looked_for_is_not_taken_for_absent(world: World) -> None:
    await born(world)
    assert world.switch is not None
    opened = world.switch.opened
    world.switch.down = True
    for verb in (world.driver.retire, world.driver.bury, world.driver.commit):
        with pytest.raises(Transient, match="it is not known whether web-1.1 exists"):
            await verb(world.pool, "web-1", 1, world.op())
    world.switch.down = False
    assert (await world.driver.observe(world.pool)).incarnations[0].state == "running"
    assert world.switch.opened > opened, "the lost connection was opened anew"


async def test_closing_ends_every_thread(tmp_path: Path) -> None:
    def ours() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("libvirt-closing")]

    pool = user_pool(23140)
    around = surroundings("closing", pool, tmp_path, URI)
    one = around.desired.hypervisors["hv1"]
    around = replace(
        around, desired=replace(around.desired, hypervisors={"closing": replace(one, name="closing")})
    )
    async with make(around) as driver:
        await driver.observe(replace(pool, hypervisors=("closing",)))
        assert ours()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while ours():
                await asyncio.sleep(0.02)
    assert ours() == []
