"""`:set`, which changes a rollout under way, and what the rollout's view says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui import story
from tests.tui.desktop import desk, picture
from tests.tui.stage import session
from tui import offers
from tui.commands import SETTINGS, complete


async def test_settings_are_changed_after_a_question(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("colon", *"set", "space", *"web", "space", *"max_unavailable=2", "enter")
        await user.see("Read-only: press A")
        await user.arm()
        await user.press("colon", *"set", "space", *"web", "space", *"max_unavailable=2", "space", *"outside=it", "space", *"burns", "enter")
        await user.see("web 1→2: max_unavailable = 2, go on outside the windows? y:")
        await user.answer("y")
        sent = await user.sent()
        assert (sent["command"], sent["rollout"], sent["overrides"], sent["outside"]) == ("rollout.set", "web-r1", {"max_unavailable": "2"}, "it burns")
        assert sent["generation"] == 42, "decided on what the screen showed"


async def test_what_cannot_be_set_is_a_sentence(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.arm()
        for line in ("set", "set web", "set web max_unavailable", "set wbe max_unavailable=2", "set web outside= "):
            await user.press("colon", *("space" if char == " " else char for char in line), "enter")
            await user.see("set POOL NAME=VALUE")
            await user.press("colon", "escape")
        await user.press("colon", *"set", "space", *"db", "space", *"retain=1h", "enter")
        await user.see("db has no rollout under way.")
        assert user.daemon.commands == []


@pytest.mark.parametrize(("typed", "words"), [
    ("foo=1", "foo cannot be set in mid-rollout."), ("max_surg=1", "Is it max_surge?"), ("canaries=2", "canaries cannot be set in mid-rollout."),
    ("max_unavailable=0 max_surge=0%", "cannot both be 0"), ("max_surge=0", "cannot both be 0")])
async def test_what_would_surely_be_refused_is_not_asked_about(tmp_path: Path, typed: str, words: str) -> None:
    status = story.status()
    status["rollouts"][0]["budget"]["max_unavailable"] = 0
    async with session(tmp_path, (132, 40), status=status) as user:
        await user.arm()
        await user.press("colon", *("space" if char == " " else char for char in f"set web {typed}"), "enter")
        await user.see(words)
        assert "y:" not in user.text.splitlines()[-1]


@pytest.mark.parametrize(("typed", "asked"), [
    ("set web --max-unavailable 2 --max-surge=1", "max_unavailable = 2, max_surge = 1? y:"),
    ("rollout set web --checkpoint-pause 3m", "checkpoint_pause = 3m? y:"),
    ("set web max_surge=1 --outside-windows the fix cannot wait", "max_surge = 1, go on outside the windows? y:")])
async def test_the_command_lines_own_words_do_as_well(tmp_path: Path, typed: str, asked: str) -> None:
    async with session(tmp_path, (132, 40)) as user:
        await user.arm()
        await user.press("colon", *({" ": "space", "-": "minus", "=": "equals_sign", "_": "underscore"}.get(char, char) for char in typed), "enter")
        await user.see(asked)


async def test_names_are_completed_and_a_reason_is_left_alone(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        found = user.app.desk
        assert complete(found, "set we") == ["set web"]
        assert complete(found, "set web max_s") == ["set web max_surge="]
        assert complete(found, "set web max_surge=1 out") == ["set web max_surge=1 outside="]
        assert complete(found, "set web outside=the max") == []
        assert len(complete(found, "set web ")) == len(SETTINGS)


async def test_a_value_may_be_typed_right_after_its_name_was_completed(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.arm()
        await user.press("colon", *"set", "space", *"web", "space", *"max", "underscore", "s", "tab", "2", "enter")
        await user.see("max_surge = 2? y:")


async def test_the_view_of_a_rollout_shows_what_was_changed_and_why_the_windows_are_not_kept(tmp_path: Path) -> None:
    status = story.status()
    status["rollouts"] = [{**story.web_rollout(), "outside": "it burns", "outside_by": "eve@pts/1", "changed": "max_unavailable 1 → 2, by bob"}]
    async with session(tmp_path, status=status) as user:
        await user.press("5")
        await user.see("outside the windows: it burns (said eve@pts/1)")
        await user.see("set: max_unavailable 1 → 2, by bob")


def test_a_plan_shows_where_it_would_stop() -> None:
    made = desk()
    lines = ["12 servers, 1 extra at a time", "at no moment fewer than 12 of 12 serve", "stops to be looked at after 25% (3 servers)",
             "the window is closed: nobody is begun before Sat 22:00", "pauses if the terminal that drives it goes away"]
    made.plan = offers.plan({**story.plan(), "summary": lines}, {})
    made.open("plan", kept="yes")
    assert all(any(line in row for row in picture(made, 80, 24)) for line in lines)
