"""The simulator's seeds: those that broke a promise once, two thousand that are always the same, and a minute of fresh ones, in each mode.

The fresh ones are others with every commit, and for one commit the same everywhere: what is found is found again by whoever looks into it. They are
for `make test-long` as long as one case in some thousands breaks a promise: that is work for somebody, not the fault of a change that CI looks at.

`ANEW_SIM_SEEDS` and `ANEW_SIM_SECONDS` make it more or less (`make sim SEEDS=10000` is the way to play many).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sim.case import Case, read
from tests.sim.menu import draw
from tests.sim.play import play
from tests.sim.runner import MODES, Kept, cores, kept_seeds, report, run_all

ROOT = Path(__file__).resolve().parents[2]
FIXED = int(os.environ.get("ANEW_SIM_SEEDS", "2000"))
SECONDS = float(os.environ.get("ANEW_SIM_SECONDS", "60"))


def fresh_start() -> int:
    """From the id of the tree that is checked out; by the clock where there is none."""
    told = subprocess.run(["git", "rev-parse", "HEAD^{tree}"], cwd=ROOT, capture_output=True, text=True, check=False)
    return 1_000_000 + (int(told.stdout[:12], 16) if told.returncode == 0 else int(time.time())) % 1_000_000_000


@pytest.mark.parametrize("kept", kept_seeds(), ids=lambda kept: f"{kept.mode}-{kept.seed}-{kept.broke}")
def test_what_broke_a_promise_once_breaks_none_any_more(kept: Kept) -> None:
    assert play(kept.case).broken == ""
    assert play(draw(kept.seed, kept.mode)).broken == ""


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_two_thousand_seeds_break_no_promise(mode: str) -> None:
    found = run_all((mode,), 1, FIXED, cores())  # type: ignore[arg-type]
    assert found.plays == FIXED
    assert not found.broken, "\n".join(report(found))


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_a_minute_of_fresh_seeds_breaks_no_promise(mode: str) -> None:
    start = fresh_start()
    print(f"fresh seeds from {start}")
    found = run_all((mode,), start, 0, cores(), SECONDS)  # type: ignore[arg-type]
    assert not found.broken, "\n".join([f"from seed {start}", *report(found)])


def test_a_seed_is_played_the_same_whatever_the_hash_seed_is() -> None:
    def trace(hash_seed: str) -> str:
        done = subprocess.run([sys.executable, "-m", "tests.sim", "--seeds", "25", "--mode", "both", "--jobs", "1", "--hash"], cwd=ROOT, text=True,
                              capture_output=True, timeout=300, env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=False)
        assert "trace " in done.stdout, done.stdout + done.stderr
        return done.stdout.rpartition("trace ")[2].strip()

    one, other = trace("1"), trace("4711")
    assert one == other


def test_a_case_is_what_its_words_say() -> None:
    for mode in MODES:
        for seed in range(1, 200):
            case = draw(seed, mode)
            assert read(repr(case)) == case
    assert repr(Case()) == "Case()"
