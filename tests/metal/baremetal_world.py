"""The bare-metal driver on pretended hosts, as the conformance suite wants it, and the tools of the other tests on it.

What no driver of machines can keep is said by the harness: a machine is always there, with incarnation 0 running on it, so a pool
seen for the first time is not empty (`in_place`); data partitions are the machines' own, and no data disk of a pool exists.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.baremetal import make
from drivers.baremetal.driver import BaremetalDriver
from drivers.identity import IdentityStore
from fleet.core.desired import Desired, Machine, Pool
from fleet.core.observed import Image, ImageFile, ImageRef, Seen
from fleet.ports import Birth, Driver, Operation, Surroundings
from tests.drivers.real import Count, RealClock, away, interrupted
from tests.metal.evil import Evil
from tests.metal.host import Host, Pace
from tests.metal.hosts import World

SPACING = 0.05
GLANCE = 5.0
PATIENCE = 30.0


def bundle(folder: Path, version: str = "1", size: int = 4000) -> Image:
    """A signed bundle that only pretended hosts would boot, as the catalogue gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = f"a bundle of web/{version}\n".encode().ljust(size, b"x")
    (folder / "bundle.raucb").write_bytes(content)
    file = ImageFile("bundle.raucb", hashlib.sha256(content).hexdigest(), len(content))
    digest = "sha256:" + hashlib.sha256(f"web {version} {file.sha256}".encode()).hexdigest()
    return Image(ImageRef("web", version, digest), "rauc", "bundle.raucb", None, {file.name: file}, str(folder))


class BaremetalHarness:
    """conformance.Harness, and what a test does behind the driver's back. `place` is the first machine."""

    in_place = True

    def __init__(self, driver: BaremetalDriver, world: World, pool: Pool, folder: Path) -> None:
        self.own = driver
        self.driver: Driver = driver
        self.world = world
        self.pool = pool
        self.folder = folder
        self.place = pool.machines[0]
        self.image = bundle(folder / "images" / "2", "2")
        self.half = 0.08
        self._ids = Count()

    @property
    def host(self) -> Host:
        """The first machine."""
        return self.world[self.place]

    def op(self, epoch: int = 1, deadline: float = PATIENCE) -> Operation:
        return Operation(self._ids.token(), epoch, "00000000000000f1", deadline)

    def born_at(self) -> float:
        return float(int(time.time()))

    def version(self, version: str, size: int = 4000) -> Image:
        """Another image of the family."""
        return bundle(self.folder / "images" / version, version, size)

    async def staged(self, image: Image | None = None, name: str = "") -> None:
        """The image in the idle slot of a machine."""
        await self.driver.stage(self.pool, image or self.image, name or self.place, self.op())

    async def born(self, number: int, image: Image | None = None, name: str = "", op: Operation | None = None) -> Seen:
        """Staged, and booted on trial."""
        await self.staged(image, name)
        order = Birth(name or self.place, number, image or self.image, name or self.place, self.born_at())
        return await self.driver.birth(self.pool, order, op or self.op())

    async def states(self, name: str = "") -> dict[int, str]:
        """number -> state of one machine, as observed."""
        seen = await self.driver.observe(self.pool)
        assert not seen.unreachable
        return {one.number: one.state for one in seen.incarnations if one.server == (name or self.place)}

    async def interrupt(self, verb: Coroutine[Any, Any, object]) -> None:
        await interrupted(verb, self.half)

    def without_images(self) -> AbstractAsyncContextManager[None]:
        return away(self.folder / "images")

    def cut_off(self) -> AbstractAsyncContextManager[bool] | None:
        return self._cut_off()

    @asynccontextmanager
    async def _cut_off(self) -> AsyncIterator[bool]:
        """Every machine of the pool is silent."""
        for name in self.pool.machines:
            await self.world[name].be(Evil(stall="no-banner"))
        yield True
        for name in self.pool.machines:
            await self.world[name].be(Evil())

    async def data_disks(self, pool: Pool) -> frozenset[str]:
        return frozenset()


def desired_of(world: World, pool: Pool, machines: Mapping[str, Machine] | None = None) -> Desired:
    """A fleet of these hosts, their present host keys pinned."""
    return Desired("metal", {}, {}, {pool.name: pool}, machines=machines or world.machines())


@asynccontextmanager
async def harness(
    folder: Path, count: int = 2, pace: Pace | None = None, machines: Mapping[str, Machine] | None = None, **options: object
) -> AsyncIterator[BaremetalHarness]:
    """A driver on `count` new hosts. `options` by their names without `baremetal.`; `machines` instead of the hosts' own entries."""
    world = World(count, pace or Pace(boot=0.05, hang=0.1))
    world.welcome_key(IdentityStore(str(folder / "identities")).client_public())
    async with world:
        pool = Pool("web", "baremetal", count, "web", machines=tuple(world.hosts))
        named = {f"baremetal.{key}": value for key, value in {"spacing": SPACING, "glance": GLANCE, **options}.items()}
        around = Surroundings(desired_of(world, pool, machines), str(folder), RealClock(), Count(), options=named)
        async with make(around) as driver:
            yield BaremetalHarness(driver, world, pool, folder)


__all__ = ["BaremetalHarness", "bundle", "desired_of", "harness"]
