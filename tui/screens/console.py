"""Console: the serial line of a server, what it said and what it says now. Reading only: nothing is typed into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.errors import LinkError
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
        self._turn = 0

    def enter(self, before: View, **what: str) -> None:
        found = before.server()
        name = what.get("server") or (found.name if found is not None else "")
        if not name:
            return
        self.named, self.scrollback, self.back, self.ended = name, Scrollback(), 0, ""
        self._turn += 1
        self.desk.spawn(self._listen(name, self._turn))

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
        note = self.ended or (f"{self.back} lines up, G follows again" if self.back else "live")
        head = section(f"console of {self.named}", width, note)
        room = max(1, height - 1)
        self.back = max(0, min(self.back, len(self.scrollback.lines) + bool(self.scrollback.open) - room))
        said = self.scrollback.tail(room, self.back)
        if not said:
            return [head, (Span("  " + ("" if self.ended else "nothing yet: a quiet server writes only when it boots or fails"), "dim"),)]
        return [head, *((Span(f" {text}"),) for text in said)]

    def act(self, action: str) -> bool:
        steps = {"up": 1, "down": -1, "page-up": 15, "page-down": -15, "top": 1_000_000, "bottom": -1_000_000}
        if action in steps:
            self.back = max(0, self.back + steps[action])
            return True
        return False

    def records(self) -> list[dict[str, str]]:
        return [{"server": self.named, "line": line} for line in self.scrollback.tail(len(self.scrollback.lines) + 1)]

    def copy_text(self) -> str:
        return "\n".join(self.scrollback.tail(200))


def make(desk: Desk) -> ConsoleView:
    return ConsoleView(desk)
