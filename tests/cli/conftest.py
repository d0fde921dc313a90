"""A canned daemon, and an environment in which commands find it and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.wire.running import Served, serving


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A canned daemon that this process's commands find."""
    with serving() as served:
        for key in [key for key in os.environ if key.startswith(("ANEW_", "XDG_")) and key != "ANEW_UPDATE_GOLDENS"]:
            monkeypatch.delenv(key)
        monkeypatch.setenv("ANEW_SOCKET", served.socket)
        monkeypatch.setenv("HOME", os.path.dirname(served.socket))
        monkeypatch.setenv("TZ", "UTC")
        monkeypatch.setenv("USER", "tester")
        monkeypatch.setattr("fleet.cli.context.terminal_name", lambda: "pts/7")
        time.tzset()
        yield served
    monkeypatch.undo()
    time.tzset()
