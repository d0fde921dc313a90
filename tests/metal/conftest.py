"""Real machines and images for the tests of bare metal; `make lab-metal` makes both, nothing is made here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.metal.machines import IMAGES, Machine, NotMade
from tests.metal.metallab import MetalLab

MakeMachine = Callable[..., Machine]


@pytest.fixture(scope="session")
def metal_images() -> Path:
    """The family folder `metal`: versions 1 and 2, and 3-panic, 3-no-sshd, 3-hang, 3-dies."""
    if not (IMAGES / "3-dies" / "image.toml").exists():
        pytest.fail(f"{IMAGES} lacks images; run: make lab-metal")
    return IMAGES


@pytest.fixture(scope="session")
def metal_lab(metal_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetalLab]:
    """Two machines with a daemon over them, which several modules share, since boots take time; `bring` says what a test starts from.

    Their dead-man fires long after a trial that boots on a busy machine, and is proved by a daemon that is killed meanwhile.
    """
    with contextlib.ExitStack() as ends:
        try:
            machines = [ends.enter_context(Machine(number, tmp_path_factory.mktemp(f"rack{number}"), deadman=150)) for number in (1, 2)]
        except NotMade as wrong:
            pytest.fail(str(wrong))
        lab = MetalLab(machines, metal_images)
        ends.callback(lab.close)
        lab.boot()
        yield lab


@pytest.fixture(scope="module")
def make_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeMachine]:
    """Makes machines, off; all are cut off at the end of the module, also after failures."""
    with contextlib.ExitStack() as ends:

        def make(number: int, **options: object) -> Machine:
            folder = tmp_path_factory.mktemp(f"machine-{number}")
            try:
                machine = Machine(number, folder, **options)  # type: ignore[arg-type]
            except NotMade as wrong:
                pytest.fail(str(wrong))
            return ends.enter_context(machine)

        yield make
