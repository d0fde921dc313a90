"""`rollout set` and the windows, given to a real inbox: what is refused, with a sentence, and what the journal keeps."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from drivers.sim import Faults
from fleet.cli.status import phrase
from fleet.core.errors import AnewError, Invalid, Refused
from fleet.engine.present import moment, rollout_row
from tests.clocks import run_virtual
from tests.scenarios.stage import Stage, staged

FLEET = """
[fleet]
name = "steered"
[images.web]
simulated = ["1", "2"]
[pools.web]
driver = "sim"
servers = 4
image = "web"
mode = "manual"
sim = {{ seed = 1, boot = "2s", in_place = {in_place} }}
{windows}
[pools.web.rollout]
max_surge = 0
max_unavailable = 1
canaries = 0
promotion = "auto"
min_healthy_time = "3s"
"""
NEVER = 'windows = [{ days = ["mon"], start = "03:00", length = "1m", time_zone = "UTC" }]'
"""Not open when the virtual clock begins."""


def play(story: Callable[[Stage], Awaitable[None]], *, in_place: bool = False, windows: str = "") -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with staged(FLEET.format(in_place=str(in_place).lower(), windows=windows), folder, Faults()) as stage:
                await story(stage)

    run_virtual(run())


async def refused(stage: Stage, command: str, **request: Any) -> AnewError:
    written = len(stage.journal.events)
    with pytest.raises((Refused, Invalid)) as caught:
        await stage.command(command, **request)
    assert [event.type for event in stage.journal.events[written:]] == ["command-refused"], "nothing else was written"
    return caught.value


async def rolling(stage: Stage) -> None:
    await stage.birth("1")
    await stage.command("rollout.start", plan={"to": "2"})
    await stage.until(lambda: stage.last.runs["web-1"].step == "proving", what="the first is proved")


def test_without_windows_there_is_nothing_to_be_outside_of() -> None:
    async def story(stage: Stage) -> None:
        await stage.birth("1")
        error = await refused(stage, "rollout.start", plan={"to": "2"}, outside="it burns")
        assert "pool web has no windows" in str(error) and "pools.web.windows" in str(error)
        await stage.command("rollout.start", plan={"to": "2"})
        await refused(stage, "rollout.set", outside="it burns")
        await stage.until(lambda: stage.last.state == "rolling", what="it rolls")
        await stage.command("rollout.pause")
        await refused(stage, "rollout.resume", outside="it burns")

    play(story)


def test_a_start_outside_the_windows_keeps_the_reason_and_the_person() -> None:
    async def story(stage: Stage) -> None:
        await stage.observed()
        assert "say why" in str(await refused(stage, "rollout.start", plan={"to": "1"}, outside=" \x1b "))
        await stage.command("rollout.start", actor="eve@pts/3", plan={"to": "1"}, outside="first\nbirth")
        assert (stage.last.outside, stage.last.outside_by) == ("first birth", "eve@pts/3")
        await stage.until(lambda: stage.last.state == "done", what="the birth, though the window is closed")
        await stage.command("rollout.start", plan={"to": "2"})
        await stage.clock.sleep(5.0)
        assert {wait.reason for wait in stage.view.waits.values()} >= {"waits: the window is closed, opens Mon 03:00 UTC"}, "the reason was for the other rollout"
        row = rollout_row(stage.engine.sight(stage.view), stage.last, stage.view.waits)
        assert (row["waits"], row["eta_seconds"]) == ("waits: the window is closed, opens Mon 03:00 UTC", None)
        assert phrase(row) == "rolling 0/4, waits: the window is closed, opens Mon 03:00 UTC"
        await stage.command("rollout.set", outside="it cannot wait")
        await stage.clock.sleep(5.0)
        row = rollout_row(stage.engine.sight(stage.view), stage.last, stage.view.waits)
        assert row["waits"] == "" and row["eta_seconds"] > 0

    play(story, windows=NEVER)


@pytest.mark.parametrize("command", ["rollout.set", "rollout.resume"])
def test_the_time_before_a_closed_window_is_no_lack_of_progress_once_a_person_goes_on(command: str) -> None:
    async def story(stage: Stage) -> None:
        await stage.command("rollout.start", plan={"to": "1"}, outside="first birth")
        await stage.until(lambda: stage.rollout is None, what="the birth")
        await stage.command("rollout.start", plan={"to": "2"})
        await stage.clock.sleep(3600.0)
        if command == "rollout.resume":
            await stage.command("rollout.pause")
        await stage.command(command, outside="CVE")
        await stage.until(lambda: stage.last.ended or stage.last.state == "paused", what="it goes on")
        assert (stage.last.state, stage.last.reason) == ("done", "4 of 4 on 2")

    play(story, windows=NEVER)


def test_extra_servers_are_refused_where_old_and_new_never_run_side_by_side() -> None:
    async def story(stage: Stage) -> None:
        await rolling(stage)
        assert "cannot run old and new side by side" in str(await refused(stage, "rollout.set", overrides={"max_surge": "1"}))

    play(story, in_place=True)


def test_extra_servers_that_nobody_left_could_use_are_taken_with_a_remark() -> None:
    async def story(stage: Stage) -> None:
        await rolling(stage)
        answer = await stage.command("rollout.set", overrides={"max_surge": "50%"})
        assert answer["message"].endswith("max_surge 0 → 50%; nobody left goes create-first, so no extra ones will be made")
        assert stage.last.budget.surge == 2

    play(story)


def test_an_aborted_an_ended_and_an_unknown_rollout_cannot_be_changed() -> None:
    async def story(stage: Stage) -> None:
        await rolling(stage)
        rollout = stage.last.id
        await stage.command("rollout.abort")
        assert "was aborted and only finishes what is in flight" in str(await refused(stage, "rollout.set", overrides={"max_unavailable": "2"}))
        await stage.until(lambda: stage.rollout is None, what="it is aborted")
        assert "is aborted" in str(await refused(stage, "rollout.set", rollout=rollout, overrides={"max_unavailable": "2"}))
        await refused(stage, "rollout.set", rollout="r-none", overrides={"max_unavailable": "2"})

    play(story)


def test_the_same_request_twice_changes_once_and_a_crash_forgets_nothing() -> None:
    async def story(stage: Stage) -> None:
        await rolling(stage)
        body = {"command": "rollout.set", "pool": "web", "request": "once", "overrides": {"max_unavailable": "2"}}
        first = await stage.inbox.command("ana", body)
        assert await stage.inbox.command("ana", body) == first
        await stage.restart()
        assert stage.last.budget.unavailable == 2 and stage.last.changed == "max_unavailable 1 → 2, by ana"
        assert (await stage.inbox.command("ana", body))["seq"] == first["seq"]
        assert [event.type for event in stage.journal.events].count("rollout-set") == 1

    play(story)


def test_all_that_is_wrong_is_told_at_once() -> None:
    async def story(stage: Stage) -> None:
        await rolling(stage)
        said = str(await refused(stage, "rollout.set", overrides={"max-unavailable": "1.5", "retain": "5", "max-serge": "1"}))
        assert "max-unavailable" in said and "retain" in said and 'Did you mean "max_surge"?' in said

    play(story)


@pytest.mark.parametrize(("pause", "minutes"), [("90m", 90), ("manual", None)])
def test_a_checkpoint_tells_when_it_opens_by_itself(pause: str, minutes: int | None) -> None:
    async def story(stage: Stage) -> None:
        await stage.birth("1")
        await stage.command("rollout.start", plan={"to": "2", "overrides": {"checkpoints": "50", "checkpoint_pause": pause}})
        await stage.until(lambda: stage.last.state == "checkpoint", what="it stands at its checkpoint")
        row = rollout_row(stage.engine.sight(stage.view), stage.last, stage.view.waits)
        assert row["opens_at"] == (minutes and moment(stage.last.moved_at + minutes * 60))
        assert row["reason"] == f"checkpoint at 50%: 2 servers done; {'it goes on by itself after 1h 30m' if minutes else 'promote to go on'}"

    play(story)


def test_a_resume_says_who_is_put_back_first() -> None:
    async def story(stage: Stage) -> None:
        await stage.birth("1")
        stage.faults.fail("birth", "permanent", server="web-1")
        await stage.command("rollout.start", plan={"to": "2"})
        await stage.until(lambda: stage.last.state == "paused", what="it has paused")
        answer = await stage.command("rollout.resume")
        assert answer["message"] == f"rollout {stage.last.id} is rolling; web-1 failed and is put back first, then it is tried once more"

    play(story)
