"""The house rules that no linter knows: docs/contributing.md gives the reason of each."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.tree import PYTHON, ROOT, all_files, name_of, parsed, python_files, text_of

SUPERVISORS = {"fleet/engine/act.py", "tui/link.py"}
GRAB_BAGS = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}
LATER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK")) + r")\b")
WITHOUT_SLOTS = {
    "fleet/core/sight.py:Sight": "its derived views are cached properties, which need a __dict__",
    "fleet/core/desired.py:Pool": "its names, places and definition are asked for at every decision, and cached",
    "fleet/core/observed.py:Observed": "its index by server is a cached property, made once for many decisions",
}


def test_import_contracts_hold() -> None:
    """The arrows of the package map (docs/contributing.md), as pyproject.toml states them."""
    done = subprocess.run([str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("path", python_files("fleet", "drivers", "tui", "bench", "docs"), ids=name_of)
def test_only_the_two_supervisors_catch_everything(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler) and name_of(path) not in SUPERVISORS:
            caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else {"everything"}
            assert not caught & {"everything", "Exception", "BaseException"}, (
                f"{name_of(path)}:{node.lineno} catches {caught}; name what you expect, the supervisors see to the rest")


def test_nothing_is_left_for_later() -> None:
    found = [f"{name_of(path)}:{number}" for path in all_files() for number, line in enumerate(text_of(path).splitlines(), 1)
             if LATER.search(line) and "mktemp" not in line]
    assert not found, f"do it, or file it as an issue: {found}"


def test_names_say_what_a_thing_is() -> None:
    for path in python_files(*PYTHON):
        assert path.stem not in GRAB_BAGS, f"{name_of(path)}: name the module for what is in it"
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(("Manager", "Handler", "Helper", "Util", "Utils")), f"{name_of(path)}:{node.lineno} {node.name}"


@pytest.mark.parametrize("path", python_files("fleet"), ids=name_of)
def test_values_of_the_core_are_frozen_and_slotted(path: Path) -> None:
    if "core" not in path.parts:
        return
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.ClassDef):
            continue
        for mark in node.decorator_list:
            name = mark.func if isinstance(mark, ast.Call) else mark
            if isinstance(name, ast.Name) and name.id == "dataclass":
                given = {word.arg for word in mark.keywords if isinstance(word.value, ast.Constant) and word.value.value is True} \
                    if isinstance(mark, ast.Call) else set()
                who = f"{name_of(path)}:{node.name}"
                assert "frozen" in given, f"{who} is not frozen; state changes only by fold()"
                assert "slots" in given or who in WITHOUT_SLOTS, f"{who} has no slots"


@pytest.mark.parametrize("path", python_files("fleet", "drivers", "tui"), ids=name_of)
def test_everything_is_annotated(path: Path) -> None:
    """mypy --strict says so too, but not in one second."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.returns is not None, f"{name_of(path)}:{node.lineno} {node.name} does not say what it returns"


# --- the screen: data is never markup

WIDGETS = {"Static", "Label", "Button", "Digits"}


def _widgets(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls that make a Textual widget whose first argument would be read as markup, or that set one's text."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in WIDGETS - own:
            yield node


@pytest.mark.parametrize("path", python_files("tui"), ids=name_of)
def test_no_text_of_a_server_is_read_as_markup(path: Path) -> None:
    """`[/]` in a name would vanish or crash: widgets get Text or Content, or are told markup=False; nobody parses markup."""
    for call in _widgets(parsed(path)):
        plain = any(word.arg == "markup" and isinstance(word.value, ast.Constant) and word.value.value is False for word in call.keywords)
        first = call.args[0] if call.args else None
        made = isinstance(first, ast.Call) and ast.unparse(first.func).split(".")[-1] in ("Text", "Content")
        assert first is None or plain or made, f"{name_of(path)}:{call.lineno} {ast.unparse(call)[:80]}"
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("from_markup", "render_markup"), f"{name_of(path)}:{node.lineno} parses markup"


# --- tests wait for a condition, not for a while

def _sleeps(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    """(call, why it may stand: "" if it may not) for every sleep."""

    def walk(node: ast.AST, around: tuple[ast.AST, ...]) -> Iterator[tuple[ast.Call, str]]:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep", "sleep"):
            yield node, _reason(node, around)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, (*around, node))

    return walk(tree, ())


def _reason(call: ast.Call, around: tuple[ast.AST, ...]) -> str:
    length = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
    if length == 0:
        return "lets the others run"
    if isinstance(length, int | float) and length >= 3600:
        return "waits to be cancelled"
    if any(isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name == "sleep" for node in around):
        return "a clock's own"
    if isinstance(length, int | float) and length <= 1 and any(isinstance(node, ast.While | ast.For | ast.AsyncFor) for node in around):
        return "polls"
    return ""


@pytest.mark.parametrize("path", python_files("tests"), ids=name_of)
def test_no_test_sleeps_on_the_wall_clock(path: Path) -> None:
    if re.search(r"^from tests\.clocks import .*\brun_virtual", text_of(path), re.MULTILINE):
        return  # there a loop jumps to the next timer, and a second takes no time
    for call, reason in _sleeps(parsed(path)):
        where = f"{name_of(path)}:{call.lineno}"
        assert reason, f"{where} {ast.unparse(call)}: poll a condition with a deadline, or use a clock of tests/clocks.py"
