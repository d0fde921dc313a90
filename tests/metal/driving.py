"""The bare-metal driver on the pretended hosts of tests/metal/hosts.py: what its tests begin with."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drivers.baremetal import make
from drivers.baremetal.driver import BaremetalDriver
from drivers.identity import IdentityStore
from fleet.core.desired import Desired, Machine, Pool
from fleet.core.observed import Image, ImageFile, ImageRef, Observed, Seen
from fleet.engine.clock import SystemClock
from fleet.ports import Birth, Operation, Surroundings
from tests.clocks import SeededRng
from tests.metal.host import Pace
from tests.metal.hosts import World

DEADLINE = 20.0
SIZE = 200_000


def image_of(folder: Path, version: str, size: int = SIZE) -> Image:
    """A catalogued image whose bundle lies in `folder`."""
    place = folder / "images" / version
    place.mkdir(parents=True, exist_ok=True)
    data = (f"bundle of {version}\n".encode() * (size // 8))[:size]
    (place / "web.raucb").write_bytes(data)
    sha = hashlib.sha256(data).hexdigest()
    digest = "sha256:" + hashlib.sha256(f"manifest of {version}".encode()).hexdigest()
    return Image(ImageRef("web", version, digest), "rauc", "web.raucb", None, {"web.raucb": ImageFile("web.raucb", sha, size)}, str(place))


@dataclass
class Rig:
    """A driver, its pool of all hosts, and the hosts."""

    world: World
    driver: BaremetalDriver
    pool: Pool
    folder: Path
    clock: SystemClock
    told: list[str] = field(default_factory=list)
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def op(self, epoch: int = 1, deadline: float = DEADLINE) -> Operation:
        return Operation(f"{next(self._ids):016x}", epoch, "00000000000000ee", deadline, self.told.append)

    def image(self, version: str = "2") -> Image:
        return image_of(self.folder, version)

    def order(self, number: int, version: str = "2", server: str = "rack1") -> Birth:
        return Birth(server, number, self.image(version), server, 1795311111.0)

    async def born(self, number: int = 1, version: str = "2", server: str = "rack1", *, commit: bool = True) -> Seen:
        seen = await self.driver.birth(self.pool, self.order(number, version, server), self.op())
        if commit:
            await self.driver.commit(self.pool, server, number, self.op())
        return seen

    async def observe(self) -> Observed:
        """An observation in which every machine that can answer has."""
        return await self.until(lambda seen: not any("asked" in why or "booting" in why for why in seen.unreachable.values()))

    async def until(self, true: Callable[[Observed], bool]) -> Observed:
        ends = asyncio.get_running_loop().time() + DEADLINE
        while not true(seen := await self.driver.observe(self.pool)):
            assert asyncio.get_running_loop().time() < ends, f"still {seen}"
            await asyncio.sleep(0.01)
        return seen

    async def states(self, server: str = "rack1") -> dict[int, str]:
        seen = await self.observe()
        assert not seen.unreachable
        return {number: item.state for number, item in seen.by_server.get(server, {}).items()}


@asynccontextmanager
async def rig(
    folder: Path, count: int = 1, *, pace: Pace | None = None, options: dict[str, Any] | None = None,
    change: Callable[[Machine], Machine] = lambda machine: machine, ready: Callable[[World], Awaitable[None]] | None = None,
) -> AsyncIterator[Rig]:
    """`change`: what the fleet file says of each machine. `ready`: what is done to the hosts before the driver begins."""
    async with World(count, pace or Pace(boot=0.05, hang=0.1)) as world:
        world.welcome_key(IdentityStore(str(folder / "identities")).client_public())
        if ready is not None:
            await ready(world)
        machines = {name: change(machine) for name, machine in world.machines().items()}
        pool = Pool("web", "baremetal", count, "web", machines=tuple(machines))
        clock = SystemClock()
        given = {"baremetal.spacing": 0.05, **(options or {})}
        around = Surroundings(Desired("lab", {}, {}, {"web": pool}, machines=machines), str(folder), clock, SeededRng(), options=given)
        async with make(around) as driver:
            yield Rig(world, driver, pool, folder, clock)


__all__ = ["DEADLINE", "Rig", "image_of", "replace", "rig"]
