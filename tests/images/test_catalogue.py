"""The catalogue: whole images are found, broken ones are named and hide no other, a version is its digest for ever."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.core.desired import ImageSource
from fleet.core.errors import Invalid
from fleet.images import FolderCatalogue
from fleet.images.memory import FILE
from fleet.ports import Catalogue
from tests.images.folders import MakeImage, manifest_text

Start = Callable[[], FolderCatalogue]


def only_problem(catalogue: FolderCatalogue) -> str:
    (bad,) = catalogue.problems()
    return bad.problem


def test_versions_are_found_and_sorted_as_people_sort(make_image: MakeImage, catalogue: Start) -> None:
    for version in ("10", "2", "1.10", "1.9", "2-rc"):
        make_image(version)
    listed = [str(image.ref) for image in catalogue().list()]
    assert listed == ["app/1", "app/2", "app/10", "web/1.9", "web/1.10", "web/2", "web/2-rc", "web/10"]


def test_newest_is_built_last_then_the_highest_version(make_image: MakeImage, catalogue: Start) -> None:
    make_image("9", built_at="2026-01-01T00:00:00Z")
    make_image("2", built_at="2026-02-01T00:00:00Z")
    make_image("10", built_at="2026-02-01T01:00:00+01:00")
    found = catalogue()
    assert found.newest("web").ref.version == "10"
    assert found.newest("app").ref.version == "10"


def test_simulated_versions_have_digests_and_no_files(catalogue: Start) -> None:
    found = catalogue()
    image = found.get("app", "2")
    assert image.kind == "simulated" and image.ref.digest.startswith("sha256:") and not image.files
    assert found.by_digest(image.ref.digest) == image
    found.verify(image.ref)


def test_what_does_not_exist_is_answered_with_what_does(make_image: MakeImage, catalogue: Start) -> None:
    make_image("1")
    found = catalogue()
    with pytest.raises(Invalid, match="web/7: there is no such version; the catalogue has 1"):
        found.get("web", "7")
    with pytest.raises(Invalid, match="there is no such image family; the fleet file has app, web"):
        found.get("wab", "1")
    assert found.by_digest("sha256:" + "0" * 64) is None


def altered(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def truncated(path: Path) -> None:
    os.truncate(path, 10)


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def made_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE = [(altered, "was altered"), (truncated, "is truncated: it has 10 bytes"), (grown, "is too long"), (Path.unlink, "missing"),
          (linked, "symbolic link"), (made_a_folder, "not a regular file"), (made_a_pipe, "not a regular file")]


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=[words for _, words in DAMAGE])
@pytest.mark.parametrize("when", ["before", "after"])
def test_damage_names_the_file_and_hides_no_other_version(
    make_image: MakeImage, catalogue: Start, damage: Callable[[Path], None], words: str, when: str
) -> None:
    make_image("1")
    path = make_image("2") / "root.img"
    ref = catalogue().get("web", "2").ref if when == "after" else None
    if ref is not None:
        running = catalogue()
        damage(path)
        with pytest.raises(Invalid, match=words) as caught:
            running.verify(ref)
        assert str(path) in str(caught.value)
    else:
        damage(path)
    found = catalogue()
    assert words in only_problem(found) and str(path) in only_problem(found)
    assert [image.ref.version for image in found.list() if image.ref.family == "web"] == ["1"]
    with pytest.raises(Invalid, match=words):
        found.get("web", "2")
    assert found.newest("web").ref.version == "1"


def test_a_same_sized_change_with_its_old_time_put_back_is_still_found(make_image: MakeImage, catalogue: Start) -> None:
    path = make_image("1") / "root.img"
    catalogue()
    times = path.stat()
    altered(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "was altered" in only_problem(catalogue())


def test_a_version_keeps_its_digest_for_ever(make_image: MakeImage, catalogue: Start) -> None:
    folder = make_image("1")
    first = catalogue().get("web", "1").ref
    shutil.rmtree(folder)
    assert not [image for image in catalogue().list() if image.ref.family == "web"]
    make_image("1", {"root.img": b"another root"})
    found = catalogue()
    assert "root.img changed after the image was catalogued" in only_problem(found)
    assert "A version never changes" in only_problem(found)
    shutil.rmtree(folder)
    make_image("1")
    assert catalogue().get("web", "1").ref == first


def test_a_changed_manifest_is_found_by_verify_and_by_the_next_start(make_image: MakeImage, catalogue: Start) -> None:
    folder = make_image("1")
    running = catalogue()
    ref = running.get("web", "1").ref
    (folder / "image.toml").write_text((folder / "image.toml").read_text().replace("20:00:00Z", "21:00:00Z"))
    with pytest.raises(Invalid, match="image.toml: the manifest changed after the image was catalogued"):
        running.verify(ref)
    assert "image.toml changed after the image was catalogued" in only_problem(catalogue())


def test_unlisted_files_are_neither_used_nor_counted(make_image: MakeImage, catalogue: Start) -> None:
    folder = make_image("1")
    before = catalogue().get("web", "1")
    (folder / "extra.img").write_bytes(b"x" * 4096)
    found = catalogue()
    assert found.get("web", "1") == before and set(before.files) == {"root.img"}
    assert found.problems() == ()


def test_a_second_start_hashes_nothing(
    make_image: MakeImage, catalogue: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_image("1")
    catalogue()

    def never(*_: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr("fleet.images.catalogue.hash_file", never)
    assert catalogue().get("web", "1")


def test_the_state_file_is_private_and_damage_to_it_is_told(make_image: MakeImage, catalogue: Start, tmp_path: Path) -> None:
    make_image("1")
    catalogue()
    state = tmp_path / "state" / FILE
    assert state.stat().st_mode & 0o777 == 0o600
    for text in ("", "[", "[]", '{"records": 1, "hashes": {}}', '{"records": {"web/1": {"digest": "x", "files": {}}}, "hashes": {}}'):
        state.write_text(text)
        with pytest.raises(Invalid, match="this file is damaged"):
            catalogue()


def test_a_family_folder_that_is_missing_is_one_problem(catalogue: Start, family: Path) -> None:
    family.rmdir()
    found = catalogue()
    assert "cannot be read" in only_problem(found)
    with pytest.raises(Invalid, match="cannot be read"):
        found.newest("web")
    assert len(found.list()) == 3


def test_folders_that_lie_about_themselves(make_image: MakeImage, catalogue: Start, family: Path) -> None:
    make_image("1").rename(family / "5")
    assert "image.toml says it is web/1, the folder says web/5" in only_problem(catalogue())
    shutil.rmtree(family / "5")
    (family / "current").symlink_to(make_image("1"))
    assert "symbolic link" in only_problem(catalogue())


def test_add_copies_only_what_is_listed_and_leaves_nothing_when_it_fails(
    make_image: MakeImage, catalogue: Start, family: Path, tmp_path: Path
) -> None:
    made = make_image("3", into=tmp_path / "made")
    (made / "extra").write_bytes(b"x")
    found = catalogue()
    image = found.add(str(made))
    assert sorted(os.listdir(image.folder)) == ["image.toml", "root.img"] and image.folder == str(family / "3")
    found.verify(image.ref)
    with pytest.raises(Invalid, match="is there already"):
        found.add(str(made))
    bad = make_image("4", into=tmp_path / "made")
    altered(bad / "root.img")
    with pytest.raises(Invalid, match="was altered"):
        found.add(str(bad))
    assert os.listdir(family) == ["3"]
    shutil.rmtree(family / "3")
    other = make_image("3", {"root.img": b"other"}, into=tmp_path / "other")
    with pytest.raises(Invalid, match="A version never changes"):
        found.add(str(other))


def test_add_needs_a_family_with_a_folder(make_image: MakeImage, catalogue: Start, tmp_path: Path) -> None:
    found = catalogue()
    with pytest.raises(Invalid, match="no folder for images of family \"app\""):
        found.add(str(make_image("3", into=tmp_path / "made", family="app")))
    with pytest.raises(Invalid, match="missing"):
        found.add(str(tmp_path / "nothing"))


def test_diff_and_show(make_image: MakeImage, catalogue: Start) -> None:
    make_image("1", {"root.img": b"1", "vmlinuz": b"k1", "packages.txt": b"bash 5.2\ncurl 7.88\n\x1b[2Jevil \x07 1\n"})
    make_image("2", {"root.img": b"22", "vmlinuz": b"k2", "packages.txt": b"bash 5.3\n# remark\n\nvim 9\n"})
    found = catalogue()
    diff = found.diff("web", "1", "2")
    assert diff.added == {"vim": "9"} and diff.changed == {"bash": ("5.2", "5.3")}
    assert list(diff.removed) == ["[2Jevil", "curl"]
    assert diff.kernel is not None and diff.cmdline is None and diff.packages_known
    shown = found.show("web", "2")
    assert shown.packages == {"bash": "5.3", "vim": "9"} and shown.size == sum(f.size for f in shown.image.files.values())
    assert found.show("app", "1").packages is None
    assert not found.diff("app", "1", "2").packages_known


def test_a_manifest_of_another_family_is_refused_in_the_folder(make_image: MakeImage, catalogue: Start, family: Path) -> None:
    folder = make_image("1")
    (folder / "image.toml").write_text(manifest_text("1", {"root.img": b"x"}, family="db"))
    assert "image.toml says it is db/1" in only_problem(catalogue())


def test_it_is_the_port_s_catalogue(catalogue: Start) -> None:
    port: Catalogue = catalogue()
    assert [str(image.ref) for image in port.list()] == ["app/1", "app/2", "app/10"]


def test_a_reloaded_fleet_file_brings_other_families(make_image: MakeImage, catalogue: Start, family: Path) -> None:
    make_image("1")
    running = catalogue()
    running.refresh({"web": ImageSource("web", str(family)), "new": ImageSource("new", "", ("7",))})
    assert [str(image.ref) for image in running.list()] == ["new/7", "web/1"]


def test_a_bad_manifest_is_one_sentence_line(make_image: MakeImage, catalogue: Start) -> None:
    folder = make_image("1")
    (folder / "image.toml").write_text("family = 1\nversion = 2\n")
    assert only_problem(catalogue()).isprintable()
