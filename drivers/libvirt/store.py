"""Where a hypervisor keeps what guests boot from: images staged and verified, overlays, seeds, data disks,
consoles.

Two ways to bring bytes there. *Direct*, when the pool's directory is on this machine and writable: the root
image is hard-linked (no copy; it stays whatever becomes of the catalogue's folder), kernel and initramfs are
copied, since libvirt changes their owner. *Upload*, everywhere else: through libvirt's storage volumes. Both
hash what they write, read it back from where the guest will boot it, and only then give it its final name.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
from collections import defaultdict, deque
from dataclasses import dataclass

from drivers.libvirt import api, digest, names
from drivers.libvirt.link import Link
from drivers.libvirt.volumes import Volumes
from fleet.core.errors import Permanent
from fleet.core.observed import Image, ImageFile

SHORT = 20.0
"""Seconds that a look at the storage pool may take."""


RECENT = 2
"""Images of a family that were staged last: they may be wanted in a moment, so they are nobody's leftovers."""


@dataclass(frozen=True, slots=True)
class Staged:
    """An image at a hypervisor: paths there ("" for what it does not have), and the volume names of all its
    files.
    """

    root: str
    kernel: str
    initrd: str
    names: tuple[str, ...]


class Store:
    """The storage of one fleet at one hypervisor. `upload` forbids the direct way.

    `simulated` is test:///.
    """

    def __init__(
        self,
        main: Link,
        bulk: Link,
        volumes: Volumes,
        verified: digest.Verified,
        *,
        local: bool,
        upload: bool = False,
    ) -> None:
        self._main = main
        self._bulk = bulk
        self._volumes = volumes
        self._verified = verified
        self._local = local
        self._upload = upload
        self._simulated = main.uri.startswith("test:")
        self._directory = ""
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.staging: set[str] = set()
        self._recent: defaultdict[str, deque[tuple[str, ...]]] = defaultdict(lambda: deque(maxlen=RECENT))

    async def stage(self, image: Image, deadline: float) -> Staged:
        """All files that the image boots from, verified where the guest will read them. Idempotent; once at a
        time.

        Raises Permanent naming the file if its bytes are not what the manifest says.
        """
        boot = image.boot
        wanted = {
            "root": image.root,
            "kernel": boot.kernel if boot else "",
            "initrd": boot.initrd if boot else "",
        }
        directory = await self.directory()
        paths: dict[str, str] = dict.fromkeys(wanted, "")
        staged: list[str] = []
        for role, name in wanted.items():
            if not name:
                continue
            file = _listed(image, name)
            volume = names.image_file(image.ref.family, file.sha256)
            async with self._locks[volume]:
                if await self.hash_of(volume, deadline) != file.sha256:
                    await self._bring(image, file, volume, role == "root", deadline)
            paths[role] = f"{directory}/{volume}"
            staged.append(volume)
        recent = self._recent[image.ref.family]
        if tuple(staged) not in recent:
            recent.append(tuple(staged))
        return Staged(paths["root"], paths["kernel"], paths["initrd"], tuple(staged))

    def wanted(self) -> frozenset[str]:
        """Files that are being brought here, or were a short while ago."""
        kept = (name for images in self._recent.values() for staged in images for name in staged)
        return frozenset(self.staging).union(kept)

    async def require(self, volumes: tuple[str, ...], deadline: float) -> None:
        """Permanent unless each staged file still has the bytes its own name tells (before a revive)."""
        for name in volumes:
            parts = names.image_parts(name)
            if parts and await self.hash_of(name, deadline) != parts[1]:
                raise Permanent(
                    "this staged image file is missing or changed, so the incarnation cannot start from it; "
                    "stage its image again",
                    where=f"hypervisor {self._main.place}, {name}",
                )

    async def hash_of(self, name: str, deadline: float) -> str:
        """sha256 of a staged file as it lies there, from memory if it did not change.

        "" if it is not there.
        """
        place = self._main.place
        if await self._direct():
            path = f"{await self.directory()}/{name}"
            try:
                stamp = digest.stamp_of(path)
                known = self._verified.hash_at(place, name, stamp)
                found = known or await asyncio.to_thread(digest.of_file, path)
            except FileNotFoundError:
                return ""
        else:
            stamp = await self._main.call(f"looking at {name}", SHORT, lambda c: self._volumes.stamp(c, name))
            if not stamp:
                return ""
            known = self._verified.hash_at(place, name, stamp)
            found = known or await self._bulk.call(
                f"reading back {name}", deadline, lambda c: self._volumes.hash(c, name)
            )
        if not known:
            self._verified.note(place, name, stamp, found)
        return found

    async def overlay(self, name: str, size: int, base: str, kind: str) -> str:
        """A fresh throw-away disk on top of a staged image; returns its path."""
        what = f"making the overlay {name}"
        return await self._main.call(what, 60.0, lambda c: self._volumes.overlay(c, name, size, base, kind))

    async def data(self, name: str, size: int) -> str:
        """The path of a data disk, made blank on first use and never touched again."""
        what = f"finding the data disk {name}"
        return await self._main.call(what, 60.0, lambda c: self._volumes.blank(c, name, size))

    async def has(self, name: str) -> bool:
        """Is there a file of this name?"""
        what = f"looking for {name}"
        return await self._main.call(what, SHORT, lambda c: self._volumes.find(c, name)) is not None

    async def put_seed(self, name: str, content: bytes) -> str:
        """A seed, readable for its owner alone (libvirt makes that the guest's user at start).

        Returns its path.
        """
        directory = await self.directory()
        if await self._direct():
            await asyncio.to_thread(_write_private, f"{directory}/{name}", content)
        else:
            await self._bulk.call(
                f"bringing the seed {name}",
                60.0,
                lambda c: self._volumes.upload(c, name, io.BytesIO(content), len(content), "0600"),
            )
        return f"{directory}/{name}"

    async def remove(self, name: str) -> None:
        """Delete one of our throw-away files; no error if it is gone. Refused for a data disk."""
        await self._main.call(f"removing {name}", SHORT, lambda c: self._volumes.remove(c, name))
        if await self._direct():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{await self.directory()}/{name}")

    async def list(self) -> tuple[str, ...]:
        """The names of all files in our directory."""
        listed = await self._main.call("listing the storage pool", SHORT, self._volumes.list)
        if self._simulated and self._directory:
            listed += tuple(os.listdir(self._directory))    # that one's pools do not look at their directory
        return tuple(sorted(set(listed)))

    async def read(self, name: str, offset: int, limit: int) -> tuple[bytes, int]:
        """At most `limit` bytes of a file from `offset` (negative: from its end), and the offset after them.
        """
        if await self._direct():
            with contextlib.suppress(OSError):
                return _read(f"{await self.directory()}/{name}", offset, limit)
        what = f"reading {name}"
        return await self._bulk.call(what, SHORT, lambda c: self._volumes.read(c, name, offset, limit))

    async def directory(self) -> str:
        """The pool's directory at the hypervisor; made on first use."""
        if not self._directory:
            if self._simulated:
                os.makedirs(self._volumes.directory, mode=0o700, exist_ok=True)
            self._directory = await self._main.call("opening the storage pool", SHORT, self._volumes.path)
        return self._directory

    async def _direct(self) -> bool:
        directory = await self.directory()
        return self._local and not self._upload and os.access(directory, os.W_OK | os.X_OK)

    async def _bring(
        self, image: Image, file: ImageFile, volume: str, linkable: bool, deadline: float
    ) -> None:
        source = f"{image.folder}/{file.name}"
        part = volume + names.PART
        self.staging |= {part, volume}
        try:
            if await self._direct():
                final = f"{await self.directory()}/{volume}"
                sent = await asyncio.to_thread(_place, source, final, linkable)
            else:
                sent = await self._send(source, part, volume, deadline)
        except OSError as err:
            raise Permanent(
                f"an image file cannot be brought to the hypervisor: {err}", where=source
            ) from err
        finally:
            self.staging -= {part, volume}
        if sent != file.sha256 or await self.hash_of(volume, deadline) != file.sha256:
            await self.remove(volume)
            raise Permanent(
                f"this file of image {image.ref} is not what its manifest says (sha256 {sent[:12]}… instead of "
                f"{file.sha256[:12]}…); build or add the image again",
                where=source,
            )

    async def _send(self, source: str, part: str, volume: str, deadline: float) -> str:
        def work(connection: api.Connection) -> str:
            with open(source, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                sent = self._volumes.upload(connection, part, file, size, "0644")
            self._volumes.finish(connection, part, volume, size)
            return sent

        if not os.access(source, os.R_OK):
            raise Permanent("this image file is missing or cannot be read; build or add the image again", where=source)
        return await self._bulk.call(f"uploading {os.path.basename(source)}", deadline, work)


def _listed(image: Image, name: str) -> ImageFile:
    file = image.files.get(name)
    if file is None or not image.folder:
        raise Permanent(
            f"image {image.ref} boots from {name}, but its manifest does not list that file", where=name
        )
    return file


def _place(source: str, final: str, linkable: bool) -> str:
    """Link or copy a file to its final name, whole or not at all; returns the sha256 of what is there.

    Blocks.
    """
    part = final + names.PART
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    linked = False
    if linkable and os.stat(source).st_mode & 0o444 == 0o444:
        with contextlib.suppress(OSError):  # another file system, or not our file: then copy
            os.link(source, part)
            linked = True
    if not linked:
        _copy(source, part)
    found = digest.of_file(part)
    os.replace(part, final)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)  # rename(2) leaves both names if they are one file already
    return found


def _copy(source: str, target: str) -> None:
    written = hashlib.sha256()
    with (
        open(source, "rb") as reader,
        open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as out,
    ):
        while chunk := reader.read(digest.CHUNK):
            written.update(chunk)
            out.write(chunk)
        os.fchmod(out.fileno(), 0o644)
        out.flush()
        os.fsync(out.fileno())


def _write_private(path: str, content: bytes) -> None:
    part = path + names.PART
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    os.replace(part, path)


def _read(path: str, offset: int, limit: int) -> tuple[bytes, int]:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.seek(max(0, size + offset) if offset < 0 else min(offset, size))
        data = file.read(limit)
        return data, start + len(data)
