"""The catalogue over the fleet file's image families: folders of versions, and versions that exist only in the sim.

Rules: an image is catalogued only when every listed file has the listed bytes; from then on its version means its
digest, for ever; a broken version is told of and hides no other. All functions block, some for as long as hashing takes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.core.desired import ImageSource
from fleet.core.errors import Invalid
from fleet.core.grammar import describe
from fleet.core.observed import Image, ImageRef
from fleet.images import contents, intake
from fleet.images.files import MANIFEST, Stamp, check_bytes, hash_file, opened, stamp_of
from fleet.images.manifest import VERSION, read_manifest, simulated, version_key
from fleet.images.memory import Memory, recall
from fleet.images.qcow2 import HEADER_BYTES, MAGIC, trouble

MOST_VERSIONS = 10_000


@dataclass(frozen=True, slots=True)
class Broken:
    """A version that cannot be used; `version` is "" if the whole family cannot be read. `problem` is a sentence."""

    family: str
    version: str
    problem: str


@dataclass(frozen=True, slots=True)
class _Shelf:
    """One reading of all folders; replaced as a whole, so that readers in other threads see one or the other."""

    images: Mapping[tuple[str, str], Image]
    broken: Mapping[tuple[str, str], Broken]


class FolderCatalogue:
    """Implements `fleet.ports.Catalogue`. Nothing is known before the first `refresh`."""

    def __init__(self, sources: Mapping[str, ImageSource], state_dir: str) -> None:
        self._sources = dict(sources)
        self._state_dir = state_dir
        self._writing = threading.Lock()
        self._shelf = _Shelf({}, {})

    def refresh(self, sources: Mapping[str, ImageSource] | None = None) -> None:
        """Read all folders again (of new sources, once the fleet file was reloaded), hashing what is new or touched.

        Raises Invalid only if `catalogue.json` itself is damaged or cannot be written.
        """
        with self._writing:
            if sources is not None:
                self._sources = dict(sources)
            memory = recall(self._state_dir)
            images: dict[tuple[str, str], Image] = {}
            broken: dict[tuple[str, str], Broken] = {}
            for source in self._sources.values():
                for version in source.simulated:
                    images[source.family, version] = simulated(source.family, version)
                if source.path:
                    _read_family(source, memory, images, broken)
            memory.forget_files({os.path.join(image.folder, name) for image in images.values() for name in image.files})
            memory.save()
            self._shelf = _Shelf(images, broken)

    def get(self, family: str, version: str) -> Image:
        """The image; raises Invalid for an unknown or broken one, naming what there is."""
        shelf = self._shelf
        image = shelf.images.get((family, version))
        if image is not None:
            return image
        where = f"{describe(family)[1:-1]}/{describe(version)[1:-1]}"
        bad = shelf.broken.get((family, version)) or shelf.broken.get((family, ""))
        if bad is not None:
            raise Invalid(bad.problem, where=where)
        if family not in self._sources:
            families = ", ".join(sorted(self._sources)) or "none"
            raise Invalid(f"there is no such image family; the fleet file has {families}", where=where)
        versions = ", ".join(image.ref.version for image in self.list() if image.ref.family == family) or "none"
        raise Invalid(f"there is no such version; the catalogue has {versions}", where=where)

    def newest(self, family: str) -> Image:
        """Latest built_at, then highest version. Raises Invalid if the family has no whole version."""
        images = [image for image in self.list() if image.ref.family == family]
        if not images:
            reasons = [bad.problem for bad in self.problems() if bad.family == family]
            words = f"none of its versions can be used: {reasons[0]}" if reasons else "it has no version"
            raise Invalid(words, where=family)
        return max(images, key=lambda image: (image.built_at, version_key(image.ref.version)))

    def list(self) -> tuple[Image, ...]:
        """All whole images, sorted by family and version (2 before 10)."""
        return tuple(sorted(self._shelf.images.values(), key=lambda image: (image.ref.family, version_key(image.ref.version))))

    def by_digest(self, digest: str) -> Image | None:
        """The image with this digest, if it is catalogued."""
        return next((image for image in self._shelf.images.values() if image.ref.digest == digest), None)

    def problems(self) -> tuple[Broken, ...]:
        """The versions that cannot be used, and why."""
        return tuple(sorted(self._shelf.broken.values(), key=lambda bad: (bad.family, version_key(bad.version))))

    def verify(self, ref: ImageRef) -> None:
        """Hash every file of the image again, whatever was hashed before. Raises Invalid naming the first wrong file."""
        image = self.get(ref.family, ref.version)
        if image.ref.digest != ref.digest:
            raise Invalid(f"the catalogue has another image under this name: {image.ref.digest[:19]}…", where=str(ref))
        if image.kind == "simulated":
            return
        now = read_manifest(image.folder)
        if now.ref.digest != ref.digest:
            where = os.path.join(image.folder, MANIFEST)
            raise Invalid("the manifest changed after the image was catalogued", where=where)
        for file in image.files.values():
            sha256, stamp = hash_file(image.folder, file.name)
            check_bytes(image.folder, file, sha256, stamp.size)
        _check_kind(image)

    def add(self, path: str) -> Image:
        """Copy an image folder into its family's folder, hashing what is written, and catalogue it. Raises Invalid."""
        image = read_manifest(path)
        source = self._sources.get(image.ref.family)
        if source is None or not source.path:
            raise Invalid(
                f"the fleet file has no folder for images of family {describe(image.ref.family)}; "
                f"add [images.{image.ref.family}] with a path", where=path)
        known = recall(self._state_dir)
        refused = known.admit(image)
        if refused:
            raise Invalid(refused, where=str(image.ref))
        _check_kind(image)
        intake.copy_in(image, source.path)
        self.refresh()
        return self.get(image.ref.family, image.ref.version)

    def show(self, family: str, version: str) -> contents.Details:
        """The image with its size and packages."""
        return contents.details(self.get(family, version))

    def diff(self, family: str, a: str, b: str) -> contents.Difference:
        """From version `a` to version `b`."""
        return contents.difference(self.get(family, a), self.get(family, b))


def _read_family(
    source: ImageSource,
    memory: Memory,
    images: dict[tuple[str, str], Image],
    broken: dict[tuple[str, str], Broken],
) -> None:
    try:
        names = sorted(entry.name for entry in _entries(source.path))
    except OSError as wrong:
        words = f"the folder {source.path} cannot be read: {wrong.strerror}"
        broken[source.family, ""] = Broken(source.family, "", words)
        return
    for name in names[:MOST_VERSIONS]:
        try:
            images[source.family, name] = _read_version(source, name, memory)
        except Invalid as wrong:
            shown = name if VERSION.fullmatch(name) else describe(name)
            broken[source.family, name] = Broken(source.family, shown, "; ".join(str(wrong).split("\n")))


def _entries(path: str) -> Iterable[os.DirEntry[str]]:
    """Folders of versions; what begins with a dot is a copy under way, and loose files are nobody's version."""
    with os.scandir(path) as entries:
        return [entry for entry in entries if not entry.name.startswith(".") and (entry.is_symlink() or entry.is_dir())]


def _read_version(source: ImageSource, name: str, memory: Memory) -> Image:
    folder = os.path.join(source.path, name)
    if os.path.islink(folder):
        raise Invalid("this is a symbolic link; a version is a folder of its own", where=folder)
    image = read_manifest(folder)
    if (image.ref.family, image.ref.version) != (source.family, name):
        raise Invalid(f"image.toml says it is {image.ref}, the folder says {source.family}/{name}", where=folder)
    refused = memory.admit(image) if str(image.ref) in memory.records else ""
    if refused:
        raise Invalid(refused, where=folder)
    for file in image.files.values():
        sha256, stamp = _hash_once(folder, file.name, file.size, memory)
        check_bytes(folder, file, sha256, stamp.size)
    _check_kind(image)
    memory.admit(image)
    return image


def _hash_once(folder: str, name: str, size: int, memory: Memory) -> tuple[str, Stamp]:
    """(sha256, stamp), from memory if the file is untouched; one of another size is not hashed at all."""
    path = os.path.join(folder, name)
    with opened(folder, name) as file:
        stamp = stamp_of(file)
    known = memory.hashed(path, stamp)
    if known or stamp.size != size:
        return known, stamp
    sha256, stamp = hash_file(folder, name)
    memory.remember_hash(path, stamp, sha256)
    return sha256, stamp


def _check_kind(image: Image) -> None:
    """A disk that would make QEMU open other files, or that is not of the format it will be attached as, is refused."""
    if image.kind not in ("qcow2", "raw"):
        return
    with opened(image.folder, image.root) as file:
        start = file.read(HEADER_BYTES)
    where = os.path.join(image.folder, image.root)
    if image.kind == "raw" and start[:4] == MAGIC:
        raise Invalid('the file is refused: it is qcow2, though image.toml says kind = "raw"', where=where)
    words = trouble(start) if image.kind == "qcow2" else ""
    if words:
        raise Invalid(f"the file is refused: {words}", where=where)
