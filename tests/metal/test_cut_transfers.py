"""Bundles whose way to a host was cut, and what is there then: the next attempt ends it, whatever the last one left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.metal.baremetal_world import BaremetalHarness, harness
from tests.metal.disk import Bytes

SIZE = 4000


def part(h: BaremetalHarness, size: int, wrong: bool = False) -> str:
    """The host has the first `size` bytes of the bundle, and nobody has checked them."""
    file = h.image.files[h.image.root]
    held = Bytes()
    held.add((b"?" * size) if wrong else (Path(h.image.folder) / h.image.root).read_bytes()[:size].ljust(size, b"?"))
    h.host.disk.bundles[file.sha256] = held
    return file.sha256


@pytest.mark.parametrize(("size", "wrong"), [(SIZE, False), (SIZE, True), (SIZE + 500, False), (1000, True)])
async def test_a_part_is_finished_or_begun_anew(tmp_path: Path, size: int, wrong: bool) -> None:
    """With every byte there (the host was cut before it had hashed them), with more than that, and with others."""
    async with harness(tmp_path, 1) as h:
        sha = part(h, size, wrong)
        await h.staged()
        assert h.host.disk.bundles[sha].complete
        assert h.host.disk.records["B"].state == "staged"


async def test_what_was_brought_before_a_cut_takes_no_more_room(tmp_path: Path) -> None:
    async with harness(tmp_path, 1) as h:
        h.host.disk.capacity = SIZE * 115 // 100
        part(h, 3000)
        await h.staged()
        assert h.host.disk.records["B"].state == "staged"
