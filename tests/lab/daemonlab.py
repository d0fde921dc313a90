"""A fleet file, a state folder and a real daemon process: what the labs of virtual servers and of machines have in common."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from fleet.api.client import Client
from fleet.core.errors import AnewError
from tests.lab.guest import wait_until

ROLLOUT_SECONDS = 900.0
"""Longer than any rollout here takes on a busy machine without KVM."""
FOLDER = "anew-lab-"
PROGRAM = "import sys; from fleet.cli.main import main; sys.exit(main())"


class Named(Protocol):
    """A pool."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its JSON."""
        return json.loads(self.out)


class DaemonLab:
    """One fleet and its daemon."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Short, since a Unix socket's path has 108 bytes; with our pid, so that what a killed session left is told apart.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir="/tmp"))
        self.state, self.socket, self.fleet = self.folder / "state", self.folder / "anew.sock", self.folder / "fleet.toml"
        self.log = self.folder / "daemon.log"
        self.client = Client(str(self.socket))
        self.daemon: subprocess.Popen[bytes] | None = None

    # --- the daemon

    def start(self) -> None:
        """A daemon process that answers."""
        assert self.daemon is None or self.daemon.poll() is not None, "it runs already"
        command = ["setpriv", "--pdeathsig", "KILL",  # it never outlives the test session, not even one that is killed
                   sys.executable, "-P", "-m", "fleet.daemon", "--fleet", str(self.fleet), "--socket", str(self.socket), "--state", str(self.state)]
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self.answers, 60.0, "the daemon's first answer")

    def answers(self) -> bool:
        """True if the daemon answers."""
        assert self.daemon is not None and self.daemon.poll() is None, self.log.read_text()[-3000:]
        try:
            self.client.get("/v1/status")
        except AnewError:
            return False
        return True

    def kill(self) -> None:
        """kill -9, as a power cut is to the daemon."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.send_signal(number)
            try:
                self.daemon.wait(30.0)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait(30.0)

    # --- asking and telling

    def anew(self, *arguments: str, seconds: float = ROLLOUT_SECONDS) -> Ended:
        """The command line tool, in a process of its own, on this fleet; it starts no daemon."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANEW_", "XDG_"))}
        env = {**kept, "ANEW_FLEET": str(self.fleet), "ANEW_STATE": str(self.state), "ANEW_SOCKET": str(self.socket),
               "HOME": str(self.folder), "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run([sys.executable, "-P", "-c", PROGRAM, *arguments, "--no-start"], env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=seconds, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)

    def roll(self, pool: Named, version: str, *options: str, expect: int = 0) -> dict[str, Any]:
        """`anew rollout start POOL --to VERSION --yes --wait --json`; the rollout's row at its end."""
        done = self.anew("rollout", "start", pool.name, "--to", version, "--yes", "--wait", "--json", *options)
        assert done.code == expect, self.trouble(done)
        row: dict[str, Any] = done.data
        return row

    def rows(self, pool: Named) -> dict[str, dict[str, Any]]:
        """ServerRows by name."""
        frame = self.client.get("/v1/status")
        found = next(row for row in frame["pools"] if row["name"] == pool.name)
        return {row["name"]: row for row in found["servers"]}

    def server(self, name: str) -> dict[str, Any]:
        """One server in full."""
        row: dict[str, Any] = self.client.get(f"/v1/servers/{name}")
        return row

    def pool_row(self, pool: Named) -> dict[str, Any]:
        """The PoolRow."""
        row: dict[str, Any] = next(row for row in self.client.get("/v1/status")["pools"] if row["name"] == pool.name)
        return row

    def rollout(self, pool: Named) -> dict[str, Any]:
        """The pool's latest rollout in full, through the command line."""
        done = self.anew("rollout", "show", pool.name, "--json")
        assert done.code == 0, self.trouble(done)
        row: dict[str, Any] = done.data
        return row

    def leftovers(self) -> list[dict[str, Any]]:
        """What doctor found that bears our tag and belongs to nobody. Other fleets of this machine are not counted."""
        findings = self.anew("doctor", "--json").data["findings"]
        return [row for row in findings if row["kind"] in ("domain", "volume", "seed", "file")]

    def journal(self) -> list[dict[str, Any]]:
        """All events."""
        events: list[dict[str, Any]] = []
        while True:
            page = self.client.get("/v1/journal", since=events[-1]["seq"] if events else 0, limit=1000)["events"]
            if not page:
                return events
            events += page

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll until it holds; on failure the test shows the rollouts and the daemon's log."""
        try:
            wait_until(condition, seconds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.trouble()}") from None

    def trouble(self, done: Ended | None = None) -> str:
        """Everything that may explain a failure."""
        parts = [f"exit {done.code}\n{done.out[-4000:]}\n{done.err[-2000:]}"] if done else []
        if self.daemon is not None and self.daemon.poll() is None:
            parts += [f"{event['seq']} {event['at']} {event['type']} {event['server']} {event['text']}" for event in self.journal()[-40:]]
        parts.append(self.log.read_text()[-3000:] if self.log.exists() else "")
        return "\n".join(parts)


def figures(rollout: Mapping[str, Any], lab: DaemonLab, **more: object) -> None:
    """Print what was measured, for the log of the test run (`-s` shows it)."""
    found = {"pool": rollout["pool"], "kind": rollout["kind"], "to": rollout["to"], "state": rollout["state"],
             "seconds": round(seconds_of(rollout["id"], lab.journal()), 1), **more}
    print("measured:", json.dumps(found))


def seconds_of(rollout: str, journal: Iterable[Mapping[str, Any]]) -> float:
    """From a rollout's first event to its last so far, by the journal's own clock."""
    stamps = [datetime.fromisoformat(event["at"]) for event in journal if event["rollout"] == rollout]
    return (max(stamps) - min(stamps)).total_seconds()
