"""The table of every list: a window over any number of rows, of which only those in view are ever drawn.

Textual's own table repaints whole and its scrollbar moves with every step; this one is a pure value (rows in, lines
out) painted by `Paper`, so a thousandth row costs what the tenth does. Cursor and marks are names, not positions: they
survive every refresh, sort and filter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from tui.ink import (
    Align,
    Line,
    Span,
    clip_line,
    fit,
    line_width,
    pad,
    plain,
    toned,
    width_of,
)

R = TypeVar("R")
LEAST = 12
"""Cells that the column of what is left has at least, while another can be left out."""
Shown = str | Line


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """A column. `width` 0 takes what is left; `grow` widens it to its widest word, up to that many cells.

    `at` is the terminal width from which it is shown (80, 120, 160). `order` sorts (None: not sortable); `words` is
    what filters see beside the cell itself, and what `grow` measures; `value` is what an export gets in their place.
    """

    key: str
    title: str
    show: Callable[[R], Shown]
    width: int = 0
    grow: int = 0
    align: Align = "left"
    at: int = 0
    order: Callable[[R], Any] | None = None
    words: Callable[[R], str] | None = None
    value: Callable[[R], Any] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """`!` turns it round, `column:` looks in one column; the rest is a regular expression, case ignored.

    ` & ` joins several, each with its own column and turn: `pool:web & state:!ok`. `also` are those after the first.
    """

    source: str = ""
    column: str = ""
    inverse: bool = False
    pattern: re.Pattern[str] | None = None
    also: tuple[Filter, ...] = ()

    def matches(self, words: Mapping[str, str]) -> bool:
        return self._matches(words) and all(other.matches(words) for other in self.also)

    def _matches(self, words: Mapping[str, str]) -> bool:
        if self.pattern is None:
            return True
        if self.column:
            found = any(self.pattern.search(text) for key, text in words.items() if key.startswith(self.column))
        else:
            found = any(self.pattern.search(text) for text in words.values())
        return found is not self.inverse


def parse_filter(source: str, columns: Iterable[str]) -> Filter:
    """Read what was typed after `/`. Raises ValueError with a sentence when it is no regular expression."""
    columns = tuple(columns)
    parts = [found for part in source.split(" & ") if (found := _one_filter(part, columns)).pattern is not None]
    return replace(parts[0], source=source.strip(), also=tuple(parts[1:])) if parts else Filter()


def _one_filter(source: str, columns: tuple[str, ...]) -> Filter:
    rest, inverse, column = source.strip(), False, ""
    if rest.startswith("!"):
        rest, inverse = rest[1:], True
    head, colon, tail = rest.partition(":")
    if colon and head and any(key.startswith(head.lower()) for key in columns):
        column, rest = head.lower(), tail
        if rest.startswith("!"):
            rest, inverse = rest[1:], not inverse
    if not rest:
        return Filter()
    try:
        return Filter(source.strip(), column, inverse, re.compile(rest, re.IGNORECASE))
    except re.error as error:
        raise ValueError(f"The filter {rest!r} is not a pattern: {error.msg}.") from error


class Table(Generic[R]):
    """Rows by name, an order, a cursor, marks, a window."""

    def __init__(self, columns: tuple[Column[R], ...], sort: str = "", marked: bool = False, fixed: int = 1) -> None:
        """`fixed`: columns that stay when the others are moved along: they say which row a key would act on."""
        self.columns = columns
        self.fixed = fixed
        self.beyond = ""
        self.sort = sort
        self.reverse = False
        self.filter = Filter()
        self.last_filter = Filter()
        self.only: Callable[[R], bool] | None = None
        self.wide = False
        self.shift = 0
        self.cursor = ""
        self.marks: set[str] = set()
        self.markable = marked
        self.rows: Mapping[str, R] = {}
        self.order: list[str] = []
        self.anchor = ""
        self._place: dict[str, int] = {}
        self._top = 0
        self._page = 10
        self._grown: dict[str, int] = {}
        self._words: dict[str, tuple[R, dict[str, str]]] = {}
        self._token: object = None

    # rows

    def update(self, rows: Mapping[str, R], token: object) -> None:
        """Take `rows`; `token` tells whether anything changed since, so that a key press costs no sorting."""
        stamp = (token, self.sort, self.reverse, self.filter, self.only, len(rows))
        if stamp == self._token and rows is self.rows:
            return
        at = self._place.get(self.cursor, 0)
        self._token, self.rows = stamp, rows
        names = [name for name, row in rows.items() if self._passes(name, row)]
        column = next((item for item in self.columns if item.key == self.sort), None)
        if column is not None and column.order is not None:
            order = column.order
            names.sort(key=lambda name: order(rows[name]), reverse=self.reverse)
        elif self.reverse:
            names.reverse()
        self.order = names
        self._place = {name: place for place, name in enumerate(names)}
        if self.marks:
            self.marks &= rows.keys()
        if self.cursor not in self._place:
            self.cursor = names[min(at, len(names) - 1)] if names else ""
        self._measure()

    def _passes(self, name: str, row: R) -> bool:
        if self.only is not None and not self.only(row):
            return False
        return self.filter.pattern is None or self.filter.matches(self._said(name, row))

    def _said(self, name: str, row: R) -> dict[str, str]:
        """What a row shows, by column, and its longer words; remembered as long as the row is the same."""
        known = self._words.get(name)
        if known is not None and known[0] is row:
            return known[1]
        words = {column.key: _shown(column, row) for column in self.columns}
        for column in self.columns:
            if column.words is not None:
                words[f"{column.key} in full"] = column.words(row)
        if len(self._words) > 2 * len(self.rows) + 100:
            self._words.clear()  # rows that went are forgotten with the rest
        self._words[name] = (row, words)
        return words

    def _measure(self) -> None:
        """Widths of growing columns: one pass over short words, only when rows changed."""
        for column in self.columns:
            if column.grow and column.words is not None:
                words = column.words
                widest = max(map(width_of, {words(self.rows[name]) for name in self.order}), default=0)
                self._grown[column.key] = min(max(widest, column.width), column.grow)

    # cursor

    @property
    def position(self) -> int:
        return self._place.get(self.cursor, 0)

    @property
    def current(self) -> R | None:
        return self.rows.get(self.cursor)

    def go(self, position: int) -> None:
        if self.order:
            self.cursor = self.order[max(0, min(position, len(self.order) - 1))]

    def move(self, action: str) -> bool:
        """Take a moving action; False when it is none."""
        steps = {"down": 1, "up": -1, "page-down": self._page, "page-up": -self._page}
        if action in steps:
            self.go(self.position + steps[action])
        elif action in ("top", "bottom"):
            self.go(0 if action == "top" else len(self.order) - 1)
        elif action in ("left", "right"):
            self.shift = max(0, self.shift + (8 if action == "right" else -8)) if self.wide else 0
        else:
            return False
        return True

    def seek(self, step: int) -> bool:
        """The next row that matches the last filter, from the cursor, around the end."""
        count = len(self.order)
        for distance in range(1, count + 1):
            name = self.order[(self.position + step * distance) % count]
            if self.last_filter.matches(self._said(name, self.rows[name])):
                self.cursor = name
                return True
        return False

    # marks, sort, filter

    def mark(self) -> None:
        self.marks ^= {self.cursor} if self.cursor else set()
        self.anchor = self.cursor
        self.move("down")

    def mark_range(self) -> None:
        start, end = sorted((self._place.get(self.anchor, self.position), self.position))
        self.marks |= set(self.order[start : end + 1])

    def mark_all(self) -> None:
        shown = set(self.order)
        self.marks = self.marks - shown if shown <= self.marks else self.marks | shown

    def sort_next(self) -> str:
        """Sort by the next column that can be sorted by; its title."""
        able = [column for column in self.columns if column.order is not None]
        if not able:
            return ""
        keys = [column.key for column in able]
        self.sort = keys[(keys.index(self.sort) + 1) % len(keys)] if self.sort in keys else keys[0]
        return next(column.title for column in able if column.key == self.sort)

    def set_filter(self, source: str) -> None:
        """Raises ValueError with a sentence for a bad pattern; the old filter stays then."""
        if self.filter.pattern is None:
            self._words.clear()  # ages among them: a new filter looks at what is shown now
        self.filter = parse_filter(source, (column.key for column in self.columns))
        if self.filter.pattern is not None:
            self.last_filter = self.filter

    def forget_words(self) -> None:
        """The words of rows depend on something else that changed."""
        self._words.clear()

    # drawing

    def lines(self, width: int, height: int) -> list[Line]:
        """A heading and the rows in view: exactly what fits in `height` lines."""
        self._page = max(1, height - 1)
        top = max(0, min(self._top, len(self.order) - self._page))
        if self.position < top:
            top = self.position
        elif self.position >= top + self._page:
            top = self.position - self._page + 1
        self._top = top
        columns = self._columns(width)
        shown = self.order[top : top + self._page]
        rows = [self._row(name, columns, width) for name in shown]
        return [self._heading(columns, width, top, len(shown)), *rows][:height]

    def _columns(self, width: int) -> list[tuple[Column[R], int]]:
        """The columns for a width with their cells; those that do not fit are left out from the right, for reasons need a place."""
        room = 10_000 if self.wide else width - 2
        picked: list[tuple[Column[R], int]] = []
        for column in self.columns:
            if column.at <= width or self.wide:
                picked.append((column, self._grown.get(column.key, column.width)))
        used = sum(size + 2 for _, size in picked)
        least = LEAST if any(not size for _, size in picked) else 0
        while used + least > room and len(picked) > 1:
            fixed = [item for item in picked if item[1]]
            if len(fixed) <= 1:
                break
            last = max(fixed[1:], key=lambda item: item[0].at) if any(c.at for c, _ in fixed[1:]) else fixed[-1]
            picked.remove(last)
            used -= last[1] + 2
        rest = max(width - 2 - used + 2, 60 if self.wide else 0)
        return [(column, size or rest) for column, size in picked]

    def _heading(self, columns: list[tuple[Column[R], int]], width: int, top: int, count: int) -> Line:
        spans = [Span("  ")]
        for column, size in columns:
            arrow = ("↑" if self.reverse else "↓") if column.key == self.sort and column.order is not None else ""
            title = column.title + arrow
            spare = 1 if column.align == "left" and width_of(title) == size + 1 else 0  # the arrow may use the gap
            spans.append(Span(pad(title, size + spare, column.align) + " " * (2 - spare), "head"))
        heading = self._pan(tuple(spans), columns, width)
        whole = self.beyond or f"{len(self.order):,}"
        where = f" {top + 1:,}–{top + count:,} of {whole}" if len(self.order) > count else ""
        if not where:
            return clip_line(heading, width)
        room = width - width_of(where) - 1
        return (*fit(heading, room), Span(where, "dim"), Span(" "))

    def _row(self, name: str, columns: list[tuple[Column[R], int]], width: int) -> Line:
        row = self.rows[name]
        here, marked = name == self.cursor, name in self.marks
        spans = [Span("›" if here else " ", "key"), Span("•" if marked else " ", "mark")]
        for column, size in columns:
            shown = column.show(row)
            cell = (Span(shown),) if isinstance(shown, str) else shown
            spans.extend(fit(cell, size, align=column.align))
            spans.append(Span("  "))
        line = fit(self._pan(tuple(spans), columns, width), width)
        return toned(line, "cursor") if here else line

    def home(self) -> None:
        """Back to the left edge: another view, another plan."""
        self.shift = 0

    def _pan(self, spans: Line, columns: list[tuple[Column[R], int]], width: int) -> Line:
        """Shift a wide line to the left; the cursor's two cells and the fixed columns stay."""
        if not self.shift or not self.wide:
            return clip_line(spans, width) if self.wide else spans
        self.shift = min(self.shift, max(0, line_width(spans) - width))
        stays = 2 + sum(size + 2 for _, size in columns[: self.fixed])
        return clip_line((*_cells(spans, 0, stays), *_cells(spans, stays + self.shift, 10_000)), width)


def _cells(spans: Line, start: int, end: int) -> Line:
    """The part of a line between two columns of the terminal."""
    kept: list[Span] = []
    at = 0
    for span in spans:
        text = ""
        for char in span.text:
            if start <= at < end:
                text += char
            at += width_of(char)
        if text:
            kept.append(Span(text, span.tone))
        if at >= end:
            break
    return tuple(kept)


def _shown(column: Column[R], row: R) -> str:
    """A cell as it is read on the screen."""
    shown = column.show(row)
    return (shown if isinstance(shown, str) else plain(shown)).strip()
