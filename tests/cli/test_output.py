"""What each command prints, word for word. Goldens are beside this file; ANEW_UPDATE_GOLDENS=1 writes them anew."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from fleet.cli.context import Context
from fleet.cli.tree import build
from tests.cli.running import call
from tests.wire.office import rollout_row, server_row
from tests.wire.running import Served

GOLDENS = Path(__file__).parent / "goldens"

CASES: dict[str, tuple[str, ...]] = {
    "status": ("status",),
    "status-pool": ("status", "web"),
    "plan": ("plan", "web", "--to", "2"),
    "rollout-list": ("rollout", "list"),
    "rollout-show": ("rollout", "show", "web"),
    "image-list": ("image", "list"),
    "image-show": ("image", "show", "web/1"),
    "image-diff": ("image", "diff", "web/1", "2"),
    "image-verify": ("image", "verify"),
    "journal-show": ("journal", "show", "--limit", "3"),
    "journal-since": ("journal", "show", "--since", "97", "--limit", "2"),
    "journal-verify": ("journal", "verify"),
    "root": ("root", "web"),
    "doctor-clean": ("doctor",),
    "rollout-start": ("rollout", "start", "web", "--yes"),
}


def golden(name: str, text: str) -> None:
    path = GOLDENS / f"{name}.txt"
    if os.environ.get("ANEW_UPDATE_GOLDENS"):
        GOLDENS.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path} differs; ANEW_UPDATE_GOLDENS=1 writes it anew"


@pytest.mark.parametrize("name", CASES)
def test_a_command_prints_what_its_golden_says(served: Served, capsys: pytest.CaptureFixture[str], name: str) -> None:
    call(*CASES[name])
    out = capsys.readouterr().out
    golden(name, out)
    assert max(len(line) for line in out.splitlines()) <= 110


@pytest.mark.parametrize("name", ["status", "status-pool"])
def test_status_fits_80_columns(served: Served, capsys: pytest.CaptureFixture[str], name: str) -> None:
    call(*CASES[name])
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 80


def test_doctor_says_what_it_would_do(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.office.findings = [
        {"place": "hv1", "kind": "volume", "key": "web-2-i3-seed", "note": "made by a rollout that ended", "fix": "remove it", "pool": "web"},
        {"place": "hv1", "kind": "domain", "key": "web-9", "note": "bears a name of ours, without our tag", "fix": "", "pool": "web"}]
    assert call("doctor") == 1
    golden("doctor", capsys.readouterr().out)
    assert call("doctor", "--fix", "--yes") == 1
    golden("doctor-fix", capsys.readouterr().out)
    assert [(one["command"], one["key"]) for one in served.office.commands] == [("doctor.fix", "web-2-i3-seed")]


def test_a_mixed_fleet_says_what_somebody_should_know(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.office.pool_servers = [
        server_row("web-1", held="disk test", tainted=["shell by ada"]), server_row("web-2", root="writable", age_seconds=59.0),
        server_row("web-3", state="absent", healthy=False, version=None, age_seconds=None, health_words="", reason="hv2 is away")]
    call("status")
    golden("status-mixed", capsys.readouterr().out)


def test_the_status_says_who_is_here_and_who_drives(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    people = [{"id": 2, "user": "ana", "terminal": "pts/1", "role": "driver", "since": "2026-11-21T21:00:00Z", "asks_until": None, "place": {}},
              {"id": 1, "user": "ben", "terminal": "", "role": "co-driver", "since": "2026-11-21T20:00:00Z", "asks_until": "2026-11-21T21:02:30Z", "place": {}}]
    served.office.people = [*people, *({**people[1], "id": number, "user": f"guest{number}", "role": "observer", "asks_until": None} for number in range(3, 13))]
    call("status")
    told = capsys.readouterr().out.splitlines()
    top = told.index(next(line for line in told if line.startswith("here")))
    assert [line.split()[:2] for line in told[top + 1 : top + 3]] == [["ana@pts/1", "driver"], ["ben", "co-driver,"]]
    assert "asks for the seat: theirs at" in told[top + 2]
    assert told[top + 9] == "and 4 more terminals; --json has them all"
    call("status", "--json")
    assert len(json.loads(capsys.readouterr().out)["people"]) == 12


@pytest.mark.parametrize(("more", "line"), [
    ({"due": "image 2", "auto": "waits for the window, opens Sat 02:00"}, "  web: due: image 2; auto: waits for the window, opens Sat 02:00"),
    ({"due": "image 2", "auto": ""}, "  web: due: image 2"),
    ({"due": "", "auto": "stopped by the breaker: 2 of 3 servers unwell within 10m (web-1, web-3)"},
     "! web: auto: stopped by the breaker: 2 of 3 servers unwell within 10m (web-1, web-3)")])
def test_the_status_says_what_is_due_and_why_mode_auto_waits(
        served: Served, capsys: pytest.CaptureFixture[str], more: dict[str, str], line: str) -> None:
    served.office.pool_more = more
    call("status")
    assert line in capsys.readouterr().out.splitlines()


def test_a_large_fleet_shows_only_what_is_not_well(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.office.pool_servers = [server_row(f"web-{n}", healthy=n != 7) for n in range(1, 1001)]
    call("status")
    out = capsys.readouterr().out
    assert "web-7 " in out
    assert "web-8 " not in out
    assert "999 more servers; `anew status POOL`" in out
    call("status", "web")
    assert "web-999 " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [
    ("status",), ("status", "web"), ("plan", "web"), ("rollout", "list"), ("rollout", "show", "r-01"), ("rollout", "pause", "web"),
    ("rollout", "resume", "web"), ("rollout", "promote", "web"), ("rollout", "abort", "web"), ("rollout", "start", "web", "--yes"),
    ("rollback", "web", "--yes"), ("hold", "web-1", "--why", "x"), ("release", "web-1"), ("adopt", "old-web", "web", "--yes"),
    ("root", "web"), ("root", "web-1", "ephemeral"), ("image", "list"), ("image", "show", "web/2"), ("image", "diff", "web/1", "web/2"),
    ("image", "verify", "web/1"), ("image", "reject", "web/2", "--why", "slow"), ("image", "unreject", "web/2"), ("journal", "verify"),
    ("doctor",), ("daemon", "status"), ("reload",), ("info",), ("lab", "status", "--fleet", "/etc/anew/fleet.toml", "--socket", "SOCKET")])
def test_every_command_speaks_json(served: Served, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    arguments = tuple(served.socket if word == "SOCKET" else word for word in arguments)
    assert call("--json", *arguments) == 0
    before = json.loads(capsys.readouterr().out)
    assert isinstance(before, dict)
    assert call(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out).keys() == before.keys()


def test_journal_json_is_a_line_an_event(served: Served, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call("journal", "show", "--json", "--limit", "5")
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == [96, 97, 98, 99, 100]
    call("journal", "export")
    assert len(capsys.readouterr().out.splitlines()) == 100
    target = tmp_path / "journal.jsonl"
    assert call("journal", "export", str(target)) == 0
    assert len(target.read_text().splitlines()) == 100
    assert target.stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    assert call("journal", "export", str(target)) == 2
    assert "nothing was written" in capsys.readouterr().err
    call("journal", "show", "--server", "web-2")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("spite", ["\x1b]0;owned\x07", "\x1b[31m", "\x9b2J", "\u202egnp.exe", "a\u200bb", "a\rb", "a\nb", "\x7f", "\ud800"])
def test_no_control_byte_of_the_daemon_reaches_the_terminal(served: Served, capsys: pytest.CaptureFixture[str], spite: str) -> None:
    row = rollout_row(reason=spite, author=spite)
    served.office.rollout_states = [row]
    served.office.pool_servers = [server_row("web-1", reason=spite, version=spite, address=spite, health_words=spite, healthy=False)]
    served.office.plan_answer["summary"] = [spite]
    served.office.events = [served.office.events[0] | {"text": spite, "actor": spite, "server": spite}]
    served.office.foreign_rows = [{"place": spite, "name": "old-web", "uuid": "u", "state": spite, "note": spite}]
    for arguments in (("status",), ("plan", "web"), ("rollout", "list"), ("rollout", "show", "web"), ("journal", "show"),
                      ("adopt", "nope", "web"), ("rollout", "wait", spite.replace("\ud800", "?"))):
        call(*arguments)
        call(*arguments, "--json")
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert all(char.isprintable() or char == "\n" for char in text)


def test_colours_only_where_asked(served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    call("status")
    assert "\x1b" not in capsys.readouterr().out
    call("status", "--color", "always")
    assert "\x1b[31m" in capsys.readouterr().out

    class Terminal:
        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            raise OSError

    def palette_on(*arguments: str) -> bool:
        return Context(build("status").parse_args(["status", *arguments])).palette.on

    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert palette_on()
    assert not palette_on("--color", "never")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not palette_on()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not palette_on()


def test_info_says_where_each_path_came_from(served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANEW_FLEET", "/etc/anew/fleet.toml")
    call("info", "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["client"]["fleet"] == {"value": "/etc/anew/fleet.toml", "from": "ANEW_FLEET"}
    assert found["client"]["socket"]["from"] == "ANEW_SOCKET"
    assert found["daemon"]["versions"] == {"anew": "0.1.0"}
    call("info")
    assert "ANEW_FLEET" in capsys.readouterr().out


def test_info_tells_what_decides_how_it_looks_and_a_variable_that_means_nothing(served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(os.environ["HOME"])
    (home / ".config/anew").mkdir(parents=True)
    (home / ".config/anew/terminal.toml").write_text('theme = "light"\nascii = true\n[keys]\nrollback = "U"\n')
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("ANEW_ASCII", "0")
    monkeypatch.setenv("ANEW_SOKCET", "/tmp/x")
    monkeypatch.setenv("AWS_SECRET", "s3cret")
    call("info", "--json")
    text = capsys.readouterr().out
    found = json.loads(text)
    path = str(home / ".config/anew/terminal.toml")
    assert found["client"]["theme"] == {"value": "mono", "from": "NO_COLOR"}, "which beats a wish"
    assert found["client"]["ascii"] == {"value": "0", "from": "ANEW_ASCII"}
    assert found["client"]["keys"] == {"value": "rollback = U", "from": path}
    assert found["client"]["colour"] == {"value": "off", "from": "NO_COLOR"}
    assert found["client"]["anew"]["value"] == "0.1.0"
    assert found["environment"]["ANEW_SOKCET"] == "/tmp/x"
    assert "s3cret" not in text
    call("info", "--color", "always")
    shown = capsys.readouterr().out
    assert re.search(r"ANEW_SOKCET +/tmp/x +nothing that anew knows", shown)
    assert re.search(r"colour +on +--color", shown)
    monkeypatch.setenv("NO_COLOR", "")
    call("info", "--json")
    assert json.loads(capsys.readouterr().out)["client"]["theme"] == {"value": "light", "from": path}, "an empty one is none"
    (home / ".config/anew/terminal.toml").write_text("theme = 7\n")
    assert call("info") == 0
    assert "not all of it is used: theme must be" in capsys.readouterr().out
