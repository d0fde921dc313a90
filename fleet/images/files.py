"""Reading files of an image folder: hostile until hashed.

Rules: a file's name is plain (no folder part); it is opened without following a symbolic link and without waiting for a
pipe; only regular files count; everything is read with a cap. All functions block: the engine calls them in a thread.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from fleet.core.errors import Invalid
from fleet.core.observed import ImageFile

MANIFEST = "image.toml"
CHUNK = 1_048_576
"""Bytes read at once while hashing."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file is untouched since it was hashed: size, times in ns, inode.

    The change time is in because the modification time can be set back by whoever alters a file.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def plain_name(name: object) -> bool:
    """May this be a file's name in an image folder? No folder part, no dot first, nothing to be quoted anywhere."""
    return isinstance(name, str) and bool(_PLAIN.fullmatch(name)) and name != MANIFEST


@contextmanager
def opened(folder: str, name: str) -> Iterator[BinaryIO]:
    """A regular file of the folder, open for reading. Raises Invalid with a sentence that names the file."""
    path = os.path.join(folder, name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Invalid("the file is missing", where=path) from None
    except (OSError, ValueError) as wrong:
        link = os.path.islink(path)
        reason = "it is a symbolic link; an image has its files in its own folder" if link else _reason(wrong)
        raise Invalid(f"the file cannot be opened: {reason}", where=path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Invalid("this is not a regular file", where=path)
    with open(descriptor, "rb", buffering=0) as file:
        yield file


def _reason(wrong: OSError | ValueError) -> str:
    return (isinstance(wrong, OSError) and wrong.strerror) or "its name cannot be a path"


def stamp_of(file: BinaryIO) -> Stamp:
    """The stamp of an open file."""
    status = os.fstat(file.fileno())
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def read_capped(folder: str, name: str, most: int) -> bytes:
    """The whole file, of at most `most` bytes; a larger one raises Invalid."""
    path = os.path.join(folder, name)
    with opened(folder, name) as file:
        parts: list[bytes] = []
        total = 0
        while total <= most:
            part = _next(file, path, most + 1 - total)
            if not part:
                return b"".join(parts)
            parts.append(part)
            total += len(part)
    raise Invalid(f"the file has more than {most} bytes; nothing of that size belongs here", where=path)


def _next(file: BinaryIO, path: str, most: int = CHUNK) -> bytes:
    try:
        return file.read(min(most, CHUNK))
    except OSError as wrong:
        raise Invalid(f"the file cannot be read: {_reason(wrong)}", where=path) from None


def hash_file(folder: str, name: str, into: BinaryIO | None = None) -> tuple[str, Stamp]:
    """(sha256 in hex, stamp) of a file; each byte also goes to `into`. A file that changes meanwhile raises Invalid."""
    path = os.path.join(folder, name)
    digest = hashlib.sha256()
    with opened(folder, name) as file:
        before = stamp_of(file)
        left = before.size
        while part := _next(file, path):
            digest.update(part)
            left -= len(part)
            if into is not None:
                into.write(part)
            if left < 0:
                break
        if left != 0 or stamp_of(file) != before:
            raise Invalid("the file changed while it was read", where=path)
    return digest.hexdigest(), before


def check_bytes(folder: str, wanted: ImageFile, sha256: str, size: int) -> None:
    """Raise Invalid naming the file if it is not the one that the manifest lists."""
    path = os.path.join(folder, wanted.name)
    if size != wanted.size:
        word = "truncated" if size < wanted.size else "too long"
        raise Invalid(f"the file is {word}: it has {size} bytes, {MANIFEST} says {wanted.size}", where=path)
    if sha256 != wanted.sha256:
        raise Invalid(
            f"the file was altered: its sha256 is {sha256[:16]}…, {MANIFEST} says {wanted.sha256[:16]}…", where=path)
