"""What a view is: lines out, moving and opening in. Views are pure; they know the desk, not the terminal."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tui.fields import Raw, text
from tui.ink import Line, Span, fit, plain, width_of
from tui.phrases import clock, event_tone, when, who
from tui.shapes import Event, Pool, Rollout, Server
from tui.widgets.table import Column, Table

if TYPE_CHECKING:
    from tui.desk import Desk

R = TypeVar("R")
LABEL = 10
"""Cells of the left column in fact lists."""


class View:
    """One screen. `name` is its name in the table of keys."""

    name = ""
    pace = 1.0
    """Seconds between two pictures of what the daemon says: a live rollout stays below 2 kB/s, and the eye calm."""

    past = False
    """Does it show what was, not what is?"""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def enter(self, before: View, **what: str) -> None:
        """The view comes on top; `what` says about what (a server, a pool), `before` was there until now."""

    def leave(self) -> None:
        """The view goes away."""

    def covered(self) -> None:
        """The view is no longer on top: it went away, or another came over it."""

    def crumb(self) -> str:
        """What the view is about, in a word or two."""
        return self.name

    def image(self) -> str:
        """The version under the cursor, on a view of images."""
        return ""

    def look_for(self, pattern: str) -> None:
        """Filter, or find. Raises ValueError with a sentence for a bad pattern, or where there is nothing to look through."""
        raise ValueError("filter does nothing on this view.")

    def heard(self) -> None:
        """The view is on top, and the daemon told of something."""

    def lines(self, width: int, height: int) -> list[Line]:
        raise NotImplementedError

    def act(self, action: str) -> bool:
        """Take an action of this view; False leaves it to the desk."""
        return False

    def ticking(self) -> bool:
        """Does it show seconds that pass?"""
        return False

    def moving(self) -> bool:
        """Does it want to be drawn again at its pace, though nothing was heard?"""
        return False

    def head(self, width: int) -> Line | None:
        """A line 1 of its own, in place of the one that tells of now."""
        return None

    def replays(self) -> str:
        """The rollout whose past could be shown from here, "" if none is meant."""
        rollout = self.rollout()
        return "" if rollout is None else rollout.id

    def server(self) -> Server | None:
        return None

    def pool(self) -> Pool | None:
        server = self.server()
        return None if server is None else self.desk.model.pools.get(server.pool)

    def rollout(self) -> Rollout | None:
        pool = self.pool()
        return None if pool is None else self.desk.model.rollout_of(pool.name)

    def place(self) -> dict[str, str]:
        """What the cursor is on, for who follows."""
        return {}

    def goto(self, place: Raw) -> None:
        """Put the cursor there; the view is on top."""

    def marks(self) -> frozenset[str]:
        return frozenset()

    def records(self) -> list[dict[str, Any]]:
        """What an export of this view holds: a row each, by the names of the columns."""
        return [{"line": line} for line in self.copy_text().splitlines()]

    def copy_text(self) -> str:
        return "\n".join(plain(row).rstrip() for row in self.lines(*self.desk.size))


class TableView(View, Generic[R]):
    """A view that is mostly one table. `rows`: what its rows are in a place, "" if others cannot be sent to one."""

    table: Table[R]
    rows = ""

    def place(self) -> dict[str, str]:
        return {self.rows: self.table.cursor} if self.rows and self.table.cursor else {}

    def goto(self, place: Raw) -> None:
        """Past a filter that hides the row."""
        name, table = text(place, self.rows), self.table
        if name and name != table.cursor:
            if table.order and name not in table.order:
                table.set_filter("")
                table.only = None
            table.cursor = name

    def covered(self) -> None:
        self.table.home()

    def look_for(self, pattern: str) -> None:
        if not any(key.action == "filter" and key.on(self.name) for key in self.desk.keymap.keys):
            super().look_for(pattern)
        self.table.set_filter(pattern)

    def act(self, action: str) -> bool:
        table = self.table
        if table.move(action):
            return True
        match action:
            case "mark":
                table.mark()
            case "mark-range":
                table.mark_range()
            case "mark-all":
                table.mark_all()
            case "sort":
                title = table.sort_next()
                self.desk.say(f"Sorted by {title}." if title else "", "dim")
            case "reverse":
                table.reverse = not table.reverse
            case "wide":
                table.wide, table.shift = not table.wide, 0
                self.desk.say("All columns: left and right move along them." if table.wide else "", "dim")
            case "filter":
                self.ask_filter()
            case "next" | "previous":
                self.seek(1 if action == "next" else -1)
            case "back" if table.filter.pattern is not None:
                table.set_filter("")
            case "back" if table.marks:
                table.marks.clear()
            case _:
                return False
        return True

    def seek(self, step: int) -> None:
        if self.table.last_filter.pattern is None:
            keys = self.desk.model.key_of
            self.desk.say(f"There is no filter yet: {keys('filter')} makes one, {keys('next')} and {keys('previous')} go along its matches.", "dim")
        elif not self.table.seek(step):
            self.desk.say("No row matches the last filter.", "dim")

    def ask_filter(self) -> None:
        """Filter as it is typed; Enter keeps it, esc brings back the one before."""
        before = self.table.filter.source

        def kept(text: str) -> None:
            try:
                self.table.set_filter(text)
                self.desk.flash.clear()
            except ValueError as error:
                self.desk.flash.say(str(error), "warn")
                raise

        def typed(text: str) -> None:
            with suppress(ValueError):
                kept(text)

        self.desk.ask("filter", kept, typed=before, changed=typed, cancelled=lambda: typed(before), remember=f"filter {self.name}",
                      complete=lambda text: [f"{column.key}:" for column in self.table.columns if text and column.key.startswith(text)])

    def copy_text(self) -> str:
        """The marked rows, else the one under the cursor."""
        return "\n".join(self._row_words(row) for row in self.picked() or ([self.table.current] if self.table.current is not None else []))

    def _row_words(self, row: R) -> str:
        shown = (column.words(row) if column.words else "" for column in self.table.columns)
        return " ".join(word for word in shown if word)

    def picked(self) -> list[R]:
        """The marked rows, in the order of the table; those that a filter hides come last."""
        table = self.table
        names = [*(name for name in table.order if name in table.marks), *sorted(table.marks - set(table.order))]
        return [table.rows[name] for name in names if name in table.rows]

    def records(self) -> list[dict[str, Any]]:
        table = self.table
        rows = self.picked() or [table.rows[name] for name in table.order]
        return [{column.key: _value(column, row) for column in table.columns} for row in rows]

    def no_match(self, what: str) -> str:
        """Why the table is empty, and the way out."""
        source = self.table.filter.source
        more = " with a fault" if self.table.only is not None else ""
        head, colon, _ = source.lstrip("!").partition(":")
        unknown = colon and head.isalpha() and not self.table.filter.column
        if unknown:
            return f'no {what}{more} matches "{source}", esc clears it; columns are {", ".join(column.key for column in self.table.columns)}'
        return f'no {what}{more} matches "{source}": esc clears the filter'

    def filter_words(self) -> str:
        """What hides rows, for the line under the table; "" when nothing does."""
        source = self.table.filter.source
        if source.startswith("pool:^") and source.endswith("$"):
            source = "pool " + source[6:-1].replace("\\", "")
        else:
            source = f"filter {source}"
        parts = [source] if self.table.filter.pattern is not None else []
        if self.table.only is not None:
            parts.append("only faults")
        if self.table.marks:
            parts.append(f"{len(self.table.marks)} marked")
        return ", ".join(parts)


def _value(column: Column[R], row: R) -> Any:
    """A cell for a program: its value, else its words in full, else what is shown."""
    if column.value is not None:
        return column.value(row)
    shown = column.show(row)
    return (column.words(row) if column.words is not None else "") or (shown if isinstance(shown, str) else plain(shown)).strip()


def iso(moment: float | None) -> str | None:
    """A time for a program: RFC 3339 in UTC; None for none, or for one that no calendar has."""
    try:
        return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def section(title: str, width: int, note: str = "") -> Line:
    """A word and a faint rule: what divides a screen instead of boxes."""
    tail = f" {note} " if note else ""
    rule = "─" * max(0, width - width_of(title) - width_of(tail) - 3)
    return (Span(f" {title} ", "head"), Span(rule, "faint"), Span(tail, "dim"))


def fact(label: str, *spans: Any, tone: str = "plain", width: int = LABEL) -> Line:
    """A row of a fact list: a quiet label, then words."""
    rest = tuple(Span(item, tone) if isinstance(item, str) else item for item in spans)
    return (Span(f" {label:<{width}}", "dim"), *rest)


def stamp(desk: Desk, moment: float | None) -> str:
    """When an event was, in nine cells: to the second today, to the minute this week, else the day."""
    local = desk.model.local(moment)
    said = when(local, desk.now, desk.clock.zone)
    if len(said) <= 5:
        return clock(local, desk.clock.zone, seconds=True)
    return said if len(said) <= 9 else said.rpartition(" ")[0]


def event_words(event: Event) -> str:
    """The text of an event without the name that stands before it already."""
    words = event.text or event.type
    about = event.server or event.pool
    for known in (f"{about}: ", f"{about} "):
        words = words.removeprefix(known) if about else words
    return words


def event_line(desk: Desk, event: Event) -> Line:
    """An event as a row of a tail: time, about whom, what, by whom if it was a person."""
    actor = who(event.actor)
    about = event.server or event.pool or actor
    said = event_words(event)
    by = f" ({actor})" if event.actor and actor not in ("engine", about) and not said.endswith(f"({actor})") else ""
    return (
        Span(f" {stamp(desk, event.at):<9} ", "dim"), *fit((Span(about),), 10), Span("  "),
        Span(said, event_tone(event)), Span(by, "dim"),
    )
