"""The libvirt driver on real guests: QEMU under the system's libvirtd, loopback only, one fleet of its own for each test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest

from drivers.identity import IdentityStore
from drivers.libvirt import api, make
from drivers.ssh import Remote, SshSessions
from fleet.core.desired import DataDisk, Pool
from fleet.core.errors import Permanent, Refused, Transient
from fleet.core.observed import Image, Seen
from fleet.ports import Birth
from tests.drivers import conformance
from tests.drivers.libvirt_world import World, load_image, remove_everything, surroundings, user_pool
from tests.lab.guest import BOOT_DEADLINE, build
from tests.lab.hypervisor import fleet_name

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800), pytest.mark.usefixtures("libvirt")]

URI = "qemu:///system"
FIRST_PORT = 23000
Make = Callable[..., Awaitable[World]]


@pytest.fixture(scope="session", name="images")
def _images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """The lab's versions, each in a folder of this session's."""
    out = tmp_path_factory.mktemp("lab-images")
    wanted = {"1": "good", "2": "good", "3-panic": "panic"}
    for version, flavour in wanted.items():
        done = build(out, version, "--flavour", flavour)
        assert done.returncode == 0, done.stderr
    return {version: load_image(out / version) for version in wanted}


@pytest.fixture(name="world")
async def _world(tmp_path: Path, images: dict[str, Image], request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes worlds; each has a fleet and ports of its own and is wholly removed afterwards."""
    async with contextlib.AsyncExitStack() as stack:
        count = 0

        async def new(uri: str = URI, **options: Any) -> World:
            nonlocal count
            count += 1
            fleet = fleet_name(f"drv{abs(hash(request.node.nodeid)) % 10**6}-{count}")
            pool = user_pool(FIRST_PORT + 10 * count, name="drv")
            stack.callback(remove_everything, uri, fleet)
            around = surroundings(fleet, pool, tmp_path / f"state-{count}", uri, **options)
            driver = await stack.enter_async_context(make(around))
            return World(driver, pool, images["1"], fleet, patience=240.0, half=0.15)

        yield new


async def born(w: World, number: int, image: Image | None = None, pool: Pool | None = None) -> Seen:
    pool = pool or w.pool
    image = image or w.image
    await w.driver.stage(pool, image, w.place, w.op())
    return await w.driver.birth(pool, Birth("drv-1", number, image, w.place, w.born_at()), w.op())


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline: float = BOOT_DEADLINE) -> None:
    end = time.monotonic() + deadline
    while not await condition():
        assert time.monotonic() < end, f"{what}: not within {deadline:.0f} s"
        await asyncio.sleep(0.3)


async def banner(address: str) -> bytes:
    """What a server says first, b"" while nobody is behind the port."""
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            return await asyncio.wait_for(reader.readline(), 10)
        finally:
            writer.close()
    except (OSError, TimeoutError):
        return b""


async def serving(address: str) -> None:
    async def answers() -> bool:
        return (await banner(address)).startswith(b"SSH-2.0-")

    await until(answers, f"a banner at {address}")


async def shell(w: World, address: str, command: str, state: Path) -> str:
    """Runs a command as root with anew's key, if the server shows the pinned host key."""
    host, _, port = address.rpartition(":")
    sessions = SshSessions(IdentityStore(str(state / "identities")))
    try:
        answer = await sessions.run(Remote("drv-1", host, int(port)), command, 90.0)
    finally:
        await sessions.close()
    assert answer.status == 0, answer
    return answer.output.decode()


async def test_a_life_from_birth_to_burial(world: Make, tmp_path: Path) -> None:
    w = await world()
    seen = await born(w, 1)
    assert (seen.state, seen.address) == ("running", "127.0.0.1:23010")
    storage = Path(await w.own.places["hv1"].store.directory())
    (seed,) = storage.glob("anew-seed-*")
    assert seed.stat().st_mode & 0o777 == 0o600
    await serving(seen.address)

    async def known() -> bool:
        return (await w.driver.probe(w.pool, "drv-1", 1)).root != "unknown"

    await until(known, "facts from the agent")
    facts = await w.driver.probe(w.pool, "drv-1", 1)
    assert (facts.root, facts.version) == ("read-only", "1")
    assert len(facts.boot_id) == 36 and "version 1" in facts.os
    said = await shell(w, seen.address, "hostname; cat /run/instance-id; touch /x 2>&1 || echo cannot", tmp_path / "state-1")
    assert said.split()[:2] == ["drv-1", "drv-1.1"] and "Read-only file system" in said

    await w.driver.commit(w.pool, "drv-1", 1, w.op())
    assert not list(storage.glob("anew-seed-*"))
    await serving(seen.address)
    assert "READY 1" in await w.own.last_words(w.pool, "drv-1", 1)
    past = await anext(w.own.console(w.pool, "drv-1", 1))
    assert b"identity drv-1.1" in past

    await w.driver.retire(w.pool, "drv-1", 1, w.op())
    assert await banner(seen.address) == b""
    async with w.without_images():
        seen = await w.driver.revive(w.pool, "drv-1", 1, w.op())
    await serving(seen.address)
    await shell(w, seen.address, "true", tmp_path / "state-1")
    assert len(list(storage.glob("anew-seed-*"))) == 1, "made again for the revival"
    with pytest.raises(Refused):
        await w.driver.bury(w.pool, "drv-1", 1, w.op())
    await w.driver.retire(w.pool, "drv-1", 1, w.op())
    await w.driver.bury(w.pool, "drv-1", 1, w.op())
    left = {path.name.split("-")[1] for path in storage.iterdir()}
    assert left == {"image"}, "nothing of the incarnation is left, only staged images"


async def test_data_and_host_key_survive_a_replacement_and_never_have_two_writers(
    world: Make, images: dict[str, Image], tmp_path: Path
) -> None:
    w = await world()
    pool = replace(w.pool, data=(DataDisk("state", 64 * 2**20),))
    old = await born(w, 1, pool=pool)
    assert old.data_held == ("state",)
    await serving(old.address)
    await shell(w, old.address, "echo precious > /data/state/file; sync", tmp_path / "state-1")
    with pytest.raises(Transient, match=r"still attached to the running domain drv-1\.1"):
        await born(w, 2, images["2"], pool)
    await w.driver.retire(pool, "drv-1", 1, w.op())
    new = await born(w, 2, images["2"], pool)
    with pytest.raises(Transient, match=r"still attached to the running domain drv-1\.2"):
        await w.driver.revive(pool, "drv-1", 1, w.op())
    await serving(new.address)
    said = await shell(w, new.address, ". /etc/os-release; cat /data/state/file; echo $VERSION_ID", tmp_path / "state-1")
    assert said.split() == ["precious", "2"]


@pytest.mark.parametrize(
    "case",
    [case for case in conformance.CASES if case is not conformance.a_place_that_does_not_answer_is_unknown_not_empty],
    ids=conformance.name,
)
async def test_conformance(case: conformance.Case, world: Make, tmp_path: Path) -> None:
    w = await world(grace=0.2)
    folder = tmp_path / "image"     # a folder that the case may take away
    folder.mkdir()
    for name in w.image.files:
        os.link(f"{w.image.folder}/{name}", folder / name)
    w.image = replace(w.image, folder=str(folder))
    await case(w)


async def test_a_guest_that_panics_ends_as_crashed(world: Make, images: dict[str, Image]) -> None:
    w = await world()
    await born(w, 1, images["3-panic"])

    async def crashed() -> bool:
        return [one.state for one in (await w.driver.observe(w.pool)).incarnations] == ["crashed"]

    await until(crashed, "the panic is seen")
    assert "anew did not stop it" in (await w.driver.observe(w.pool)).incarnations[0].note
    assert "Kernel panic" in await w.own.last_words(w.pool, "drv-1", 1)
    with pytest.raises(Permanent, match="only a running incarnation"):
        await w.driver.commit(w.pool, "drv-1", 1, w.op())
    await w.driver.retire(w.pool, "drv-1", 1, w.op())
    await w.driver.bury(w.pool, "drv-1", 1, w.op())


async def test_images_that_go_up_through_libvirt_boot(world: Make, tmp_path: Path) -> None:
    w = await world(upload=True)
    seen = await born(w, 1)
    await serving(seen.address)
    await shell(w, seen.address, "true", tmp_path / "state-1")
    storage = Path(await w.own.places["hv1"].store.directory())
    assert not list(storage.glob("*.part"))
    for name, file in w.image.files.items():
        staged = storage / f"anew-image-web-{file.sha256}"
        if staged.exists():
            assert staged.stat().st_nlink == 1, f"{name} went up, it was not linked"
            assert staged.read_bytes() == Path(w.image.folder, name).read_bytes()
    await w.driver.commit(w.pool, "drv-1", 1, w.op())
    assert not list(storage.glob("anew-seed-*"))
    assert b"READY" in await anext(w.own.console(w.pool, "drv-1", 1))


async def test_altered_bytes_do_not_go_up(world: Make, tmp_path: Path) -> None:
    w = await world(upload=True)
    folder = tmp_path / "image"
    folder.mkdir()
    for name in w.image.files:
        (folder / name).write_bytes(Path(w.image.folder, name).read_bytes())
    with open(folder / "vmlinuz", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    image = replace(w.image, folder=str(folder))
    with pytest.raises(Permanent, match=r"vmlinuz.*not what its manifest says"):
        await w.driver.stage(w.pool, image, "hv1", w.op())
    storage = Path(await w.own.places["hv1"].store.directory())
    assert not list(storage.glob(f"*{image.files['vmlinuz'].sha256}*"))


async def test_a_port_that_a_stranger_holds_is_passed_over(world: Make) -> None:
    w = await world()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", 23010))
        stranger.listen()
        seen = await born(w, 1)
    assert seen.address == "127.0.0.1:23012"
    await serving(seen.address)


async def test_a_foreign_domain_with_our_name_is_left_alone(world: Make) -> None:
    w = await world()
    api.start_events()
    connection = libvirt.open(URI)
    other = connection.defineXML(
        "<domain type='qemu'><name>drv-1.1</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os></domain>"
    )
    before = other.XMLDesc(0)
    try:
        with pytest.raises(Refused, match=rf"drv-1\.1 exists already \(UUID {other.UUIDString()}\)"):
            await born(w, 1)
        observed = await w.driver.observe(w.pool)
        assert observed.incarnations == ()
        assert "bears the name" in {one.uuid: one.note for one in observed.foreign}[other.UUIDString()]
        await w.driver.retire(w.pool, "drv-1", 1, w.op())
        await w.driver.bury(w.pool, "drv-1", 1, w.op())
        assert other.XMLDesc(0) == before
    finally:
        other.undefine()
        connection.close()


async def test_an_ephemeral_root_is_an_overlay_that_goes_with_its_incarnation(world: Make) -> None:
    w = await world(grace=0.2)
    pool = replace(w.pool, root="ephemeral")
    seen = await born(w, 1, pool=pool)
    storage = Path(await w.own.places["hv1"].store.directory())
    overlay = storage / "anew-overlay-drv-1.1.qcow2"
    assert overlay.read_bytes()[:4] == b"QFI\xfb"
    await serving(seen.address)
    await w.driver.retire(pool, "drv-1", 1, w.op())
    assert overlay.exists(), "kept for a rollback"
    await w.driver.bury(pool, "drv-1", 1, w.op())
    assert not overlay.exists()


async def test_kvm_is_used_only_where_a_guest_booted_under_it(world: Make, tmp_path: Path) -> None:
    w = await world()
    place = w.own.places["hv1"]
    place.acceleration.wish = "auto"
    seen = await born(w, 1)
    await serving(seen.address)
    connection = libvirt.open(URI)
    kind = "kvm" if "<domain type='kvm'" in connection.lookupByName("drv-1.1").XMLDesc(0) else "qemu"
    names = [domain.name() for domain in connection.listAllDomains(0)]
    connection.close()
    assert not [name for name in names if name == f"anew-proof-{w.fleet}"]
    memory = tmp_path / "state-1" / "libvirt" / "acceleration.json"
    if memory.exists():     # else this libvirt offers no KVM at all
        assert f'["{kind}"' in memory.read_text()
    assert not list(Path(await place.store.directory()).glob("anew-console-proof*"))


class OwnLibvirtd:
    """A libvirtd of this test's alone, as an ordinary user, that can be killed and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o755)
        os.chown(home, 65534, 65534)
        self.socket = home / "run" / "libvirt" / "libvirt-sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"qemu+unix:///session?socket={self.socket}"

    async def start(self) -> None:
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"], "LANG": "C"}
        for kind in ("RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME", "DATA_HOME"):
            folder = self.home / ("run" if kind == "RUNTIME_DIR" else kind.lower())
            folder.mkdir(exist_ok=True)
            os.chown(folder, 65534, 65534)
            environment[f"XDG_{kind}"] = str(folder)
        log = (self.home / "log").open("ab")
        self.process = subprocess.Popen(
            ["/usr/sbin/libvirtd", "--pid-file", str(self.home / "run" / "libvirtd.pid")],
            env=environment, user=65534, group=65534, extra_groups=[], stdout=log, stderr=log,
        )

        async def answers() -> bool:
            try:
                libvirt.open(self.uri).close()
            except libvirt.libvirtError:
                return False
            return True

        await until(answers, "libvirtd answers", 60.0)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """This libvirtd, and whatever it had started: they wrote their process ids below our own folder."""
        self.kill()
        for file in self.home.rglob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError, FileNotFoundError):
                os.kill(int(file.read_text()), signal.SIGKILL)


async def test_libvirtd_may_die_and_come_back(world: Make) -> None:
    with contextlib.ExitStack() as stack:
        home = Path("/var/tmp") / f"anew-test-{os.getpid()}"    # a socket's path has 107 bytes at most
        stack.callback(subprocess.run, ["rm", "-rf", str(home)], check=True)
        daemon = OwnLibvirtd(home)
        api.start_events()
        await daemon.start()
        stack.callback(daemon.end)
        w = await world(daemon.uri, upload=True, grace=0.2, storage=str(home / "storage"))
        seen = await born(w, 1)
        await serving(seen.address)
        daemon.kill()
        observed = await w.driver.observe(w.pool)
        assert observed.incarnations == () and observed.unreachable["hv1"]
        with pytest.raises(Transient):
            await w.driver.retire(w.pool, "drv-1", 1, w.op())
        await serving(seen.address)
        await daemon.start()
        (again,) = (await w.driver.observe(w.pool)).incarnations
        assert (again.state, again.uuid) == ("running", seen.uuid)
        await w.driver.retire(w.pool, "drv-1", 1, w.op())
        await w.driver.bury(w.pool, "drv-1", 1, w.op())
