"""Seconds from "replace" to "domain running" on real libvirt: a read-only root, a qcow2 overlay, and a full copy.

Read-only and overlay are births by anew's own driver, seed and metadata included, from an image that was staged and
verified before (that is done once for all servers). The full copy is what virt-clone does: copy the volume, define the
domain, start it; with virsh and without a seed, which is in its favour. Two sizes of root: the lab's own, and the same one
with 1 GiB of noise behind its end. The kinds take turns, each round in another order, so that a slow minute of the machine
meets all; medians are given.

Run `python -m bench.hypervisor`; it needs qemu:///system and the lab image, of which it works on a copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from drivers.libvirt import make
from fleet.core.errors import AnewError
from fleet.core.observed import Image
from fleet.ports import Birth
from tests.drivers.libvirt_world import World, load_image, remove_everything, surroundings, user_pool

URI = "qemu:///system"
LAB_IMAGE = Path(__file__).resolve().parents[1] / ".cache/lab/images/web/1"
ROUNDS = 5
NOISE = 1 << 30
FIRST_PORT = 24600
SERVER = "bench-1"


class Missing(RuntimeError):
    """What this machine lacks, as a sentence."""


def measure(rounds: int = ROUNDS) -> dict[str, object]:
    """Medians in seconds and ratios to the read-only root, for each size of root. Raises Missing."""
    if not (LAB_IMAGE / "image.toml").is_file():
        raise Missing("the lab image is not built; `make lab` builds it")
    if shutil.which("virsh") is None or _virsh("list", check=False).returncode:
        raise Missing(f"libvirt does not answer on {URI}; vagrant/provision/libvirt.sh start")
    # Beside the cache: hard links to the storage pool need one file system, as a real catalogue would have.
    with tempfile.TemporaryDirectory(prefix="anew-bench-", dir=LAB_IMAGE.parents[3]) as folder:
        os.chmod(folder, 0o755)
        small = _copied(Path(folder, "web", "1"))
        large = _copied(Path(folder, "web", "1-large"), NOISE)
        return asyncio.run(_measure([small, large], Path(folder, "state"), rounds))


def _copied(folder: Path, noise: int = 0) -> Image:
    """A copy of the lab image; its root longer by `noise` bytes that no guest looks at."""
    shutil.copytree(LAB_IMAGE, folder)
    image = load_image(folder)
    if not noise:
        return image
    with open(folder / image.root, "ab") as root:
        for _ in range(noise >> 20):
            root.write(os.urandom(1 << 20))
    with open(folder / image.root, "rb") as root:
        digest = hashlib.file_digest(root, "sha256").hexdigest()
    file = replace(image.files[image.root], sha256=digest, size=(folder / image.root).stat().st_size)
    return replace(image, ref=replace(image.ref, version="1-large", digest=f"sha256:{digest}"), files={**image.files, image.root: file})


async def _measure(images: list[Image], state: Path, rounds: int) -> dict[str, object]:
    found: dict[str, object] = {"uri": URI, "rounds": rounds, "acceleration": "tcg"}
    async with _world(images[0], state) as world:
        for name, image in zip(("lab_root", "large_root"), images, strict=True):
            found[name] = {"bytes": image.files[image.root].size, **await _of_image(world, image, rounds)}
    return found


@contextlib.asynccontextmanager
async def _world(image: Image, state: Path) -> AsyncIterator[World]:
    fleet = f"bench-{os.getpid()}"
    pool = user_pool(FIRST_PORT, servers=2, name="bench")
    try:
        async with make(surroundings(fleet, pool, state, URI)) as driver:
            yield World(driver, pool, image, fleet, patience=240.0)
    finally:
        remove_everything(URI, fleet)


async def _of_image(world: World, image: Image, rounds: int) -> dict[str, object]:
    await world.driver.stage(world.pool, image, world.place, world.op())
    numbers = iter(range(1 + 1000 * (image.ref.version != "1"), 10_000))
    template = await _template(world, image, next(numbers))
    kinds: dict[str, Callable[[], Awaitable[float]]] = {
        "read_only": lambda: _birth(world, image, next(numbers), "read-only"),
        "overlay": lambda: _birth(world, image, next(numbers), "ephemeral"),
        "full_copy": lambda: asyncio.to_thread(_full_copy, world, template),
    }
    seen: dict[str, list[float]] = {kind: [] for kind in kinds}
    order = list(kinds)
    for _ in range(rounds):
        for kind in order:
            await asyncio.to_thread(os.sync)  # what the one before has written must not be paid by this one
            seen[kind].append(await kinds[kind]())
        order.append(order.pop(0))
    read_only = seen["read_only"]
    return {
        **{f"{kind}_seconds": round(statistics.median(values), 3) for kind, values in seen.items()},
        **{f"{kind}_to_read_only": round(statistics.median(a / b for a, b in zip(seen[kind], read_only, strict=True)), 2)
           for kind in ("overlay", "full_copy")},
    }


async def _template(world: World, image: Image, number: int) -> ET.Element:
    """A birth that is not measured, so that all caches are warm; its definition is what the full copy starts from."""
    await _born(world, image, number, "read-only")
    text = _virsh("dumpxml", "--inactive", f"{SERVER}.{number}").stdout
    await _gone(world, number)
    return ET.fromstring(text)


async def _birth(world: World, image: Image, number: int, root: str) -> float:
    began = time.perf_counter()
    await _born(world, image, number, root)
    taken = time.perf_counter() - began
    await _gone(world, number)
    return taken


async def _born(world: World, image: Image, number: int, root: str) -> None:
    pool = replace(world.pool, root=root)  # type: ignore[arg-type]
    await world.driver.birth(pool, Birth(SERVER, number, image, world.place, world.born_at()), world.op())


async def _gone(world: World, number: int) -> None:
    """Off at once: how long a guest takes to stop is no part of this."""
    await asyncio.to_thread(_virsh, "destroy", f"{SERVER}.{number}", check=False)
    await world.driver.retire(world.pool, SERVER, number, world.op())
    await world.driver.bury(world.pool, SERVER, number, world.op())


def _full_copy(world: World, template: ET.Element) -> float:
    pool, copy = f"anew-{world.fleet}", "anew-overlay-copy"
    domain = ET.fromstring(ET.tostring(template))
    source = domain.find("devices/disk/source")
    assert source is not None
    original = source.get("file", "")
    path = os.path.join(os.path.dirname(original), copy)
    _as_a_clone(domain, path, world.fleet)
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(ET.tostring(domain, encoding="unicode"))
        file.flush()
        began = time.perf_counter()
        _virsh("vol-clone", "--pool", pool, os.path.basename(original), copy)
        _virsh("define", file.name)
        _virsh("start", f"{world.fleet}-copy")
        taken = time.perf_counter() - began
    _virsh("destroy", f"{world.fleet}-copy", check=False)
    _virsh("undefine", f"{world.fleet}-copy")
    _virsh("vol-delete", "--pool", pool, copy)
    return taken


def _as_a_clone(domain: ET.Element, path: str, fleet: str) -> None:
    """A name and UUID of its own, a disk of its own that it may write, no seed. The mark stays, so that the end removes it."""
    for tag, text in (("name", f"{fleet}-copy"), ("uuid", str(uuid.uuid4()))):
        element = domain.find(tag)
        assert element is not None
        element.text = text
    for info in domain.findall("sysinfo"):
        domain.remove(info)
    disk = domain.find("devices/disk")
    assert disk is not None
    for tag in ("readonly", "shareable"):
        for element in disk.findall(tag):
            disk.remove(element)
    source = disk.find("source")
    assert source is not None
    source.set("file", path)
    for element in list(source):
        source.remove(element)


def _virsh(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["virsh", "-q", "-c", URI, *arguments], capture_output=True, text=True, check=check, timeout=300)


if __name__ == "__main__":
    try:
        print(json.dumps(measure(), indent=2))
    except (Missing, AnewError) as error:
        sys.exit(str(error))
