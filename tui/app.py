"""The Textual app: a thin stage around the desk. Keys go to the desk, its lines go to five papers.

Nothing of worth lives here: SIGHUP may end it at once, and the rollout goes on in the daemon.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.timer import Timer

from tui import clipboard, lending, theme
from tui.clock import Clock
from tui.desk import Desk
from tui.hangup import end_with
from tui.ink import Line, Span
from tui.link import Link
from tui.phrases import farewell
from tui.widgets.crumbs import rule
from tui.widgets.footer import TOO_SMALL, footer, tiny_keys
from tui.widgets.ground import ground
from tui.widgets.header import header, tiny
from tui.widgets.paper import Paper
from tui.widgets.tight import tight_screen

if TYPE_CHECKING:
    from tui.player import Film, Reel

FIRST_SECONDS = 0.1
"""After a quiet second news is drawn this soon; else at the pace of the view. A key is answered at once, always."""


class Main(Screen[None]):
    """The only screen; views change inside it, for a switch of screens costs 50 ms and a full repaint."""

    def __init__(self) -> None:
        super().__init__()
        tight_screen(self)

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        self.app.desk.key(event.key, event.character)  # type: ignore[attr-defined]

    def on_paste(self, event: events.Paste) -> None:
        event.stop()
        self.app.desk.paste(event.text)  # type: ignore[attr-defined]


class AnewApp(App[int]):
    """`link` None shows what the desk was given and connects to nothing (pictures in tests)."""

    CSS_PATH = Path(__file__).with_name("anew.tcss")
    TITLE = "anew"
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    INLINE_PADDING = 0
    AUTO_FOCUS: ClassVar[str | None] = None

    def __init__(self, link: Link | None, options: Mapping[str, str], clock: Clock | None = None,
                 reel: Callable[[str], Reel] | None = None, film: Film | None = None) -> None:
        super().__init__()
        self.link = link
        self.desk = Desk(clock or Clock(), link or Link("/nonexistent"), self, options, reel)
        self.papers = {name: Paper(name, ground) for name, ground in (
            ("head", "band"), ("body", "plain"), ("flash", "plain"), ("rule", "plain"), ("foot", "band"))}
        self.web = options.get("web") == "yes"
        self._soon: Timer | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._minute, self._painted = (0, 0), 0.0
        self.left_behind: tuple[str, ...] = ()
        for name in theme.THEMES:
            self.register_theme(ground(name))
        for paper in self.papers.values():
            paper.ascii_only = options.get("ascii") == "yes"
        self.wear(self.desk.theme)
        if film is not None:
            self.desk.play(film)

    def compose(self) -> ComposeResult:
        yield from self.papers.values()

    def get_default_screen(self) -> Screen[None]:
        return Main()

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)
        if self.link is not None:
            self.spawn(self.link.run(self.desk))

    async def on_unmount(self) -> None:
        for task in self._work:
            task.cancel()
        if self.link is not None:
            await self.link.close()

    def on_resize(self, event: events.Resize) -> None:
        self.desk.size = (event.size.width, event.size.height)
        self.screen.set_class(self.desk.tiny, "tiny")

    # the stage (desk.Stage)

    def paint(self) -> None:
        """Draw what changed, now."""
        if self._soon is not None:
            self._soon.stop()
            self._soon = None
        if not self.is_running or not self.papers["head"].is_mounted:
            return
        desk, (width, height) = self.desk, self.desk.size
        situation = desk.situation()
        left, model = desk.armed_left, desk.model
        keys = footer(desk.keymap, situation, width)
        ask = desk.prompt.line(width) if desk.prompt is not None else None
        flash = desk.flash.lines(desk.standing(), width)
        if desk.view.moving():
            self.paint_soon()
        if desk.tiny:
            head = desk.view.head(width) or tiny(model, left, desk.clock, tiny_keys(situation), width)
            self.papers["head"].show([ask if ask is not None and height == 1 else head])
            note: Line = flash[0] if desk.flash.words else (Span(f" {TOO_SMALL}", "dim"),)
            self.papers["foot"].show([ask if ask is not None else note])
            return
        self.papers["head"].show([desk.view.head(width) or header(model, left, desk.clock, width, desk.view.rollout())])
        body = self.papers["body"]
        body.show(desk.lines(*body.size))
        self.papers["flash"].show(flash[:1])
        self.papers["rule"].show(flash[1:] or [rule(desk.crumbs(), width)])
        self.papers["foot"].show([ask if ask is not None else keys])

    def paint_soon(self) -> None:
        if self._soon is None and self.is_running:
            since = self.desk.clock.ticks() - self._painted
            self._soon = self.set_timer(max(FIRST_SECONDS, self.desk.view.pace - since), self._paint_news)

    def _paint_news(self) -> None:
        self._painted = self.desk.clock.ticks()
        self.paint()

    def _tick(self) -> None:
        """Once a second: seconds of a rollout in view, else only when a minute has passed. Unchanged cells are free."""
        minute = (int(self.desk.now // 60), ceil(self.desk.armed_left / 60))
        if minute != self._minute or self.desk.view.ticking():
            self._minute = minute
            self.paint_soon()

    def leave(self) -> None:
        self.left_behind = self.desk.driven
        self.exit(0)

    def wear(self, name: str) -> None:
        self.theme = f"anew-{name}"
        for paper in self.papers.values():
            paper.palette = name
            paper.repaint_all()

    def copy(self, text: str) -> str:
        return clipboard.copy(text, self._driver.write if self._driver is not None else str, None if self.web else self.desk.options.get("state_dir", ""))

    def lender(self) -> lending.Lender | None:
        return lending.lender(self)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)


def run(socket: str, options: Mapping[str, str], reel: Callable[[str], Reel] | None = None, film: Film | None = None,
        trouble: Callable[[], str] = str) -> int:
    """Open the terminal UI on the daemon at `socket`; the exit code. There must be a terminal. `reel` reads a rollout's past for a replay; with a `film`
    nothing else is shown and no daemon is spoken to. `trouble`: why the way to another machine's daemon is cut, or "".

    `options`: theme, ascii ("yes"/"no"), terminal (a name for the journal), `on` (the other machine), state_dir, web ("yes": behind a page in a
    browser, looks on), `keys.ACTION` = names of keys, and `problems`: what was wrong with the user's file, a line each, told when the UI opens.
    """
    chosen = {**options, "problems": "\n".join(filter(None, (options.get("problems", ""), theme.problem(options.get("theme", "")))))}
    chosen["theme"] = theme.choose(os.environ, options.get("theme", ""))
    chosen.setdefault("ascii", "yes" if theme.needs_ascii(theme.first_environment()) else "no")
    os.environ.pop("NO_COLOR", None)  # taken care of by the theme; Textual would turn it into truecolor greys
    web = chosen.get("web") == "yes"
    with suppress(OSError):
        if not web:  # behind a page there is a pipe instead, to who serves it
            chosen.setdefault("terminal", os.ttyname(sys.stdin.fileno()).removeprefix("/dev/"))
        end_with(sys.stdin.fileno())
    link = Link(socket, terminal=chosen.get("terminal", ""), name=chosen.get("on", ""), trouble=trouble, observer=web) if film is None else None
    result = (app := AnewApp(link, chosen, reel=reel, film=film)).run(mouse=False) or 0
    with suppress(OSError):  # the terminal may be gone
        print(farewell(app.left_behind, chosen.get("on", "")) if film is None else "", end="", file=sys.stderr, flush=True)
    return result
