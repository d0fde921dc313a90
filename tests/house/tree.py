"""The project's own files as the house tests read them: only what is, or could be, committed."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ("fleet", "drivers", "tui", "tests", "bench", "docs", "vagrant")


@cache
def all_files() -> tuple[Path, ...]:
    """Every file git knows or would add, by path in the project; without git (an archive), every file that is not hidden."""
    try:
        listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                capture_output=True, check=True, timeout=60).stdout.decode().split("\0")
        found = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        found = [path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]
    return tuple(sorted(path for path in found if path.is_file() and not path.is_symlink()))


@cache
def python_files(*folders: str) -> tuple[Path, ...]:
    """The Python files of these folders of the project."""
    return tuple(path for path in all_files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders)


@cache
def text_of(path: Path) -> str:
    """A file's text; "" if it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def parsed(path: Path) -> ast.Module:
    """A Python file's tree."""
    return ast.parse(text_of(path), str(path))


def name_of(path: Path) -> str:
    """The path as messages print it."""
    return str(path.relative_to(ROOT))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
