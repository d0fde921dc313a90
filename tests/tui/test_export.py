"""Copying and exporting: what leaves the terminal, where to, and what a hostile word becomes."""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.tui import story
from tests.tui.canned import CannedDaemon
from tests.tui.desktop import desk, picture
from tests.tui.stage import session
from tests.tui.terminal import Terminal
from tests.tui.test_verbs import typed
from tui import clipboard, export
from tui.desk import Desk
from tui.screens import SCREENS


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the user stands in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TMUX", raising=False)
    return tmp_path


def on(screen: str) -> Desk:
    """A desk that looks at a screen."""
    made = desk()
    picture(made, 80, 24)
    if screen == "console":
        typed(made, "web-1")
        made.key("l", "l")
    elif screen == "server":
        typed(made, "web-1")
    elif screen == "diff":
        made.key("d", "d")
    elif screen == "plan":
        made.key("p", "p")
    elif screen != "fleet":
        typed(made, screen)
    picture(made, 80, 24)
    assert made.view.name == screen
    return made


# A replay takes no command line: `anew replay ID --json` is its export.
@pytest.mark.parametrize("screen", [screen for screen in SCREENS if screen != "replay"])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_every_view_is_exported(here: Path, screen: str, kind: str) -> None:
    made = on(screen)
    said = typed(made, f"export {kind}")
    path = here / f"anew-{screen}-20261121-140200.{kind}"
    assert said.endswith(f"exported to {path}.")
    if kind == "json":
        found = json.loads(path.read_text())
        assert (found["schema_version"], found["fleet"], found["view"], found["at"]) == (1, "lab", screen, "2026-11-21T14:02:00+00:00")
        rows = found["rows"]
    else:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    assert rows
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert len(rows) == len(made.view.records())


def test_what_is_exported_is_what_is_shown_with_values_for_programs(here: Path) -> None:
    made = on("servers")
    typed(made, "filter pool:web")
    typed(made, "sort -name")
    typed(made, "export some.json")
    rows = json.loads((here / "some.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [f"web-{n}" for n in range(12, 0, -1)]
    assert rows[-1] == {"name": "web-1", "pool": "web", "image": "2", "age": 300, "state": "serving", "root": "read-only", "why": "tcp 22 in 3 ms",
                        "address": "127.0.0.1:2201", "place": "hv2", "life": 2, "back": ["1"]}


def test_marks_are_what_is_copied_and_exported(here: Path) -> None:
    made = on("servers")
    typed(made, "filter ^web-[12]$")
    picture(made, 80, 24)
    made.key("asterisk", "*")
    typed(made, "filter db-1")
    made.key("y", "y")
    copied = made.stage.copied[-1]  # type: ignore[attr-defined]
    assert [line.split()[0] for line in copied.splitlines()] == ["web-1", "web-2"]
    assert "2 rows (the marked ones) exported" in typed(made, "export marked.csv")
    assert [line.split(",")[0] for line in (here / "marked.csv").read_text().splitlines()] == ["name", "web-1", "web-2"]


def test_a_file_that_exists_is_left_alone_and_a_folder_that_does_not_is_said(here: Path) -> None:
    (here / "mine.csv").write_text("precious")
    made = on("servers")
    assert "exists already and was left alone: choose another name." in typed(made, "export mine.csv")
    assert (here / "mine.csv").read_text() == "precious"
    (here / "link.csv").symlink_to(here / "elsewhere.csv")
    assert "exists already" in typed(made, "export link.csv")
    assert not (here / "elsewhere.csv").exists()
    assert "could not be written: No such file or directory" in typed(made, "export no/such/x.csv")
    (here / "folder.csv").mkdir()
    assert "folder.csv/anew-servers-" in typed(made, "export folder.csv")


@pytest.mark.parametrize(("path", "why"), [("~nosuchuser/x.csv", "home directory"), (f"{'x' * 300}.csv", "File name too long"), ("mine.csv/x.csv", "Not a directory")])
def test_a_path_that_cannot_be_is_a_sentence(here: Path, path: str, why: str) -> None:
    (here / "mine.csv").write_text("precious")
    said = typed(on("servers"), f"export {path}")
    assert "could not be written" in said
    assert why in said


def test_a_folder_that_may_not_be_entered_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", closed)  # root may enter any folder
    assert typed(on("servers"), "export closed/x.csv").endswith("closed/x.csv could not be written: Permission denied.")


@pytest.mark.parametrize("hostile", ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", " =1", "\t=1"])
def test_no_cell_of_a_csv_is_a_formula(hostile: str) -> None:
    made = export.text("csv", [{"why": hostile, "age": -5, "ok": True, "none": None, "back": ["=1", "2"]}])
    row = next(csv.DictReader(made.splitlines()))
    assert row == {"why": f"'{hostile}", "age": "-5", "ok": "true", "none": "", "back": "'=1, 2"}
    assert json.loads(export.text("json", [{"why": hostile}]))["rows"] == [{"why": hostile}]


def test_nothing_to_export_is_said() -> None:
    made = desk({**story.status(), "pools": [], "rollouts": []})
    picture(made, 80, 24)
    assert typed(made, "export") == "There is nothing to export here."
    made.key("y", "y")
    assert clipboard.copy("", print, "") == "There is nothing to copy here."


# the clipboard


def decoded(sequence: str) -> str:
    found = re.fullmatch("\x1b]52;c;([A-Za-z0-9+/=]*)\x07", sequence)
    assert found is not None
    return base64.b64decode(found[1]).decode()


def test_the_clipboard_gets_what_terminals_take_and_the_file_all(tmp_path: Path) -> None:
    wrote: list[str] = []
    said = clipboard.copy("é" * 50_000, wrote.append, str(tmp_path))
    assert len(wrote[0]) <= 100_000
    assert decoded(wrote[0]) == "é" * 37_497
    assert said == f"Copied the first 74,994 of 100,000 bytes to the clipboard, all to {tmp_path}/copied.txt."
    assert (tmp_path / "copied.txt").read_text() == "é" * 50_000 + "\n"


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "anew").write_text("")
    assert "copied.txt could not be written" in clipboard.copy("x", lambda _: None, str(tmp_path / "anew"))


def test_tmux_gets_it_plain_and_wrapped() -> None:
    plain = clipboard.sequence(b"web-1", tmux=False)
    both = clipboard.sequence(b"web-1", tmux=True)
    assert decoded(plain) == "web-1"
    assert both == plain + "\x1bPtmux;\x1b" + plain + "\x1b\\"


@pytest.mark.parametrize(("environment", "start"), [({}, b"\x1b]52;c;"), ({"TMUX": "/tmp/tmux-0/default,1,0"}, b"\x1bPtmux;\x1b\x1b]52;c;")])
async def test_copying_in_a_real_terminal(tmp_path: Path, environment: dict[str, Any], start: bytes) -> None:
    async with CannedDaemon(tmp_path / "anew.sock") as daemon, Terminal(daemon.socket, tmp_path, **environment) as terminal:
        await terminal.until(lambda: daemon.listeners and "lately" in terminal.text, "the fleet")
        terminal.type(b"2")
        await terminal.until(lambda: "ci-1" in terminal.text, "the servers")
        terminal.type(b"y")
        await terminal.until(lambda: start + base64.b64encode(b"ci-1 ci 3") [:12] in terminal.output, "the sequence")
        await terminal.until(lambda: "Copied to the clipboard" in terminal.text, "the sentence")


async def test_exporting_in_the_app(tmp_path: Path) -> None:
    async with session(tmp_path, (132, 40)) as user:
        await user.press("7", "colon", *"export", "space", *"here.csv", "enter")
        await user.see("10 rows exported to")
    assert (tmp_path / "here.csv").read_text().startswith("at,who,about,text,type,seq\n2026-11-21T14:01:52Z,engine,web-5,")
