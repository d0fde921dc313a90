"""A daemon told to die, to fail or to hang: at every point where it can be told so, and what a person sees of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from drivers.sim import Faults
from fleet.api.start import daemon_environment
from fleet.core.errors import AnewError, Invalid
from fleet.core.events import EVENT_TYPES
from fleet.core.lifecycle import VERBS
from fleet.engine.failpoints import NAMES, VARIABLE, WORK, Failpoint, parse
from tests.clocks import run_virtual
from tests.engine.chaos import Play
from tests.engine.crashes import play_apart
from tests.engine.daemons import FLEET, ROOT, Home, until
from tests.engine.mortal import SHAPES, around
from tests.scenarios.stage import staged

PROGRAM = "import sys; from fleet.cli.main import main; sys.exit(main())"
ELSEWHERE = {
    "server-adopted": "a simulated world has no foreign machines",
    "shell-ended": "nobody logs in to a simulated server",
    **dict.fromkeys(("server-tainted", "root-set", "root-unlocked", "root-locked", "root_fixed", "writers", "lock_root"), "nobody changes roots in these plays"),
    "machine-ordered": "bare metal only", "machine-installed": "bare metal only", "machine-recovered": "bare metal only", "machine-failed": "bare metal only",
    "plan-approved": "needs a second user of this machine", "rollout-driven": "no terminal drives these rollouts",
    **dict.fromkeys(("seat-asked", "seat-taken", "seat-kept", "seat-left"), "nobody sits at a terminal in these plays"),
    "check": "bare metal only", "install": "bare metal only", "recover": "bare metal only",
    "adopt": "libvirt only", "sweep": "libvirt only",
}
"""What no play on simulated servers can come to; everything else is struck, or test_every_failpoint_is_struck fails: add it to the play."""

EVERYWHERE = {
    "forward": ("rollout-started", "rollout-moved", "rollout-ended", "step-begun", "step-done", "server-healthy", "stage", "birth", "commit", "admit",
                "drain", "observe", "probe", "daemon-started"),
    "rollback": ("rollout-started", "rollout-moved", "rollout-ended", "step-begun", "step-done", "server-redirected", "revive", "commit"),
    "recovery": ("step-failed", "server-redirected", "rollout-ended", "image-rejected", "commit", "daemon-started"),
}
"""What must be struck in each phase of every shape."""


@pytest.fixture(scope="module")
def plays() -> Iterator[Mapping[str, Future[dict[str, Any]]]]:
    """All shapes, two at a time, begun when the first test asks for one."""
    with ThreadPoolExecutor(2) as two:
        yield {name: two.submit(play_apart, name) for name in SHAPES}


@pytest.mark.parametrize("name", SHAPES)
def test_killed_at_every_failpoint_it_comes_to_the_same_end(name: str, plays: Mapping[str, Future[dict[str, Any]]]) -> None:
    """The play itself judges the world after each death, and the end of each phase; see crashes.py and mortal.py."""
    deaths = plays[name].result()["deaths"]
    for phase, names in EVERYWHERE.items():
        struck = {point for where, point, _ in deaths if where == phase}
        assert struck >= set(around(*names)), f"not struck in {phase}: {sorted(set(around(*names)) - struck)}"
    again = {point for _, point, again in deaths if again}
    assert again >= set(around("birth", "commit", "stage")) | {"before-step-begun", "before-step-done", "before-rollout-ended"}, "killed twice in a row"


def test_every_failpoint_is_struck(plays: Mapping[str, Future[dict[str, Any]]]) -> None:
    struck = {point for play in plays.values() for _, point, _ in play.result()["deaths"]}
    left = set(NAMES) - set(around(*ELSEWHERE))
    assert struck == left, f"never struck: {sorted(left - struck)}; struck though said to be out of reach: {sorted(struck - left)}"


def test_the_names_come_from_the_tables() -> None:
    assert {verb for verb, _ in VERBS.values() if verb} | {"observe", "probe", "revive", "bury", "drain", "admit"} <= set(WORK)
    assert set(NAMES) == set(around(*EVENT_TYPES, *WORK))
    assert parse("before-birth:kill, after-step-begun:raise:3,") == (Failpoint("before-birth", "kill", 1), Failpoint("after-step-begun", "raise", 3))
    assert parse("") == ()


@pytest.mark.parametrize(("text", "said"), [
    ("before-brith:kill:1", "did you mean before-birth\\?"),
    ("birth:kill:1", "no failpoint 'birth'"),
    ("before-birth:die:1", "can kill, raise, hang, not 'die'"),
    ("before-birth", "can kill, raise, hang, not ''"),
    ("before-birth:kill:0", "a whole number from 1 on, not '0'"),
    ("before-birth:kill:1.5", "a whole number from 1 on, not '1.5'"),
    ("before-birth:kill:-1", "a whole number from 1 on, not '-1'"),
    ("before-birth:kill:1,after-brth:kill:1", "did you mean after-birth\\?"),
])
def test_what_is_no_failpoint_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        parse(text)


def test_a_daemon_does_not_start_with_an_unknown_failpoint(tmp_path: Path) -> None:
    home = Home(tmp_path)
    found = subprocess.run([sys.executable, "-m", "fleet.daemon", "--fleet", str(home.fleet), "--socket", str(tmp_path / "s"), "--state", str(tmp_path / "state")],
                           cwd=ROOT, env={VARIABLE: "after-comit:kill:1"}, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2
    assert "no failpoint 'after-comit'; did you mean after-commit?" in found.stderr and "Traceback" not in found.stderr


def test_a_daemon_started_on_demand_does_not_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "before-birth:kill:1")
    monkeypatch.setenv("ANEW_STATE", "/somewhere")
    assert VARIABLE not in daemon_environment() and "ANEW_STATE" in daemon_environment()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path, FLEET.replace('boot = "300ms"', 'boot = "50ms"').replace('min_healthy_time = "300ms"', 'min_healthy_time = "100ms"'))
    yield made
    made.close()


def told(home: Home) -> str:
    return "\n".join(str(event["data"]) for event in home.events())


def born(home: Home) -> None:
    home.roll("1", overrides={"canaries": "0", "max_surge": "3"})
    until(lambda: home.ended() == "done", "the birth")


def test_whoever_looks_is_told_that_it_fails_on_purpose(home: Home) -> None:
    home.start()
    assert home.client.get("/v1/status")["failpoints"] == [] and "failpoint" not in told(home)
    assert home.stop() == 0
    home.start(**{VARIABLE: "before-bury:kill:7"})
    assert home.client.get("/v1/status")["failpoints"] == home.client.get("/v1/info")["failpoints"] == ["before-bury:kill:7"]
    assert "failpoint before-bury:kill:7 is set" in told(home)
    said = subprocess.run([sys.executable, "-c", PROGRAM, "--socket", str(home.folder / "s"), "status"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "fails on purpose (before-bury:kill:7)" in said.stdout


def test_a_verb_that_raises_is_a_fault_with_an_id_and_the_servers_are_put_right(home: Home) -> None:
    home.start()
    born(home)
    home.kill()
    home.start(**{VARIABLE: "after-commit:raise:1"})
    home.roll("2")
    until(lambda: (home.rollout() or {})["state"] == "paused", "the rollout is paused")
    rollout = home.rollout()
    assert rollout is not None
    words = rollout["reason"] + "".join(run["error"] for run in rollout["servers"])
    assert "anew itself failed in `commit`; the daemon's log says more under " in words
    fault = words.partition("says more under ")[2][:8]
    assert f"fault {fault} in commit" in home.log() and "Struck" in home.log(), "the log has the traceback"
    assert "Traceback" not in str(home.client.get("/v1/status"))
    home.client.command("rollback.start", rollout=rollout["id"])
    until(lambda: home.ended() == "rolled-back", "it is rolled back")
    until(lambda: home.pool()["versions"] == {"1": 3} and home.pool()["healthy"] == 3, "all serve as before")


def test_a_write_that_raises_in_the_planner_pauses_that_pool_with_a_fault_id(home: Home) -> None:
    home.start()
    born(home)
    home.kill()
    home.start(**{VARIABLE: "before-step-begun:raise:2"})
    home.roll("2")
    until(lambda: (home.rollout() or {})["state"] == "paused", "the rollout is paused")
    rollout = home.rollout()
    assert rollout is not None
    assert rollout["reason"].startswith("planning: anew itself failed; the daemon's log says more under ")
    assert home.pool()["healthy"] == 3, "nobody was harmed"
    home.client.command("rollout.resume", rollout=rollout["id"])
    until(lambda: home.ended() == "done", "it goes on when a person says so")


def test_a_command_whose_write_raises_is_answered_with_an_error_and_the_daemon_lives(home: Home) -> None:
    home.start(**{VARIABLE: "before-remark:raise:1"})
    with pytest.raises(AnewError) as caught:
        home.client.command("remark", text="hello")
    assert "Traceback" not in str(caught.value)
    home.client.command("remark", text="hello again")
    assert "hello again" in told(home)


def test_a_verb_that_hangs_is_given_up_at_its_deadline_and_the_server_is_put_back(tmp_path: Path) -> None:
    home = Home(tmp_path, SHAPES["in-place"].fleet.replace('healthy_deadline = "20s"', 'healthy_deadline = "2s"'))
    try:
        home.start()
        home.roll("1", overrides={"canaries": "0", "promotion": "auto", "healthy_deadline": "20s"})
        until(lambda: home.ended() == "done", "the birth")
        home.kill()
        home.start(**{VARIABLE: "before-birth:hang:1"})
        home.roll("2")
        until(lambda: (home.rollout() or {})["state"] == "paused", "the rollout is paused")
        rollout = home.rollout()
        assert rollout is not None
        assert "`birth` of web-1 was not done within 2s" in str(rollout)
        until(lambda: home.pool()["healthy"] == 2 and home.pool()["versions"] == {"1": 2}, "the server is put back")
    finally:
        home.close()


def test_a_burial_that_nobody_lived_to_write_down_is_written_by_the_next(tmp_path: Path) -> None:
    """I17: the incarnation is gone, so nobody is told that one could go back to it."""

    async def story() -> None:
        async with staged(Play(servers=1, surge="1", retain="60s", canaries="0").fleet, str(tmp_path), Faults()) as stage:
            await stage.birth("1")
            await stage.command("rollout.start", plan={"to": "2"})
            await stage.until(lambda: stage.rollout is None, what="the rollout")
            stage.world.bury(stage.world.lives["web-1", 1])
            await stage.restart()
            await stage.until(lambda: any(event.type == "incarnation-buried" for event in stage.journal.events), limit=30.0, what="the word of the burial")
            assert not stage.state.pool("web").server("web-1").retained

    run_virtual(story())
