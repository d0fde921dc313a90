"""The lab image: what its recipe promises about bytes, and what a guest of it promises about itself."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.lab.guest import Guest, build, identity, new_key, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def manifest(folder: Path) -> dict[str, Any]:
    """The parsed image.toml of one image folder."""
    return tomllib.loads((folder / "image.toml").read_text())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A family folder with the versions these tests use, made (or taken from the cache) once."""
    out = tmp_path_factory.mktemp("images")
    for version, flavour in (("1", "good"), ("2", "good"), ("3-panic", "panic"), ("3-dies", "dies-after:3")):
        done = build(out, version, "--flavour", flavour)
        assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a login key, a server key, and a known_hosts that pins the latter."""
    folder = tmp_path_factory.mktemp("keys")
    new_key(folder / "login")
    (folder / "known_hosts").write_text(f"web-1 {new_key(folder / 'host')}\n")
    return folder


def test_the_same_recipe_gives_the_same_bytes(images: Path, tmp_path: Path) -> None:
    done = build(tmp_path, "1", "--no-cache")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "1" / "image.toml").read_bytes() == (images / "1" / "image.toml").read_bytes()


@pytest.mark.parametrize("version", ["1", "2", "3-panic", "3-dies"])
def test_the_manifest_tells_the_truth(images: Path, version: str) -> None:
    folder = images / version
    found = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
        for path in folder.iterdir()
        if path.name != "image.toml"
    }
    said = manifest(folder)
    assert said["files"] == found
    assert (said["family"], said["version"], said["kind"]) == ("web", version, "squashfs")
    assert {said["root"], said["packages"], said["boot"]["kernel"], said["boot"]["initrd"]} == set(found)


def test_a_second_build_is_served_from_the_cache(images: Path, tmp_path: Path) -> None:
    before = (images / "1" / "root.squashfs").stat()
    again, elsewhere = build(images, "1"), build(tmp_path, "1")
    after = (images / "1" / "root.squashfs").stat()
    assert (again.returncode, again.stderr) == (0, ""), "nothing to do, nothing said"
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert (elsewhere.returncode, elsewhere.stderr) == (0, "")
    assert manifest(tmp_path / "1") == manifest(images / "1")


def test_a_spoilt_image_does_not_spoil_the_cache(images: Path, tmp_path: Path) -> None:
    assert build(tmp_path, "1").returncode == 0
    (tmp_path / "1" / "root.squashfs").write_bytes(b"rot")
    assert build(tmp_path / "other", "1").returncode == 0
    root = (tmp_path / "other" / "1" / "root.squashfs").read_bytes()
    assert root == (images / "1" / "root.squashfs").read_bytes()


def test_two_versions_can_be_told_apart(images: Path) -> None:
    one, two = manifest(images / "1"), manifest(images / "2")
    assert one["files"]["root.squashfs"] != two["files"]["root.squashfs"]
    assert one["files"]["vmlinuz"] == two["files"]["vmlinuz"]
    old, new = (set((images / v / "packages.txt").read_text().splitlines()) for v in ("1", "2"))
    assert old - new == {"anew-lab 1"}
    assert sorted(line.split()[0] for line in new - old) == ["anew-lab", "tree"]


@pytest.mark.parametrize("wrong", ["", "../1", "one", "1/2", "1 2"])
def test_a_version_that_is_no_version_is_refused(tmp_path: Path, wrong: str) -> None:
    done = build(tmp_path / "out", wrong)
    assert done.returncode == 1
    assert "--version" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_server_keeps_its_identity_and_its_data_over_a_new_version(images: Path, keys: Path, tmp_path: Path) -> None:
    hostile = ("hostname=$(reboot)", "nonsense", "authorized-keys-too=AAAA", "x=`reboot`")
    blob = identity(tmp_path / "identity", keys / "login", keys / "host", *hostile)
    disk = tmp_path / "state.raw"
    with disk.open("wb") as file:
        file.truncate(64 << 20)

    with Guest(images / "1", tmp_path, blob=blob, data=disk) as guest:
        guest.wait_for("READY 1")
        ask = 'hostname; grep " / " /proc/mounts; touch /new 2>&1; echo kept >/data/state/note; sync; poweroff'
        said = guest.ssh(keys / "login", keys / "known_hosts", ask)
        assert said.stdout.startswith("web-1\n/dev/vda / squashfs ro,"), said
        assert "Read-only file system" in said.stdout
        assert "hostname is not a name" in guest.console()
        guest.wait_end()

    with Guest(images / "2", tmp_path, blob=blob, data=disk) as guest:
        guest.wait_for("READY 2")
        ask = "cat /data/state/note /etc/os-release; wget -qO- http://127.0.0.1:8080/healthz"
        said = guest.ssh(keys / "login", keys / "known_hosts", ask)
        assert said.stdout.startswith("kept\n"), said
        assert "IMAGE_VERSION=2\n" in said.stdout
        assert said.stdout.endswith("ok 2\n")


def test_a_disk_with_something_on_it_is_never_formatted(images: Path, tmp_path: Path) -> None:
    disk = tmp_path / "foreign.raw"
    content = b"\0" * 700_000 + b"somebody's bytes" + b"\0" * (32 << 20)
    disk.write_bytes(content[: 32 << 20])
    before = hashlib.sha256(disk.read_bytes()).hexdigest()
    with Guest(images / "1", tmp_path, data=disk) as guest:
        guest.wait_for("NOT READY 1")
        assert "is not blank and holds no ext4; left alone" in guest.console()
        assert "no identity given" in guest.console()
        assert guest.banner() == b"", "a server without its data must not look healthy"
    assert hashlib.sha256(disk.read_bytes()).hexdigest() == before


def test_a_panic_is_told_on_the_console_and_ends_the_machine(images: Path, tmp_path: Path) -> None:
    with Guest(images / "3-panic", tmp_path) as guest:
        guest.wait_end()
        assert "panics at boot, on purpose" in guest.console()
        assert "Kernel panic - not syncing" in guest.console()


def test_a_short_lived_server_answers_first_and_dies_for_good(images: Path, tmp_path: Path) -> None:
    with Guest(images / "3-dies", tmp_path) as guest:
        guest.wait_for("READY 3-dies")
        wait_until(lambda: guest.banner().startswith(b"SSH-"), 60, "the first answer")
        guest.wait_for("died 3 s after its first connection")
        assert guest.banner() == b""
        assert guest.process.poll() is None, "the machine itself lives on"
