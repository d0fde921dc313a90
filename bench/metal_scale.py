"""The bare-metal driver's first look at 1,000 simulated SSH hosts, and a second one over the warm connections.

Run `python -m bench.metal_scale [HOSTS]`; it prints JSON. The hosts are a process of their own (tests/metal/farm.py) and speak the
whole protocol over SSH with a host key each; the controller is another, so that its time and memory are its own. Both share this
machine's cores: on two, a cold look costs the hosts about as much as the controller.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from drivers.baremetal import make
from drivers.baremetal.driver import BaremetalDriver
from drivers.identity import IdentityStore
from fleet.core.desired import Desired, Pool
from fleet.engine.clock import SystemClock, SystemRng
from fleet.ports import Surroundings
from tests.metal.farm import Farm

HOSTS = 1000
DEADLINE = 300.0


def measure(hosts: int = HOSTS) -> dict[str, Any]:
    """A controller in a new process looks at new hosts. Raises RuntimeError with its last words if it could not."""
    done = subprocess.run([sys.executable, "-m", "bench.metal_scale", "--controller", str(hosts)], cwd=Path(__file__).parents[1], capture_output=True,
                          text=True, timeout=2 * DEADLINE, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"the controller ended with {done.returncode}")
    return dict(json.loads(done.stdout))


async def _controller(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        before = _peak()
        async with Farm(count) as farm:
            await farm.order("welcome", key=IdentityStore(os.path.join(folder, "identities")).client_public())
            pool = Pool("web", "baremetal", count, "web", machines=tuple(farm.machines))
            desired = Desired("bench", {}, {}, {pool.name: pool}, machines=farm.machines)
            async with make(Surroundings(desired, folder, SystemClock(), SystemRng(), options={"baremetal.glance": DEADLINE})) as driver:
                cold, cold_cpu = await _look(driver, pool)
                peak = _peak()
                await asyncio.sleep(0)
                warm, warm_cpu = await _look(driver, pool)
    return {
        "hosts": count, "cold_seconds": round(cold, 2), "cold_cpu_ms_per_host": round(1000 * cold_cpu / count, 2), "warm_seconds": round(warm, 2),
        "warm_cpu_ms_per_host": round(1000 * warm_cpu / count, 2), "peak_mb": round(peak, 1), "before_mb": round(before, 1),
        "kb_per_host": round(1000 * (peak - before) / count, 1),
    }


async def _look(driver: BaremetalDriver, pool: Pool) -> tuple[float, float]:
    """Seconds, and seconds of this process's CPU, until every machine has been looked at anew."""
    wall, cpu = time.monotonic(), time.process_time()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(driver.hosts[name].look() for name in pool.machines))
    took = time.monotonic() - wall, time.process_time() - cpu
    seen = await driver.observe(pool)
    assert not seen.unreachable and len(seen.incarnations) == len(pool.machines)
    return took


def _peak() -> float:
    """The most memory this process has had resident, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main(arguments: list[str]) -> None:
    """Measure, or be the controller that is measured."""
    if arguments[:1] == ["--controller"]:
        print(json.dumps(asyncio.run(_controller(int(arguments[1])))))
    else:
        print(json.dumps(measure(*(int(text) for text in arguments[:1])), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
