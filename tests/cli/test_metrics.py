"""`anew metrics`: what the daemon tells, on stdout or in a file that is whole at every moment."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from tests import exposition
from tests.cli.running import DEADLINE, call, run
from tests.wire.running import Served


def test_it_prints_what_the_socket_says(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("metrics") == 0
    assert capsys.readouterr().out == served.office.metrics_text
    assert call("metrics", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"text": served.office.metrics_text}


def test_a_file_is_written_for_other_users_to_read_and_nothing_is_left_beside_it(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.umask(0o077)
    try:
        assert call("metrics", "--write", str(tmp_path / "anew.prom")) == 0
    finally:
        os.umask(before)
    assert capsys.readouterr().out == ""
    assert (tmp_path / "anew.prom").read_text() == served.office.metrics_text
    assert (tmp_path / "anew.prom").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["anew.prom"]


def test_who_reads_while_it_is_written_never_sees_a_part(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "anew.prom"
    pages = {size: "# HELP anew_servers Servers.\n# TYPE anew_servers gauge\n" + "".join(f'anew_servers{{pool="p{n}"}} {size}\n' for n in range(size)) for size in (3000, 2000)}
    served.office.metrics_text = pages[3000]
    assert call("metrics", "--write", str(path)) == 0
    seen: set[str] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for turn in range(40):
            served.office.metrics_text = pages[2000 if turn % 2 else 3000]
            assert call("metrics", "--write", str(path)) == 0
    finally:
        over.set()
        reader.join(DEADLINE)
    assert seen and seen <= set(pages.values())
    for text in seen:
        exposition.read(text)


def test_a_file_that_cannot_be_written_is_told_and_left_as_it_was(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("metrics", "--write", str(tmp_path / "nowhere" / "anew.prom")) == 2
    assert "nowhere/anew.prom: the metrics cannot be written: No such file or directory; the file is as it was" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    assert call("metrics", "--write", str(tmp_path / "folder")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["folder"], "nothing is left over"


def test_a_link_in_the_collectors_folder_is_replaced_and_not_followed(served: Served, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "anew.prom").symlink_to(tmp_path / "victim")
    assert call("metrics", "--write", str(tmp_path / "anew.prom")) == 0
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "anew.prom").is_symlink()


def test_without_a_daemon_none_is_started_and_the_file_keeps_its_age(tmp_path: Path) -> None:
    (tmp_path / "anew.prom").write_text("old")
    ended = run(None, "metrics", "--write", str(tmp_path / "anew.prom"), ANEW_SOCKET=str(tmp_path / "s"))
    assert (ended.code, ended.out) == (6, "")
    assert "no daemon listens there" in ended.err
    assert (tmp_path / "anew.prom").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["anew.prom"]
