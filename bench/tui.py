"""What the terminal costs: bytes to the terminal, CPU when idle, time to the first picture, time from key to picture, memory.

A canned daemon on a Unix socket plays the frames, the app runs as a child in a real pseudo-terminal of 80x24. In the same run, at the same size, the
monitors that Debian ships (htop, btop) are left alone for as long: they show a machine that changes all the time, so for them it is no idleness, but
it is what somebody pays who leaves one open.
`measure()` returns numbers only; run this file to print them.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.tui import live, story
from tests.tui.canned import CannedDaemon
from tests.tui.terminal import Terminal

IDLE_SECONDS = 10.0
LIVE_SECONDS = 20.0
FLEETS = (100, 1_000, 10_000)
PEERS = {"htop": "CPU", "btop": "cpu"}
"""Programs to compare with, and a word that is on their screen."""
KEYS = 12
RUNS = 3


def measure() -> dict[str, Any]:
    """All figures of the terminal; seconds, bytes, bytes per second."""
    return asyncio.run(_measure())


async def _measure() -> dict[str, Any]:
    _now()
    found: dict[str, Any] = {"size": "80x24"}
    found.update(await _idle())
    found["peers"] = {name: await _peer(name, word) for name, word in PEERS.items()}
    found["live_60_servers_bytes_per_second"] = await _live(b"5")
    found["live_60_servers_on_fleet_bytes_per_second"] = await _live(b"1")
    found["live_60_servers_truecolor_bytes_per_second"] = await _live(b"5", "truecolor")
    fleets = {str(count): _median([await _fleet(count) for _ in range(RUNS)]) for count in FLEETS}
    found["fleets"] = fleets
    small, large = fleets[str(FLEETS[0])], fleets[str(FLEETS[-1])]
    for name in ("first_paint_seconds", "key_to_paint_seconds"):
        found[f"{name.removesuffix('_seconds')}_growth_100_to_10000"] = round(large[name] / small[name], 2)
    found["rss_10000_servers_mb"] = round(large["rss_bytes"] / 1e6, 1)
    return found


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    """Name by name, so that a busy moment of the machine does not decide."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _now() -> None:
    """The frames' times count from now, so that nothing in them is in the past."""
    story.NOW = datetime.now(UTC)


async def _idle() -> dict[str, float]:
    """A settled fleet, looked at and left alone."""
    with tempfile.TemporaryDirectory() as folder:
        async with CannedDaemon(Path(folder) / "anew.sock") as daemon, Terminal(daemon.socket, Path(folder)) as terminal:
            await terminal.until(lambda: "lately" in terminal.text, "the fleet")
            await terminal.quiet(1.5)
            while time.time() % 60 > 60 - IDLE_SECONDS - 2:
                await asyncio.sleep(0.5)  # a change of minute may redraw an age
            return await _left_alone(terminal)


async def _peer(name: str, word: str) -> dict[str, float | str]:
    """A program of Debian's, with its own settings, left alone; or the sentence why it was not measured."""
    if shutil.which(name) is None:
        return {"missing": f"{name} is not installed: apt-get install {name}"}
    with tempfile.TemporaryDirectory() as folder:
        try:
            async with Terminal(Path(folder) / "none", Path(folder), command=(name,)) as terminal:
                await terminal.until(lambda: word in terminal.text, f"the screen of {name}")
                await asyncio.sleep(5.0)  # its first pictures are not counted
                said = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
                return {**await _left_alone(terminal), "rss_mb": round(terminal.memory() / 1e6, 1), "version": " ".join(said.split()[:3])}
        except AssertionError as error:
            return {"missing": f"{name} could not be measured: {str(error)[:200]}"}


async def _left_alone(terminal: Terminal) -> dict[str, float]:
    """What nobody's pressing a key costs."""
    before, cpu, began = len(terminal.output), terminal.cpu(), time.monotonic()
    await asyncio.sleep(IDLE_SECONDS)
    seconds = time.monotonic() - began
    return {"idle_bytes_per_second": round((len(terminal.output) - before) / seconds, 1), "idle_cpu_percent": round(100 * (terminal.cpu() - cpu) / seconds, 3)}


async def _live(screen: bytes, depth: str = "") -> float:
    """A rollout of 60 servers at the pace of real guests."""
    _now()
    with tempfile.TemporaryDirectory() as folder:
        daemon = CannedDaemon(Path(folder) / "anew.sock", live.status())
        daemon.events = []
        async with daemon, Terminal(daemon.socket, Path(folder), COLORTERM=depth) as terminal:
            await terminal.until(lambda: daemon.listeners and "rolling" in terminal.text, "the fleet")
            terminal.type(screen)
            await terminal.quiet(1.0)
            start, warm = time.monotonic(), 0
            for moment, rows in live.frames():
                if moment > LIVE_SECONDS + 18:
                    break
                await asyncio.sleep(max(0.0, start + moment - time.monotonic()))
                if moment <= 18:
                    warm = len(terminal.output)  # until six are under way
                for row in rows:
                    daemon.push(row)
            await asyncio.sleep(max(0.0, start + LIVE_SECONDS + 18 - time.monotonic()))
            return round((len(terminal.output) - warm) / LIVE_SECONDS, 1)


async def _fleet(count: int) -> dict[str, float]:
    """First picture with data, then keys on the list of all servers."""
    _now()
    with tempfile.TemporaryDirectory() as folder:
        daemon = CannedDaemon(Path(folder) / "anew.sock", story.large(count))
        daemon.events = []
        async with daemon, Terminal(daemon.socket, Path(folder)) as terminal:
            await terminal.until(lambda: "p00" in terminal.text, "the first pool")
            first = time.monotonic() - terminal.started
            await terminal.quiet()
            terminal.type(b"2")
            await terminal.until(lambda: "p00-1" in terminal.text, "the first server")
            await terminal.quiet()
            waits = []
            for _ in range(KEYS):
                before, pressed = len(terminal.output), time.monotonic()
                terminal.type(b"j")
                await terminal.until(lambda before=before: len(terminal.output) > before, "a picture")  # type: ignore[misc]
                waits.append(time.monotonic() - pressed)
                await terminal.quiet(0.15)
            return {"first_paint_seconds": round(first, 3), "key_to_paint_seconds": round(statistics.median(waits), 4),
                    "rss_bytes": terminal.memory()}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
