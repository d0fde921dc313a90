"""`/` on the console: the newest match first, n and N along the others, and what was looked for stays marked while more is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.tui.desktop import desk, picture
from tests.tui.test_verbs import typed
from tui.desk import Desk
from tui.screens.console import ConsoleView


def listening() -> tuple[Desk, ConsoleView]:
    made = desk()
    typed(made, "web-1")
    made.key("l", "l")
    view = made.view
    assert isinstance(view, ConsoleView)
    view.scrollback.feed(b"".join(b"[%4d.0] %s\r\n" % (n, b"ERROR disk" if n in (40, 90, 150) else b"all is well") for n in range(200)))
    picture(made, 80, 24)
    return made, view


def marked(made: Desk) -> list[str]:
    return [row.strip() for row in picture(made, 80, 24) if row.startswith("›")]


def test_the_newest_match_is_shown_and_n_and_capital_n_go_along() -> None:
    made, view = listening()
    made.key("slash", "/")
    assert typed(made, "error") == "Match 3 of 3."
    assert marked(made) == ["›[ 150.0] ERROR disk"]
    made.key("N", "N")
    assert marked(made) == ["›[  90.0] ERROR disk"]
    made.key("N", "N")
    assert marked(made) == ["›[  40.0] ERROR disk"]
    made.key("N", "N")
    assert made.flash.words == "No line above matches 'error'."
    assert marked(made) == ["›[  40.0] ERROR disk"], "it stays"
    made.key("n", "n")
    assert made.flash.words == "Match 2 of 3."
    view.scrollback.feed(b"ERROR again\r\n")
    made.key("n", "n")
    made.key("n", "n")
    assert "›ERROR again" in marked(made)
    made.key("escape", None)
    assert marked(made) == []
    assert made.view is view
    made.key("escape", None)
    assert made.view.name == "server"


@pytest.mark.parametrize(("line", "words"), [("web-[", "The pattern 'web-[' is none: unterminated character set."), ("panic", "No line matches 'panic'.")])
def test_what_is_not_found_or_no_pattern_is_a_sentence(line: str, words: str) -> None:
    made, _ = listening()
    made.key("slash", "/")
    assert typed(made, line) == words
    assert (made.prompt is None) is (line == "panic"), "a bad pattern stays to be mended"


def test_without_a_pattern_n_says_so_and_the_colon_finds_too() -> None:
    made, _ = listening()
    made.key("n", "n")
    assert "/ finds a pattern" in made.flash.words
    assert typed(made, "filter \\[ *90") == "Match 1 of 1."
    assert "is none" in typed(made, "filter [")


def test_a_console_that_a_screen_below_it_takes_off_is_not_listened_to_any_more() -> None:
    made = desk()
    typed(made, "web-1")
    heard: list[bool] = []

    async def console(server: str, sink: Callable[[bytes], bool]) -> None:
        made.key("3", "3")
        heard.append(sink(b"more"))

    made.calls.console = console  # type: ignore[method-assign]
    made.key("l", "l")
    assert made.view.name == "server"
    assert heard == [False]
