"""`d`: what changes from one image to another, which two are compared, and what comes of images that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tui import story
from tests.tui.desktop import desk, picture
from tests.tui.stage import session
from tests.tui.test_verbs import table, typed
from tui.desk import Desk
from tui.errors import LinkError
from tui.ink import line_width, plain
from tui.widgets.crumbs import rule


def text(made: Desk) -> str:
    return "\n".join(picture(made, 80, 24))


async def test_the_image_under_the_cursor_against_the_one_that_runs(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("4")
        await user.see("digest")
        await user.press("G", "d")
        await user.see("web 1 → 2  2 added, 1 removed, 14 changed")
        assert user.daemon.compared == ["web 1 2"]
        assert "kernel    /vmlinuz-6.1.0-50 → /vmlinuz-6.1.0-56" in user.text
        assert "size      3.5 MiB → 3.6 MiB" in user.text
        assert "› +  jq " in user.text
        assert "── fleet › images › 1→2 ──" in user.text
        await user.press("slash", *"kind", "colon", *"rem", "enter")
        await user.see("› -  ifupdown")
        assert "jq" not in user.row("body")
        await user.press("escape", "escape")
        await user.see("digest")


async def test_two_marked_images_are_compared_the_older_first(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("4")
        await user.see("digest")
        await user.press("j", "j", "j", "j", "space", "k", "k", "k", "space", "d")
        await user.see("edge 5 → 7")
        assert user.daemon.compared == ["edge 5 7"]


@pytest.mark.parametrize(("keys", "compared"), [
    (("p",), "web 1 2"), (("5",), "web 1 2"), ((), "web 1 2"), (("j", "j", "j"), "ci 3 4"), (("j",), "db has no"),
])
def test_the_plan_the_rollout_and_the_image_on_offer(keys: tuple[str, ...], compared: str) -> None:
    made = desk()
    picture(made, 80, 24)
    for key in (*keys, "d"):
        made.key(key, key)
        picture(made, 80, 24)
    if compared.startswith("db"):
        assert made.flash.words == "There are no two images of db to compare: 4 lists all."
    else:
        family, a, b = compared.split()
        assert f" {family} {a} → {b} " in text(made)


@pytest.mark.parametrize(("marks", "words"), [
    (("ci/4",), "ci/4 and web/2 are of two families"), (("web/2",), "This image is the marked one"),
    (("edge/5", "edge/6", "edge/7"), "3 images are marked: a difference is between two."),
    (("ci/4", "db/14"), "are of two families"),
])
def test_what_cannot_be_compared_is_a_sentence(marks: tuple[str, ...], words: str) -> None:
    made = desk()
    typed(made, "images")
    made.key("G", "G")
    made.view.table.marks = set(marks)  # type: ignore[attr-defined]
    picture(made, 80, 24)
    made.key("d", "d")
    assert words in made.flash.words
    assert made.view.name == "images"


def test_a_refusal_is_told_and_the_view_says_so() -> None:
    made = desk()
    picture(made, 80, 24)
    made.calls.refusal = LinkError("There is no image web/1.")  # type: ignore[attr-defined]
    made.key("d", "d")
    assert made.flash.words == "There is no image web/1."
    assert "cannot be compared now" in text(made)


@pytest.mark.parametrize(("answer", "words"), [
    ({"added": {}, "removed": {}, "changed": {}, "packages_known": True}, "no package differs"),
    ({"packages_known": False, "kernel": ["a", ""]}, "what changes inside is not known"),
    ({"added": {"x\x1b[2J": "=1"}, "changed": {"y": "odd", "z": [1, 2], "w": []}, "kernel": "odd", "size_a": "odd"}, "3 changed"),
])
def test_odd_answers_are_survived(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], words: str) -> None:
    monkeypatch.setattr(story, "image_diff", lambda: answer)
    made = desk()
    picture(made, 80, 24)
    made.key("d", "d")
    assert words in text(made)
    assert "\x1b" not in text(made)


def test_only_broken_and_rejected_images() -> None:
    made = desk()
    typed(made, "images")
    made.key("exclamation_mark", "!")
    assert table(made) == ["ci/4", "edge/5"]
    made.key("escape", None)
    assert len(table(made)) == 7


def test_pools_are_filtered_too() -> None:
    made = desk()
    made.key("slash", "/")
    typed(made, "rollout:ready")
    assert table(made) == ["ci"]
    assert "filter rollout:ready · esc shows all" in text(made)
    typed(made, "filter health:nosuch")
    assert 'no pool matches "health:nosuch": esc clears the filter' in text(made)
    typed(made, "filter helth:ok")
    assert "columns are pool, size, health" in text(made)


@pytest.mark.parametrize(("names", "width", "words"), [
    (["fleet"], 30, "─" * 30), (["fleet", "servers web", "web-3"], 80, "── fleet › servers web › web-3 ──"),
    (["fleet", "servers web", "web-3", "console web-3"], 40, "── … › web-3 › console web-3 ──"),
    (["fleet", "x" * 200], 30, "── fleet › xxx"), (["fleet", "servers"], 10, "─" * 10),
])
def test_the_way_one_came_fits_every_terminal(names: list[str], width: int, words: str) -> None:
    line = rule(names, width)
    assert line_width(line) == width
    assert plain(line).startswith(words)
