"""The console of a guest: first its past, as far as it was kept, also from the file that virtlogd has just put aside; then what comes."""

from __future__ import annotations

from typing import Any, cast

from drivers.libvirt import console, names
from tests.clocks import VirtualClock, run_virtual

NAME = names.console("web-1", 2)


class Files:
    """Stands for a store: files by name."""

    def __init__(self, **files: bytes) -> None:
        self.files = {NAME: b"", **files}

    async def read(self, name: str, offset: int, size: int) -> tuple[bytes, int]:
        data = self.files.get(name, b"")
        start = max(0, len(data) + offset) if offset < 0 else offset
        found = data[start : start + size]
        return found, start + len(found) if found else min(start, len(data))


async def _heard(files: Files, count: int, then: bytes = b"") -> list[bytes]:
    heard: list[bytes] = []
    async for data in console.follow(cast(Any, files), VirtualClock(), "web-1", 2):
        heard.append(data)
        if len(heard) == count:
            break
        files.files[NAME] += then
    return heard


def test_the_past_comes_first_and_then_what_is_said() -> None:
    files = Files(**{NAME: b"[0.0] Linux version 6.1\n[1.0] login: "})
    assert run_virtual(_heard(files, 2, b"root\n")) == [b"[0.0] Linux version 6.1\n[1.0] login: ", b"root\n"]


def test_what_was_put_aside_belongs_to_the_past_and_the_past_has_an_end() -> None:
    files = Files(**{NAME: b"new", NAME + ".0": b"old" * 40_000})
    past, = run_virtual(_heard(files, 1))
    assert past.endswith(b"oldnew") and len(past) == console.PAST
