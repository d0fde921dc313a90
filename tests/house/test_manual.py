"""The man pages: taken by man and groff without a warning, and nothing of the pages they are made from is lost on the way."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

import pytest
from pydantic import BaseModel

from docs.manual import roff
from fleet.cli.reference import page as commands_page
from fleet.cli.tree import COMMANDS, OVERRIDES, SHARED, Word
from fleet.cli.variables import READ, SET
from fleet.settings.schema import TABLES
from tests.house.tree import ROOT, python_files, text_of

PAGES = ("anew.1", "anew.toml.5")
GROFF = shutil.which("groff")
needs_groff = pytest.mark.skipif(GROFF is None, reason="groff is not installed")


@cache
def shown(name: str) -> str:
    """A page as a reader sees it, without hyphens and breaks of groff's own."""
    done = subprocess.run(["groff", "-man", "-ww", "-K", "utf8", "-T", "utf8", "-P-cbou", "-rLL=1000n", str(ROOT / "docs/man" / name)], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr, done.stderr
    return re.sub(r"[ \n]+", " ", done.stdout)


@needs_groff
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("device", ["utf8", "ascii"])
def test_groff_has_nothing_to_warn_of(name: str, device: str) -> None:
    done = subprocess.run(["groff", "-man", "-ww", "-K", "utf8", "-T", device, "-z", str(ROOT / "docs/man" / name)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("man") is None or shutil.which("lexgrog") is None, reason="man is not installed")
@pytest.mark.parametrize("name", PAGES)
def test_man_shows_it_and_finds_it_by_its_name(name: str) -> None:
    path = str(ROOT / "docs/man" / name)
    done = subprocess.run(["man", "--warnings", "-l", path], capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.partition("EXAMPLES")[0].splitlines())) <= 80, "prose fits; an example is shown as it is"
    known = subprocess.run(["lexgrog", path], capture_output=True, text=True, timeout=60, check=False)
    assert f'"{name.rpartition(".")[0]} - ' in known.stdout


@needs_groff
def test_every_command_option_code_and_variable_is_in_the_first_page() -> None:
    text = shown("anew.1")

    def walk(words: tuple[Word, ...], before: str) -> None:
        for word in words:
            if word.run:
                assert f"{before} {word.name}" in text
            for option in word.options:
                assert all(name in text for name in option.names if name.startswith("--"))
            walk(word.words, f"{before} {word.name}")

    walk(COMMANDS, "anew")
    for option in SHARED:
        assert option.names[0] in text
    for name, _ in OVERRIDES:
        assert "--" + name.replace("_", "-") in text
    for name in (*READ, *SET):
        assert f" {name} " in text
    codes = re.findall(r"^\| (\d+) \| ([^|`]+) \|$", commands_page(), re.MULTILINE)
    assert len(codes) == 9, "all of the table of exit codes"
    for code, means in codes:
        assert f" {code} {means} " in text
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"):
        assert f" {title} " in text


@needs_groff
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_setting_is_in_the_fifth_page(table: type[BaseModel]) -> None:
    text = shown("anew.toml.5")
    for name, field in table.model_fields.items():
        plain = re.sub(r"[`*]", "", field.description or "").replace("…", "...")
        assert f" {name} {plain}" in text, name


@needs_groff
@pytest.mark.parametrize(("markdown", "said"), [
    (".begins with a dot", ".begins with a dot"),
    ("'begins with a quote", "'begins with a quote"),
    (r"a back\slash and \fBno font\fR", r"a back\slash and \fBno font\fR"),
    ("`--max-surge` is no well-known--thing", "--max-surge is no well-known--thing"),
    ("[a link](elsewhere.md#there) and **strong**", "a link and strong"),
    ("| a | b |\n| --- | --- |\n| `x\\|y` | one \\| two |", "x|y one | two"),
    ("- `-x VALUE`: does it.\n  And more.\n- plain", "-x VALUE does it. And more. • plain"),
    ("~/.config ^ `$HOME` \"quoted\"", "~/.config ^ $HOME \"quoted\""),
])
def test_what_is_written_is_what_is_read(markdown: str, said: str) -> None:
    page = "\n".join([".TH X 1", ".nh", ".SH NAME", "x \\- y", ".SH BODY", *roff(markdown), ""])
    done = subprocess.run(["groff", "-man", "-ww", "-K", "utf8", "-T", "utf8", "-P-cbou", "-rLL=200n"], input=page, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stderr
    assert f"BODY {said} " in re.sub(r"[ \n]+", " ", done.stdout)


def test_every_variable_that_the_code_knows_is_in_the_table() -> None:
    """One that is read and not told would be found by nobody; one that is told and not read would be set in vain."""
    known = {name for path in python_files("fleet", "drivers", "tui") if path.name != "variables.py"
             for name in re.findall(r"(?<![\w{])(ANEW_[A-Z]+|XDG_[A-Z_]+[A-Z]|NO_COLOR|NOTIFY_SOCKET|WATCHDOG_[A-Z]+)(?![\w{])", text_of(path))}
    assert known == ({*READ, *SET} - {"TERM", "HOME"}), known ^ ({*READ, *SET} - {"TERM", "HOME"})
