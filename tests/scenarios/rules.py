"""Which story shows which rule: docs/stories.md, made from the scenario files. `python -m tests.scenarios --update` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.scenarios.story import Story, stories

PAGE = Path(__file__).parents[2] / "docs" / "stories.md"
RULES = {
    1: "Fenceposts of the budget", 2: "Sliding, not batched", 3: "Unhealthy and missing servers use budget too", 4: "The target is a digest",
    5: "Three pointers per pool", 6: "What matches is skipped", 7: "Create first, delete first, never two writers",
    8: "Nothing old is destroyed before its time", 9: "Rollback is its own path", 10: "A rolled-back image is rejected",
    11: "Age is one more reason, under the same budget", 12: "The plan guards the start", 13: "Pause, abort, resume", 14: "Waits are named",
    15: "Held servers are skipped", 16: "Two people, one truth", 17: "Failure domains", 18: "Exit codes",
}
HEAD = """\
# Stories

Every rule of a rollout is told by whole rollouts on simulated servers, each from a scenario of a few lines and with a trace to
read. A *counter-example* tells what happens where the rule does not hold back, or must not be taken too far. Made from
`tests/scenarios/stories/` by `python -m tests.scenarios --update`; do not edit. A story that is told otherwise than it was fails
`make test` with the difference.

| rule | stories | counter-examples |
| --- | --- | --- |
"""


def page() -> str:
    """docs/stories.md."""
    told = [Story(path) for path in stories()]
    rows = [f"| {rule}. {name} | {_links(story for story in told if rule in story.rules)} | "
            f"{_links(story for story in told if rule in story.counter)} |" for rule, name in RULES.items()]
    return HEAD + "\n".join(rows) + "\n"


def _links(told: Iterable[Story]) -> str:
    return ", ".join(f"[{story.name}](../tests/scenarios/traces/{story.name}.txt)" for story in told)
