"""Shorter forms of a bundle, made once for all hosts: a zstd delta from an older bundle, or the bundle compressed.

Rules
- The key is content: a pack is named by the SHA-256 of what it is made from and of what it makes. One that is not short enough to pay
  is remembered too, as an empty file, so that it is not made again for the next host.
- Nothing is made from a file that is not what its SHA-256 says. Written aside, synced, renamed; the pack's own SHA-256 is in its name. The files are the cache: there is no index that could differ.
- The cache stays below 4 GiB: the longest unused go first.
- Of the files that hosts were given we remember where they are (`files/SHA` → path), so that the next image can be sent as a difference.
  A remembered file counts only if its bytes still have that SHA-256.
- Nothing here is needed for correctness: without zstd, or without space, the plain file is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.core.errors import Permanent

CACHE_CAP: Final = 4 * 1024 * 1024 * 1024
MEMORY: Final = 64
"""Files that are remembered."""
DELTA_PAYS, PACK_PAYS = 0.6, 0.9
LARGEST_DELTA: Final = 1024 * 1024 * 1024
"""Bytes of the old or the new file. zstd takes three times as much memory here, and twice as much on the host."""
BLOCK: Final = 1024 * 1024
HASHING: Final = 2
"""Files that are hashed at a time. The threads are the whole daemon's, and hosts that resume a large image need minutes of them."""

log = logging.getLogger("anew.baremetal")


@dataclass(frozen=True, slots=True)
class Pack:
    """A file that the host makes the bundle from. `old`: the SHA of the bundle it needs there, "" for none."""

    path: str
    sha256: str
    size: int
    old: str = ""


class Packs:
    """The cache below `folder` (ours alone), and what is known of the files."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._files = self._folder / "files"
        self._locks: dict[str, asyncio.Lock] = {}
        self._making = asyncio.Semaphore(1)
        self._hashing = asyncio.Semaphore(HASHING)
        self._sums: dict[tuple[str, int, int, int, int], str] = {}
        self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (*self._folder.glob("*.new"), *self._folder.glob("said-*")):  # of a daemon that was killed
            left.unlink(missing_ok=True)

    async def check(self, path: str, sha256: str, size: int) -> None:
        """Permanent unless the file is what the manifest says. Read once, and again when the file was touched."""
        async with self._lock(f"sum {path}"):
            found = await self._sum(path)
        if found != sha256:
            _readable(path)
            raise Permanent("the image's file is not what its manifest says; put its folder back as it was catalogued", where=path, code="bad-bytes")
        self._remember(sha256, path)

    async def prefix(self, path: str, size: int) -> str:
        """The SHA-256 of the file's first `size` bytes, "" if it has fewer. Permanent if it cannot be read."""
        try:
            return await self._hashed(path, size)
        except OSError:
            _readable(path)
            raise Permanent("the image's file cannot be read to its end; look at its disk", where=path) from None

    async def delta(self, have: Iterable[str], path: str, sha256: str, size: int) -> Pack | None:
        """The shortest way from one of the bundles `have` to this one, None if none is short enough."""
        for old in sorted(have):
            base = self._remembered(old)
            if old == sha256 or base is None or not 0 < size <= LARGEST_DELTA:
                continue
            async with self._lock(f"{old}-{sha256}"):
                found = self._cached(old, sha256)
                if found is None and await self._sum(base) == old and await self._sum(path) == sha256:
                    found = await self._make(old, sha256, [f"--patch-from={base}", "--long=31", "-3", "-T0", path], DELTA_PAYS * size)
            if found is not None and found.size:
                return found
        return None

    async def compressed(self, path: str, sha256: str, size: int) -> Pack | None:
        """The whole bundle compressed, None if that is not worth it."""
        async with self._lock(f"plain-{sha256}"):
            found = self._cached("plain", sha256)
            if found is None:
                pays = await asyncio.to_thread(_promising, path, size)
                if pays and await self._sum(path) != sha256:
                    return None
                argv = ["-3", "-T0", path] if pays else []
                found = await self._make("plain", sha256, argv, PACK_PAYS * size)
        return found if found is not None and found.size else None

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    async def _sum(self, path: str) -> str | None:
        """The file's SHA-256, None if it cannot be read or changes while it is read."""
        try:
            before = _stamp(path)
            if before not in self._sums:
                found = await self._hashed(path, before[2])
                if _stamp(path) != before:
                    return None
                self._sums = {key: value for key, value in self._sums.items() if key[0] != path}
                self._sums[before] = found
            return self._sums[before]
        except OSError:
            return None

    async def _hashed(self, path: str, size: int) -> str:
        """The SHA-256 of the first `size` bytes; a caller that is cancelled ends the thread with the next block."""
        stop = threading.Event()
        async with self._hashing:
            try:
                return await asyncio.to_thread(_hash, path, size, stop)
            finally:
                stop.set()

    def _remember(self, sha256: str, path: str) -> None:
        mark = self._files / sha256
        try:
            if not mark.is_symlink() or os.readlink(mark) != path:
                aside = self._files / f"{sha256}.new"
                aside.unlink(missing_ok=True)
                aside.symlink_to(path)
                aside.replace(mark)
            marks = sorted(self._files.iterdir(), key=lambda link: link.lstat().st_mtime)
            for old in marks[:-MEMORY]:
                old.unlink(missing_ok=True)
        except OSError as problem:
            log.warning("cannot remember a bundle's file: %s", problem.strerror)

    def _remembered(self, sha256: str) -> str | None:
        """Where that bundle's file was, if there still is one that a delta can be made from."""
        try:
            path = os.readlink(self._files / sha256)
            return path if os.path.isfile(path) and os.path.getsize(path) <= LARGEST_DELTA else None
        except OSError:
            return None

    def _cached(self, old: str, new: str) -> Pack | None:
        """What was made before; of size 0 if it was not worth it. None if it was never made."""
        for path in self._folder.glob(f"{old}-{new}-*"):
            with contextlib.suppress(OSError):
                os.utime(path)
                return Pack(str(path), path.name.rsplit("-", 1)[1], path.stat().st_size, "" if old == "plain" else old)
        return None

    async def _make(self, old: str, new: str, argv: list[str], most: float) -> Pack | None:
        """Made aside by zstd. An empty file if it would be longer than `most` bytes, or zstd cannot do it."""
        aside = self._folder / f"{old}-{new}.new"
        try:
            async with self._making:
                made = bool(argv) and await _zstd([*argv, "-o", str(aside)])
            if not made or aside.stat().st_size >= most:
                aside.write_bytes(b"")
            digest = await self._hashed(str(aside), aside.stat().st_size)
            with aside.open("rb") as file:
                await asyncio.to_thread(os.fsync, file.fileno())
            aside.replace(self._folder / f"{old}-{new}-{digest}")
            self._shrink()
        except OSError as problem:
            log.warning("cannot make a delta in %s: %s", self._folder, problem.strerror)
            return None
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
        return self._cached(old, new)

    def _shrink(self) -> None:
        """Of the packs alone: beside them lie the children's known_hosts, one for every host (`child`)."""
        kept = sorted(((path.stat(), path) for path in self._folder.glob("*-*-*") if path.is_file()), key=lambda one: -one[0].st_mtime)
        total = 0
        for number, (found, path) in enumerate(kept):
            total += found.st_size
            if number and (total > CACHE_CAP or number >= 4 * MEMORY):
                path.unlink(missing_ok=True)


def _readable(path: str) -> None:
    """Permanent if the file cannot be opened."""
    try:
        with open(path, "rb"):
            return
    except OSError as problem:
        raise Permanent(f"the image's file cannot be read ({problem.strerror}); put its folder back", where=path) from None


def _stamp(path: str) -> tuple[str, int, int, int, int]:
    found = os.stat(path)
    return path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _hash(path: str, size: int, stop: threading.Event) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while size > 0 and not stop.is_set():
            block = file.read(min(BLOCK, size))
            if not block:
                return ""
            digest.update(block)
            size -= len(block)
    return digest.hexdigest()


def _promising(path: str, size: int) -> bool:
    """Whether samples of the file compress: a squashfs does not, and half a minute of zstd would tell nothing more."""
    if shutil.which("zstd") is None:
        return False
    seen = packed = 0
    try:
        with open(path, "rb", buffering=0) as file:
            for part in range(16):
                sample = os.pread(file.fileno(), 65536, part * max(0, size - 65536) // 15)
                seen += len(sample)
                packed += len(zlib.compress(sample, 1))
    except OSError:
        return False
    return seen > 0 and packed < 0.93 * seen


async def _zstd(argv: list[str]) -> bool:
    try:
        child = await asyncio.create_subprocess_exec(
            "zstd", "-q", "-f", "--no-progress", *argv,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        return await child.wait() == 0
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()


__all__ = ["Pack", "Packs"]
