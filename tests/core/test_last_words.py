"""What is kept of a dead server's console: the lines that tell why, fit for a terminal."""

from __future__ import annotations

from fleet.core.printable import WORDS_CAP, WORDS_LINES, last_words


def test_the_end_is_kept() -> None:
    said = "".join(f"line {number}\r\n" for number in range(100))
    assert last_words(said).splitlines() == [f"line {number}" for number in range(80, 100)]


def test_a_long_trace_does_not_push_out_the_panic() -> None:
    trace = "\n".join(f"[    1.0]  ? frame_{number}+0x1/0x2" for number in range(60))
    said = f"booting\n[    1.0] Kernel panic - not syncing: attempted to kill init\n{trace}\nRebooting in 1 seconds..\n"
    kept = last_words(said).splitlines()
    assert kept[0] == "[    1.0] Kernel panic - not syncing: attempted to kill init"
    assert len(kept) == WORDS_LINES


def test_hostile_bytes_do_not_pass() -> None:
    said = last_words("\x1b]0;owned\x07\n" + "x" * 100_000 + "\n\u202eevil\x9b2J\n")
    assert not set(said) & {"\x1b", "\x07", "\u202e", "\x9b"}
    assert len(said) <= WORDS_CAP


def test_silence_is_silence() -> None:
    assert last_words("\r\n\r\n") == last_words("") == ""


def test_what_moves_the_cursor_leaves_nothing_behind_and_text_beside_it_stays() -> None:
    said = "\x1b[H\x1b[J\x1b[1;1H\x1b[0mslot A, order A B\n\x1b]0;title\x07\x1b(Bplain [1;1H] text\n\x1b[31mred\x1b[0m \x1b[999999999Aend\x1b"
    assert last_words(said).splitlines() == ["slot A, order A B", "plain [1;1H] text", "red end"]
