"""qcow2 headers that would make QEMU open other files are refused before anything else looks at them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.images import FolderCatalogue
from fleet.images.qcow2 import trouble
from tests.images.folders import MakeImage


def header(*, version: int = 3, backing: int = 0, crypt: int = 0, features: int = 0, extension: int = 0, length: int = 104) -> bytes:
    """The first cluster of a qcow2 file."""
    start = struct.pack(">4sIQIIQI", b"QFI\xfb", version, backing, 5 if backing else 0, 16, 1 << 20, crypt)
    start += bytes(72 - len(start))
    if version == 3:
        start += struct.pack(">QQQII", features, 0, 0, 4, length)
    if extension:
        start += struct.pack(">II8s", extension, 8, b"evil.raw")
    return start + bytes(65_536 - len(start))


BAD = [
    (header(backing=512), "has a backing file"), (header(version=2, backing=512), "has a backing file"),
    (header(features=1 << 2), "external data file"), (header(extension=0x44415441), "external data file"),
    (header(version=2, extension=0x44415441), "external data file"), (header(crypt=2), "is encrypted"),
    (header(extension=0x0537BE77), "encryption"), (header(features=1 << 1), "corrupt"),
    (header(features=1 << 9), "feature that is not known"), (header(version=4), "version 4"),
    (header(length=3), "header length"), (b"hsqs", "not a qcow2 file"), (b"", "not a qcow2 file"),
    (header()[:90], "cut off"),
]


@pytest.mark.parametrize(("start", "words"), BAD)
def test_refused(start: bytes, words: str) -> None:
    assert words in trouble(start)


def test_whole_ones_pass() -> None:
    assert trouble(header()) == "" and trouble(header(version=2)) == ""


@given(st.binary(max_size=300))
def test_any_bytes_are_judged(tail: bytes) -> None:
    assert isinstance(trouble(b"QFI\xfb" + tail), str)


def test_the_catalogue_names_the_refused_file(make_image: MakeImage, catalogue: Callable[[], FolderCatalogue]) -> None:
    make_image("1", {"root.img": header()}, kind="qcow2")
    make_image("2", {"root.img": header(backing=512)}, kind="qcow2")
    make_image("3", {"root.img": header()}, kind="raw")
    found = catalogue()
    assert [image.ref.version for image in found.list() if image.ref.family == "web"] == ["1"]
    first, second = found.problems()
    assert "2/root.img: the file is refused: it has a backing file" in first.problem
    assert "3/root.img: the file is refused: it is qcow2, though image.toml says" in second.problem


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_against_files_that_qemu_made(tmp_path: Path) -> None:
    def make(name: str, *options: str) -> str:
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, name], cwd=tmp_path, check=True, timeout=60)
        return trouble((tmp_path / name).read_bytes()[:65_536])

    (tmp_path / "base.raw").write_bytes(bytes(1 << 20))
    assert make("plain.qcow2", "-o", "size=1M") == ""
    assert make("old.qcow2", "-o", "size=1M,compat=0.10") == ""
    assert "backing file" in make("over.qcow2", "-b", "base.raw", "-F", "raw")
    assert "external data" in make("out.qcow2", "-o", "size=1M,data_file=out.raw")
