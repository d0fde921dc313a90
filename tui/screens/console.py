"""Console: the serial line of a server, what it said and what it says now. Reading only: nothing is typed into it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tui.errors import LinkError
from tui.fields import Raw, text
from tui.ink import Line, Span
from tui.screens.base import View, section
from tui.shapes import Server
from tui.widgets.console import Scrollback

if TYPE_CHECKING:
    from tui.desk import Desk


class ConsoleView(View):
    """Follows the newest line until one goes up; G follows again."""

    name = "console"
    pace = 0.25

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.named = ""
        self.scrollback = Scrollback()
        self.back = 0
        self.ended = ""
        self.pattern: re.Pattern[str] | None = None
        self.found = -1
        """The line found last, counted from the first that ever came."""
        self._room = 20
        self._turn = 0

    def enter(self, before: View, **what: str) -> None:
        found = before.server()
        name = what.get("server") or (found.name if found is not None else "")
        if not name:
            return
        self.named, self.scrollback, self.back, self.ended = name, Scrollback(), 0, ""
        self.pattern, self.found = None, -1
        self._turn += 1
        self.desk.spawn(self._listen(name, self._turn))

    def place(self) -> dict[str, str]:
        return {"server": self.named}

    def goto(self, place: Raw) -> None:
        if (name := text(place, "server")) and name != self.named:
            self.enter(self, server=name)

    def leave(self) -> None:
        self._turn += 1

    async def _listen(self, name: str, turn: int) -> None:
        def sink(data: bytes) -> bool:
            if turn != self._turn:
                return False
            before = self.scrollback.count
            self.scrollback.feed(data)
            if self.back:
                self.back += self.scrollback.count - before
            self.desk.stage.paint_soon()
            return True

        try:
            await self.desk.calls.console(name, sink)
        except LinkError:
            self.ended = "not to be had"
            raise
        if turn == self._turn:
            self.ended = "the console was closed by the other side"
            self.desk.stage.paint_soon()

    def crumb(self) -> str:
        return f"console {self.named}"

    def server(self) -> Server | None:
        return self.desk.model.servers.get(self.named)

    def lines(self, width: int, height: int) -> list[Line]:
        self._room = max(1, height - 1)
        note = self.ended or (f"{self.back} lines up, {self.desk.model.key_of('bottom')} follows again" if self.back else "live")
        head = section(f"console of {self.named}", width, note)
        room = max(1, height - 1)
        self.back = max(0, min(self.back, len(self.scrollback.lines) + bool(self.scrollback.open) - room))
        said = self.scrollback.tail(room, self.back)
        if not said:
            return [head, (Span("  " + ("" if self.ended else "nothing yet: a quiet server writes only when it boots or fails"), "dim"),)]
        if self.pattern is None:
            return [head, *((Span(f" {text}"),) for text in said)]
        return [head, *((Span("›" if self.pattern.search(text) else " ", "key"), Span(text, "title" if self.pattern.search(text) else "plain")) for text in said)]

    def act(self, action: str) -> bool:
        steps = {"up": 1, "down": -1, "page-up": 15, "page-down": -15, "top": 1_000_000, "bottom": -1_000_000}
        if action in steps:
            self.back = max(0, self.back + steps[action])
        elif action == "filter":
            self.desk.ask("find", self._find, remember="find")
        elif action in ("next", "previous"):
            self._seek(1 if action == "next" else -1)
        elif action == "back" and self.pattern is not None:
            self.pattern, self.found = None, -1
        else:
            return False
        return True

    def look_for(self, pattern: str) -> None:
        """The newest line that matches; lines that do are marked."""
        try:
            self.pattern = re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"The pattern {pattern!r} is none: {error.msg}.") from error
        self.found = self.scrollback.count + 1
        self._seek(-1)

    def _find(self, text: str) -> None:
        try:
            self.look_for(text)
        except ValueError as error:
            self.desk.say(str(error), "warn")
            raise

    def _seek(self, step: int) -> None:
        """Go to the next match below or above the last one; at the end say so and stay."""
        if self.pattern is None:
            keys = self.desk.model.key_of
            self.desk.say(f"Nothing was looked for yet: {keys('filter')} finds a pattern, {keys('next')} and {keys('previous')} go along it.", "dim")
            return
        said = self.scrollback.tail(len(self.scrollback.lines) + 1)
        first = self.scrollback.count - len(self.scrollback.lines)
        hits = [first + place for place, text in enumerate(said) if self.pattern.search(text)]
        ahead = [hit for hit in hits if (hit - self.found) * step > 0]
        if not ahead:
            where = "" if not hits else " below" if step > 0 else " above"
            self.desk.say(f"No line{where} matches {self.pattern.pattern!r}.", "dim")
            return
        self.found = ahead[0] if step > 0 else ahead[-1]
        self.back = max(0, first + len(said) - 1 - self.found - self._room // 2)
        self.desk.say(f"Match {hits.index(self.found) + 1} of {len(hits)}.", "dim")

    def records(self) -> list[dict[str, str]]:
        return [{"server": self.named, "line": line} for line in self.scrollback.tail(len(self.scrollback.lines) + 1)]

    def copy_text(self) -> str:
        return "\n".join(self.scrollback.tail(200))


def make(desk: Desk) -> ConsoleView:
    return ConsoleView(desk)
