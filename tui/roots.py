"""The root of a server in place: what writes there is read and shown first, then the question, then one command."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from tui import actions, fields, phrases
from tui.fields import Raw
from tui.shapes import Server

if TYPE_CHECKING:
    from tui.desk import Desk

SHOWN = 4
"""Writers named above the question; the rest is a number."""


def change(desk: Desk, server: Server) -> None:
    """Lock a root that is writable, unlock one that is read-only. Looking changes nothing."""
    desk.say(f"Looking at the root of {server.name}.", "dim")
    desk.spawn(_look(desk, server))


async def _look(desk: Desk, server: Server) -> None:
    answer = await desk.calls.get(f"/v1/roots/{quote(server.name, safe='')}")
    here = desk.situation().server
    if desk.prompt is not None or here is None or here.name != server.name:
        return  # the user went on meanwhile: no question about something else
    row = next(iter(fields.rows(answer, "roots")), {})
    if why_not := fields.text(row, "why_not"):
        desk.say(f"{server.name}: {why_not}.", "warn")
    elif fields.text(row, "observed") == "writable":
        desk.say(writers_words(server.name, row), "warn")
        desk.ask(f"Make the root of {server.name} read-only, now and after each boot? y:",
                 lambda _: actions.send(desk, command="root.set", pool=server.pool, server=server.name, mode="read-only"), "yes")
    else:
        desk.say(f"The root of {server.name} is {fields.text(row, 'observed')}. Made writable it is tainted: due for replacement.", "warn")
        desk.ask(f"Why make the root of {server.name} writable?",
                 lambda why: actions.send(desk, command="root.set", pool=server.pool, server=server.name, mode="writable", why=why))


def writers_words(name: str, row: Raw) -> str:
    """What is open for writing there, the first few by name."""
    writers = fields.words(row, "writers")
    if not writers:
        return f"Nothing is open for writing on the root of {name}."
    more = f" · and {phrases.plural(len(writers) - SHOWN, 'more thing')}" if len(writers) > SHOWN else ""
    return f"Open for writing on {name}: {' · '.join(writers[:SHOWN])}{more}"
