"""What others write reaches the terminal as plain text only."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.ink import Span, clip_line, fit, line_width, safe, to_ascii, width_of, wrap
from tui.untrusted import LIMIT, clean_json, one_line, untrusted, without_sequences
from tui.widgets.console import Scrollback

STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(("said", "shown"), [
    ("web-1", "web-1"),
    ("a\x1b]0;owned\x07b", "a]0;ownedb"),
    ("\x9b31mred", "31mred"),
    ("\x00\x08\x7fx", "x"),
    ("left\u202eright\u2066\u200b\u00ad\ufeff", "leftright"),
    ("\ud800lone", "lone"),
    ("line\u2028break", "linebreak"),
    ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ("grün 東京", "grün 東京"),
    ("[/] [0] [bold]", "[/] [0] [bold]"),
])
def test_what_could_steer_a_terminal_is_dropped(said: str, shown: str) -> None:
    assert untrusted(said) == shown


def test_a_megabyte_costs_four_kilobytes() -> None:
    cut = untrusted("x" * 1_000_000)
    assert len(cut) == LIMIT
    assert cut.endswith("…")


@given(st.text(max_size=200))
def test_nothing_that_steers_survives(said: str) -> None:
    kept = untrusted(said)
    assert not {unicodedata.category(char) for char in kept if char not in "\n\t"} & STEERING
    assert "\n" not in one_line(said)
    kept.encode("utf-8")


@given(st.recursive(st.text(max_size=20), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)))
def test_a_frame_is_cleaned_however_it_is_escaped(value: object) -> None:
    for body in (json.dumps(value).encode(), json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")):
        try:
            found = clean_json(body)
        except UnicodeDecodeError:
            continue
        assert not {unicodedata.category(char) for char in _texts(found) if char not in "\n\t"} & STEERING


def _texts(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(str(key) + _texts(item) for key, item in value.items())
    return "".join(_texts(item) for item in value) if isinstance(value, list) else ""


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"[" * 100_000, b'{"a":' * 500 + b"1" + b"}" * 500])
def test_what_is_no_frame_is_a_value_error_or_a_value(body: bytes) -> None:
    try:
        clean_json(body)
    except ValueError:
        return
    assert body.startswith(b'{"a":')


@pytest.mark.parametrize(("said", "shown"), [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b]0;title\x07text", "text"),
    ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1b(Bplain\x1b=", "plain"),
    ("\x9b1mbold", "bold"),
])
def test_whole_sequences_go_from_a_console(said: str, shown: str) -> None:
    assert without_sequences(said) == shown


def test_a_console_reads_like_a_terminal_would_show_it() -> None:
    console = Scrollback()
    console.feed(b"10%\r50%\r100%\r\nabc\b\bXY\n\x1b[3")
    console.feed(b"2mgreen\x1b[0m \xe6\x9d")
    console.feed(b"\xb1 login: ")
    assert console.tail(10) == ["100%", "aXY", "green 東 login: "]


def test_a_console_of_a_megabyte_in_one_line_is_bounded() -> None:
    console = Scrollback()
    for _ in range(100):
        console.feed(b"A" * 10_000)
    console.feed(b"\nnext\n" * 5000)
    assert len(console.lines) == 2000
    assert max(len(line) for line in console.tail(10_000)) <= 2000


@given(st.lists(st.tuples(st.text(max_size=12), st.sampled_from(["plain", "bad"])), max_size=6), st.integers(0, 40))
def test_a_line_is_cut_and_filled_to_the_cell(parts: list[tuple[str, str]], width: int) -> None:
    spans = safe(Span(text, tone) for text, tone in parts)
    assert line_width(clip_line(spans, width)) <= width
    assert line_width(fit(spans, width)) == width


@given(st.text(max_size=30))
def test_a_terminal_without_utf_8_gets_the_same_cells(said: str) -> None:
    text = one_line(said)
    assert to_ascii(text).isascii()
    assert len(to_ascii(text)) == width_of(text)


def test_wrapping_keeps_all_words_in_the_rows_there_are() -> None:
    assert wrap("one two three four", 9, 3) == ["one two", "three", "four"]
    assert wrap("one two three four", 9, 2) == ["one two", "three fo…"]
    assert wrap("", 9, 2) == [""]
