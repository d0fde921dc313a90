"""What is in an image, and how two images differ: packages, size, kernel, command line."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.core.errors import Invalid
from fleet.core.observed import Image
from fleet.images.files import check_bytes, read_capped

LARGEST_PACKAGES = 4 * 1_048_576
MOST_PACKAGES = 100_000


@dataclass(frozen=True, slots=True)
class Details:
    """An image for a person. `size`: bytes of all its files. `packages`: name -> version, None if it has no list."""

    image: Image
    size: int
    packages: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Difference:
    """From image `a` to image `b`. Sizes in bytes. `changed`: package -> (version in a, version in b).

    `kernel` and `cmdline` are (in a, in b) where they differ, else None; a kernel is named by the start of its sha256.
    `packages_known` is False if either image has no list of packages: then nothing can be said about them.
    """

    a: str
    b: str
    size_a: int
    size_b: int
    added: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    kernel: tuple[str, str] | None = None
    cmdline: tuple[str, str] | None = None
    packages_known: bool = True


def size_of(image: Image) -> int:
    """Bytes of all files of the image."""
    return sum(file.size for file in image.files.values())


def packages_of(image: Image) -> dict[str, str] | None:
    """The image's packages by name, None if it has no list. Raises Invalid if the list is not the catalogued one."""
    if not image.packages:
        return None
    data = read_capped(image.folder, image.packages, LARGEST_PACKAGES)
    check_bytes(image.folder, image.files[image.packages], hashlib.sha256(data).hexdigest(), len(data))
    packages: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        words = "".join(c if c.isprintable() else " " for c in line[:512]).split()
        if not words or words[0].startswith("#"):
            continue
        if len(packages) >= MOST_PACKAGES:
            raise Invalid(f"the list names more than {MOST_PACKAGES} packages", where=f"{image.folder}/{image.packages}")
        packages[words[0][:200]] = (words[1] if len(words) > 1 else "")[:200]
    return packages


def details(image: Image) -> Details:
    """The image with its size and packages."""
    return Details(image, size_of(image), packages_of(image))


def difference(a: Image, b: Image) -> Difference:
    """What a rollout from `a` to `b` would change."""
    before, after = packages_of(a), packages_of(b)
    known = before is not None and after is not None
    old, new = (before or {}, after or {}) if known else ({}, {})
    return Difference(
        a=str(a.ref),
        b=str(b.ref),
        size_a=size_of(a),
        size_b=size_of(b),
        added={name: new[name] for name in sorted(new.keys() - old.keys())},
        removed={name: old[name] for name in sorted(old.keys() - new.keys())},
        changed={name: (old[name], new[name]) for name in sorted(old.keys() & new.keys()) if old[name] != new[name]},
        kernel=_pair(_kernel(a), _kernel(b)),
        cmdline=_pair(a.boot.cmdline if a.boot else "", b.boot.cmdline if b.boot else ""),
        packages_known=known,
    )


def _pair(before: str, after: str) -> tuple[str, str] | None:
    return (before, after) if before != after else None


def _kernel(image: Image) -> str:
    if image.boot is None:
        return ""
    return f"{image.boot.kernel} {image.files[image.boot.kernel].sha256[:12]}"
