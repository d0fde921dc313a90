"""The terminal goes away, and nobody is told by a signal: the UI ends all the same, and burns no core."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.terminal import CHILD, DEADLINE, ROOT
from tui.hangup import ENDED


@pytest.mark.parametrize("told", ["nohup", "no-terminal-of-its-own"])
def test_the_ui_ends_with_its_terminal(tmp_path: Path, told: str) -> None:
    master, slave = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", CHILD, str(tmp_path / "no.sock"), str(tmp_path), json.dumps({})]
    deaf = (lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) if told == "nohup" else None
    child = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=ROOT,
                             start_new_session=True, preexec_fn=deaf)  # noqa: PLW1509 - no thread is about yet
    os.close(slave)
    try:
        seen = b""
        while b"?" not in seen or b"help" not in seen:
            seen += os.read(master, 1 << 16)
        os.close(master)
        assert child.wait(DEADLINE) == ENDED
    finally:
        child.kill()
        child.wait()
