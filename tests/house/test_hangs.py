"""A test that hangs must fail by itself, and say where: a run of CI that is cut off says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HANGING = """
import asyncio, threading, pytest

async def door(): await asyncio.get_running_loop().create_future()
async def house(): await door()

@pytest.mark.timeout(0.5)
async def test_a_coroutine(): await house()

@pytest.mark.timeout(0.5)
def test_a_thread(): threading.Event().wait()

def test_after(): pass
"""


def test_a_test_that_hangs_fails_with_where_it_waits_and_the_next_one_runs(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    line = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "tests.conftest", "-p", "no:cacheprovider"]
    done = subprocess.run([*line, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "in house\n" in done.stdout and "in door\n" in done.stdout
    assert "threading.Event().wait()" in done.stdout
