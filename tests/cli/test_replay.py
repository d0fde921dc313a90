"""`anew replay`: from a daemon's journal and over a pipe from another machine's, line by line where there is no terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.cli import replay
from fleet.core.errors import Invalid
from tests.cli.running import DEADLINE, PROGRAM, Ended, at_terminal, environment
from tests.cli.test_end_to_end import Fleet
from tests.cli.test_end_to_end import fleet as fleet
from tests.tui import diary

NIGHT = [json.dumps(row) for row in diary.night()]


def piped(record: bytes | str, *arguments: str, **more: str) -> Ended:
    """`… | anew …`, on a machine without a daemon."""
    data = record.encode() if isinstance(record, str) else record
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env=environment(None, **more), input=data, capture_output=True, timeout=DEADLINE, check=False)
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def lines(*rows: str) -> str:
    return "".join(row + "\n" for row in rows)


def test_a_rollout_is_replayed_here_and_on_another_machine(fleet: Fleet, tmp_path: Path) -> None:
    assert fleet.anew("rollout", "start", "app", "--to", "1", "--yes", "--wait").code == 0
    assert fleet.anew("rollout", "start", "app", "--to", "2", "--yes", "--wait").code == 0
    assert fleet.anew("rollout", "start", "app", "--to", "3-panics", "--healthy-deadline", "2s", "--yes", "--wait").code == 4
    bad, forward, _ = (row["id"] for row in fleet.data("rollout", "list")["rollouts"])

    here = fleet.anew("replay", forward)
    assert (here.code, here.err) == (0, "")
    assert "planned" in here.out.splitlines()[0]
    assert "+3" in here.out.splitlines()[-1]
    assert "done: 3 of 3 on 2" in here.out.splitlines()[-1]
    assert not any(line.startswith("!") for line in here.out.splitlines())

    there = piped(fleet.anew("journal", "export", forward).out, "replay", "-", HOME=str(tmp_path))
    assert (there.code, there.out, there.err) == (0, here.out, "")
    assert os.listdir(tmp_path) == [], "no daemon is started for a replay"

    failed = fleet.anew("replay", "app")
    assert any(line.startswith("!") and "failed" in line for line in failed.out.splitlines())
    moments = [json.loads(line) for line in fleet.anew("replay", bad[:6], "--json").out.splitlines()]
    assert [moment["n"] for moment in moments] == list(range(1, len(moments) + 1))
    shown = fleet.data("rollout", "show", bad)
    assert (moments[-1]["state"], sum(moments[-1]["counts"].values())) == (shown["state"], len(shown["servers"]))

    whole = fleet.anew("journal", "export").out
    last = piped(whole, "replay", "-")
    assert last.out == failed.out
    assert last.err == "", "and its chain holds"
    assert piped(whole, "replay", "-", "--rollout", forward[:5]).out == here.out
    forged = piped(whole.replace("booting incarnation 2", "booting incarnation 7"), "replay", "-", "--rollout", forward)
    assert "was changed after it was written" in forged.err

    target = tmp_path / "one.jsonl"
    assert fleet.anew("journal", "export", forward, str(target)).code == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert piped(target.read_bytes(), "replay", "-").out == here.out
    nobody = fleet.anew("journal", "export", "ffffffff", str(tmp_path / "two.jsonl"))
    assert (nobody.code, nobody.err) == (2, "anew: ffffffff: the journal has no rollout of this id\n")
    assert not (tmp_path / "two.jsonl").exists()
    assert "no rollout ffffffff" in fleet.anew("replay", "ffffffff").err


def test_the_strip_marks_failures_and_says_how_long_it_had_been() -> None:
    ended = piped(lines(*NIGHT), "replay", "-", COLUMNS="200")
    assert (ended.code, ended.err) == (0, "")
    rows = ended.out.splitlines()
    assert len(rows) == 115
    assert [row.split()[1] for row in rows if row.startswith("!")] == ["46", "48"]
    assert rows[45] == "!    46  2026-11-20 23:15:45  + 0:15:45  +3 h1 .4         rolling            web-4: proving failed: no answer on port 22 within 5m"


@pytest.mark.parametrize(("record", "words"), [
    (b"", "There is no rollout in it: 0 lines were read"),
    (b"\x00\xff\xfe\n" * 3, "3 of them could not be used. The first that could not be used: line 1 is not JSON"),
    (b"[" * 100_000 + b"\n", "line 1 is not JSON"),
    (b'{"seq": ' + b"9" * 5000 + b"}\n", "line 1 is not JSON"),
    (b'{"seq": 1, "time": NaN}\n', "line 1 is not JSON"),
    (b'{"seq": 1, "time": 1e999}\n', "line 1 has no time"),
    (b'"anew"\n[]\n7\n', "line 1 is not a row of a journal"),
    ("\ufeff{}".encode("utf-16"), "There is no rollout in it"),
    (b'{"a": "' + b"x" * (17 << 20) + b'"}\n', "line 1 is longer than 16 MiB, which no row is"),
    (lines(*NIGHT)[: len(NIGHT[0]) + 300].encode(), "There is no rollout in it"),
    (lines(json.dumps({**json.loads(NIGHT[1]), "data": {"kind": "rollout", "plan_hash": "x", "from": None, "to": None}})).encode(), "export it again with this anew"),
], ids=("empty", "bytes", "nested", "long-number", "not-a-number", "infinite", "other-json", "utf-16", "long-line", "torn", "slim"))
def test_what_is_no_export_is_a_sentence(record: bytes, words: str) -> None:
    ended = piped(record, "replay", "-")
    assert ended.code == 2
    assert ended.out == ""
    assert words in ended.err
    assert ended.err.startswith("anew: stdin: ")
    assert ended.err.count("\n") == 1


def test_a_torn_last_line_and_a_bad_one_are_said_and_left_out() -> None:
    whole = piped(lines(*NIGHT[:60]), "replay", "-")
    torn = piped(lines(*NIGHT[:60]) + NIGHT[60][:100], "replay", "-")
    assert (torn.code, torn.out) == (0, whole.out)
    assert torn.err == "The last line is torn off, and left out.\n"
    hurt = piped(lines(*NIGHT[:30], "{}", *NIGHT[30:60]), "replay", "-", "--json")
    assert hurt.err == "1 line could not be used and was left out; line 31 has no number.\n"
    assert len(hurt.out.splitlines()) == len(whole.out.splitlines())


def test_no_byte_of_a_record_steers_the_terminal() -> None:
    spite = "\x1b]0;owned\x07\x9b2J\u202e\r"
    rows: list[Any] = [json.loads(row) for row in NIGHT]
    for row in rows:
        row["data"] |= {key: row["data"][key] + spite for key in ("reason", "error", "text") if isinstance(row["data"].get(key), str)}
    for more in ((), ("--json",)):
        ended = piped(lines(*map(json.dumps, rows)), "replay", "-", *more)
        assert ended.code == 0
        assert all(char.isprintable() or char == "\n" for char in ended.out + ended.err)


def test_a_record_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_BYTES", 100_000)

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, into: Any) -> int:
            into[:] = b"\n" * len(into)
            return len(into)

    with pytest.raises(Invalid, match="is larger than"):
        replay.from_lines(io.BufferedReader(Endless()), "")


def test_a_terminal_is_no_record() -> None:
    code, shown = at_terminal(None, "", "replay", "-", prompt="never")
    assert code == 2
    assert "nothing is piped in" in shown
