"""A desk without a terminal: keys go in, lines come out, and the daemon's answers are made up. For fast tests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC
from typing import Any

from tests.tui import story
from tui.clock import FrozenClock
from tui.desk import Desk
from tui.errors import LinkError
from tui.ink import fit, plain, safe
from tui.widgets.crumbs import rule
from tui.widgets.footer import footer, tiny_keys
from tui.widgets.header import header, tiny


class MadeUp:
    """Answers for the desk; `refusal` makes all of them fail."""

    def __init__(self) -> None:
        self.commands: list[Mapping[str, Any]] = []
        self.refusal: LinkError | None = None
        self.places: list[Mapping[str, Any]] = []

    async def plan(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._answer({**story.plan(), "pool": request["pool"], "kind": request.get("kind", "rollout")})

    async def command(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.commands.append(request)
        return self._answer({"ok": True, "seq": 110, "message": "taken", "rollout": "web-r1"})

    async def get(self, path: str, **query: str) -> Mapping[str, Any]:
        return self._answer({"images": story.images()} if path == "/v1/images" else story.image_diff() if "/diff/" in path else {})

    async def here(self, place: Mapping[str, Any]) -> None:
        self.places.append(place)
        self._answer({})

    async def drive(self, rollout: str, since: int, go_on: Callable[[], bool]) -> None: ...

    async def console(self, server: str, sink: Callable[[bytes], bool]) -> None:
        sink(b"login: \x1b[31mred\x1b[0m\r\n")

    def _answer(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.refusal is not None:
            raise self.refusal
        return answer


class Seat:
    """The stage: counts what is asked of it, runs work at once."""

    def __init__(self) -> None:
        self.left = 0
        self.copied: list[str] = []

    def paint(self) -> None: ...
    def paint_soon(self) -> None: ...
    def wear(self, theme: str) -> None: ...

    def lender(self) -> None: ...

    def leave(self) -> None:
        self.left += 1

    def copy(self, text: str) -> str:
        self.copied.append(text)
        return "copied"

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        with suppress(StopIteration):
            work.send(None)
            raise AssertionError("made-up answers never wait")


def desk(status: Mapping[str, Any] | None = None, **options: str) -> Desk:
    """A desk that has heard a status and the events of the story."""
    made = Desk(FrozenClock(story.NOW.timestamp(), UTC), MadeUp(), Seat(), options)
    made.came_status(status if status is not None else story.status())
    made.came_events(story.events())
    return made


def picture(made: Desk, width: int, height: int) -> list[str]:
    """All lines that would be drawn at a size."""
    made.size = (width, height)
    at = made.situation()
    if made.tiny:
        return [plain(fit(safe(made.view.head(width) or tiny(made.model, made.armed_left, made.clock, tiny_keys(at), width)), width))]
    head = made.view.head(width) or header(made.model, made.armed_left, made.clock, width, made.view.rollout())
    body = made.lines(width, height - 4)
    assert len(body) <= max(0, height - 4)
    rows = [head, *body, *made.flash.lines(None, width), rule(made.crumbs(), width), footer(made.keymap, at, width)]
    if made.prompt is not None:
        rows.append(made.prompt.line(width))
    return [plain(fit(safe(row), width)) for row in rows]
