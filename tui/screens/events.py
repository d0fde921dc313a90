"""Events: the journal, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui import phrases
from tui.ink import Line, Span, wrap
from tui.screens.base import TableView, View, event_words, iso, section, stamp
from tui.shapes import Event, Pool, Rollout, Server
from tui.widgets.table import Column, Shown, Table

if TYPE_CHECKING:
    from tui.desk import Desk

LOUD = frozenset({"step-failed", "server-unhealthy", "server-tainted", "root-unlocked", "image-rejected", "warning", "command-refused",
                  "server-redirected"})


class EventsView(TableView[Event]):
    """The cursor stays on its event while new ones come above; on the newest it goes with them."""

    name = "events"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._epoch = -1
        self._rows: dict[str, Event] = {}
        self.table = Table(
            (
                Column("at", "time", lambda item: (Span(stamp(desk, item.at), "dim"),), 9, value=lambda item: iso(item.at)),
                Column("who", "who", self._who, 8, 14, words=lambda item: phrases.who(item.actor)),
                Column("about", "about", lambda item: item.server or item.pool, 8, 20,
                       words=lambda item: item.server or item.pool),
                Column("text", "what", self._text, 0, words=lambda item: item.text),
                Column("type", "type", lambda item: (Span(item.type, "dim"),), 20, at=120, words=lambda item: item.type),
                Column("seq", "number", lambda item: (Span(str(item.seq), "dim"),), 8, align="right", at=160,
                       words=lambda item: str(item.seq), value=lambda item: item.seq),
            ),
        )

    def enter(self, before: View, **what: str) -> None:
        self.desk.read_history()

    def _who(self, item: Event) -> Shown:
        name = phrases.who(item.actor)
        return (Span(name, "dim" if name == "engine" else "accent"),)

    def _text(self, item: Event) -> Shown:
        return (Span(event_words(item), phrases.event_tone(item)),)

    def lines(self, width: int, height: int) -> list[Line]:
        model = self.desk.model
        if self._epoch != model.events_epoch:
            follow = self.table.position == 0
            self._rows = {str(item.seq): item for item in reversed(model.events)}
            self._epoch = model.events_epoch
            self.table.update(self._rows, self._epoch)
            if follow:
                self.table.go(0)
        self.table.update(self._rows, self._epoch)
        if not self._rows:
            return [(), (Span("  no events yet", "dim"),)]
        reach = model.reach()
        self.table.beyond = reach.removesuffix(" events") if len(self.table.order) == len(self._rows) else ""
        words = ", ".join(part for part in (self.filter_words(), reach) if part)
        current = self.table.current
        below: list[Line] = [section("event", width, words)]
        if current is not None:
            below += [(Span(f" {row}"),) for row in wrap(current.text or current.type, width - 2, 2)]
        elif self.table.filter.pattern is not None:
            below.append((Span(f" {self.no_match('event')}", "dim"),))
        elif self.table.only is not None:
            below.append((Span(f" no event is a fault: {self.desk.model.key_of('faults')} shows all again", "dim"),))
        room = max(2, height - 3)
        rows = self.table.lines(width, room)
        return ([*rows, *([()] * (room - len(rows))), *below])[:height]

    def server(self) -> Server | None:
        current = self.table.current
        return None if current is None else self.desk.model.servers.get(current.server)

    def pool(self) -> Pool | None:
        current = self.table.current
        return None if current is None else self.desk.model.pools.get(current.pool)

    def rollout(self) -> Rollout | None:
        current = self.table.current
        return None if current is None else self.desk.model.rollouts.get(current.rollout)

    def replays(self) -> str:
        """That of the event, however long ago: the screen may know nothing of it any more."""
        current = self.table.current
        return "" if current is None else current.rollout

    def act(self, action: str) -> bool:
        if action == "open":
            self._open()
            return True
        if action == "faults":
            self.table.only = None if self.table.only is not None else _loud
            return True
        if action == "back" and self.table.only is not None:
            self.table.only = None
            return True
        return super().act(action)

    def _open(self) -> None:
        server, rollout = self.server(), self.rollout()
        if server is not None:
            self.desk.open("server", server=server.name)
        elif rollout is not None:
            self.desk.open("rollout", rollout=rollout.id)
        else:
            self.desk.say("This event is about no server or rollout that is known here.", "dim")


def _loud(item: Event) -> bool:
    return item.type in LOUD


def make(desk: Desk) -> EventsView:
    return EventsView(desk)
