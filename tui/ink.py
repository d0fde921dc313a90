"""Lines of coloured words, without a terminal: what every screen is made of.

A `Line` is a tuple of `Span`s. A span has a text and a tone; a tone is a word (`good`, `warn`, `dim`) that the theme
turns into colour, and tones add up with `+` (`warn+cursor`). Nothing here knows Textual, so screens are pure and their
pictures are plain text in the tests. Strings are never markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from rich.cells import cell_len, set_cell_size

from tui.untrusted import one_line

Align = Literal["left", "right"]
PAINT_LIMIT = 600
"""Characters of one span that are ever painted: wider than the widest terminal."""


class Span(NamedTuple):
    """A text in one tone."""

    text: str
    tone: str = "plain"


Line = tuple[Span, ...]
BLANK: Line = ()


def line(*parts: str | Span) -> Line:
    """A line from spans and plain strings."""
    return tuple(Span(part) if isinstance(part, str) else part for part in parts)


def plain(spans: Iterable[Span]) -> str:
    """The text of a line, without tones."""
    return "".join(span.text for span in spans)


def width_of(text: str) -> int:
    """Cells that `text` takes on a terminal."""
    return len(text) if text.isascii() else cell_len(text)


def line_width(spans: Iterable[Span]) -> int:
    """Cells that a line takes."""
    return sum(width_of(span.text) for span in spans)


def clip(text: str, width: int) -> str:
    """`text` in at most `width` cells; a cut is shown by an ellipsis."""
    if width_of(text) <= width:
        return text
    if width <= 1:
        return set_cell_size(text, max(width, 0))
    return set_cell_size(text, width - 1).rstrip() + "…"


def pad(text: str, width: int, align: Align = "left") -> str:
    """`text` in exactly `width` cells."""
    text = clip(text, width)
    space = " " * (width - width_of(text))
    return space + text if align == "right" else text + space


def clip_line(spans: Sequence[Span], width: int) -> Line:
    """A line in at most `width` cells; a cut is shown by an ellipsis, unless only blanks are lost."""
    if line_width(spans) <= width:
        return tuple(spans)
    kept: list[Span] = []
    left = max(width, 0)
    for position, span in enumerate(spans):
        size = width_of(span.text)
        if size < left:
            kept.append(span)
            left -= size
            continue
        lost = set_cell_size(span.text, left) != span.text.rstrip() and span.text.rstrip() != ""
        lost = lost or bool(plain(spans[position + 1 :]).strip())
        kept.append(Span(clip(span.text.rstrip() + "  ", left) if lost else span.text[:left], span.tone))
        break
    return tuple(kept)


def fit(spans: Sequence[Span], width: int, tone: str = "plain", align: Align = "left") -> Line:
    """A line in exactly `width` cells, the rest filled in `tone`."""
    kept = clip_line(spans, width)
    space = width - line_width(kept)
    if space <= 0:
        return kept
    blank = Span(" " * space, tone)
    return (blank, *kept) if align == "right" else (*kept, blank)


def between(left: Sequence[Span], right: Sequence[Span], width: int, tone: str = "plain") -> Line:
    """`left` at the left edge, `right` at the right one; the left gives way."""
    room = width - line_width(right)
    if room <= 0:
        return fit(right, width, tone)
    return (*fit(left, room, tone), *right)


def toned(spans: Iterable[Span], extra: str) -> Line:
    """The same words with one more tone on each."""
    return tuple(Span(span.text, f"{span.tone}+{extra}") for span in spans)


def safe(spans: Iterable[Span]) -> Line:
    """The last border before the terminal: spans without control characters, of bounded length."""
    return tuple(Span(one_line(span.text, PAINT_LIMIT), span.tone) for span in spans)


def wrap(text: str, width: int, most: int) -> list[str]:
    """`text` broken at blanks into at most `most` rows of `width` cells; the last one is clipped."""
    rows: list[str] = []
    current = ""
    for word in text.split():
        longer = f"{current} {word}" if current else word
        if width_of(longer) <= width or not current:
            current = longer
            continue
        rows.append(current)
        current = word
    rows.append(current)
    if len(rows) > most:
        rows = [*rows[: most - 1], " ".join(rows[most - 1 :])]
    return [clip(row, width) for row in rows]


_PLAIN_GLYPHS = str.maketrans({
    "→": ">", "·": "-", "…": "~", "─": "-", "━": "#", "│": "|", "›": ">", "×": "x", "•": "*", "✓": "*", "‹": "<",
    "↓": "v", "↑": "^", "–": "-", "—": "-", "“": '"', "”": '"', "’": "'", "▏": "|", "▌": "|", "⋯": "~",
})


def to_ascii(text: str) -> str:
    """The same picture for a terminal that is not UTF-8; cell for cell, so columns stay aligned."""
    if text.isascii():
        return text
    text = text.translate(_PLAIN_GLYPHS)
    if text.isascii():
        return text
    return "".join(char if char.isascii() else "?" * cell_len(char) for char in text)
