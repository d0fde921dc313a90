"""Bringing a small bundle to a machine over the warm session, 1 MiB a command. Large ones go through `bulk.py`.

Resumable: what is there already is asked for first, and each command says at which offset it goes on.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from drivers.baremetal import words
from drivers.baremetal.host import Host
from fleet.core.errors import Permanent
from fleet.ports import Operation

CHUNK: Final = 1024 * 1024
SMALL: Final = 16 * 1024 * 1024
"""Bytes up to which asyncssh is as good as a child process of OpenSSH's."""


async def upload(host: Host, path: str, sha: str, size: int, op: Operation) -> None:
    """Bring the file at `path`; the host hashes it at the end. Permanent if it is not what the manifest says."""
    try:
        await _send(host, path, sha, size, await _there(host, sha), op)
    except Permanent as problem:
        if problem.code != "bad-bytes":
            raise
        await _send(host, path, sha, size, await _there(host, sha), op)  # what it had before was of something else


async def _send(host: Host, path: str, sha: str, size: int, offset: int | None, op: Operation) -> None:
    """From `offset` on. A part with every byte was cut before it was checked: no bytes more have it finished, or removed."""
    while offset is not None:
        chunk = await asyncio.to_thread(_read, path, offset, max(0, min(CHUNK, size - offset)))
        await host.ask(words.upload(op, sha, size, offset), given=chunk)
        offset += len(chunk)
        op.tell(f"{offset // 1024} of {size // 1024} KiB brought")
        if offset >= size:
            return


async def _there(host: Host, sha: str) -> int | None:
    """How many bytes of it the host has, None if it is complete."""
    frame = await host.ask(words.have(sha))
    said = frame.value("size")
    size = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else 0
    return {"complete": None, "part": size}.get(frame.value("state"), 0)


def _read(path: str, offset: int, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = os.pread(file.fileno(), size, offset)
    except OSError as problem:
        raise Permanent(f"the image's file cannot be read ({problem.strerror}); put its folder back", where=path) from None
    if len(data) < size:
        raise Permanent("the image's file is shorter than its manifest says; put its folder back as it was catalogued", where=path)
    return data


__all__ = ["SMALL", "upload"]
