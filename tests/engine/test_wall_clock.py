"""The wall clock of the machine is set a year ahead or back while a real daemon runs: time for the fleet goes on as it did.

libfaketime lies to the daemon about the wall clock, and about nothing else; that it does is read off the daemon's own log.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.engine.daemons import Home, until

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def fleet() -> str:
    """One pool that mode auto keeps young; one that a person rolls, in a window which is open for six hours more today and on no other day.

    A year from now, and a year ago, today is another day of the week.
    """
    opened = datetime.now(UTC) - timedelta(hours=1)
    return f"""
[fleet]
name = "clock"
[images.one]
simulated = ["1"]
[images.web]
simulated = ["1", "2"]
[pools.old]
driver = "sim"
servers = 3
image = "one"
mode = "auto"
max_age = "30d"
sim = {{ seed = 1, boot = "50ms" }}
[pools.old.rollout]
promotion = "auto"
min_healthy_time = "100ms"
[pools.web]
driver = "sim"
servers = 3
image = "web"
mode = "manual"
windows = [{{ days = ["{DAYS[opened.weekday()]}"], start = "{opened:%H:%M}", length = "7h", time_zone = "UTC" }}]
sim = {{ seed = 2, boot = "1s" }}
[pools.web.rollout]
max_surge = 1
max_unavailable = 0
promotion = "auto"
min_healthy_time = "300ms"
retain = "1h"
"""


def library() -> str:
    """Where Debian's libfaketime is; the one for programs with threads."""
    files = subprocess.run(["dpkg", "-L", "libfaketime"], capture_output=True, text=True, check=True).stdout.split()
    return next(path for path in files if path.endswith("/libfaketimeMT.so.1"))


class Clocked(Home):
    """A home whose daemons see the wall clock that `set` says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, fleet())
        self.set("+0")

    def set(self, offset: str) -> None:
        """The wall clock is so far from the true one, from now on."""
        (self.folder / "clock").write_text(f"{offset}\n", encoding="utf-8")

    def begin(self) -> None:
        self.start(LD_PRELOAD=library(), FAKETIME_TIMESTAMP_FILE=str(self.folder / "clock"), FAKETIME_NO_CACHE="1", FAKETIME_DONT_FAKE_MONOTONIC="1",
                   NO_FAKE_STAT="1")

    def year(self) -> int:
        """The year that the daemon's wall clock shows, by what it logs when it is asked to read its file again."""
        assert self.process is not None
        self.process.send_signal(1)
        said = re.findall(r"^(\d{4})-", self.log(), re.MULTILINE)
        return int(said[-1]) if said else 0

    def of(self, pool: str) -> list[dict[str, Any]]:
        """The rollouts of a pool, newest first."""
        return [row for row in self.client.get("/v1/rollouts")["rollouts"] if row["pool"] == pool]

    def bear(self, pool: str) -> None:
        until(lambda: self.pool(pool)["size"], "the pool is known")
        self.client.command("rollout.start", pool=pool, plan={"to": "1", "overrides": {"canaries": "0", "max_surge": "3"}})
        until(lambda: self.of(pool)[0]["state"] == "done" and self.pool(pool)["healthy"] == 3, f"{pool} is born")

    def think(self) -> None:
        """Have pool `old` planned again, more than once, with all that its daemon knows."""
        for command in ("server.hold", "server.release"):
            self.client.command(command, pool="old", server="old-1", **({"why": "to see"} if command.endswith("hold") else {}))
            self.client.get("/v1/status")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Clocked]:
    made = Clocked(tmp_path)
    try:
        made.begin()
        yield made
    finally:
        made.close()


def true_year(days: int) -> int:
    return (datetime.now() + timedelta(days=days)).year


@pytest.mark.parametrize("days", [365, -365], ids=["a year ahead", "a year back"])
def test_the_wall_clock_is_set_while_a_daemon_runs(home: Clocked, days: int) -> None:
    home.bear("old")
    home.bear("web")
    assert until(home.year, "the daemon logs") == true_year(0)
    rollout = home.roll("2")
    until(lambda: home.of("web")[0]["servers"][0]["step"] in ("booting", "proving", "serving"), "the first boots")
    began = time.monotonic()
    home.set(f"{days:+d}d")
    until(lambda: home.year() == true_year(days), "the daemon's wall clock has jumped")
    until(lambda: home.of("web")[0]["ended_at"], "the rollout ends")
    done = home.of("web")[0]
    assert (done["id"], done["state"]) == (rollout, "done"), "the window is open by engine time, no deadline has passed"
    home.think()
    assert len(home.of("old")) == 1, "nobody is older than 30 days"
    ages = [server["age_seconds"] for name in ("old", "web") for server in home.pool(name)["servers"]]
    assert max(ages) < 600.0, ages
    status = home.client.get("/v1/status")
    assert abs(datetime.fromisoformat(status["now"]).timestamp() - time.time()) < 600.0, "engine time did not jump"
    home.client.command("rollback.start", pool="web")
    until(lambda: home.of("web")[0]["ended_at"] and home.pool()["versions"] == {"1": 3}, "the retained ones take over")
    assert {server["incarnation"] for server in home.pool()["servers"]} == {1}, "retention did not end"
    events = home.events()
    stamps = [datetime.fromisoformat(event["at"]).timestamp() for event in events]
    assert stamps == sorted(stamps) and stamps[-1] - stamps[0] < time.monotonic() - began + 600.0
    assert all(event["data"]["seconds"] < 600.0 for event in events if event["type"] == "daemon-blind"), "no jump is taken for a gap"


@pytest.mark.parametrize("days", [365, -365], ids=["a year ahead", "a year back"])
def test_the_wall_clock_was_set_while_no_daemon_ran(home: Clocked, days: int) -> None:
    """Nobody can tell a clock that leapt from a year without a daemon: a person looks before anybody is replaced for it."""
    home.bear("old")
    assert home.stop() == 0
    home.set(f"{days:+d}d")
    home.begin()
    until(lambda: home.pool("old")["healthy"] == 3, "all are healthy")
    home.think()
    assert len(home.of("old")) == 1, "nobody is replaced for age"
    warned = [event["data"]["text"] for event in home.events() if event["type"] == "warning"]
    if days < 0:
        assert not warned and max(server["age_seconds"] for server in home.pool("old")["servers"]) < 600.0, "engine time does not run back"
        return
    assert len(warned) == 1 and "the clock is 365 days ahead of the journal's last event" in warned[0]
    home.client.command("rollout.start", pool="old", plan={"older_than": "30d"})
    until(lambda: len(home.of("old")) > 1 and home.of("old")[0]["state"] == "done", "a person said so: they are born anew")
    assert {server["incarnation"] for server in home.pool("old")["servers"]} == {2}
