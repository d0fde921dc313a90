"""Start-up of one-shot commands: CPU time of `anew --help` and `anew status`, as multiples of `python -c pass`.

CPU time (user + system) of the child, not wall time, so that a busy machine measures the same; the median of RUNS, taken
in turns. Byte code is cached, as pip leaves it. `anew status` asks a real daemon on a fleet of three simulated servers, which is started and stopped here.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 15
GOAL = 3.5
PROGRAM = "import sys; from fleet.cli.main import main; sys.exit(main())"
FLEET = """
[fleet]
name = "bench"
[images.app]
simulated = ["1"]
[pools.app]
driver = "sim"
servers = 3
image = "app"
"""


def _cpu_seconds(argv: list[str], environment: dict[str, str]) -> float:
    """CPU seconds of one run, which must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure() -> dict[str, float | int]:
    """CPU seconds (medians) and their ratios; `goal` is the ratio not to be exceeded."""
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        fleet = Path(folder, "fleet.toml")
        fleet.write_text(FLEET)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANEW_")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment |= {"PYTHONPYCACHEPREFIX": os.path.join(folder, "bytecode")}
        environment |= {"ANEW_STATE": os.path.join(folder, "state"), "ANEW_FLEET": str(fleet)}
        anew = [sys.executable, "-c", PROGRAM]
        commands = {"python": [sys.executable, "-c", "pass"], "help": [*anew, "--help"], "status": [*anew, "status"]}
        for argv in commands.values():  # fills the cache of byte code, and `status` starts the daemon
            subprocess.run(argv, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=60)
        try:
            taken: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(RUNS):
                for name, argv in commands.items():
                    taken[name].append(_cpu_seconds(argv, environment))
        finally:
            subprocess.run([*anew, "daemon", "stop"], env=environment, stdout=subprocess.DEVNULL, check=True, timeout=60)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return {
        "python_cpu_seconds": round(medians["python"], 4), "help_cpu_seconds": round(medians["help"], 4),
        "status_cpu_seconds": round(medians["status"], 4), "help_ratio": round(medians["help"] / medians["python"], 2),
        "status_ratio": round(medians["status"] / medians["python"], 2), "goal": GOAL, "runs": RUNS,
    }


if __name__ == "__main__":
    import json

    print(json.dumps(measure(), indent=2))
