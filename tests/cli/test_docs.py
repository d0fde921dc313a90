"""The pages about commands and the API say all there is, and nothing that is not."""

from __future__ import annotations

import re
from pathlib import Path

from fleet.api.routes import ROUTES
from fleet.api.wire import COMMANDS
from fleet.cli.reference import page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_commands_is_fresh() -> None:
    assert (DOCS / "cli.md").read_text() == page(), "run: python -m fleet.cli.reference > docs/cli.md"


def test_the_page_of_the_api_has_the_table_of_routes() -> None:
    found = re.findall(r"^\| (GET|POST) \| `([^`]+)` \| (\w+) \|", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert found == sorted(((route.method, route.path, route.least) for route in ROUTES), key=found.index)
    assert len(found) == len(ROUTES)


def test_the_page_of_the_api_has_every_command() -> None:
    found = re.findall(r"^\| `([a-z]+(?:\.[a-z]+)?)` \|", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert sorted(found) == sorted(COMMANDS)
