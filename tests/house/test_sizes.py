"""Files and functions stay small enough to be read in one go."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tests.house.tree import PYTHON, ROOT, functions, name_of, parsed, python_files, text_of

FILE_HARD, FILE_SOFT, FUNCTION_HARD, APP_HARD = 500, 300, 70, 200


def lines(path: Path) -> int:
    return len(text_of(path).splitlines())


@pytest.mark.parametrize("path", python_files(*PYTHON), ids=name_of)
def test_no_file_and_no_function_is_too_long(path: Path) -> None:
    assert lines(path) <= FILE_HARD, f"{name_of(path)} has {lines(path)} lines; split it by what it is about"
    for function in functions(parsed(path)):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= FUNCTION_HARD, f"{name_of(path)}:{function.lineno} {function.name} has {length} lines; {FUNCTION_HARD} are the limit"


def test_the_app_only_wires_things_up() -> None:
    found = lines(ROOT / "tui/app.py")
    assert found <= APP_HARD, f"tui/app.py has {found} lines; {APP_HARD} are the limit: move what it knows to desk, link or a screen"


def test_long_files_are_named() -> None:
    """The soft limit: a warning, so that the next change to such a file thinks of splitting it."""
    long = sorted(((lines(path), name_of(path)) for path in python_files(*PYTHON) if lines(path) > FILE_SOFT), reverse=True)
    if long:
        warnings.warn("files over the soft limit: " + ", ".join(f"{name} {count}" for count, name in long), stacklevel=1)
