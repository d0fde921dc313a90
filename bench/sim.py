"""The simulator's speed: cases a minute on two processes, with worlds of 12 servers, and the sum of their journals.

Run `python -m bench.sim`; it prints JSON. The same seeds are played in two processes with other hash seeds: the traces must be equal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.sim.runner import run_all

SEEDS = 1000
HASHED = 100
SERVERS = 12
JOBS = 2
ROOT = Path(__file__).resolve().parents[1]


def measure() -> dict[str, Any]:
    """Figures for bench/results.json."""
    figures: dict[str, Any] = {"servers": SERVERS, "processes": JOBS, "seeds": SEEDS}
    for mode in ("safety", "liveness"):
        found = run_all((mode,), 1, SEEDS, JOBS, servers=SERVERS)
        assert not found.broken, found.broken[:3]
        figures[mode] = {"seeds_per_minute": round(found.per_minute), "events_per_case": round(found.events / found.plays)}
    one, other = (_trace(seed) for seed in ("1", "4711"))
    return {**figures, "trace": one, "same_trace_for_two_hash_seeds": one == other}


def _trace(hash_seed: str) -> str:
    done = subprocess.run([sys.executable, "-m", "tests.sim", "--seeds", str(HASHED), "--mode", "both", "--jobs", str(JOBS), "--hash"], cwd=ROOT, text=True,
                          capture_output=True, timeout=600, env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=True)
    return done.stdout.rpartition("trace ")[2].strip()


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
