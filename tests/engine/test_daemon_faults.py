"""What a breaker did to a real daemon: stopped it for a while, edited the file under a rollout, took its journal away."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.core.errors import AnewError, Invalid, Refused
from fleet.core.events import Draft
from fleet.engine.clock import SystemClock
from fleet.store.journal import open_journal
from tests.engine.daemons import DEADLINE, FLEET, Home, until

HEALTHY = 10.0
"""Seconds that a birth may take here: one takes one, and a busy machine some more; the daemon stands still for longer."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path, FLEET.replace('healthy_deadline = "20s"', f'healthy_deadline = "{HEALTHY:g}s"').replace('boot = "300ms"', 'boot = "1s"'))
    try:
        made.start()
        yield made
    finally:
        made.close()


def stopped_for(home: Home, seconds: float) -> None:
    """SIGSTOP, and SIGCONT once so much time has passed: time itself is what is tested here."""
    assert home.process is not None
    home.process.send_signal(signal.SIGSTOP)
    ends = time.monotonic() + seconds
    until(lambda: time.monotonic() >= ends, "the daemon stands still", DEADLINE)
    home.process.send_signal(signal.SIGCONT)


def test_time_in_which_the_daemon_did_not_run_is_held_against_no_server(home: Home) -> None:
    home.roll("1", overrides={"canaries": "0", "max_surge": "3"})
    until(lambda: home.ended() == "done", "the birth")
    home.roll("2")
    until(lambda: home.step("web-1") in ("booting", "proving", "serving"), "the first boots")
    stopped_for(home, HEALTHY + 3.0)
    until(lambda: home.ended(), "the rollout ends")
    assert home.ended() == "done", home.rollout()
    assert [event for event in home.events() if event["type"] == "daemon-blind"], "the gap is in the journal"


def test_a_rollout_makes_servers_of_the_definition_it_began_with(home: Home) -> None:
    home.roll("1", overrides={"canaries": "0", "max_surge": "3"})
    until(lambda: home.ended() == "done", "the birth")
    rollout = home.roll("2")
    home.client.command("rollout.pause", rollout=rollout)
    kept = home.fleet.read_text(encoding="utf-8")
    home.fleet.write_text(kept.replace("servers = 3", "servers = 9"), encoding="utf-8")
    with pytest.raises(Refused, match="makes servers as the file was when it began"):
        home.client.command("settings.reload")
    assert home.pool()["size"] == 3
    home.kill()
    home.start()  # nobody could refuse the edited file to a daemon that did not run
    assert home.pool()["size"] == 9
    home.client.command("rollout.resume", rollout=rollout)
    until(lambda: "differently than when this rollout began" in str((home.rollout() or {})["reason"]), "it pauses and says why")
    home.client.command("rollback.start", rollout=rollout)
    until(lambda: home.ended() == "rolled-back", "the way back is not barred")


def test_a_request_id_is_good_for_one_command_of_one_person(home: Home) -> None:
    home.roll("1", overrides={"canaries": "0", "max_surge": "3"})
    until(lambda: home.ended() == "done", "the birth")
    body = {"command": "rollout.start", "pool": "web", "plan": {"to": "2"}, "request": "once-1"}
    started = home.client.post("/v1/commands", body)
    for _ in range(2):
        with pytest.raises(Invalid, match="used for something else"):
            home.client.post("/v1/commands", {"command": "rollout.pause", "rollout": started["rollout"], "request": "once-1"})
        home.kill()
        home.start()


def test_a_daemon_whose_journal_was_taken_away_ends(home: Home) -> None:
    shutil.move(home.journal, f"{home.journal}.away")
    with pytest.raises(AnewError):
        home.client.command("remark", text="is anybody writing this down?")
    assert home.process is not None
    assert home.process.wait(DEADLINE) == 1
    assert "removed or replaced while the daemon ran" in home.log()


def test_a_daemon_that_cannot_take_in_a_row_of_its_journal_shows_what_was_before_it_and_does_nothing(home: Home) -> None:
    """A row of another release, say: no traceback, and no server is touched by half a memory."""

    async def foreign() -> None:
        async with open_journal(str(home.journal), SystemClock(), log_tip=lambda seq, chain: None) as journal:
            await journal.append([Draft("rollout-moved", pool="web", rollout="r-unknown", data={"cause": "pause", "state": "paused", "reason": ""})])

    assert home.stop() == 0
    asyncio.run(foreign())
    home.start()
    assert "(rollout-moved: KeyError('r-unknown'))" in home.client.get("/v1/status")["read_only"]
    with pytest.raises(Refused) as caught:
        home.client.command("rollout.start", pool="web", plan={"to": "1"})
    assert caught.value.code == "read-only" and "no server is touched" in str(caught.value)
    assert "Traceback" not in home.log()


def test_a_socket_path_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    home = Home(folder)
    with pytest.raises(AssertionError, match="anew daemon: "):
        home.start()
    assert "Traceback" not in home.log()
