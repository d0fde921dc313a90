"""Real daemon processes on simulated servers, with the real journal and the real socket; ended by their own pid only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fleet.api.client import Client, DaemonUnreachable

ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
SHARED = "nogroup"
"""A group that every Debian has, for people who are different users."""
FLEET = """
[fleet]
name = "real"
[images.web]
simulated = ["1", "2", "3"]
[pools.web]
driver = "sim"
servers = 3
image = "web"
mode = "manual"
sim = { seed = 5, boot = "300ms", jitter = 0.3 }
[pools.web.rollout]
max_surge = 1
max_unavailable = 0
canaries = 1
promotion = "auto"
min_healthy_time = "300ms"
healthy_deadline = "20s"
"""


def until(true: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Poll a condition until it holds; its value. A daemon that is not there yet is no failure."""
    ends = time.monotonic() + deadline
    while True:
        try:
            if value := true():
                return value
        except DaemonUnreachable:
            pass
        assert time.monotonic() < ends, f"not within {deadline:g} s: {what}"
        time.sleep(0.01)


class Home:
    """A fleet file, a state folder and a socket; daemons come and go in it."""

    def __init__(self, folder: Path, fleet: str = FLEET, program: tuple[str, ...] = ("-m", "fleet.daemon")) -> None:
        self.program = program
        self.folder = folder
        self.fleet = folder / "fleet.toml"
        self.fleet.write_text(fleet, encoding="utf-8")
        self.journal = folder / "state" / "journal.db"
        self.client = Client(str(folder / "s"))
        self.process: subprocess.Popen[bytes] | None = None
        self.more: tuple[str, ...] = ()

    def start(self, **environment: str) -> None:
        """Start a daemon, with more in its environment, and wait until it answers."""
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, "--fleet", str(self.fleet), "--socket", str(self.folder / "s"), "--state", str(self.folder / "state"), *self.more],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment})
        until(self._answers, "the daemon answers")

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, f"the daemon ended: {self.log()[-2000:]}"
        return bool(self.client.get("/v1/status"))

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    # --- what a client sees

    def pool(self, name: str = "web") -> dict[str, Any]:
        return next(pool for pool in self.client.get("/v1/status")["pools"] if pool["name"] == name)

    def rollout(self) -> dict[str, Any] | None:
        """The newest."""
        rollouts = self.client.get("/v1/rollouts")
        return rollouts["rollouts"][0] if isinstance(rollouts, dict) and rollouts.get("rollouts") else rollouts[0] if isinstance(rollouts, list) and rollouts else None

    def ended(self) -> str:
        """The newest rollout's state, once it has ended."""
        rollout = self.rollout()
        return str(rollout["state"]) if rollout and rollout["ended_at"] else ""

    def step(self, server: str) -> str:
        rollout = self.rollout()
        return next((run["step"] for run in rollout["servers"] if run["name"] == server), "") if rollout else ""

    def roll(self, version: str, **plan: Any) -> str:
        """Start a rollout; its id."""
        until(lambda: self.pool()["oldest_born_at"] or self.pool()["size"], "the pool is known")
        return str(until(lambda: self._try_roll(version, plan), f"a rollout to {version} starts"))

    def _try_roll(self, version: str, plan: dict[str, Any]) -> str:
        answer = self.client.command("rollout.start", pool="web", plan={"to": version, **plan})
        return str(answer["rollout"])

    def events(self) -> list[dict[str, Any]]:
        return list(self.client.get("/v1/journal", since=0, limit=1000)["events"])


AnyHome = TypeVar("AnyHome", bound=Home)


@contextmanager
def shared(make: Callable[[Path, str], AnyHome], fleet: str) -> Iterator[AnyHome]:
    """A home with a daemon in it that the users of the group SHARED reach, too."""
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        os.chmod(folder, 0o755)
        home = make(Path(folder), fleet)
        home.more = ("--group", SHARED)
        try:
            home.start()
            yield home
        finally:
            home.close()
