"""How fast the engine decides among clients that stand still, crawl, and send garbage, against the same daemon without them.

A real daemon on 60 simulated servers, with its real journal. A decision is the time from a step that is done to the next one of the same server
that is begun, both durable: from the journal. The two kinds take turns, so that a slow minute of the machine meets both.
"""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.engine.daemons import FLEET, Home, until
from tests.engine.noise import COUNT, noise
from tests.tui.slowlink import SlowLink
from tests.tui.terminal import Terminal

SERVERS, SLOTS = 60, 6
ROUNDS = 2
LINK = 1000.0
"""Bytes a second of the slow link."""
POOL = FLEET.replace("servers = 3", f"servers = {SERVERS}").replace("max_surge = 1", f"max_surge = {SLOTS}").replace("canaries = 1", "canaries = 0")


def measure() -> dict[str, Any]:
    """Milliseconds and seconds with and without the crowd, and their ratios."""
    return asyncio.run(_measure())


async def _measure() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        home = Home(Path(folder), POOL)
        try:
            home.start()
            await asyncio.to_thread(_roll, home, "1", {"max_surge": "100%", "max_unavailable": "100%"})
            alone, among = _Taken(), _Taken()
            for number in range(ROUNDS):
                await asyncio.to_thread(alone.roll, home, "2" if number % 2 == 0 else "1")
                async with _crowd(home):
                    await asyncio.to_thread(among.roll, home, "3" if number % 2 == 0 else "2")
            return {"servers": SERVERS, "crowd": COUNT, "alone": alone.figures(), "among": among.figures(),
                    "decision_ratio": round(statistics.mean(among.decisions) / statistics.mean(alone.decisions), 2),
                    "rollout_ratio": round(sum(among.rollouts) / sum(alone.rollouts), 3), "daemon_peak_mb": round(_peak(home), 1)}
        finally:
            home.close()


@asynccontextmanager
async def _crowd(home: Home) -> AsyncIterator[None]:
    """A terminal that is stopped, one behind a slow link, and a thousand connections of garbage."""
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        path = Path(folder)
        async with Terminal(home.folder / "s", path) as stopped, SlowLink(home.folder / "s", path / "slow") as link, Terminal(link.path, path) as crawling:
            for terminal in (stopped, crawling):
                await terminal.until(lambda terminal=terminal: "lately" in terminal.text, "the fleet")  # type: ignore[misc]
            link.bytes_per_second = LINK
            assert stopped.child is not None
            stopped.child.send_signal(signal.SIGSTOP)
            try:
                with noise(str(home.folder / "s")):
                    yield
            finally:
                stopped.child.send_signal(signal.SIGCONT)


class _Taken:
    """What the rollouts of one kind took."""

    def __init__(self) -> None:
        self.decisions: list[float] = []
        self.rollouts: list[float] = []

    def roll(self, home: Home, version: str) -> None:
        rows = _roll(home, version)
        done: dict[str, float] = {}
        for row in rows:
            at = datetime.fromisoformat(row["at"]).timestamp()
            if row["type"] == "step-done":
                done[row["server"]] = at
            elif row["type"] == "step-begun" and row["server"] in done:
                self.decisions.append(1000 * (at - done.pop(row["server"])))
        ends = [datetime.fromisoformat(row["at"]).timestamp() for row in rows if row["type"] in ("rollout-started", "rollout-ended")]
        self.rollouts.append(ends[-1] - ends[0])

    def figures(self) -> dict[str, float]:
        found = sorted(self.decisions)
        return {"decisions": len(found), "decision_ms": round(statistics.mean(found), 2), "decision_p95_ms": round(found[len(found) * 95 // 100], 1),
                "rollout_seconds": round(statistics.mean(self.rollouts), 2)}


def _roll(home: Home, version: str, overrides: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """A rollout to its end; its rows of the journal."""
    tip = home.client.get("/v1/status")["seq"]
    home.roll(version, **({"overrides": overrides} if overrides else {}))
    ended = until(lambda: _ended(home), "the rollout ends", 600.0)
    assert ended == "done", f"the rollout to {version} is {ended}"
    rows: list[dict[str, Any]] = []
    while page := home.client.get("/v1/journal", since=rows[-1]["seq"] if rows else tip, limit=200)["events"]:
        rows += page
    return rows


def _ended(home: Home) -> str:
    """Asked seldom: the one who measures is a client too."""
    time.sleep(0.25)
    return home.ended()


def _peak(home: Home) -> float:
    """The most memory that the daemon ever had resident, in MB."""
    assert home.process is not None
    lines = Path(f"/proc/{home.process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
