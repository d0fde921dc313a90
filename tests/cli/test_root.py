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
    return {"name": name, "pool": "web", "wished": "read-only", "observed": observed, "why_not": "", "writers": writers,
            "takes": "remount" if observed == "writable" else "nothing", "unlocked_until": None}


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
    assert "1 of 3 servers are read-only as promised" in shown
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
    assert "lasts" not in served.office.commands[-1], "the daemon knows the usual time"
    assert call("root", "web-1", "writable", "--yes", "--why", "a broken driver", "--for", "20m") == 0
    assert served.office.commands[-1]["lasts"] == "20m"


def test_many_writers_are_cut_and_their_names_are_clean(served: Served, capsys: Capture) -> None:
    lockable(served, *(f"evil\x1b[2J {number} /x" for number in range(30)))
    assert call("root", "web-1", "read-only", "--yes") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("open for writing") == 20
    assert "and 10 more" in out


def test_looking_tells_what_each_server_takes(served: Served, capsys: Capture) -> None:
    replaceable(served)
    served.office.root_rows[2] |= {"unlocked_until": "2026-11-21T15:00:00Z"}
    assert call("root", "web") == 0
    out = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "web-1 read-only writable remount" in out
    assert "web-2 read-only writable replacement its root comes from the image" in out
    assert any(line.startswith("web-3 read-only read-only nothing unlocked until 2026-11-21 ") for line in out)
    assert "`anew root web read-only` does it under the pool's budget, and asks first" in out
    assert served.office.commands == []


def replaceable(served: Served) -> None:
    lockable(served)
    served.office.root_rows[1] = {**row("web-2", "writable", []), "why_not": "its root comes from the image", "takes": "replacement"}


def test_what_must_be_replaced_is_a_plan_with_a_question_of_its_own(served: Served) -> None:
    replaceable(served)
    code, shown = at_terminal(served, "y\nn\n", "root", "web", "read-only")
    assert code == 5
    assert "web-2: root is writable, as seen inside; it takes a replacement: its root comes from the image" in shown
    assert shown.index("Remount web-1 read-only, now and after each boot? type y:") < shown.index("plan ")
    assert [sent["command"] for sent in served.office.commands] == ["root.set"], "the plan was not started"
    code, shown = at_terminal(served, "y\n3\n", "root", "web", "read-only")
    assert code == 0, shown
    started = served.office.commands[-1]
    assert (started["command"], started["plan"]["servers"], started["plan"]["to"]) == ("rollout.start", ["web-2"], "1")
