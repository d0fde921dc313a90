"""image.toml -> Image. A manifest is hostile text: typed, capped, and with every problem told, each with file and key.

The image's digest is the sha256 of the canonical manifest: JSON with sorted keys, no spaces, of every field and of every
listed file's sha256 and size. Two folders have the same digest iff they say the same and list the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast

from fleet.core.errors import Invalid
from fleet.core.grammar import BadValue, describe, parse_name
from fleet.core.observed import Boot, Image, ImageFile, ImageRef
from fleet.images.files import MANIFEST, plain_name, read_capped

LARGEST_MANIFEST = 65_536
MOST_FILES = 64
KINDS = ("squashfs", "erofs", "raw", "qcow2", "rauc")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
KEYS = ("family", "version", "built_at", "kind", "root", "boot", "packages", "source", "files")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST_FILE = 2**50
Kind = Literal["squashfs", "erofs", "raw", "qcow2", "rauc"]


def read_manifest(folder: str) -> Image:
    """The image that a folder's manifest describes; its files are not looked at. Raises Invalid, one line a problem."""
    where = os.path.join(folder, MANIFEST)
    raw = _parse(read_capped(folder, MANIFEST, LARGEST_MANIFEST), where)
    reader = _Reader(raw)
    image = reader.image(os.path.abspath(folder))
    if reader.problems:
        raise Invalid("\n".join(f"{where}: {line}" for line in reader.problems[:20]))
    return image


def _parse(data: bytes, where: str) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
        if max((line.count(".") for line in text.split("\n")), default=0) > 200:
            raise Invalid("a line has more than 200 dots; no manifest needs such a key", where=where)
        return tomllib.loads(text)
    except UnicodeDecodeError:
        raise Invalid("this is not UTF-8 text", where=where) from None
    except RecursionError:
        raise Invalid("tables or lists are nested too deeply", where=where) from None
    except ValueError as wrong:
        words = "".join(c for c in str(wrong)[:200] if c.isprintable())
        raise Invalid(f"this is not TOML: {words}", where=where) from None


class _Reader:
    """Reads one manifest, collecting problems. Values that are wrong are replaced by empty ones of their type."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.problems: list[str] = []

    def image(self, folder: str) -> Image:
        for key in self.raw:
            if key not in KEYS:
                self._wrong(describe(key)[1:-1], "an unknown key", "one of " + ", ".join(KEYS))
        files = self._files()
        image = Image(
            ref=ImageRef(self._family(), self._text("version", VERSION.fullmatch, "a version such as 1 or 2024.06"), ""),
            kind=cast(Kind, self._text("kind", KINDS.__contains__, "one of " + ", ".join(KINDS))),
            root=self._file("root", self.raw.get("root"), files),
            boot=self._boot(files),
            files=files,
            folder=folder,
            built_at=self._built_at(),
            source=self._line("source", self.raw.get("source", ""), 4096),
            packages=self._file("packages", self.raw["packages"], files) if "packages" in self.raw else "",
        )
        ref = ImageRef(image.ref.family, image.ref.version, digest_of(image))
        return Image(ref, image.kind, image.root, image.boot, files, folder, image.built_at, image.source, image.packages)

    def _wrong(self, key: str, found: str, allowed: str) -> None:
        self.problems.append(f"{key}: found {found}, allowed {allowed}")

    def _family(self) -> str:
        try:
            return parse_name(self.raw.get("family"))
        except BadValue as wrong:
            self._wrong("family", wrong.found, wrong.allowed)
            return ""

    def _text(self, key: str, fits: Callable[[str], object], allowed: str) -> str:
        value = self.raw.get(key)
        if isinstance(value, str) and fits(value):
            return value
        self._wrong(key, describe(value), allowed)
        return ""

    def _line(self, key: str, value: object, longest: int) -> str:
        if isinstance(value, str) and len(value) <= longest and (value.isprintable() or not value):
            return value
        self._wrong(key, describe(value), f"one printable line of at most {longest} characters")
        return ""

    def _built_at(self) -> str:
        value = self.raw.get("built_at")
        if isinstance(value, datetime) and value.tzinfo is not None:
            try:
                return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            except OverflowError:
                pass
        found = "a time without zone" if isinstance(value, datetime) and value.tzinfo is None else describe(value)
        self._wrong("built_at", found, "a time with its zone such as 2026-11-21T20:00:00Z")
        return ""

    def _file(self, key: str, value: object, files: Mapping[str, ImageFile]) -> str:
        if not plain_name(value):
            self._wrong(key, describe(value), "a plain file name in this folder")
        elif value not in files:
            self._wrong(key, describe(value), "a file listed in [files]; nothing unlisted is used")
        else:
            return str(value)
        return ""

    def _boot(self, files: Mapping[str, ImageFile]) -> Boot | None:
        raw = self.raw.get("boot")
        if raw is None:
            return None
        if not isinstance(raw, dict):
            self._wrong("boot", describe(raw), "a table with kernel, initrd, cmdline")
            return None
        for key in raw:
            if key not in ("kernel", "initrd", "cmdline"):
                self._wrong(f"boot.{describe(key)[1:-1]}", "an unknown key", "one of kernel, initrd, cmdline")
        return Boot(
            kernel=self._file("boot.kernel", raw.get("kernel"), files),
            initrd=self._file("boot.initrd", raw["initrd"], files) if "initrd" in raw else "",
            cmdline=self._line("boot.cmdline", raw.get("cmdline", ""), 2048),
        )

    def _files(self) -> dict[str, ImageFile]:
        raw = self.raw.get("files")
        if not isinstance(raw, dict) or not 1 <= len(raw) <= MOST_FILES:
            self._wrong("files", describe(raw), f'a table of 1 to {MOST_FILES} files, each {{ sha256 = "…", size = … }}')
            return {}
        found: dict[str, ImageFile] = {}
        for name, entry in raw.items():
            key = f"files.{describe(name)}"
            if not plain_name(name):
                self._wrong(key, "a name with a folder part or odd characters", "a plain file name in this folder")
            elif not isinstance(entry, dict) or set(entry) != {"sha256", "size"}:
                self._wrong(key, describe(entry), '{ sha256 = "64 hex digits", size = bytes }')
            else:
                found[name] = self._entry(key, name, entry["sha256"], entry["size"])
        return found

    def _entry(self, key: str, name: str, sha256: object, size: object) -> ImageFile:
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            self._wrong(f"{key}.sha256", describe(sha256), "64 lower-case hex digits")
            sha256 = ""
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _LARGEST_FILE:
            self._wrong(f"{key}.size", describe(size), "the file's size in bytes")
            size = 0
        return ImageFile(name, sha256, size)


def digest_of(image: Image) -> str:
    """`sha256:<hex>` of the canonical manifest of an image."""
    boot = image.boot
    manifest = {
        "family": image.ref.family,
        "version": image.ref.version,
        "built_at": image.built_at,
        "kind": image.kind,
        "root": image.root,
        "boot": {"kernel": boot.kernel, "initrd": boot.initrd, "cmdline": boot.cmdline} if boot is not None else None,
        "packages": image.packages,
        "source": image.source,
        "files": {name: {"sha256": file.sha256, "size": file.size} for name, file in image.files.items()},
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def simulated(family: str, version: str) -> Image:
    """An image that exists only in the simulated world; its digest is that of its name."""
    name = f"simulated/{family}/{version}"
    return Image(ImageRef(family, version, "sha256:" + hashlib.sha256(name.encode()).hexdigest()), "simulated")


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts versions as people do: 2 before 10, 1.9 before 1.10, 2 before 2-rc."""
    parts = re.findall(r"[0-9]+|[^0-9]+", version)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)
