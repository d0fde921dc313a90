"""Daemons as processes: killed at any moment, told to stop, given another fleet file, asked by two at once, with a damaged journal."""

from __future__ import annotations

import signal
import sqlite3
import threading
from typing import Any

import pytest

from fleet.core.errors import AnewError, Refused
from fleet.store.database import SCHEMA
from tests.engine.daemons import FLEET, Home, until


def observed(home: Home) -> None:
    until(lambda: not isinstance(_plan(home), AnewError), "the pool was observed")


def _plan(home: Home) -> Any:
    try:
        return home.client.post("/v1/plan", {"pool": "web", "to": "1"})
    except AnewError as error:
        return error if error.code == "not-observed" else None


def born(home: Home) -> None:
    observed(home)
    home.roll("1", overrides={"canaries": "0", "max_surge": "3"})
    until(lambda: home.ended() == "done", "the birth")
    until(lambda: home.pool()["healthy"] == 3, "all are healthy")


def test_killed_at_several_moments_the_next_daemon_goes_on_to_the_same_end(home: Home) -> None:
    born(home)
    home.roll("2")
    for server, step in (("web-1", "booting"), ("web-1", "proving"), ("web-2", "preparing"), ("web-2", "retiring"), ("web-3", "proving")):
        until(lambda server=server, step=step: home.step(server) in (step, "serving"), f"{server} is {step}")  # type: ignore[misc]
        home.kill()
        home.start()
    until(lambda: home.ended() == "done", "the rollout ends")
    until(lambda: home.pool()["healthy"] == 3, "all are healthy")
    pool = home.pool()
    assert pool["versions"] == {"2": 3}
    assert (pool["image"]["stable"], pool["image"]["previous"]) == ("2", "1")
    assert [server["incarnation"] for server in pool["servers"]] == [2, 2, 2], "nobody was born twice"
    assert home.client.get("/v1/journal/verify")["ok"]
    starts = [event["data"]["epoch"] for event in home.events() if event["type"] == "daemon-started"]
    assert starts == [1, 2, 3, 4, 5, 6]


def test_told_to_stop_in_the_middle_it_ends_in_order_and_the_next_one_goes_on(home: Home) -> None:
    born(home)
    home.roll("2")
    until(lambda: home.step("web-2") in ("proving", "serving"), "the second is proved")
    assert home.stop() == 0
    assert "Traceback" not in home.log()
    home.start()
    until(lambda: home.ended() == "done", "the rollout ends")
    assert "daemon-stopped" in [event["type"] for event in home.events()]


def test_a_valid_fleet_file_is_taken_and_a_broken_one_changes_nothing(home: Home) -> None:
    born(home)
    home.fleet.write_text(FLEET.replace("servers = 3", "servers = -3"), encoding="utf-8")
    with pytest.raises(Refused, match="servers"):
        home.client.command("settings.reload")
    assert home.pool()["size"] == 3
    home.fleet.write_text(FLEET.replace("servers = 3", "servers = 4"), encoding="utf-8")
    assert "1 pool" in home.client.command("settings.reload")["message"]
    assert home.pool()["size"] == 4
    assert home.client.command("settings.reload")["message"] == "the fleet file has not changed"
    observed(home)
    home.roll("2", overrides={"max_surge": "4", "canaries": "0"})
    until(lambda: home.ended() == "done", "the rollout with the new one")
    until(lambda: home.pool()["versions"] == {"2": 4}, "the fourth was born")


def test_a_reload_in_the_middle_of_a_rollout_loses_nothing(home: Home) -> None:
    born(home)
    home.roll("2")
    until(lambda: home.step("web-1") in ("proving", "serving"), "the first is proved")
    home.fleet.write_text(FLEET + "max_failures = 1\n", encoding="utf-8")
    home.client.command("settings.reload")
    assert home.process is not None
    home.fleet.write_text(FLEET + "max_failures = 2\n", encoding="utf-8")
    home.process.send_signal(signal.SIGHUP)
    until(lambda: home.ended() == "done", "the rollout ends")
    rollout = home.rollout()
    assert rollout is not None and rollout["max_failures"] == 0, "what it was planned with stands"
    assert len([event for event in home.events() if event["type"] == "settings-loaded"]) == 3


def test_a_pool_that_rolls_cannot_be_taken_out_of_the_file(home: Home) -> None:
    born(home)
    rollout = home.roll("2")
    home.client.command("rollout.pause", rollout=rollout)
    home.fleet.write_text(FLEET.replace("[pools.web", "[pools.www"), encoding="utf-8")
    with pytest.raises(Refused, match="no pool web any more"):
        home.client.command("settings.reload")
    assert home.pool()["size"] == 3
    home.client.command("rollout.abort", rollout=rollout)
    until(lambda: home.ended() == "aborted", "the rollout is aborted")
    home.client.command("settings.reload")
    assert home.pool("www")["size"] == 3


def test_of_two_who_press_at_once_one_is_told_that_the_other_was_first(home: Home) -> None:
    observed(home)
    generation = home.pool()["generation"]
    answers: list[Any] = []

    def press(version: str) -> None:
        try:
            answers.append(home.client.command("rollout.start", pool="web", generation=generation, plan={"to": version}))
        except AnewError as error:
            answers.append(error)

    together = [threading.Thread(target=press, args=(version,)) for version in ("1", "2")]
    for one in together:
        one.start()
    for one in together:
        one.join(30.0)
    refused = [answer for answer in answers if isinstance(answer, AnewError)]
    assert len(answers) == 2 and len(refused) == 1
    assert refused[0].code in ("stale-plan", "rollout-active"), str(refused[0])


def test_the_same_request_twice_at_once_and_after_a_crash_has_one_effect(home: Home) -> None:
    observed(home)
    body = {"command": "rollout.start", "pool": "web", "plan": {"to": "1"}, "request": "0123456789abcdef"}
    answers: list[Any] = []
    together = [threading.Thread(target=lambda: answers.append(home.client.post("/v1/commands", body))) for _ in range(4)]
    for one in together:
        one.start()
    for one in together:
        one.join(30.0)
    home.kill()
    home.start()
    answers.append(home.client.post("/v1/commands", body))
    assert len({answer["rollout"] for answer in answers}) == 1 and len(answers) == 5
    assert len([event for event in home.events() if event["type"] == "rollout-started"]) == 1


def test_a_stream_taken_up_again_after_a_crash_has_no_gap_and_nothing_twice(home: Home) -> None:
    seqs: list[int] = []

    def follow(enough: int) -> None:
        try:
            for frame in home.client.lines("/v1/events", since=seqs[-1] if seqs else 0):
                if frame.get("frame") == "event":
                    seqs.append(frame["seq"])
                if len(seqs) >= enough:
                    return
        except AnewError:
            return

    observed(home)
    home.roll("1")
    follow(8)
    home.kill()
    home.start()
    follow(20)
    until(lambda: home.ended() == "done", "the birth")
    tip = home.client.get("/v1/journal", since=0, limit=1)["tip"]
    follow(tip)
    assert seqs == list(range(1, len(seqs) + 1)) and len(seqs) >= tip


def test_with_a_damaged_journal_the_daemon_shows_and_does_nothing(home: Home) -> None:
    born(home)
    assert home.stop() == 0
    with sqlite3.connect(home.journal) as database:
        database.execute("DROP TRIGGER event_same")
        database.execute("UPDATE event SET actor = 'nobody' WHERE seq = 3")
        database.execute(next(line for line in SCHEMA if "TRIGGER event_same" in line))
    database.close()
    home.start()
    status = home.client.get("/v1/status")
    assert status["read_only"]
    until(lambda: home.pool()["servers"], "it shows what there is")
    with pytest.raises(Refused) as caught:
        home.client.command("rollout.start", pool="web", plan={"to": "2"})
    assert caught.value.code == "read-only"
    assert home.stop() in (0, 1)
