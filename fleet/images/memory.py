"""`catalogue.json` in the state folder: which digest each version was catalogued with, and what was hashed already.

The first part makes images immutable: a version that comes back with another digest is refused for ever. The second
part makes a second start quick: a file whose stamp is unchanged is not hashed again. 0600, replaced as a whole.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.core.errors import Invalid
from fleet.core.observed import Image
from fleet.images.files import Stamp

FILE = "catalogue.json"
LARGEST = 64 * 1_048_576
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Record:
    """What a version was when it was catalogued: its digest, and each file's sha256, to name the one that changed."""

    digest: str
    files: Mapping[str, str]


@dataclass(slots=True)
class Memory:
    """records: "family/version" -> Record; hashes: absolute path -> (stamp, sha256)."""

    path: str
    records: dict[str, Record] = field(default_factory=dict)
    hashes: dict[str, tuple[Stamp, str]] = field(default_factory=dict)
    dirty: bool = False

    def hashed(self, path: str, stamp: Stamp) -> str:
        """The sha256 of a file that was hashed with this very stamp, else ""."""
        known = self.hashes.get(path)
        return known[1] if known is not None and known[0] == stamp else ""

    def remember_hash(self, path: str, stamp: Stamp, sha256: str) -> None:
        """A file was hashed."""
        self.hashes[path] = (stamp, sha256)
        self.dirty = True

    def admit(self, image: Image) -> str:
        """"" if the version is new or the same as ever, else the sentence that says what changed."""
        name, files = str(image.ref), {file.name: file.sha256 for file in image.files.values()}
        known = self.records.get(name)
        if known is None:
            self.records[name] = Record(image.ref.digest, files)
            self.dirty = True
            return ""
        if known.digest == image.ref.digest:
            return ""
        changed = sorted(name for name in known.files.keys() | files.keys() if known.files.get(name) != files.get(name))
        what = f"{', '.join(changed[:5])} changed" if changed else "image.toml changed"
        return (f"{what} after the image was catalogued ({known.digest[:19]}… then, {image.ref.digest[:19]}… now). "
                "A version never changes: put the old files back, or give the new ones a version of their own")

    def forget_files(self, seen: set[str]) -> None:
        """Drop hashes of files that no image has any more, so that this file does not grow with time."""
        for path in self.hashes.keys() - seen:
            del self.hashes[path]
            self.dirty = True

    def save(self) -> None:
        """Write it if anything changed: a new file beside it, flushed to disk, then put in its place."""
        if not self.dirty:
            return
        document = {
            "format": 1,
            "records": {name: {"digest": r.digest, "files": dict(r.files)} for name, r in self.records.items()},
            "hashes": {p: [s.size, s.mtime_ns, s.ctime_ns, s.inode, sha] for p, (s, sha) in self.hashes.items()},
        }
        half = f"{self.path}.new"
        try:
            descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.replace(half, self.path)
        except OSError as wrong:
            raise Invalid(f"the image catalogue cannot be written: {wrong.strerror}", where=self.path) from None
        self.dirty = False


def recall(state_dir: str) -> Memory:
    """What was written before; empty if there is nothing. Raises Invalid if the file is damaged."""
    path = os.path.join(state_dir, FILE)
    memory = Memory(path)
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        return memory
    except OSError as wrong:
        raise Invalid(f"the image catalogue cannot be read: {wrong.strerror}", where=path) from None
    try:
        document = json.loads(data)
        memory.records = {str(name): _record(entry) for name, entry in document["records"].items()}
        memory.hashes = {str(name): _hash(entry) for name, entry in document["hashes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Invalid(
            "this file is damaged, so it is not known what each image was when it was catalogued. "
            "If you trust the image folders as they are, remove it; they are then catalogued anew", where=path) from None
    return memory


def _record(entry: Any) -> Record:
    files = {str(name): _hex(value) for name, value in entry["files"].items()}
    digest = str(entry["digest"])
    _hex(digest.removeprefix("sha256:"))
    return Record(digest, files)


def _hash(entry: Any) -> tuple[Stamp, str]:
    size, mtime, ctime, inode, sha256 = entry
    return Stamp(int(size), int(mtime), int(ctime), int(inode)), _hex(sha256)


def _hex(value: Any) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ValueError("not a sha256")
    return value
