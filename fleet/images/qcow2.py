"""Is a disk file only what it seems? A qcow2 header can name other files, and QEMU would open them.

Rules (CVE-2024-32498, CVE-2026-24708): no backing file, no external data file, no encryption, no feature bit that is
unknown here. The header is parsed by hand from the first bytes; no tool that follows the names is ever called. Source of
the layout: the qcow2 specification of QEMU (docs/interop/qcow2).
"""

from __future__ import annotations

import struct

MAGIC = b"QFI\xfb"
HEADER_BYTES = 65_536
"""Read so much: header and extensions live in the first cluster."""

_FIXED = struct.Struct(">4sIQIIQI")
_EXTERNAL_DATA_BIT = 2
_KNOWN_BITS = 0b11111  # dirty, corrupt, external data file, compression type, extended L2
_CORRUPT_BIT = 1
_MOST_EXTENSIONS = 64
_FORBIDDEN = {0x44415441: "an external data file", 0x0537BE77: "encryption"}


def trouble(start: bytes) -> str:
    """"" if the first bytes are the header of a qcow2 file that stands alone, else why not, as the end of a sentence."""
    if len(start) < 72 or start[:4] != MAGIC:
        return "it is not a qcow2 file"
    _, version, backing_offset, backing_size, cluster_bits, _, crypt = _FIXED.unpack_from(start)
    if version not in (2, 3):
        return f"it is qcow2 of version {version}; 2 and 3 are known"
    if backing_offset or backing_size:
        return "it has a backing file, and so is not a whole image; flatten it with qemu-img convert"
    if crypt:
        return "it is encrypted"
    if not 9 <= cluster_bits <= 21:
        return "its cluster size is impossible"
    return _extended(start) if version == 3 else _extensions(start, 72)


def _extended(start: bytes) -> str:
    if len(start) < 104:
        return "its header is cut off"
    (features,) = struct.unpack_from(">Q", start, 72)
    (length,) = struct.unpack_from(">I", start, 100)
    if features >> _EXTERNAL_DATA_BIT & 1:
        return "its data is in an external data file"
    if features >> _CORRUPT_BIT & 1:
        return "it is marked corrupt"
    if features & ~_KNOWN_BITS:
        return "it needs a feature that is not known here"
    if length < 104 or length % 8:
        return "its header length is impossible"
    return _extensions(start, length)


def _extensions(start: bytes, offset: int) -> str:
    """Walk the header extensions: the same two things may also be named there."""
    for _ in range(_MOST_EXTENSIONS):
        if offset + 8 > len(start):
            return "" if offset == len(start) else "its header extensions are cut off"
        kind, length = struct.unpack_from(">II", start, offset)
        if kind == 0:
            return ""
        if kind in _FORBIDDEN:
            return f"it names {_FORBIDDEN[kind]}"
        offset += 8 + (length + 7) // 8 * 8
    return "it has too many header extensions"
