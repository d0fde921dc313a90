"""Lines typed before come back in the next session: bounded, one's own, and only as text."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.tui import story
from tests.tui.desktop import desk as plain_desk
from tests.tui.test_verbs import typed
from tui.desk import Desk
from tui.recall import HISTORY, LARGEST, Recall


def desk(history: Path, role: str = "operator") -> Desk:
    return plain_desk({**story.status(), "you": {"user": "maria", "role": role}}, history=str(history))


def back(made: Desk, key: str = "colon", count: int = 1) -> list[str]:
    """What so many times up bring back after that key."""
    made.key(key, None)
    seen = []
    for _ in range(count):
        made.key("up", None)
        assert made.prompt is not None
        seen.append(made.prompt.typed)
    made.key("escape", None)
    return seen


def test_what_was_typed_in_one_session_comes_back_in_the_next(tmp_path: Path) -> None:
    file = tmp_path / "state" / "history"
    first = desk(file)
    typed(first, "servers")
    typed(first, "remark all is well")
    first.key("slash", None)
    typed(first, "state:!ok")
    second = desk(file)
    assert back(second, count=2) == ["remark all is well", "servers"]
    typed(second, "servers")
    assert back(second, "slash") == ["state:!ok"], "each question has its own"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_two_terminals_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    one, other = desk(tmp_path / "history"), desk(tmp_path / "history")
    typed(one, "servers")
    typed(other, "images")
    typed(one, "events")
    assert back(desk(tmp_path / "history"), count=3) == ["events", "images", "servers"]


def test_a_hostile_file_is_text_and_bounded(tmp_path: Path) -> None:
    file = tmp_path / "history"
    evil = b":\tremark \x1b]52;c;aGk=\x07\x1b[31mred\xe2\x80\xae\x9b\n" + b"no tab\n\t\n:\t\n:\x1b\tservers\n" + b"\xff\xfe\n"
    file.write_bytes(b":\t" + b"x" * (2 * LARGEST) + b"\n" + evil + b"".join(b":\tremark %d\n" % n for n in range(1000)) + evil)
    file.chmod(0o644)
    made = desk(file)
    [line] = back(made)
    assert line.startswith("remark") and line.isprintable() and "\x1b" not in line
    lines = Recall(str(file)).of(":", kept=True)
    assert len(lines) == HISTORY and all(line.isprintable() and len(line) <= 400 for line in lines)
    assert file.stat().st_size <= LARGEST and stat.S_IMODE(file.stat().st_mode) == 0o600, "it was made small, and its owner's"


def test_what_is_no_file_of_ones_own_is_left_alone_and_said_once(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("keep me")
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(other)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path):
        made = desk(path)
        made.key("colon", None)
        assert made.flash.words.startswith(f"Lines typed here are not kept: {path}: ")
        made.key("escape", None)
        typed(made, "servers")
        assert back(made) == ["servers"], "this session's are there all the same"
    assert other.read_text() == "keep me"


def test_an_observers_terminal_neither_reads_nor_writes_it(tmp_path: Path) -> None:
    file = tmp_path / "history"
    typed(desk(file), "remark for my eyes")
    before = file.read_bytes()
    web = desk(file, role="observer")
    assert back(web) == [""]
    typed(web, "servers")
    assert back(web) == ["servers"]
    assert file.read_bytes() == before
