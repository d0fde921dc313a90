"""image.toml as hostile text: each mistake is a sentence with file and key; the digest covers every byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.core.errors import Invalid
from fleet.images import read_manifest
from fleet.images.manifest import version_key
from tests.images.folders import MakeImage, manifest_text

GOOD = manifest_text("1", {"root.img": b"root", "vmlinuz": b"kernel", "packages.txt": b"bash 5\n"})

CASES: list[tuple[str, str, str]] = [
    ('family = "web"', 'family = "Web"', 'family: found "Web", allowed a name of'),
    ('version = "1"', "version = 1", "version: found 1, allowed a version such as"),
    ('version = "1"', 'version = "../1"', 'version: found "../1"'),
    ('version = "1"\n', "", "version: found nothing"),
    ("built_at = 2026-11-21T20:00:00Z", "built_at = 2026-11-21T20:00:00", "built_at: found a time without zone"),
    ("built_at = 2026-11-21T20:00:00Z", 'built_at = "yesterday"', 'built_at: found "yesterday"'),
    ("built_at = 2026-11-21T20:00:00Z", "built_at = 0001-01-01T00:00:00+23:00", "built_at: found"),
    ('kind = "squashfs"', 'kind = "iso"', 'kind: found "iso", allowed one of squashfs, erofs, raw, qcow2, rauc'),
    ('root = "root.img"', 'root = "../root.img"', 'root: found "../root.img", allowed a plain file name'),
    ('root = "root.img"', 'root = "/etc/shadow"', 'root: found "/etc/shadow", allowed a plain file name'),
    ('root = "root.img"', 'root = "extra.img"', "nothing unlisted is used"),
    ('root = "root.img"', 'root = "image.toml"', "allowed a plain file name"),
    ('kernel = "vmlinuz"', "kernel = true", "boot.kernel: found true"),
    ('cmdline = "console=ttyS0"', 'cmdline = "a\\nb"', "boot.cmdline: found"),
    ('cmdline = "console=ttyS0"', 'cmdlin = "x"', "boot.cmdlin: found an unknown key"),
    ('"root.img" = {', '"../root.img" = {', "a plain file name in this folder"),
    ("size = 4 }", "size = -4 }", 'files."root.img".size: found -4'),
    ("size = 4 }", "size = true }", 'files."root.img".size: found true'),
    ("size = 4 }", "size = 4, mode = 7 }", 'files."root.img": found a table'),
    ('kind = "squashfs"', 'kind = "squashfs"\nsignature = "x"', "signature: found an unknown key"),
]


def read(tmp_path: Path, text: str | bytes) -> str:
    """The message that a manifest of this text gets."""
    (tmp_path / "image.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Invalid) as caught:
        read_manifest(str(tmp_path))
    return str(caught.value)


@pytest.mark.parametrize(("old", "new", "words"), CASES)
def test_each_mistake_names_file_and_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    message = read(tmp_path, GOOD.replace(old, new, 1))
    assert words in message
    assert all(line.startswith(f"{tmp_path}/image.toml: ") for line in message.split("\n"))


def test_all_problems_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('"squashfs"', '"iso"').replace('version = "1"', "version = 1").replace("size = 4 }", "size = -1 }")
    assert len(read(tmp_path, text).split("\n")) == 3


@pytest.mark.parametrize(("text", "words"), [
    ("", "family: found nothing"),
    (b"\xff", "not UTF-8"),
    ("family = ", "not TOML"),
    ("x = " + "[" * 30_000, "nested too deeply"),
    ("x" + ".x" * 30_000 + " = 1", "more than 200 dots"),
    ("x = " + "9" * 10_000, "not TOML"),
    ("#" * 70_000, "more than 65536 bytes"),
    ("files = 1", "files: found 1"),
    ("boot = 1", "boot: found 1"),
])
def test_no_manifest_at_all(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert words in read(tmp_path, text)


def test_the_digest_follows_what_is_said_and_not_how(make_image: MakeImage, tmp_path: Path) -> None:
    folder = make_image("1")
    manifest = folder / "image.toml"
    first = read_manifest(str(folder)).ref.digest
    text = manifest.read_text()
    head, files = text.split("[files]\n")
    manifest.write_text("# a remark\n" + "\n".join(reversed(head.split("\n"))) + "\n[files]\n" + files)
    assert read_manifest(str(folder)).ref.digest == first
    for old, new in ((".img", ".raw"), ("20:00:00", "20:00:01"), ('"squashfs"', '"erofs"'), ("size = ", "size = 1")):
        manifest.write_text(text.replace(old, new))
        assert read_manifest(str(folder)).ref.digest != first


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_bytes_are_an_image_or_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    text = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=4) | st.sampled_from([b"[", b'"', b"\n", b"=", b"}"]))
    (tmp_path / "image.toml").write_bytes(bytes(text))
    try:
        read_manifest(str(tmp_path))
    except Invalid as wrong:
        assert str(wrong)


def test_a_manifest_that_is_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "image.toml").symlink_to("/dev/zero")
    with pytest.raises(Invalid, match="symbolic link"):
        read_manifest(str(tmp_path))
    (tmp_path / "image.toml").unlink()
    os.mkfifo(tmp_path / "image.toml")
    with pytest.raises(Invalid, match="not a regular file"):
        read_manifest(str(tmp_path))


@given(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,10}", fullmatch=True)))
def test_any_versions_can_be_sorted(versions: list[str]) -> None:
    assert sorted(versions, key=version_key) == sorted(versions, key=version_key)


def test_numbers_in_versions_are_numbers() -> None:
    assert sorted(["10", "9", "1.10", "1.9", "2-rc", "2", "a"], key=version_key) == ["a", "1.9", "1.10", "2", "2-rc", "9", "10"]
