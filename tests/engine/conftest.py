"""What tests of real daemons share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.daemons import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home with a daemon in it."""
    made = Home(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()
