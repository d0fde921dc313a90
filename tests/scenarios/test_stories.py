"""Each story is told as it was; `python -m tests.scenarios --update` accepts a new telling, and the diff is for review."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.__main__ import difference
from tests.scenarios.story import Story, stories

RULES = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}


@pytest.mark.parametrize("path", stories(), ids=lambda path: path.stem)
def test_the_story_is_told_as_it_was(path: Path) -> None:
    changed = difference(path, Story(path).trace())
    assert not changed, f"\n{changed}\n\naccept it with: python -m tests.scenarios --update {path.stem}"


def test_every_rule_has_a_story() -> None:
    assert {rule for path in stories() for rule in Story(path).rules} >= RULES
