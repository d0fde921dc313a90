"""`make crash`: a real daemon on simulated servers, killed at every failpoint that they reach, in each phase of a play (see mortal.py)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fleet.engine.failpoints import NAMES
from fleet.engine.pulse import BLIND
from tests.engine.daemons import ROOT
from tests.engine.mortal import SHAPES, Mortal, around

MEMORY = "/dev/shm"
"""What a killed process wrote is there for the next one on any file system, and this one is quick to sync."""


class Play(Mortal):
    """One shape from birth to the end, through all its phases."""

    def play(self) -> None:
        """All phases, each with its end judged."""
        self._birth()
        self._forward()
        self._rollback()
        self._recovery()
        self._consent()
        self._sickness()
        self._blindness()
        self._ending()

    def _birth(self) -> None:
        self.roll("1", canaries="0", promotion="auto")
        self.lead()
        self.arm("", ())
        self.judge.begin()

    def _forward(self) -> None:
        self.arm("forward")
        self.order("server.hold", server="web-1", why="to see")
        self.order("server.release", server="web-1")
        self.refused("server.release", server="web-1")
        self.order("remark", text="here we go")
        rollout = self.roll("2", retain="300ms")
        self.order("rollout.set", rollout=rollout, overrides={"progress_deadline": "50s"})
        assert self.lead() == "done"
        self.settle(4.0)  # who is buried goes once its heir has answered for a proof, and a calm pool is asked every other second
        self.stands("2", "1")

    def _rollback(self) -> None:
        self.arm("", ())
        self.roll("3")
        self.drive(lambda: (row := self.rollout()) and row["state"] == "awaiting-promotion", "the canary is proved")
        self.arm("rollback")
        self.order("rollback.start")
        assert self.lead() == "rolled-back"
        self.settle()
        self.stands("2", "1")
        left = dict(self.left)
        self.arm("", ())
        self.roll("4", promotion="auto")
        assert self.lead() == "done"
        self.arm("rollback", ())
        self.left = left
        self.order("rollback.start")
        self.lead()
        self.order("image.unreject", version="4")
        self.settle()
        self.stands("2", None)

    def _recovery(self) -> None:
        """An image that does not boot: the canary fails, is put back, the rest is rolled back."""
        self.arm("recovery")
        self.roll("5")
        assert self.lead("rollback.start") == "rolled-back"
        self.settle()
        self.stands("2", None)

    def _consent(self) -> None:
        """A plan that waits for another person, and is taken back."""
        self.arm("", ())
        self.edit('mode = "manual"', 'mode = "manual"\napprovals = 1')
        self.fleet.write_text(self.fleet.read_text(encoding="utf-8") + '[access]\napprovers = ["user:nobody", "user:daemon"]\n', encoding="utf-8")
        self.arm("consent", around("plan-proposed", "plan-withdrawn"))
        self.order("rollout.start", plan={"to": "4"})
        self.order("plan.withdraw")
        self.arm("", ())
        self.fleet.write_text(self.shape.fleet, encoding="utf-8")

    def _sickness(self) -> None:
        """A server dies, the breaker of mode auto opens; it comes back, and the breaker closes. Auto's window is never open."""
        self.arm("", ())
        self.judge.rest()
        day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(time.localtime().tm_wday + 3) % 7]
        self.edit('mode = "manual"', 'mode = "auto"\nbreaker = "50% of at least 1 in 10s"\n'
                   f'windows = [{{ days = ["{day}"], start = "12:00", length = "1h", time_zone = "UTC" }}]')
        for when in ("before", "after"):
            self.arm("sickness", (f"{when}-server-unhealthy",), 1)
            for after in (1.5, 5.0, 15.0, 45.0):  # a daemon that came up too late to see it well has no news of it
                self.ail(after)
                if self.next_death(after + 2.0):
                    break
        for when in ("before", "after"):
            self.arm("sickness", (f"{when}-breaker-opened",), 1)
            self.next_death()
        self.ail(None)
        for when in ("before", "after") if self.shape.surge else ():
            self.arm("sickness", (f"{when}-breaker-closed",), 1)
            self.next_death()
        self.arm("", ())
        self.fleet.write_text(self.shape.fleet, encoding="utf-8")
        self.judge.begin()
        self.stands("2", None)

    def _blindness(self) -> None:
        """The daemon is stopped for longer than it can explain."""
        if self.shape.in_place:
            for when in ("before", "after"):
                self.arm("blindness", (f"{when}-daemon-blind",), 1)
                self.drive(lambda: self.client.get("/v1/info"), "it answers")
                self.send(signal.SIGSTOP)
                until = time.monotonic() + BLIND + 1.0  # what passes is the stopped daemon's own time
                while time.monotonic() < until:
                    time.sleep(0.1)
                self.send(signal.SIGCONT)
                self.next_death()

    def ail(self, after: float | None) -> None:
        """Between two daemons: the world is one in which every server is well, but that web-1 dies in so many seconds."""
        self.end()
        path = self.folder / "state" / "sim" / "web.jsonl"
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        serving = {life["server"]: life for line in lines if (life := line.get("life")) and life["committed"] and life["state"] in ("running", "crashed")}
        for life in serving.values():
            dies = time.time() + after if after is not None and life["server"] == "web-1" else None
            lines.append({"life": {**life, "state": "running", "dies_at": dies}})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def _ending(self) -> None:
        self.arm("ending", around("settings-loaded", "daemon-stopped", "warning"))
        self.order("settings.reload")
        self.stop()
        self._say_hang_up()
        self.arm("", ())
        self.stands("2", None)
        self.end()

    def _say_hang_up(self) -> None:
        """A broken fleet file and SIGHUP: the only warning that simulated servers give rise to."""
        whole = self.fleet.read_text(encoding="utf-8")

        def put(text: str) -> None:
            """At once, for a daemon may read it at any moment."""
            new = self.fleet.with_suffix(".new")
            new.write_text(text, encoding="utf-8")
            new.replace(self.fleet)

        warned = [name for name in self.left if name.endswith("-warning")]

        def hang_up() -> bool:
            self.client.get("/v1/info")
            put("servers =")
            self.send(signal.SIGHUP)
            return False

        while any(self.left[name] for name in warned):
            put(whole)
            self.next_death(meanwhile=hang_up)
        put(whole)


def play(name: str) -> dict[str, Any]:
    """Play one shape in this process."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="anew-crash-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    made = Play(SHAPES[name], folder)
    try:
        made.play()
    except BaseException:
        print(f"the play of {name} is kept in {folder}; its deaths: {[f'{one.phase} {one.point}' for one in made.deaths][-20:]}", file=sys.stderr)
        raise
    finally:
        if made.forked is not None:
            made.forked.send_signal(signal.SIGKILL)
    shutil.rmtree(folder)
    return {"shape": name, "seconds": round(time.monotonic() - started, 1), "deaths": [[one.phase, one.point, one.again] for one in made.deaths]}


def play_apart(name: str) -> dict[str, Any]:
    """Play one shape in a process of its own, which forks daemons without threads beside them."""
    found = subprocess.run([sys.executable, "-m", "tests.engine.crashes", "--one", name], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert found.returncode == 0, found.stderr[-6000:]
    return dict(json.loads(found.stdout))


def play_all() -> list[dict[str, Any]]:
    """All shapes, two at a time."""
    with ThreadPoolExecutor(2) as two:
        return list(two.map(play_apart, SHAPES))


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--one"]:
        print(json.dumps(play(arguments[1])))
        return 0
    table: dict[str, dict[str, int]] = {}
    for found in play_all():
        print(f"{found['shape']}: {len(found['deaths'])} kills in {found['seconds']} s")
        for phase, point, _ in found["deaths"]:
            row = table.setdefault(point, {})
            row[phase] = row.get(phase, 0) + 1
    for point in NAMES:
        said = ", ".join(f"{phase} {count}" for phase, count in table.get(point, {}).items())
        print(f"  {point}: {said or 'not reached by simulated servers'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
