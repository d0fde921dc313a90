"""Copy an image folder into its family's folder: whole or not at all, and only the bytes that the manifest lists.

Bytes are hashed as they are written (not before: the source could change in between), flushed to disk, read back, and
the folder gets its name only then.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from fleet.core.errors import Invalid
from fleet.core.observed import Image, ImageFile
from fleet.images.files import MANIFEST, check_bytes, hash_file, read_capped
from fleet.images.manifest import LARGEST_MANIFEST, read_manifest


def copy_in(image: Image, family_folder: str) -> str:
    """The new folder's path. Raises Invalid; then nothing is left behind."""
    target = os.path.join(family_folder, image.ref.version)
    if os.path.lexists(target):
        raise Invalid("this version is there already; a version never changes", where=target)
    half = ""
    try:
        os.makedirs(family_folder, exist_ok=True)
        half = tempfile.mkdtemp(prefix=f".{image.ref.version}.", dir=family_folder)
        _copy_manifest(image, half)
        for file in image.files.values():
            _copy_file(image.folder, half, file)
        os.chmod(half, 0o755)  # noqa: S103 - the hypervisor opens the files as another user
        _flush_folder(half)
        os.rename(half, target)
        half = ""
        _flush_folder(family_folder)
    except OSError as wrong:
        words = wrong.strerror or "the system refused"
        raise Invalid(f"the image cannot be copied here: {words}", where=family_folder) from None
    finally:
        if half:
            shutil.rmtree(half, ignore_errors=True)
    return target


def _copy_manifest(image: Image, half: str) -> None:
    data = read_capped(image.folder, MANIFEST, LARGEST_MANIFEST)
    with open(os.path.join(half, MANIFEST), "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if read_manifest(half).ref.digest != image.ref.digest:
        raise Invalid("the manifest changed while the image was copied", where=os.path.join(image.folder, MANIFEST))


def _copy_file(source: str, half: str, wanted: ImageFile) -> None:
    """Hash while writing, then read back what arrived."""
    with open(os.path.join(half, wanted.name), "xb") as file:
        sha256, stamp = hash_file(source, wanted.name, into=file)
        check_bytes(source, wanted, sha256, stamp.size)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o644)
    sha256, stamp = hash_file(half, wanted.name)
    check_bytes(half, wanted, sha256, stamp.size)


def _flush_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
