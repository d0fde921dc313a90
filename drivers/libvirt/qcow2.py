"""The head of a qcow2 file: read by ourselves, since every tool that "looks" at one also follows what it
points to.

Source: QEMU docs/interop/qcow2.txt. An image with a backing file, an external data file or encryption is
refused.
"""

from __future__ import annotations

import struct

from fleet.core.errors import Permanent

_HEAD = struct.Struct(">4sIQIIQI")
_FEATURES = struct.Struct(">Q")
_EXTERNAL_DATA = 1 << 2


def virtual_size(path: str) -> int:
    """The disk's size in bytes as the guest sees it. Permanent if the file points outside itself.

    Raises OSError.
    """
    with open(path, "rb") as file:
        head = file.read(80)
    if len(head) < 72 or not head.startswith(b"QFI\xfb"):
        raise Permanent(
            "this is no qcow2 file, though its image.toml says so; build the image again", where=path
        )
    _, version, backing, _, _, size, crypt = _HEAD.unpack_from(head)
    fault = ""
    if version not in (2, 3):
        fault = f"is of version {version}"
    elif backing:
        fault = "has a backing file"
    elif crypt:
        fault = "is encrypted"
    elif version == 3 and _FEATURES.unpack_from(head, 72)[0] & _EXTERNAL_DATA:
        fault = "has an external data file"
    if fault:
        raise Permanent(
            f"this qcow2 file {fault}; only one that stands alone is booted: flatten it with "
            "qemu-img convert",
            where=path,
        )
    return int(size)
