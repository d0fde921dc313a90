"""House rules of the terminal, looked up in its source: the measured traps stay shut."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tui.keys import KEYS
from tui.screens import SCREENS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "tui").rglob("*.py"))
PURE = {"view_model.py", "phrases.py", "shapes.py", "untrusted.py", "keys.py", "desk.py", "actions.py", "commands.py", "ink.py",
        "prompt.py", "table.py", "header.py", "footer.py", "flash.py", "console.py"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_widget_that_repaints_or_reads_markup(path: Path) -> None:
    for name in ("DataTable", "LoadingIndicator", "Static", "Label", "RichLog", "Markdown", "Input", "Button"):
        assert not re.search(rf"\b{name}\(", path.read_text()), f"{name}: strings given to it are markup, or it repaints whole"
    assert not any(name.startswith("textual.widgets") for name in imported(path))
    if path.name in PURE or path.parent.name == "screens":
        assert not any(name.split(".")[0] == "textual" for name in imported(path)), "pure"


def test_markup_is_never_parsed() -> None:
    for path in FILES:
        assert "from_markup" not in path.read_text()
        assert "Text(" not in path.read_text()


def test_the_broad_except_is_in_the_link_alone() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
                assert not broad or path.name == "link.py", path


def test_the_app_is_small() -> None:
    assert len((ROOT / "tui/app.py").read_text().splitlines()) <= 200


def test_every_key_has_words_where_it_works() -> None:
    for key in KEYS:
        for screen, words in key.words.items():
            assert words
            assert screen == "*" or screen in SCREENS
        assert key.long or key.action in ("back",), key.action
