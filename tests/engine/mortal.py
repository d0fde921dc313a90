"""Daemons that die at failpoints, and the operator who does not mind.

Every daemon is started with all points armed that still have kills left in this phase; it dies at the first one it passes, the world's
file is judged, the next daemon goes on. Each point strikes twice, as a rule in a row, since the next daemon comes to the same place
first. The operator obeys simple rules: a command that was not answered is given again with the same request id; canaries that wait are
promoted; what is paused is resumed, or rolled back where the phase is about that.

A daemon is forked from a process that has its modules loaded, which saves most of its start; journal, socket and kill -9 are real.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import drivers.sim
import fleet.api.server
from fleet import daemon
from fleet.api.client import DaemonUnreachable
from fleet.core.errors import AnewError, Refused, Transient
from fleet.engine.failpoints import NAMES, VARIABLE
from tests.engine.daemons import DEADLINE, Home
from tests.engine.worlds import Judge

WARM = (drivers.sim, fleet.api.server)
STRIKES = 2
QUIET = 0.5
"""Seconds without a death after which a phase whose goal is reached has ended."""
PATIENCE = 120.0
STRUCK = re.compile(r"failpoint (\S+):kill:\d+ strikes")


@dataclass(frozen=True)
class Shape:
    """A way in which servers are replaced."""

    name: str
    surge: int
    unavailable: int
    data: bool = False
    in_place: bool = False

    @property
    def fleet(self) -> str:
        data = 'data = [{ name = "state", size = "1GiB" }]' if self.data else ""
        return f"""
[fleet]
name = "crash"
[images.web]
simulated = ["1", "2", "3", "4", "5"]
[pools.web]
driver = "sim"
servers = 2
image = "web"
mode = "manual"
{data}
sim = {{ seed = 3, boot = "50ms", jitter = 0.3, in_place = {str(self.in_place).lower()}, faults = {{ "5" = "never-boots" }} }}
[pools.web.hooks]
drain = ["/bin/true"]
admit = ["/bin/true"]
[pools.web.rollout]
max_surge = {self.surge}
max_unavailable = {self.unavailable}
canaries = 1
min_healthy_time = "100ms"
healthy_deadline = "20s"
progress_deadline = "60s"
"""


SHAPES = {shape.name: shape for shape in (
    Shape("create-first", 1, 0), Shape("delete-first", 0, 1, data=True), Shape("in-place", 0, 1, in_place=True))}


def around(*names: str) -> tuple[str, ...]:
    """The points before and after these."""
    return tuple(f"{when}-{name}" for name in names for when in ("before", "after"))


class Forked:
    """A daemon as a child of this process; the part of subprocess.Popen that a Home uses."""

    def __init__(self, argv: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.closerange(3, 256)
                into = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                for number in (1, 2):
                    os.dup2(into, number)
                os.environ.update(environment)
                code = daemon.main(argv)
            finally:
                sys.stderr.flush()
                os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, deadline: float) -> int:
        ends = time.monotonic() + deadline
        while (code := self.poll()) is None:
            assert time.monotonic() < ends, f"the daemon did not end within {deadline:g} s"
            time.sleep(0.002)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@dataclass(frozen=True)
class Death:
    """One kill: in which phase, at which point, and whether the daemon before it died there too."""

    phase: str
    point: str
    again: bool


@dataclass
class Mortal(Home):
    """One shape from birth to the end, through all its phases."""

    shape: Shape
    folder: Path
    deaths: list[Death] = field(default_factory=list)
    phase: str = ""
    left: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    quiet_since: float = 0.0

    def __post_init__(self) -> None:
        Home.__init__(self, self.folder, self.shape.fleet)
        self.judge = Judge(self.folder / "state" / "sim" / "web.jsonl", 2, self.shape.surge, self.shape.unavailable)
        self.forked: Forked | None = None
        self.read_to = 0

    # --- daemons

    def arm(self, phase: str, names: Sequence[str] = NAMES, strikes: int = STRIKES) -> None:
        """From here on every daemon dies at these points, so many times at each; with no names, at none."""
        self.end()
        self.phase, self.left = phase, dict.fromkeys(names, strikes)

    def end(self) -> None:
        """kill -9, and judge what there is."""
        if self.forked is not None:
            self.forked.send_signal(signal.SIGKILL)
            self.forked.wait(DEADLINE)
            self._ended()

    def awake(self) -> bool:
        """A daemon runs; one that died is followed by the next."""
        if self.forked is not None and self.forked.poll() is not None:
            self._ended()
        if self.forked is None:
            log = self.folder / "log"
            self.read_to = log.stat().st_size if log.exists() else 0
            self.forked = Forked(["--fleet", str(self.fleet), "--socket", str(self.folder / "s"), "--state", str(self.folder / "state")], log, {
                VARIABLE: ",".join(f"{name}:kill:{2 if name.endswith('-warning') else 1}" for name, left in self.left.items() if left)})
        return True

    def _ended(self) -> None:
        assert self.forked is not None
        code, self.forked = self.forked.returncode, None
        said = self.log()[self.read_to:]
        self.judge.look()
        if code == 0 or not self.phase:
            return
        assert code == -signal.SIGKILL, f"a daemon ended with {code}: {said[-3000:]}"
        struck = STRUCK.findall(said)
        if struck:
            point = struck[-1]
            self.left[point] -= 1
            self.deaths.append(Death(self.phase, point, bool(self.deaths) and self.deaths[-1].point == point))
            self.quiet_since = time.monotonic()

    def stop(self) -> int:
        """SIGTERM until a daemon lives to end in order."""
        while True:
            self.drive(lambda: bool(self.client.get("/v1/info")), "it answers")
            assert self.forked is not None
            ending = self.forked
            ending.send_signal(signal.SIGTERM)
            if (code := ending.wait(DEADLINE)) == 0:
                self._ended()
                return code

    # --- the operator

    def drive(self, goal: Callable[[], Any], what: str) -> Any:
        """Until the goal holds, whatever dies meanwhile."""
        ends = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < ends, f"{self.shape.name}, {self.phase}: not within {PATIENCE:g} s: {what}; {self.rollout_words()}"
            try:
                self.awake()
                if value := goal():
                    return value
            except (DaemonUnreachable, Transient):
                pass
            time.sleep(0.02)

    def rollout_words(self) -> str:
        try:
            return str(self.rollout())[:3000]
        except AnewError as error:
            return f"{error}; the log ends: {self.log()[-2000:]}"

    def order(self, command: str, **request: Any) -> dict[str, Any]:
        """Give a command until it is answered; always with the same request id."""
        self.requests += 1
        key = f"order-{self.requests}"

        def once() -> dict[str, Any] | None:
            try:
                return dict(self.client.post("/v1/commands", {"command": command, "pool": "web", "request": key, **request}))
            except Refused as error:
                if error.code in ("starting", "not-observed"):
                    return None
                raise

        return dict(self.drive(once, command))

    def refused(self, command: str, **request: Any) -> None:
        """A command that is refused, until the refusal is answered."""
        try:
            self.order(command, **request)
        except Refused:
            return
        raise AssertionError(f"{command} was not refused")

    def roll(self, version: str, **overrides: Any) -> str:
        return str(self.order("rollout.start", plan={"to": version, "overrides": overrides})["rollout"])

    def lead(self, resume: str = "rollout.resume", until: tuple[str, ...] = ("done", "rolled-back")) -> str:
        """Bring the newest rollout to rest; the state it ended in. `resume`: what is answered to a pause."""
        def decided() -> str:
            nonlocal resume
            row = self.rollout()
            assert row is not None
            if row["state"] in until:
                return str(row["state"])
            if row["state"] == "awaiting-promotion":
                self._say("rollout.promote", row)
            elif row["state"] == "paused" and not self.pool()["unreachable"]:
                self._say(resume if row["kind"] != "rollback" else "rollout.resume", row)
                resume = "rollout.resume"
            return ""

        return str(self.drive(decided, f"the rollout comes to {' or '.join(until)}"))

    def _say(self, command: str, row: Mapping[str, Any]) -> None:
        try:
            self.client.command(command, rollout=row["id"])
        except Refused:
            pass  # it moved on between the look and the word

    def settle(self, seconds: float = QUIET) -> None:
        """Until nothing has died for a while: what comes after the end of a rollout comes too."""
        self.quiet_since = time.monotonic()
        self.drive(lambda: time.monotonic() - self.quiet_since > seconds and self.client.get("/v1/info"), "it is quiet")

    def edit(self, what: str, instead: str) -> None:
        self.fleet.write_text(self.fleet.read_text(encoding="utf-8").replace(what, instead), encoding="utf-8")

    def send(self, number: int) -> None:
        assert self.forked is not None
        self.forked.send_signal(number)

    def next_death(self, within: float = PATIENCE, meanwhile: Callable[[], object] = lambda: None) -> bool:
        """Until a daemon has died at a point; False if none did within so many seconds, where that may be."""
        count, ends = len(self.deaths), time.monotonic() + within

        def over() -> bool:
            if len(self.deaths) == count:
                meanwhile()
            return len(self.deaths) > count or time.monotonic() > ends

        self.drive(over, "a daemon dies")
        return len(self.deaths) > count

    def stands(self, stable: str, previous: str | None) -> None:
        """The end state: who serves, the pointers, no open intent, a journal that holds. After a rollback there is no way further back."""
        self.drive(lambda: self.pool()["healthy"] == 2, "everybody is healthy")
        pool = self.pool()
        assert pool["versions"] == {stable: 2}, pool["versions"]
        assert pool["image"]["stable"] == stable, pool["image"]
        assert pool["image"]["previous"] == previous, pool["image"]
        verdict = self.drive(lambda: self.client.get("/v1/journal/verify"), "the journal is verified")
        assert verdict["ok"], verdict
        assert not (open_intents := self.open_intents()), open_intents
        self.judge.look()
        self.judge.serving(stable)

    def open_intents(self) -> list[Any]:
        """Intents without an outcome. That of a burial may be the next daemon's word that nothing is left."""
        begun: dict[str, tuple[str, int]] = {}
        page = self.page(0)
        while page:
            for event in page:
                if event["type"] == "step-begun" and event["data"]["verb"]:
                    begun[event["data"]["op"]] = (event["server"], event["data"]["number"] if event["data"]["verb"] == "bury" else -1)
                elif event["type"] in ("step-done", "step-failed"):
                    begun.pop(event["data"]["op"], None)
                elif event["type"] == "incarnation-buried":
                    begun = {op: what for op, what in begun.items() if what != (event["server"], event["data"]["number"])}
            page = self.page(page[-1]["seq"])
        return list(begun.items())

    def page(self, since: int) -> list[dict[str, Any]]:
        """Events with seq > since."""
        return list(self.drive(lambda: {"rows": self.client.get("/v1/journal", since=since, limit=1000)["events"]}, "a page of the journal")["rows"])
