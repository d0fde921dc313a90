"""Commands about the view itself: `filter`, `sort`, `theme`, `export`, and every key by the name of its action (`:wide`, `:faults`).

They change nothing in the fleet. What a key would say, its command says.
"""

from __future__ import annotations

from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tui import export
from tui.keys import QUIET, Key, own_terminal, why_not
from tui.phrases import plural
from tui.screens.base import TableView
from tui.theme import THEMES, problem
from tui.widgets.table import Table

if TYPE_CHECKING:
    from tui.desk import Desk

VERBS = ("filter", "sort", "theme", "export")
ABOUT = {"server": "servers", "console": "servers", "servers": "pools", "rollout": "pools"}
"""Views that may be asked for by the name of what they are about."""
_OWN = frozenset({*QUIET, "command", "help", "open", "back"})


def keys(desk: Desk) -> dict[str, Key]:
    """The actions that are commands by their own name, as this view has them."""
    return {key.action: key for key in desk.keymap.keys if key.action not in _OWN and not key.action.startswith("show-") and key.on(desk.view.name)}


def complete(desk: Desk, words: list[str]) -> list[str]:
    """What may follow `words`, which is one of VERBS or ABOUT and nothing else yet."""
    table = _table(desk)
    match words:
        case [("server" | "console")]:
            return list(desk.model.servers)
        case [("servers" | "rollout")]:
            return list(desk.model.pools)
        case ["theme"]:
            return list(THEMES)
        case ["export"]:
            return list(export.KINDS)
        case ["sort"] if table is not None:
            return [column.key for column in table.columns if column.order is not None]
        case ["filter"] if table is not None:
            return [f"{column.key}:" for column in table.columns]
    return []


def run(desk: Desk, verb: str, rest: str) -> bool:
    """Run a command about the view; False when `verb` is none."""
    if verb == "theme" and rest:
        if words := problem(rest):
            desk.say(words, "warn")
        else:
            desk.wear(rest)
    elif verb == "export":
        if why := own_terminal(desk.situation()):
            desk.say(why, "warn")
        else:
            _export(desk, rest)
    elif verb == "sort" and rest:
        _sort(desk, rest)
    elif verb == "filter" and rest:
        _filter(desk, rest)
    elif verb in ABOUT and rest:
        _go(desk, verb, rest)
    elif rest or verb in _OWN or verb not in (found := keys(desk)):
        if verb in _OWN or all(key.action != verb for key in desk.keymap.keys):
            return False
        desk.say(f"{verb} takes nothing after it: `:{verb}`." if rest else f"{verb} does nothing on this view.", "warn")
    elif why := why_not(found[verb], desk.situation()):
        desk.say(why, "warn")
    else:
        desk.act(verb)
    return True


def _go(desk: Desk, verb: str, name: str) -> None:
    """`console web-3`, `rollout web`."""
    model = desk.model
    if name not in (model.servers if ABOUT[verb] == "servers" else model.pools):
        desk.say(f"There is no {ABOUT[verb][:-1]} {name!r}: tab completes the names.", "warn")
    elif verb == "rollout":
        found = model.rollout_of(name)
        desk.open("rollout", rollout=found.id) if found is not None else desk.say(f"{name} had no rollout yet.", "warn")
    elif verb == "servers":
        desk.open("servers", pool=name)
    else:
        desk.open(verb, server=name)


def _table(desk: Desk) -> Table[object] | None:
    view = desk.view
    return view.table if isinstance(view, TableView) else None


def _sort(desk: Desk, rest: str) -> None:
    """`sort age`, `sort -age` turned round."""
    table, name = _table(desk), rest.removeprefix("-").strip()
    able = [column for column in table.columns if column.order is not None] if table is not None else []
    if table is None or not able:
        desk.say("This view has no order to change.", "warn")
        return
    known = {word: column for column in able for word in (column.title.strip(), column.key)}
    near = name if name in known else next((word for word in known if word.startswith(name)), "")
    if not near:
        guess = get_close_matches(name, known, 1)
        desk.say(f"There is no column {name!r} to sort by: " + (f"is it {guess[0]!r}?" if guess else f"{', '.join(column.key for column in able)}."), "warn")
        return
    table.sort, table.reverse = known[near].key, rest.startswith("-")
    desk.say(f"Sorted by {known[near].title.strip()}{', turned round' if table.reverse else ''}.", "dim")


def _filter(desk: Desk, rest: str) -> None:
    try:
        desk.view.look_for(rest)
    except ValueError as error:
        desk.say(str(error), "warn")


def _export(desk: Desk, rest: str) -> None:
    """`export`, `export json`, `export FILE.csv`: the rows that are shown, or the marked ones, into a new file."""
    kind = next((one for one in export.KINDS if rest in (one, "") or rest.lower().endswith(f".{one}")), "")
    if not kind:
        desk.say(f"Say where and how: `export FILE.csv` or `export FILE.json`; {rest!r} ends in neither.", "warn")
        return
    view = desk.view
    records = view.records()
    if not records:
        desk.say("There is nothing to export here.", "warn")
        return
    moment = datetime.fromtimestamp(desk.now, desk.clock.zone)
    made = export.text(kind, records, fleet=desk.model.fleet, view=view.name, at=moment.isoformat(timespec="seconds"))
    try:
        path = export.save("" if rest in (kind, "") else rest, f"anew-{view.name}-{moment:%Y%m%d-%H%M%S}", kind, made)
    except ValueError as error:
        desk.say(str(error), "warn")
        return
    desk.say(f"{plural(len(records), 'row')}{' (the marked ones)' if view.marks() else ''} exported to {path}.", "good")
