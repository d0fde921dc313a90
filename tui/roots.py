"""The roots of a server or a pool: what is seen inside and what it takes to be as promised is shown first, to anybody; then one question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from tui import actions, fields, phrases
from tui.fields import Raw
from tui.keys import armed, in_seat, operator
from tui.shapes import Pool, Server

if TYPE_CHECKING:
    from tui.desk import Desk

SHOWN = 4
"""Writers named above the question; the rest is a number."""
NAMED = 3
USUAL = "1h"


def change(desk: Desk, server: Server | None, pool: Pool | None) -> None:
    """Lock what is writable, unlock a server that is read-only, plan what must be replaced. Looking changes nothing."""
    name = server.name if server is not None else pool.name if pool is not None else ""
    desk.say(f"Looking at the root{'' if server is not None else 's'} of {name}.", "dim")
    desk.spawn(_look(desk, server, pool, name, _place(desk)))


async def _look(desk: Desk, server: Server | None, pool: Pool | None, name: str, before: tuple[object, ...]) -> None:
    answer = await desk.calls.get(f"/v1/roots/{quote(name, safe='')}")
    if desk.prompt is not None or _place(desk) != before:
        return  # the user went on meanwhile: no question about something else
    rows = fields.rows(answer, "roots")
    if server is not None:
        _server(desk, server, next(iter(rows), {}))
    elif pool is not None:
        _pool(desk, pool, rows)


def _place(desk: Desk) -> tuple[object, ...]:
    """Where the user is: the view, and what is under the cursor."""
    at = desk.situation()
    return id(desk.view), at.server.name if at.server else "", at.pool.name if at.pool else ""


def _barred(desk: Desk) -> str:
    """Why nothing may be changed from here now, "" if it may. The daemon judges it again."""
    at = desk.situation()
    why = next((why for need in (operator, in_seat, armed) if (why := need(at))), "")
    return why.replace("then again.", f"then {desk.model.key_of('root')} again.")


def _server(desk: Desk, server: Server, row: Raw) -> None:
    name, seen, why_not = server.name, fields.text(row, "observed"), fields.text(row, "why_not")
    if fields.text(row, "takes") == "replacement":
        desk.say(f"{name}: root is {seen} inside; that takes a replacement. {why_not}.", "warn")
        _replace(desk, server.pool, [name])
    elif why_not:
        desk.say(f"{name}: {why_not}.", "warn")
    elif seen == "writable":
        desk.say(f"{_unlocked(desk, server)}{writers_words(name, row)} {_barred(desk)}".strip(), "warn")
        if not _barred(desk):
            desk.ask(f"Make the root of {name} read-only, now and after each boot? y:",
                     lambda _: actions.send(desk, command="root.set", pool=server.pool, server=name, mode="read-only"), "yes")
    elif barred := _barred(desk):
        desk.say(f"The root of {name} is {seen} inside. {barred}", "warn")
    else:
        desk.say(f"The root of {name} is {seen}. Made writable it is tainted: due for replacement.", "warn")
        desk.ask(f"Why make the root of {name} writable?", lambda why: _for_how_long(desk, server, why))


def _for_how_long(desk: Desk, server: Server, why: str) -> None:
    desk.ask("For how long until it is locked? (20m, 2d)", lambda lasts: actions.send(
        desk, command="root.set", pool=server.pool, server=server.name, mode="writable", why=why, lasts=lasts), usual=USUAL)


def _unlocked(desk: Desk, server: Server) -> str:
    """Whose broken glass this is, "" if it is none."""
    if server.unlocked_until is None:
        return ""
    until = phrases.when(desk.model.local(server.unlocked_until), desk.now, desk.clock.zone)
    return f"Unlocked until {until} by {phrases.who(server.unlocked_by)}: {server.unlocked_why}. "


def _pool(desk: Desk, pool: Pool, rows: Sequence[Raw]) -> None:
    takes: dict[str, list[str]] = {"nothing": [], "remount": [], "replacement": [], "unknown": []}
    for row in rows:
        takes.setdefault(fields.text(row, "takes", "unknown"), []).append(fields.text(row, "name"))
    wished = next((fields.text(row, "wished") for row in rows), "")
    broken = sum(bool(row.get("unlocked_until")) for row in rows if fields.text(row, "takes") == "remount")
    opened = f", {broken} of them unlocked by somebody for a while" if broken else ""
    parts = [f"{len(takes['nothing'])} of {len(rows)} {wished} as promised"]
    parts += [f"{words} {_names(names)}{more}" for words, names, more in (
        ("remount", takes["remount"], opened), ("replace", takes["replacement"], ""), ("unknown", takes["unknown"], "")) if names]
    said = f"{pool.name}: {' · '.join(parts)}"
    if takes["remount"]:
        barred, count = _barred(desk), len(takes["remount"])
        desk.say(f"{said}. {barred}" if barred else said, "warn")
        if not barred:
            actions.confirm(desk, f"Remount {phrases.plural(count, 'root')} of {pool.name} {wished}, under the budget?", count,
                            lambda _: actions.send(desk, command="root.set", pool=pool.name, mode=wished))
    elif takes["replacement"]:
        desk.say(said, "warn")
        _replace(desk, pool.name, takes["replacement"])
    elif takes["unknown"]:
        why = next((fields.text(row, "why_not") for row in rows if fields.text(row, "takes", "unknown") == "unknown"), "")
        desk.say(f"{said}: {why}." if why else said, "warn")
    else:
        desk.say(f"{said}: nothing to do.", "good")


def _replace(desk: Desk, pool: str, names: Sequence[str]) -> None:
    """A plan of the pool for these servers, onto the image that is stable there. A plan changes nothing: it has its own ladder."""
    stable = found.stable if (found := desk.model.pools.get(pool)) is not None else ""
    request = {"pool": pool, "servers": list(names), **({"to": stable} if stable else {})}
    desk.ask(f"Plan the replacement of {_names(names)}? y:", lambda _: desk.spawn(actions.make_plan(desk, request)), "yes")


def _names(names: Sequence[str]) -> str:
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{len(names)} servers"


def writers_words(name: str, row: Raw) -> str:
    """What is open for writing there, the first few by name."""
    writers = fields.words(row, "writers")
    if not writers:
        return f"Nothing is open for writing on the root of {name}."
    more = f" · and {phrases.plural(len(writers) - SHOWN, 'more thing')}" if len(writers) > SHOWN else ""
    return f"Open for writing on {name}: {' · '.join(writers[:SHOWN])}{more}"
