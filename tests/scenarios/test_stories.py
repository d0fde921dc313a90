"""Each story is told as it was; `python -m tests.scenarios --update` accepts a new telling, and the diff is for review."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.__main__ import difference
from tests.scenarios.rules import PAGE, RULES, page
from tests.scenarios.story import Story, stories


@pytest.mark.parametrize("path", stories(), ids=lambda path: path.stem)
def test_the_story_is_told_as_it_was(path: Path) -> None:
    changed = difference(path, Story(path).trace())
    assert not changed, f"\n{changed}\n\naccept it with: python -m tests.scenarios --update {path.stem}"


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_story_and_a_counter_example(rule: int) -> None:
    told = [Story(path) for path in stories()]
    assert any(rule in story.rules for story in told) and any(rule in story.counter for story in told), RULES[rule]


def test_no_story_tells_of_nothing_or_of_both_sides_of_a_rule() -> None:
    for path in stories():
        story = Story(path)
        named = [*story.rules, *story.counter]
        assert named and len(named) == len(set(named)) and set(named) <= RULES.keys(), path.stem


def test_the_page_names_every_story() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.scenarios --update"
