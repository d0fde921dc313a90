"""What the terminal UI says of a rollout that stands, before its window or for a person, and the words that steer it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui import story
from tests.tui.stage import session

CLOSED = "waits: the window is closed, opens Sat 02:00 Europe/Berlin"


async def test_a_rollout_before_its_window_says_so_in_place_of_an_eta(tmp_path: Path) -> None:
    status = story.status()
    status["rollouts"] = [{**story.web_rollout(), "waits": CLOSED, "eta_seconds": None, "eta_low_seconds": None, "eta_high_seconds": None}]
    async with session(tmp_path, status=status) as user:
        await user.see("waits: the window")
        await user.press("5")
        await user.see(f"-, it {CLOSED}")


@pytest.mark.parametrize(("state", "key", "words"), [
    ("awaiting-promotion", "c", "Promote: let 2 more servers follow until the checkpoint at 50%? y:"), ("paused", "P", "2 more servers follow until the checkpoint at 50%? y:")])
async def test_who_lets_it_go_on_before_a_checkpoint_is_told_who_follows_until_then(tmp_path: Path, state: str, key: str, words: str) -> None:
    status = story.status()
    status["rollouts"][0] |= {"state": state, "reason": "canaries healthy", "checkpoint": {"percent": 50, "servers": 2}}
    async with session(tmp_path, status=status) as user:
        await user.arm()
        await user.press("5", key)
        await user.see(words)


@pytest.mark.parametrize(("opens", "words"), [(None, "eta       when you promote"), ("2026-06-01T15:00:00Z", "eta       not known yet")])
async def test_at_a_checkpoint_a_person_is_told_that_the_end_hangs_on_them(tmp_path: Path, opens: str | None, words: str) -> None:
    status = story.status()
    status["rollouts"] = [{**story.web_rollout(), "state": "checkpoint", "reason": "checkpoint at 50%: 3 servers done; promote to go on", "opens_at": opens,
                           "eta_seconds": None, "eta_low_seconds": None, "eta_high_seconds": None}]
    async with session(tmp_path, status=status) as user:
        await user.press("5")
        await user.see(words)


async def test_a_rollout_is_steered_in_the_words_of_the_command_line_too(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.arm()
        await user.press("colon", *"rollout", "space", *"set", "space", *"web", "space", *"max_unavailable=2", "enter")
        await user.see("web 1→2: max_unavailable = 2? y:")
        await user.answer("y")
        assert (await user.sent())["command"] == "rollout.set"
