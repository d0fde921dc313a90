"""Servers: all pools in one table, to look, filter, mark."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tui import phrases
from tui.ink import Line, Span
from tui.screens.base import TableView, View
from tui.shapes import Server
from tui.widgets.table import Column, Shown, Table

if TYPE_CHECKING:
    from tui.desk import Desk


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """`web-2` before `web-10`."""
    parts: list[tuple[int, int | str]] = []
    for part in name.replace(".", "-").split("-"):
        parts.append((0, int(part)) if part.isascii() and part.isdigit() and len(part) < 19 else (1, part))
    return tuple(parts)


class ServersView(TableView[Server]):
    """A row per server; marks made here become a plan with `p`."""

    name = "servers"
    rows = "server"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.table = Table(
            (
                Column("name", "server", lambda item: item.name, 8, 24, order=lambda item: natural(item.name),
                       words=lambda item: item.name),
                Column("pool", "pool", lambda item: (Span(item.pool, "dim"),), 4, 14,
                       order=lambda item: (item.pool, natural(item.name)), words=lambda item: item.pool),
                Column("image", "image", self._image, 5, 12, order=lambda item: natural(item.version),
                       words=lambda item: item.version),
                Column("age", "    age", self._age, 9,
                       order=lambda item: item.born if item.born is not None else float("inf"), words=lambda item: "",
                       value=lambda item: _seconds(desk.model.age_of(item, desk.now))),
                Column("state", "state", self._state, 11, order=lambda item: item.state,
                       words=lambda item: phrases.STEP_WORDS.get(item.state, item.state)),
                Column("root", "root", self._root, 7, order=lambda item: item.root, words=lambda item: item.root),
                Column("why", "why", self._why, 0, words=self._words),
                Column("address", "address", lambda item: (Span(item.address, "dim"),), 15, 21, at=120,
                       order=lambda item: item.address, words=lambda item: item.address),
                Column("place", "on", lambda item: (Span(item.hypervisor, "dim"),), 5, 14, at=120,
                       order=lambda item: item.hypervisor, words=lambda item: item.hypervisor),
                Column("life", "life", lambda item: "-" if item.incarnation is None else str(item.incarnation), 4,
                       align="right", at=160, order=lambda item: item.incarnation or 0, words=lambda item: "",
                       value=lambda item: item.incarnation),
                Column("back", "can return to", self._back, 16, at=160, words=lambda item: "",
                       value=lambda item: [kept.version for kept in item.retained]),
            ),
            sort="pool",
            marked=True,
        )

    def enter(self, before: View, **what: str) -> None:
        if pool := what.get("pool"):
            self.table.only = None
            self.table.set_filter(f"pool:^{re.escape(pool)}$")
            if self.server() is None or self.table.cursor not in self.desk.model.servers:
                self.table.cursor = ""
        if what.get("faults"):
            self.table.set_filter("")
            self.table.only = self.desk.model.faulty

    def crumb(self) -> str:
        source = self.table.filter.source
        only = " !" if self.table.only is not None else ""
        if source.startswith("pool:^") and source.endswith("$"):
            return f"servers {source[6:-1]}{only}".replace("\\", "")
        return f"servers{only}{f' /{source}' if source else ''}"

    # cells

    def _image(self, item: Server) -> Shown:
        pool = self.desk.model.pools.get(item.pool)
        target = (pool.target or pool.stable) if pool is not None else ""
        return (Span(item.version or "-", "plain" if item.version == target or not target else "accent"),)

    def _age(self, item: Server) -> Shown:
        seconds = self.desk.model.age_of(item, self.desk.now)
        pool = self.desk.model.pools.get(item.pool)
        mark, tone = phrases.heat(seconds, pool.max_age if pool is not None else None)
        return (Span(f"{phrases.age(seconds):>7} {mark}", tone),)

    def _state(self, item: Server) -> Shown:
        if item.held and item.state == "serving":
            return (Span("held", "warn"),)
        words = phrases.STEP_WORDS.get(item.state, item.state)
        if item.state == "serving":
            return (Span("ok", "good"),) if item.healthy else (Span("down", "bad"),)
        return (Span(words, phrases.server_tone(item)),)

    def _root(self, item: Server) -> Shown:
        return (Span(phrases.ROOT_SHORT.get(item.root, item.root), "bad" if item.root == "writable" else "plain"),)

    def _why(self, item: Server) -> Shown:
        if words := phrases.server_words(item):
            return (Span(words, "plain" if phrases.server_trouble(item) else "dim"),)
        return (Span(item.health_words, "dim"),)

    def _words(self, item: Server) -> str:
        return phrases.server_words(item) or item.health_words

    def _back(self, item: Server) -> Shown:
        return (Span(", ".join(f"{kept.version} ({kept.incarnation})" for kept in item.retained) or "-", "dim"),)

    # drawing

    def lines(self, width: int, height: int) -> list[Line]:
        model = self.desk.model
        self.table.update(model.servers, model.servers_epoch)
        if not self.table.order:
            return [*self.table.lines(width, 1), (), (Span(f"  {self._nothing()}", "dim"),)]
        hidden = len(model.servers) - len(self.table.order)
        words = self.filter_words()
        room = height - 1 if words else height
        rows = self.table.lines(width, room)
        if words:
            rows += [()] * (room - len(rows))
            tail = f" · {phrases.plural(hidden, 'server')} hidden, esc shows all" if hidden else ""
            rows.append((Span(f" {words}", "accent"), Span(tail, "dim")))
        return rows

    def _nothing(self) -> str:
        if self.table.filter.pattern is not None:
            return self.no_match("server")
        if self.table.only is not None:
            return f"no faults: every server is well. {self.desk.model.key_of('faults')} shows all again"
        return f"no servers yet: {self.desk.model.key_of('plan')} plans the birth of a pool"

    # doing

    def server(self) -> Server | None:
        return self.table.current if self.table.cursor in self.desk.model.servers else None

    def marks(self) -> frozenset[str]:
        return frozenset(self.table.marks)

    def act(self, action: str) -> bool:
        if action == "open":
            if self.table.cursor:
                self.desk.open("server", server=self.table.cursor)
            return True
        if action == "faults":
            self.table.only = None if self.table.only is not None else self.desk.model.faulty
            return True
        if action == "back" and self.table.only is not None:
            self.table.only = None
            return True
        return super().act(action)


def _seconds(age: float | None) -> int | None:
    return None if age is None else round(age)


def make(desk: Desk) -> ServersView:
    return ServersView(desk)
