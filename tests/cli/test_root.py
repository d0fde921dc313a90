"""`anew root NAME MODE` on hosts whose root can be locked in place: what writes there is shown before anything is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.running import at_terminal, call
from tests.wire.running import Served

Capture = pytest.CaptureFixture[str]
WRITERS = ["systemd-journal 312 /var/log/journal/system.journal", "mount - /boot"]


def lockable(served: Served, *writers: str, names: tuple[str, ...] = ("web-1",)) -> None:
    served.office.root_rows = [
        row(name, "writable", list(writers)) if name in names else {**row(name, "read-only", []), "why_not": "its root is the image itself"}
        for name in ("web-1", "web-2", "web-3")]


def row(name: str, observed: str, writers: list[str]) -> dict[str, Any]:
    return {"name": name, "pool": "web", "wished": "read-only", "observed": observed, "why_not": "", "writers": writers}


def test_what_writes_there_is_shown_before_the_question(served: Served) -> None:
    lockable(served, *WRITERS)
    code, shown = at_terminal(served, "y\n", "root", "web-1", "read-only")
    assert code == 0, shown
    for line in (*WRITERS, "web-1: root is writable, as seen inside; asked for: read-only"):
        assert shown.index(line) < shown.index("Remount web-1 read-only, now and after each boot? type y:")
    sent = served.office.commands[-1]
    assert (sent["command"], sent["mode"], sent["server"]) == ("root.set", "read-only", "web-1")


def test_no_is_no(served: Served) -> None:
    lockable(served)
    code, shown = at_terminal(served, "n\n", "root", "web-1", "read-only")
    assert (code, served.office.commands) == (5, [])
    assert "nothing is open for writing there" in shown


def test_several_servers_are_a_number_to_type(served: Served) -> None:
    lockable(served, names=("web-1", "web-3"))
    code, shown = at_terminal(served, "y\n", "root", "web", "read-only")
    assert (code, served.office.commands) == (5, [])
    assert "Remount 2 servers read-only, now and after each boot? type 2:" in shown
    assert "web-2: its root is the image itself" in shown
    code, _ = at_terminal(served, "2\n", "root", "web", "read-only")
    assert code == 0
    assert served.office.commands[-1]["pool"] == "web"


@pytest.mark.parametrize("mode", ["read-only", "writable"])
def test_a_dry_run_changes_nothing(served: Served, capsys: Capture, mode: str) -> None:
    lockable(served, *WRITERS)
    assert call("root", "web-1", mode, "--dry-run") == 0
    out = capsys.readouterr().out
    assert all(f"open for writing: {line}" in out for line in WRITERS)
    assert "nothing was changed" in out
    assert call("root", "web-1", mode, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["roots"][0]["writers"] == WRITERS
    assert served.office.commands == []


def test_breaking_the_glass_takes_a_reason(served: Served, capsys: Capture) -> None:
    lockable(served)
    assert call("root", "web-1", "writable", "--yes") == 2
    assert "--why" in capsys.readouterr().err
    assert served.office.commands == []
    assert call("root", "web-1", "writable", "--yes", "--why", "a broken driver") == 0
    assert served.office.commands[-1]["why"] == "a broken driver"


def test_many_writers_are_cut_and_their_names_are_clean(served: Served, capsys: Capture) -> None:
    lockable(served, *(f"evil\x1b[2J {number} /x" for number in range(30)))
    assert call("root", "web-1", "read-only", "--yes") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("open for writing") == 20
    assert "and 10 more" in out
