"""The terminal from which a rollout was started or resumed drives it, where that counts; and says what happens when it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tui import story
from tests.tui.stage import session
from tui.phrases import FAREWELL, farewell


def status(on: str) -> dict[str, Any]:
    """web, paused by somebody."""
    made = story.status()
    made["rollouts"] = [{**story.web_rollout(), "state": "paused", "reason": "paused by ana", "on_disconnect": on}]
    return made


def rolling(on: str, state: str = "rolling") -> dict[str, Any]:
    return {"frame": "rollout", "row": {**story.web_rollout(), "state": state, "on_disconnect": on}}


async def test_a_rollout_resumed_here_is_driven_from_here_until_it_ends(tmp_path: Path) -> None:
    async with session(tmp_path, status=status("pause")) as user:
        await user.press("5")
        await user.arm()
        await user.press("P")
        await user.answer("y")
        assert (await user.sent())["driven"] is True
        user.daemon.push(rolling("pause"))
        await user.until(lambda: user.daemon.driving == ["web-r1"], "it is driven")
        assert user.app.desk.driven == ("web",)
        await user.press("1", "escape")
        assert "web will pause then" in user.text
        user.daemon.drop()
        await user.until(lambda: len(user.daemon.since) >= 4 and user.daemon.driving == ["web-r1"] and user.daemon.listeners == 2,
                         "both lines broke, and it is driven again")
        user.daemon.push(rolling("pause", "done"))
        await user.until(lambda: user.app.desk.driven == (), "it has ended")

        def given_back() -> bool:
            user.daemon.push_bytes(b"\n")
            return user.daemon.listeners == 1

        await user.until(given_back, "its stream is given back")


async def test_where_the_setting_says_continue_no_second_line_is_opened(tmp_path: Path) -> None:
    async with session(tmp_path, status=status("continue")) as user:
        await user.press("5")
        await user.arm()
        await user.press("P")
        await user.answer("y")
        await user.sent()
        user.daemon.push(rolling("continue"))
        await user.until(lambda: user.app.desk.model.rollouts["web-r1"].state == "rolling", "the frame was heard")
        assert user.daemon.driving == [] and user.daemon.listeners == 1


async def test_a_rollout_of_somebody_else_is_not_driven_from_here(tmp_path: Path) -> None:
    async with session(tmp_path, status=status("pause")) as user:
        user.daemon.push(rolling("pause"))
        await user.until(lambda: user.app.desk.model.rollouts["web-r1"].state == "rolling", "the frame was heard")
        assert user.daemon.driving == []


def test_the_last_words_say_what_the_terminal_leaves_behind() -> None:
    assert farewell(()) == FAREWELL
    assert farewell(("web",)).startswith("The rollout of web pauses in some seconds") and "`anew rollout wait web --drive`" in farewell(("web",))
