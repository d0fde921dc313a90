"""The commands against a real daemon, which they start by themselves, on a small simulated fleet."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Ended, run

FLEET = """
[fleet]
name = "small"

[images.app]
simulated = ["1", "2", "3-panics"]

[pools.app]
driver = "sim"
servers = 3
image = "app"
mode = "manual"
sim = { seed = 7, boot = "100ms", jitter = 0.1, faults = { "3-panics" = "never-boots" } }

[pools.app.rollout]
max_surge = 1
max_unavailable = 0
canaries = 1
promotion = "auto"
min_healthy_time = "200ms"
healthy_deadline = "60s"
drain_deadline = "1s"
retain = "10m"
"""


class Fleet:
    """A fleet file and a state folder that commands are pointed to by environment."""

    def __init__(self, folder: str) -> None:
        self.file = Path(folder) / "fleet.toml"
        self.file.write_text(FLEET)
        self.state = os.path.join(folder, "state")

    def anew(self, *arguments: str) -> Ended:
        return run(None, *arguments, ANEW_FLEET=str(self.file), ANEW_STATE=self.state, HOME=self.state)

    def data(self, *arguments: str) -> Any:
        ended = self.anew(*arguments, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        fleet = Fleet(folder)
        yield fleet
        fleet.anew("daemon", "stop")


def versions(fleet: Fleet) -> dict[str, int]:
    found: dict[str, int] = fleet.data("status")["pools"][0]["versions"]
    return found


def test_the_main_job_forward_back_and_a_bad_image(fleet: Fleet) -> None:
    """Birth, forward, back, a broken version, and the record of it, with the exit codes of a script."""
    assert fleet.anew("status", "--no-start").code == 6
    assert versions(fleet) == {}
    born = fleet.anew("rollout", "start", "app", "--to", "1", "--yes", "--wait")
    assert born.code == 0, born.err
    assert versions(fleet) == {"1": 3}

    plan = fleet.data("plan", "app", "--to", "2")
    forward = fleet.anew("rollout", "start", "app", "--to", "2", "--plan", plan["hash"], "--yes", "--wait")
    assert forward.code == 0, forward.err
    assert versions(fleet) == {"2": 3}
    assert "done" in fleet.anew("rollout", "show", "app").out

    stale = fleet.anew("rollout", "start", "app", "--to", "2", "--plan", plan["hash"], "--yes")
    assert stale.code == 5, stale.out

    back = fleet.anew("rollback", "app", "--yes", "--wait")
    assert back.code == 3, back.err
    assert versions(fleet) == {"1": 3}

    bad = fleet.anew("rollout", "start", "app", "--to", "3-panics", "--healthy-deadline", "2s", "--yes", "--wait")
    assert bad.code == 4
    assert versions(fleet) == {"1": 3}
    assert fleet.anew("rollout", "abort", "app").code == 0

    assert fleet.anew("journal", "verify").code == 0
    exported = [json.loads(line) for line in fleet.anew("journal", "export").out.splitlines()]
    assert [row["seq"] for row in exported] == list(range(1, len(exported) + 1))


def test_a_broken_fleet_file_is_told_whole_and_changes_nothing(fleet: Fleet) -> None:
    good = fleet.file.read_text()
    fleet.file.write_text(good.replace("servers = 3", 'servers = "three"').replace('"manual"', '"manul"'))
    ended = fleet.anew("status")
    assert ended.code == 2
    assert "servers" in ended.err
    assert "manul" in ended.err
    assert "Traceback" not in ended.err
    fleet.file.write_text(good)
    assert fleet.anew("status").code == 0
    fleet.file.write_text(good.replace("servers = 3", "servers = 0"))
    ended = fleet.anew("reload", "--json")
    assert ended.code == 2
    assert json.loads(ended.out)["error"]["exit_code"] == 2
    assert fleet.data("status")["pools"][0]["size"] == 3
    fleet.file.write_text(good.replace("servers = 3", "servers = 4"))
    assert fleet.anew("reload").code == 0
    assert fleet.data("status")["pools"][0]["size"] == 4


def test_a_rollout_goes_on_with_the_next_daemon(fleet: Fleet) -> None:
    assert fleet.anew("rollout", "start", "app", "--to", "1", "--yes").code == 0
    assert fleet.anew("daemon", "stop").code == 0
    assert fleet.anew("daemon", "status").code == 6
    assert fleet.anew("rollout", "wait", "app").code == 0
    assert versions(fleet) == {"1": 3}


def test_two_clients_that_find_no_daemon_start_one(fleet: Fleet) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda _: fleet.anew("info", "--json") if _ % 4 == 3 else fleet.anew("status", "--json"), range(4)))
    assert [end.code for end in ends] == [0] * 4, [end.err for end in ends]
    started = [row for row in (json.loads(line) for line in fleet.anew("journal", "export").out.splitlines())
               if row["type"] == "daemon-started"]
    assert len(started) == 1


def test_the_demo_comes_up_without_a_terminal_and_says_how_to_attach(fleet: Fleet) -> None:
    demo = run(None, "demo", ANEW_STATE=fleet.state, HOME=fleet.state)
    socket = os.path.join(fleet.state, "demo", "anew.sock")
    try:
        assert demo.code == 0, demo.err
        assert f"anew --socket {socket}" in demo.out
        again = run(None, "demo", "--json", ANEW_STATE=fleet.state, HOME=fleet.state)
        frame = json.loads(again.out)
        assert sum(pool["size"] for pool in frame["pools"]) == 60
        assert len(frame["rollouts"]) == 4
    finally:
        run(None, "--socket", socket, "daemon", "stop")


def test_a_lab_goes_up_and_down_by_the_daemon(fleet: Fleet) -> None:
    up = fleet.anew("lab", "up", "--fleet", str(fleet.file))
    assert up.code == 0, up.err
    assert "anew rollout start app --to 2" in up.out
    lab = os.path.join(fleet.state, "lab")
    at = ("--socket", os.path.join(lab, "anew.sock"))
    assert fleet.data("status", *at)["pools"][0]["versions"] == {"1": 3}
    assert versions(fleet) == {}, "the lab is not the fleet of the person who tries it"
    started = fleet.anew("rollout", "start", "app", "--to", "2", "--promotion", "manual", "--yes", "--wait", *at)
    assert started.code == 4, started.err
    down = fleet.anew("lab", "down", "--yes", "--fleet", str(fleet.file))
    assert down.code == 0, down.err
    assert fleet.anew("daemon", "status", *at).code == 6
    assert not os.path.exists(lab)
