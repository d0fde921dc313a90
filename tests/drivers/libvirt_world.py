"""A libvirt driver on a real or a pretended hypervisor, as the conformance suite wants it, and small things to test with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import tomllib
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import libvirt

from drivers.libvirt import api, make
from drivers.libvirt.driver import LibvirtDriver
from fleet.core.desired import Desired, Hypervisor, Network, Pool
from fleet.core.observed import Boot, Image, ImageFile, ImageRef
from fleet.ports import Driver, Operation, Surroundings
from tests.drivers.real import Count, RealClock, away, interrupted


@dataclass
class Switch:
    """Stands between the driver and libvirt: `down` makes the hypervisor unreachable, `hang` makes every call wait."""

    down: bool = False
    opened: int = 0

    def open(self, uri: str) -> api.Connection:
        self.opened += 1
        return _Switched(self, REAL_OPEN("test:///nowhere/at/all.xml" if self.down else uri))


REAL_OPEN = api.open_connection


class _Switched:
    def __init__(self, switch: Switch, real: api.Connection) -> None:
        self._switch = switch
        self._real = real

    def isAlive(self) -> int:
        return 0 if self._switch.down else self._real.isAlive()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@dataclass
class World:
    """conformance.Harness for the libvirt driver. `fleet` must be new to the hypervisor."""

    driver: Driver
    pool: Pool
    image: Image
    fleet: str
    switch: Switch | None = None
    place: str = "hv1"
    patience: float = 90.0
    half: float = 0.05
    ids: Count = field(default_factory=Count)

    @property
    def own(self) -> LibvirtDriver:
        """The driver with what it can besides the port."""
        assert isinstance(self.driver, LibvirtDriver)
        return self.driver

    def op(self, epoch: int = 1) -> Operation:
        return Operation("op-" + self.ids.token(), epoch, "rollout-1", self.patience)

    def born_at(self) -> float:
        return time.time()

    async def interrupt(self, verb: Coroutine[Any, Any, object]) -> None:
        await interrupted(verb, self.half)

    def without_images(self) -> AbstractAsyncContextManager[None]:
        return away(Path(self.image.folder))

    def cut_off(self) -> AbstractAsyncContextManager[bool] | None:
        return None if self.switch is None else self._cut_off(self.switch)

    @contextlib.asynccontextmanager
    async def _cut_off(self, switch: Switch) -> AsyncIterator[bool]:
        switch.down = True
        try:
            yield True
        finally:
            switch.down = False

    async def data_disks(self, pool: Pool) -> frozenset[str]:
        """Path and first bytes: a disk that was made anew is not the same."""
        store = self.own.places[self.place].store
        names = [name for name in await store.list() if not name.startswith("anew-")]
        return frozenset(names)


def small_image(folder: Path, version: str = "1", family: str = "web", kind: str = "squashfs") -> Image:
    """An image that no machine would boot, for hypervisors that do not look."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name in ("root.squashfs", "vmlinuz", "initrd.img"):
        content = f"{name} of {family}/{version}\n".encode() * 100
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)
        files[name] = ImageFile(name, hashlib.sha256(content).hexdigest(), len(content))
    return _image(family, version, kind, Boot("vmlinuz", "initrd.img", "console=ttyS0 panic=1"), files, folder)


def load_image(folder: Path) -> Image:
    """An image folder of the lab, as the catalogue would give it (its digest aside)."""
    raw = tomllib.loads((folder / "image.toml").read_text())
    files = {name: ImageFile(name, entry["sha256"], entry["size"]) for name, entry in raw["files"].items()}
    boot = Boot(**raw["boot"]) if "boot" in raw else None
    return _image(raw["family"], raw["version"], raw["kind"], boot, files, folder, raw["root"])


def _image(
    family: str, version: str, kind: Any, boot: Boot | None, files: dict[str, ImageFile], folder: Path, root: str = "root.squashfs"
) -> Image:
    text = json.dumps([family, version, sorted(file.sha256 for file in files.values())])
    ref = ImageRef(family, version, "sha256:" + hashlib.sha256(text.encode()).hexdigest())
    return Image(ref, kind, root, boot, files, str(folder))


def surroundings(fleet: str, pool: Pool, state: Path, uri: str, **options: Any) -> Surroundings:
    """What the daemon would give the driver; options by their names with `_` for `.`."""
    desired = Desired(fleet, {"hv1": Hypervisor("hv1", uri, "tcg")}, {}, {pool.name: pool})
    named = {f"libvirt.{key}": value for key, value in options.items()}
    return Surroundings(desired, str(state), RealClock(), Count(), options=named)


def user_pool(first_port: int, servers: int = 2, name: str = "web") -> Pool:
    """Servers on forwarded loopback ports."""
    network = Network("user", first_port=first_port, guest_port=22)
    return Pool(name, "libvirt", servers, "web", hypervisors=("hv1",), memory=160 * 2**20, network=network)


def remove_everything(uri: str, fleet: str) -> None:
    """After a test: all domains of its fleet, its volumes and its pool; nothing else."""
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError:
        return  # a hypervisor of the test's own, which is gone with all it had
    for domain in connection.listAllDomains(0):
        if f'fleet="{fleet}"' in domain.XMLDesc(0):
            with contextlib.suppress(libvirt.libvirtError):
                domain.destroy()
            with contextlib.suppress(libvirt.libvirtError):
                domain.undefine()
    with contextlib.suppress(libvirt.libvirtError):
        pool = connection.storagePoolLookupByName(f"anew-{fleet}")
        if pool.isActive():
            pool.refresh(0)
            for volume in pool.listAllVolumes(0):
                volume.delete(0)
            pool.destroy()
            with contextlib.suppress(libvirt.libvirtError):
                pool.delete(0)
        pool.undefine()
    connection.close()


__all__ = ["REAL_OPEN", "Switch", "World", "load_image", "make", "remove_everything", "small_image", "surroundings", "user_pool"]
