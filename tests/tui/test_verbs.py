"""The `:` line: every key by its name, completion, history, and what is wrong is a sentence that loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.desktop import MadeUp, desk, picture
from tests.tui.stage import session
from tui.commands import complete
from tui.desk import Desk
from tui.keys import KEYS
from tui.screens.base import TableView


def typed(made: Desk, line: str, *, enter: bool = True) -> str:
    """Type a line after `:`, or one for an open question; the sentence that comes of it."""
    if made.prompt is None:
        made.key("colon", ":")
    for char in line:
        made.key(char, char)
    if enter:
        made.key("enter", None)
    picture(made, 80, 24)
    return made.flash.words


def table(made: Desk) -> list[str]:
    assert isinstance(made.view, TableView)
    picture(made, 80, 24)
    return list(made.view.table.order)


def test_every_key_that_asks_nothing_is_a_command_where_it_works() -> None:
    made = desk()
    for screen in ("fleet", "servers", "images", "rollout", "events"):
        typed(made, screen)
        offered = complete(made, "")
        for key in KEYS:
            if key.on(screen) and key.footer and key.action not in ("command", "help", "open", "console"):
                assert key.action in offered, (screen, key.action)


def test_a_command_does_what_its_key_does() -> None:
    made = desk()
    typed(made, "servers")
    typed(made, "faults")
    assert table(made) == ["edge-4", "edge-6", "web-2"]
    typed(made, "faults")
    typed(made, "mark")
    assert typed(made, "copy") == "copied"
    assert "ARMED" not in picture(made, 80, 24)[0]
    typed(made, "arm")
    assert "ARMED" in picture(made, 80, 24)[0]
    assert typed(made, "promote web") == "There is nothing to promote: web is rolling."


@pytest.mark.parametrize(("line", "first"), [("sort age", "edge-1"), ("sort -name", "web-12"), ("sort serv", "ci-1"), ("sort -ima", "db-1")])
def test_sorting_by_name(line: str, first: str) -> None:
    made = desk()
    typed(made, "servers")
    assert typed(made, line).startswith("Sorted by")
    assert table(made)[0] == first


def test_a_filter_may_have_several_parts() -> None:
    made = desk()
    typed(made, "servers")
    typed(made, "filter pool:^web$ & image:2 & name:!-1")
    assert table(made) == ["web-3", "web-4", "web-5", "web-9"]


@pytest.mark.parametrize(("line", "words"), [
    ("theme pink", "There is no theme 'pink'"), ("sort weight", "There is no column 'weight' to sort by: name, pool"),
    ("sort nmae", "is it 'name'?"), ("filter web-[", "The filter 'web-[' is not a pattern"), ("export", "exported to"),
    ("export servers.xls", "'servers.xls' ends in neither"), ("promote", "no rollout under way"), ("seek", "There is no command, pool or server 'seek'."),
    ("fiter", "Is it 'filter'?"), ("open", "There is no command"), ("wide please", "wide takes nothing after it: `:wide`."),
    ("console web-99", "There is no server 'web-99'"), ("rollout wbe", "There is no pool 'wbe'"),
])
def test_what_is_wrong_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    made = desk()
    typed(made, "servers")
    typed(made, "filter pool:db")
    assert words in typed(made, line)
    assert table(made) == ["db-1", "db-2", "db-3"], "nothing is lost"


def test_what_does_nothing_here_says_so() -> None:
    made = desk()
    typed(made, "rollout")
    assert typed(made, "mark") == "mark does nothing on this view."
    assert typed(made, "filter x") == "filter does nothing on this view."
    assert typed(made, "sort age") == "This view has no order to change."
    assert made.calls.commands == []  # type: ignore[attr-defined]


def test_up_brings_back_what_was_typed_and_what_was_wrong_can_be_mended() -> None:
    made = desk()
    for line in ("servers", "remark all is well", "wbe", "servers"):
        typed(made, line)
    made.key("colon", ":")
    seen = []
    for _ in range(4):
        made.key("up", None)
        assert made.prompt is not None
        seen.append(made.prompt.typed)
    assert seen == ["servers", "wbe", "remark all is well", "remark all is well"]
    made.key("down", None)
    assert made.prompt is not None
    assert made.prompt.typed == "wbe"
    made.key("escape", None)
    made.key("colon", ":")
    made.key("r", "r")
    made.key("up", None)
    assert made.prompt is not None
    assert made.prompt.typed == "remark all is well", "only lines that begin like what is typed"
    assert "1 of 1" in picture(made, 80, 24)[-1]
    made.key("down", None)
    assert made.prompt.typed == "r"
    made.key("enter", None)
    assert [row["command"] for row in _commands(made)] == ["remark"]


def _commands(made: Desk) -> list[dict[str, str]]:
    assert isinstance(made.calls, MadeUp)
    return [dict(row) for row in made.calls.commands]


def test_a_number_and_a_yes_have_no_history() -> None:
    made = desk()
    typed(made, "hold web-1 3")
    typed(made, "arm")
    typed(made, "rollback web")
    picture(made, 80, 24)
    assert made.prompt is not None
    assert made.prompt.kind == "number"
    made.clock.advance(1)  # type: ignore[attr-defined]
    made.key("up", None)
    assert made.prompt.typed == ""


def test_a_bad_filter_stays_to_be_mended() -> None:
    made = desk()
    typed(made, "servers")
    made.key("slash", "/")
    assert "is not a pattern" in typed(made, "web-[")
    assert made.prompt is not None, "the line is still there"
    made.key("backspace", None)
    assert typed(made, "3") == ""
    assert made.prompt is None
    assert table(made) == ["web-3"]
    made.key("slash", "/")
    made.key("ctrl+u", None)
    made.key("up", None)
    assert made.prompt.typed == "web-3"


@pytest.mark.parametrize(("line", "words"), [
    ("th", ["theme"]), ("theme col", ["theme colourblind"]), ("export j", ["export json"]), ("sort ag", ["sort age"]), ("filter na", ["filter name:"]),
    ("faul", ["faults"]), ("console web-12", ["console web-12"]), ("rollout e", ["rollout edge"]), ("theme dark ", []), ("quit ", []),
])
def test_completion(line: str, words: list[str]) -> None:
    made = desk()
    typed(made, "servers")
    assert complete(made, line) == words


@pytest.mark.parametrize(("line", "crumb"), [
    ("server db-2", "db-2"), ("console web-3", "console web-3"), ("servers db", "servers db"), ("rollout edge", "rollout edge"), ("rollout db", "fleet"),
])
def test_views_by_the_name_of_what_they_are_about(line: str, crumb: str) -> None:
    made = desk()
    said = typed(made, line)
    assert made.crumbs()[-1] == crumb
    assert said == ("db had no rollout yet." if crumb == "fleet" else "")


async def test_in_the_app_a_theme_is_worn_by_its_name(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("colon", *"theme", "space", *"colo", "tab", "enter")
        await user.see("Theme colourblind.")
        assert user.app.theme == "anew-colourblind"
        assert user.app.papers["body"].palette == "colourblind"
