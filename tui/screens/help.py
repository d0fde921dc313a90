"""Help: the keys of the view one came from, each runnable with Enter; a key that does nothing now says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.ink import Line, Span
from tui.keys import QUIET, Key, Situation, footer_words, label, why_not
from tui.screens.base import TableView, View
from tui.shapes import Pool, Rollout, Server
from tui.widgets.table import Column, Shown, Table

if TYPE_CHECKING:
    from tui.desk import Desk


class HelpView(TableView[Key]):
    """A list made from the one table of keys."""

    name = "help"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.about: View = desk.views[0]
        self.at = Situation("fleet")
        self._rows: dict[str, Key] = {}
        self.table = Table(
            (
                Column("key", "key", lambda key: (Span(label(key), "key"),), 6, words=label),
                Column("does", "does", lambda key: footer_words(key, self.at), 13, words=lambda key: key.action),
                Column("long", "", self._long, 0, words=lambda key: key.long),
            ),
        )

    def enter(self, before: View, **what: str) -> None:
        if before is self:
            return
        self.about, self.at = before, self.desk.situation_of(before)
        self._rows = {
            key.action: key for key in self.desk.keymap.keys
            if key.on(before.name) and key.action not in QUIET and key.action not in ("help", "back")
            and not (self.desk.film_only and key.action.startswith("show-"))
        }
        self.table.go(0)

    def crumb(self) -> str:
        return f"keys of {self.about.name}"

    def _long(self, key: Key) -> Shown:
        if why := why_not(key, self.at):
            return (Span(f"not now: {why}", "dim"),)
        return (Span(key.long or key.said(self.at.screen)),)

    def lines(self, width: int, height: int) -> list[Line]:
        self.table.update(self._rows, id(self._rows))
        head: list[Line] = [(Span(f" Keys of {self.about.name}", "title"),
                             Span("   enter runs one, esc goes back", "dim")), ()]
        keys = self.desk.model.key_of
        moving = " ".join(keys(action) for action in ("down", "up", "top", "bottom"))
        now = "" if self.about.past else ", on Fleet it leaves · :export"
        tail: list[Line] = [(Span(f" {moving}, arrows, PgUp, PgDn move · {keys('back')} goes back{now}", "dim"),)]
        rows = self.table.lines(width, max(2, height - 4))
        return (head + rows + [()] * (height - 3 - len(rows)) + tail)[:height]

    def head(self, width: int) -> Line | None:
        return self.about.head(width)

    def server(self) -> Server | None:
        return self.about.server()

    def pool(self) -> Pool | None:
        return self.about.pool()

    def rollout(self) -> Rollout | None:
        return self.about.rollout()

    def act(self, action: str) -> bool:
        if action == "open":
            key = self.table.current
            if key is not None:
                self.desk.back()
                self.desk.key(key.keys[0], None)
            return True
        return super().act(action)


def make(desk: Desk) -> HelpView:
    return HelpView(desk)
