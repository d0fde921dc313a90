"""One host that is slow, silent or huge holds up nobody: places among those who are sent to, threads, and what lies beside the packs."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from drivers.baremetal import bulk as sending
from drivers.baremetal import packs as packing
from drivers.baremetal.bulk import Bulk
from drivers.baremetal.packs import Packs
from tests.metal.bringing import MIB, Bench, bench, digest, noise, text
from tests.metal.proxy import Spoil, proxy

__all__ = ["bench"]
DEADLINE = 60.0


async def test_a_host_that_takes_a_byte_now_and_then_gives_its_place_to_the_next(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SLOW_FOR", 1.0)
    bench.bulk = Bulk(str(tmp_path / "one"), bench.clock, bench.sessions, at_once=1)
    one, two = noise(tmp_path / "a", 40 * MIB), noise(tmp_path / "b", 4 * MIB, 2)
    async with proxy(bench.host.port, Spoil(rate=65536)) as trickle:
        slow = asyncio.create_task(bench.bring(one, trickle.port))
        try:
            async with asyncio.timeout(DEADLINE):
                while not trickle.up and not slow.done():
                    await asyncio.sleep(0.02)
                await bench.bring(two)
            assert bench.has(two)
            assert not slow.done()
        finally:
            slow.cancel()
            await asyncio.wait({slow})
    assert not bench.bulk._sending.locked(), "every place was given back once"


async def test_hosts_that_resume_a_huge_image_leave_the_daemon_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash of many gigabytes takes a thread for half a minute; who asks the API meanwhile needs one too."""
    go = threading.Event()
    monkeypatch.setattr(packing, "_hash", lambda path, size, stop: str(go.wait(DEADLINE)))
    packs = Packs(str(tmp_path / "packs"))
    hashing = [asyncio.create_task(packs.prefix("image", size)) for size in range(1, 65)]
    try:
        await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE / 2):
            assert await asyncio.to_thread(lambda: "answered") == "answered"
    finally:
        go.set()
        await asyncio.gather(*hashing)


async def test_the_cache_forgets_packs_and_no_host_s_key(tmp_path: Path) -> None:
    """A child that finds its known_hosts gone would say that the host showed another key."""
    folder = tmp_path / "packs"
    packs = Packs(str(folder))
    keys = [folder / f"known-{number:024x}" for number in range(4 * packing.MEMORY + 8)]
    for file in keys:
        file.write_text("* ssh-ed25519 AAAA\n")
        os.utime(file, (1.0, 1.0))
    image = text(tmp_path / "a", 2 * MIB)
    assert await packs.compressed(str(image), digest(image), image.stat().st_size)
    assert all(file.exists() for file in keys)


def test_what_a_killed_daemon_left_of_its_children_goes(tmp_path: Path) -> None:
    folder = tmp_path / "packs"
    folder.mkdir()
    (folder / "said-abcd1234").write_text("Connection closed\n")
    (folder / "known-00").write_text("* ssh-ed25519 AAAA\n")
    Packs(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["files", "known-00"]
