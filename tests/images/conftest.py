"""Image folders made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fleet.core.desired import ImageSource
from fleet.images import FolderCatalogue
from tests.images.folders import MakeImage, manifest_text


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """The folder of family `web`."""
    folder = tmp_path / "images" / "web"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def make_image(family: Path) -> MakeImage:
    """make_image("2", {"root.img": b"..."}, kind=...) -> the version's folder, in the family's folder or in `into`."""

    def make(version: str, files: Mapping[str, bytes] | None = None, *, into: Path | None = None, **words: str) -> Path:
        files = files if files is not None else {"root.img": f"root of {version}".encode() * 100}
        folder = (into or family) / version
        folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        (folder / "image.toml").write_text(manifest_text(version, files, **words))
        return folder

    return make


@pytest.fixture
def catalogue(family: Path, tmp_path: Path) -> Callable[[], FolderCatalogue]:
    """Each call is a start of the daemon: a new catalogue over the same folders and the same state."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    sources = {"web": ImageSource("web", str(family)), "app": ImageSource("app", "", ("1", "2", "10"))}

    def start() -> FolderCatalogue:
        made = FolderCatalogue(sources, str(state))
        made.refresh()
        return made

    return start
