"""Text for a terminal: harmless, aligned, in the units people use. Imports nothing heavy."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

MAX_TEXT = 400
GAP = "  "
COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))

Cell = "str | tuple[str, str]"


def printable(value: Any, limit: int = MAX_TEXT) -> str:
    """A value as one line without a single control byte: C0, DEL, C1, bidi, zero-width and odd spaces do not get through.

    Line breaks become spaces; what is longer than `limit` ends in "…".
    """
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "" for char in text)


def width(text: str) -> int:
    """Columns that a printable text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def fit(text: str, columns: int) -> str:
    """A printable text cut to at most so many columns."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - 1:
        text = text[:-1]
    return text + "…" if columns > 0 else ""


def age(seconds: float | None) -> str:
    """Seconds as people say them, two units at most: 6d 4h, 5m 11s. "-" for None."""
    if seconds is None:
        return "-"
    left = max(0, int(seconds))
    for index, (size, unit) in enumerate(_UNITS):
        if left >= size or size == 1:
            whole, rest = divmod(left, size)
            if index + 1 < len(_UNITS):
                next_size, next_unit = _UNITS[index + 1]
                if rest // next_size:
                    return f"{whole}{unit} {rest // next_size}{next_unit}"
            return f"{whole}{unit}"
    return "0s"


def size(count: int | None) -> str:
    """Bytes with a binary unit: 3.5 MiB. "-" for None."""
    if count is None:
        return "-"
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def count(number: int, thing: str) -> str:
    """1 server, 2 servers."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def local(stamp: str | None, *, date: bool = True) -> str:
    """An RFC 3339 UTC time in the zone of this machine: 2026-11-21 14:02:10. What cannot be read comes back printable."""
    if not stamp:
        return "-"
    try:
        year, month, day = int(stamp[0:4]), int(stamp[5:7]), int(stamp[8:10])
        seconds = int(stamp[11:13]) * 3600 + int(stamp[14:16]) * 60 + int(stamp[17:19])
        found = time.localtime(_days(year, month, day) * 86_400 + seconds)
    except (ValueError, OverflowError, OSError):
        return printable(stamp, 40)
    return time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", found)


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar (years begin in March, so that leap days come last)."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


class Palette:
    """Colours, or none: `--color`, else NO_COLOR and TERM=dumb, else whether stdout is a terminal."""

    def __init__(self, when: str) -> None:
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
        self.on = when == "always" or (when != "never" and not plain)

    def __call__(self, colour: str, text: str) -> str:
        """The text in a colour of COLOURS."""
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.on and colour else text


def columns() -> int | None:
    """The terminal's width if stdout is one; None where nothing needs cutting."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def table(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], palette: Palette, *, right: Iterable[int] = (), most: int | None = None
) -> list[str]:
    """Lines of an aligned table. A cell is a value, or (value, colour); columns in `right` are flush right.

    All cells go through printable(). With `most` columns, the last column is cut to what is left.
    """
    flush = frozenset(right)
    cells = [[(printable(cell[0]), cell[1]) if isinstance(cell, tuple) else (printable(cell), "") for cell in row] for row in rows]
    shown = [[(head, "dim") for head in heads], *cells]
    widths = [max(width(row[index][0]) for row in shown) for index in range(len(heads))]
    if most is not None:
        before = sum(widths[:-1]) + len(GAP) * (len(widths) - 1)
        widths[-1] = max(3, min(widths[-1], most - before))
    return [_line(row, widths, flush, palette) for row in shown]


def _line(row: Sequence[tuple[str, str]], widths: Sequence[int], flush: frozenset[int], palette: Palette) -> str:
    parts = []
    for index, (text, colour) in enumerate(row):
        cut = fit(text, widths[index])
        pad = " " * (widths[index] - width(cut))
        painted = palette(colour, cut)
        parts.append(pad + painted if index in flush else painted + (pad if index + 1 < len(row) else ""))
    return GAP.join(parts).rstrip()
