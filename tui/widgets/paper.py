"""The one Textual widget that draws: it shows lines and sends only the cells that changed.

A `DataTable` repaints itself whole for a changed cell (7 kB measured). Here the new lines are compared with those on
the screen, and the smallest span of each changed row is refreshed: about 100 bytes for a changed word, none for a
change that is not in view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui import theme
from tui.ink import Line, fit, safe, to_ascii, width_of

if TYPE_CHECKING:
    from rich.style import Style


class Paper(Widget):
    """Rows of toned words. `ground` is the tone of the empty part of every row."""

    can_focus = False
    ground = "plain"
    palette = "dark"
    ascii_only = False

    def __init__(self, id: str, ground: str = "plain") -> None:
        super().__init__(id=id)
        self.ground = ground
        self._rows: list[Line] = []
        self._strips: dict[int, Strip] = {}

    def on_resize(self) -> None:
        """Only now is its new size known: what was drawn for the old one is drawn again."""
        self.call_later(self.app.paint)  # type: ignore[attr-defined]

    def show(self, lines: Sequence[Line]) -> None:
        """Put `lines` on the paper; only what differs from before is sent."""
        width, height = self.size
        fresh = [fit(safe(row), width, self.ground) for row in lines[:height]]
        fresh += [fit((), width, self.ground)] * (height - len(fresh))
        if len(fresh) != len(self._rows):
            self.repaint_all(fresh)
            return
        changed = [(y, *_difference(old, new)) for y, (old, new) in enumerate(zip(self._rows, fresh, strict=True))
                   if old != new]
        self._rows = fresh
        for y, _, _ in changed:
            self._strips.pop(y, None)
        if changed:
            self.refresh(*(Region(start, y, end - start, 1) for y, start, end in changed if end > start))

    def repaint_all(self, rows: list[Line] | None = None) -> None:
        """Draw everything anew: another size, another theme."""
        if rows is not None:
            self._rows = rows
        self._strips.clear()
        self.refresh()

    @property
    def text(self) -> list[str]:
        """What is on the paper, for tests."""
        return ["".join(span.text for span in row) for row in self._rows]

    def render_line(self, y: int) -> Strip:
        strip = self._strips.get(y)
        if strip is None:
            row = self._rows[y] if y < len(self._rows) else fit((), self.size.width, self.ground)
            strip = self._strips[y] = self._ink(row)
        return strip

    def _ink(self, row: Line) -> Strip:
        """Spans to segments; neighbours of one style become one segment, for each costs an escape sequence."""
        segments: list[Segment] = []
        texts: list[str] = []
        current: Style | None = None
        for span in row:
            style = theme.style(self.palette, f"{self.ground}+{span.tone}")
            if current is not None and style != current and not (span.text.isspace() and _same_ground(style, current)):
                segments.append(Segment("".join(texts), current))
                texts, current = [], None
            current = style if current is None else current
            texts.append(to_ascii(span.text) if self.ascii_only else span.text)
        if texts:
            segments.append(Segment("".join(texts), current))
        return Strip(segments)


def _same_ground(one: Style, other: Style) -> bool:
    """A blank looks the same in every foreground, so it may join what stands before it."""
    return one.bgcolor == other.bgcolor and one.reverse == other.reverse


def _difference(old: Line, new: Line) -> tuple[int, int]:
    """The columns between which two rows of one width differ: first and one past the last."""
    before, after = _cells(old), _cells(new)
    if len(before) != len(after):
        return 0, max(len(before), len(after))
    start = 0
    end = len(after)
    while start < end and before[start] == after[start]:
        start += 1
    while end > start and before[end - 1] == after[end - 1]:
        end -= 1
    return start, end


def _cells(row: Line) -> list[tuple[str, str]]:
    """One entry per cell; a wide character takes two, so that a span never cuts it."""
    cells: list[tuple[str, str]] = []
    for span in row:
        if span.text.isascii():
            cells.extend((char, span.tone) for char in span.text)
            continue
        for char in span.text:
            cells.extend([(char, span.tone)] * width_of(char))
    return cells
