"""Hashes of the bytes a guest will boot, and the memory of which ones were already hashed.

A file is hashed again whenever its size, times or inode changed. The memory lies in the daemon's own state
folder (0700): who can write there can already do worse.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Final

CHUNK: Final = 1 << 20


def of_file(path: str) -> str:
    """sha256 in hex of a local file. Blocks; raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def stamp_of(path: str) -> str:
    """What changes when a local file does. Raises OSError."""
    seen = os.stat(path)
    return f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_dev}:{seen.st_ino}"


class Verified:
    """place and file name -> the stamp at which its bytes were hashed, and the hash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[str, str]] = _load(path)

    def hash_at(self, place: str, name: str, stamp: str) -> str:
        """The hash that was found when the file had this stamp, "" if it was never hashed so."""
        known = self._known.get(f"{place}/{name}")
        return known[1] if known and known[0] == stamp else ""

    def note(self, place: str, name: str, stamp: str, sha256: str) -> None:
        """Remember a hash; lost memory only costs hashing again, so an unwritable file is no error."""
        self._known[f"{place}/{name}"] = (stamp, sha256)
        aside = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside.write_text(json.dumps(self._known))
            aside.replace(self._path)
        except OSError:
            return


def _load(path: Path) -> dict[str, tuple[str, str]]:
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(raw, dict):
        return {}
    return {
        key: (value[0], value[1])
        for key, value in raw.items()
        if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    }
