"""The table: cursor and marks are names, only what is in view is made, filters are patterns."""

from __future__ import annotations

import pytest

from tui.ink import line_width, plain
from tui.widgets.table import Column, Table, parse_filter

Row = tuple[str, str, int]


def table(count: int = 100) -> tuple[Table[Row], dict[str, Row]]:
    made: Table[Row] = Table((
        Column("name", "name", lambda row: row[0], 6, 12, order=lambda row: row[2], words=lambda row: row[0]),
        Column("image", "image", lambda row: row[1], 5, words=lambda row: row[1], order=lambda row: row[1]),
        Column("number", "number", lambda row: str(row[2]), 6, align="right", order=lambda row: -row[2], words=lambda row: str(row[2])),
        Column("far", "far", lambda row: "far", 5, at=120, words=lambda row: ""),
        Column("rest", "why", lambda row: "because " * 9, 0, words=lambda row: ""),
    ), sort="name", marked=True)
    rows = {f"web-{n}": (f"web-{n}", str(n % 3), n) for n in range(count)}
    made.update(rows, 0)
    return made, rows


def shown(made: Table[Row], width: int = 80, height: int = 11) -> list[str]:
    return [plain(line) for line in made.lines(width, height)]


def test_only_what_is_in_view_is_drawn() -> None:
    made, _ = table(10_000)
    rows = shown(made)
    assert len(rows) == 11
    assert rows[1].startswith("› web-0")
    assert "1–10 of 10,000" in rows[0]
    made.move("bottom")
    assert shown(made)[-1].startswith("› web-9999")


def test_cursor_and_marks_are_names() -> None:
    made, rows = table()
    made.go(50)
    made.mark()
    assert made.cursor == "web-51"
    less = {name: row for name, row in rows.items() if row[2] % 2}
    made.update(less, 1)
    assert made.cursor == "web-51"
    assert made.marks == set()
    made.mark()
    made.update(rows, 2)
    assert made.marks == {"web-51"}


def test_the_cursor_of_a_row_that_went_stays_in_place() -> None:
    made, rows = table(10)
    made.go(4)
    made.update({name: row for name, row in rows.items() if name != "web-4"}, 1)
    assert made.cursor == "web-5"
    made.update({}, 2)
    assert made.cursor == ""
    assert len(shown(made)) == 1


@pytest.mark.parametrize(("source", "found"), [
    ("web-1$", {"web-1"}), ("!web-[0-8]$", {"web-9"}), ("image:2", {"web-2", "web-5", "web-8"}),
    ("im:!2", {f"web-{n}" for n in range(10) if n % 3 != 2}), ("", {f"web-{n}" for n in range(10)}), ("WEB-3", {"web-3"}),
    ("nowhere:2", set()),
])
def test_filters(source: str, found: set[str]) -> None:
    made, rows = table(10)
    made.set_filter(source)
    made.update(rows, 0)
    assert set(made.order) == found


def test_a_bad_pattern_is_a_sentence_and_changes_nothing() -> None:
    made, _ = table(10)
    made.set_filter("web-1")
    with pytest.raises(ValueError, match="is not a pattern"):
        made.set_filter("web-[")
    assert made.filter.source == "web-1"
    assert parse_filter("!", ["name"]).pattern is None


def test_n_goes_along_the_last_filter_when_it_is_off_again() -> None:
    made, rows = table(30)
    made.set_filter("web-.*5")
    made.set_filter("")
    made.update(rows, 0)
    assert made.seek(1)
    assert made.cursor == "web-5"
    assert made.seek(1)
    assert made.cursor == "web-15"
    assert made.seek(-1)
    assert made.cursor == "web-5"


def test_marks_of_a_range_and_of_all_that_is_shown() -> None:
    made, rows = table(10)
    made.go(2)
    made.mark()
    made.go(5)
    made.mark_range()
    assert made.marks == {f"web-{n}" for n in (2, 3, 4, 5)}
    made.set_filter("image:0")
    made.update(rows, 0)
    made.mark_all()
    assert {"web-0", "web-3", "web-6", "web-9"} <= made.marks
    made.mark_all()
    assert made.marks == {"web-2", "web-4", "web-5"}


def test_sorting_walks_the_columns_and_turns_round() -> None:
    made, rows = table(10)
    assert made.sort_next() == "image"
    made.update(rows, 0)
    assert made.order[:4] == ["web-0", "web-3", "web-6", "web-9"]
    made.sort_next()
    made.update(rows, 0)
    assert made.order[0] == "web-9"
    made.reverse = True
    made.update(rows, 0)
    assert made.order[0] == "web-0"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 119, 120, 200])
def test_lines_are_exactly_as_wide_as_the_terminal(width: int) -> None:
    made, _ = table(40)
    for line in made.lines(width, 20)[1:]:
        assert line_width(line) <= width
    assert ("far" in shown(made, width)[0]) == (width >= 120)


def test_wide_shows_every_column_and_moves_along_them() -> None:
    made, _ = table(5)
    made.wide = True
    assert "far" in shown(made, 40)[0] or made.move("right")
    for _ in range(20):
        made.move("right")
    rows = shown(made, 40)
    assert rows[1].startswith("› ")
    assert "because" in rows[1]


def test_wide_keeps_the_name_in_sight() -> None:
    made, _ = table(5)
    made.wide = True
    for _ in range(20):
        made.move("right")
        rows = shown(made, 40)
        assert rows[0].startswith("  name")
        assert rows[1].startswith("› web-0 ")
    assert "because" in rows[1]
    made.home()
    assert "image" in shown(made, 40)[0]


def test_a_filter_finds_what_the_column_shows_and_its_longer_word() -> None:
    made: Table[str] = Table((Column("root", "root", lambda row: row[:2], 4, words=lambda row: row),))
    for source in ("ro", "root:^ro$", "root:read", "^ro"):
        made.set_filter(source)
        made.update({"one": "ro, read-only", "two": "rw, writable"}, source)
        assert made.order == ["one"], source
