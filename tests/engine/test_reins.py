"""on_disconnect: a rollout pauses when the last terminal that drives it is gone, and for no other reason."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.core.checkpoints import ahead_of
from fleet.core.errors import AnewError, Invalid
from fleet.engine.reins import GRACE, RETURN
from fleet.engine.steer import driving
from tests.clocks import run_virtual
from tests.engine.daemons import FLEET, ROOT, Home, until
from tests.scenarios.stage import Stage, staged

STAGED = """
[fleet]
name = "driven"
[images.web]
simulated = ["1", "2"]
[pools.web]
driver = "sim"
servers = 12
image = "web"
mode = "manual"
sim = {{ seed = 1, boot = "5s" }}
[pools.web.rollout]
max_surge = 1
max_unavailable = 0
canaries = {canaries}
min_healthy_time = "5s"
on_disconnect = "{on}"
"""


def play(story: Callable[[Stage], Awaitable[None]], on: str = "pause", canaries: int = 0) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with staged(STAGED.format(on=on, canaries=canaries), folder) as stage:
                await stage.birth("1")
                await story(stage)

    run_virtual(run())


async def start(stage: Stage, driven: bool = True, **plan: Any) -> str:
    answer = await stage.command("rollout.start", plan={"to": "2", **plan}, driven=driven)
    await stage.until(lambda: stage.last.state in ("rolling", "canary"), what="it rolls")
    return str(answer["rollout"])


async def reaches(stage: Stage, state: str) -> None:
    await stage.until(lambda: stage.last.state == state, what=state)


async def rolls_on(stage: Stage, seconds: float) -> bool:
    """True if it does not pause meanwhile."""
    await stage.clock.sleep(seconds)
    return stage.last.state != "paused"


def test_a_terminal_that_never_showed_up_is_missed_after_the_grace_of_a_new_daemon() -> None:
    async def story(stage: Stage) -> None:
        assert stage.clock.now() - stage.journal.events[0].at > RETURN, "the daemon is old"
        await start(stage)
        assert await rolls_on(stage, GRACE - 1.0)
        await stage.until(lambda: stage.last.state == "paused", limit=3.0, what="it pauses")
        assert stage.last.reason == f"the terminal of ana that drove it went away; `anew rollout resume {stage.last.id}` goes on"

    play(story)


def test_a_rollout_that_nobody_drives_has_no_terminal_to_lose() -> None:
    async def story(stage: Stage) -> None:
        await start(stage, driven=False)
        assert await rolls_on(stage, 90.0)

    play(story)


def test_a_terminal_may_come_and_go_where_the_setting_says_continue() -> None:
    async def story(stage: Stage) -> None:
        rollout = await start(stage)
        async with driving(stage.engine, rollout, "ana"):
            await stage.clock.sleep(5.0)
        assert await rolls_on(stage, 60.0)
        assert "rollout-driven" not in [event.type for event in stage.journal.events], "the journal is not filled with what counts for nothing"

    play(story, on="continue")


def test_a_setting_changed_in_mid_rollout_counts_for_the_terminal_that_is_there() -> None:
    async def story(stage: Stage) -> None:
        rollout = await start(stage)
        async with driving(stage.engine, rollout, "ana"):
            await stage.command("rollout.set", overrides={"on_disconnect": "pause"})
            assert await rolls_on(stage, 30.0)
        await stage.until(lambda: stage.last.state == "paused", limit=GRACE + 2.0, what="it pauses")

    play(story, on="continue")


def test_the_way_back_is_never_left_off() -> None:
    async def story(stage: Stage) -> None:
        rollout = await start(stage)
        async with driving(stage.engine, rollout, "ana"):
            await stage.until(lambda: stage.last.runs["web-3"].step == "serving", what="some are done")
            await stage.command("rollback.start", rollout=rollout)
        await stage.until(lambda: stage.rollout is None, what="it is rolled back")
        assert stage.last.state == "rolled-back"

    play(story)


def test_who_waits_for_a_person_is_not_paused_and_goes_on_without_a_terminal_where_that_was_said() -> None:
    async def story(stage: Stage) -> None:
        rollout = await start(stage, overrides={"checkpoints": "50"})
        for state in ("awaiting-promotion", "checkpoint"):
            async with driving(stage.engine, rollout, "ana"):
                await reaches(stage, state)
            await stage.clock.sleep(GRACE + 60.0)
            assert ahead_of(stage.last) == {"awaiting-promotion": (50, 5), "checkpoint": None}[state]
            assert stage.last.state == state, "it begins nothing by itself, and `--wait` has ended for it"
            await stage.command("rollout.promote")
            assert await rolls_on(stage, 2.0)
        await stage.until(lambda: stage.last.ended or stage.last.state == "paused", what="it goes on")
        assert stage.last.state == "done"

    play(story, canaries=1)


def test_a_terminal_that_is_there_while_another_person_promotes_is_missed_when_it_goes() -> None:
    async def story(stage: Stage) -> None:
        rollout = await start(stage)
        async with driving(stage.engine, rollout, "ana"):
            await stage.until(lambda: stage.last.state == "awaiting-promotion", what="the canary is done")
            await stage.command("rollout.promote", actor="bob")
            await stage.clock.sleep(1.0)
        await stage.until(lambda: stage.last.state == "paused", limit=GRACE + 2.0, what="it pauses")

    play(story, canaries=1)


def test_a_checkpoint_that_opens_by_itself_is_left_off() -> None:
    async def story(stage: Stage) -> None:
        rollout = await start(stage, overrides={"checkpoints": "50", "checkpoint_pause": "10m"})
        async with driving(stage.engine, rollout, "ana"):
            await stage.until(lambda: stage.last.state == "checkpoint", what="the checkpoint")
        await stage.until(lambda: stage.last.state == "paused", limit=GRACE + 2.0, what="it pauses")

    play(story)


def test_a_stream_of_an_ended_rollout_is_nothing_and_of_an_unknown_one_an_error() -> None:
    async def story(stage: Stage) -> None:
        written = len(stage.journal.events)
        async with driving(stage.engine, stage.last.id, "ana"):
            pass
        with pytest.raises(Invalid, match="no rollout 'r-9'"):
            async with driving(stage.engine, "r-9", "ana"):
                pass
        assert len(stage.journal.events) == written

    play(story)


# --- a real daemon and real clients

SLOW = FLEET.replace("servers = 3", "servers = 40").replace("[pools.web.rollout]", '[pools.web.rollout]\non_disconnect = "pause"')
QUICK = "import sys; from fleet.engine import reins; reins.GRACE = 0.5; from fleet.daemon import main; sys.exit(main())"
"""The daemon, with a grace that a test can wait for."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path, SLOW, program=("-c", QUICK))
    made.start()
    yield made
    made.close()


def _client(home: Home, *arguments: str) -> subprocess.Popen[bytes]:
    code = "import sys; from fleet.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen([sys.executable, "-c", code, *arguments, "--socket", str(home.folder / "s"), "--fleet", str(home.fleet), "--no-start"],
                            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _moving(home: Home, state: str, done: int = 0) -> dict[str, Any] | None:
    """The rollout to 2, if it is in this state and has so many servers done."""
    row = home.rollout()
    return row if row is not None and row["kind"] == "rollout" and row["state"] == state and row["counts"].get("serving", 0) >= done else None


def test_a_client_that_is_killed_pauses_the_rollout_it_drove(home: Home) -> None:
    until(lambda: not isinstance(_plan(home), AnewError), "the pool was observed")
    home.roll("1", overrides={"canaries": "0", "max_surge": "40", "min_healthy_time": "0s"})
    until(lambda: home.ended() == "done", "the birth")
    clients = [_client(home, "rollout", "start", "web", "--to", "2", "--yes", "--wait")]
    try:
        until(lambda: _moving(home, "rolling", 2), "it rolls while its terminal is there")
        clients[0].send_signal(signal.SIGKILL)
        paused = until(lambda: _moving(home, "paused"), "it pauses")
        assert "that drove it went away" in paused["reason"] and "anew rollout resume" in paused["reason"]
        assert paused["counts"]["waiting"] > 0, "not everybody was done"
        clients += [_client(home, "rollout", "resume", "web", "--wait"), _client(home, "rollout", "wait", "web", "--drive")]
        more = paused["counts"]["serving"] + 2
        until(lambda: _moving(home, "rolling", more), "it goes on")
    finally:
        for client in clients:
            client.kill()
            client.wait(30)
    until(lambda: _moving(home, "paused", more), "it pauses again")


def _plan(home: Home) -> Any:
    try:
        return home.client.post("/v1/plan", {"pool": "web", "to": "1"})
    except AnewError as error:
        return error if error.code == "not-observed" else None
