"""A whole row of an exported journal, back into the event that it was. Whoever wrote it is a stranger until it is parsed.

Every field is checked by its type before it comes near the fold; a type of event that this anew does not know is for the caller to
skip. Nothing here decides whether the row is true: see `fits` for what its chain can tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fleet.core.events import EVENT_TYPES, Event
from fleet.engine.present import LAST_MOMENT
from fleet.store.chain import MAX_COLUMN, MAX_DEPTH, Row, canonical, link

MAX_RUNS = 20_000
"""Servers of one rollout, at most: as many as a command may name."""
LARGEST = 1e15
_COLUMNS = ("type", "actor", "pool", "server", "rollout")


def event_in(row: Any) -> Event:
    """The event of a row. ValueError with a clause that says what is wrong with it."""
    if not isinstance(row, dict):
        raise ValueError("is not a row of a journal")
    seq, at = row.get("seq"), _moment(row)
    if type(seq) is not int or not 1 <= seq < 1 << 53:
        raise ValueError("has no number")
    if at is None:
        raise ValueError("has no time")
    texts = [row.get(name) for name in _COLUMNS]
    if not all(isinstance(text, str) and len(text) <= MAX_COLUMN and text.isprintable() for text in texts):
        raise ValueError("lacks a type, an actor, or what it is about, or one of them is not printable")
    kind, actor, pool, server, rollout = map(str, texts)
    data = row.get("data")
    if not isinstance(data, dict):
        raise ValueError("has no data")
    _sound(data, 0)
    if kind in EVENT_TYPES:
        _fields(kind, data)
    if kind == "rollout-started" and not rollout:
        raise ValueError("begins a rollout without an id")
    return Event(seq, at, kind, actor, pool, server, rollout, data, _text(row, "request"), _text(row, "chain"))


def fits(event: Event, before: Event) -> bool:
    """Does the chain value of an event follow from the row before it? False: one of the two was changed after it was written."""
    row = Row(event.seq, event.at, event.type, event.actor, event.pool, event.server, event.rollout, canonical(event.data), event.request, "")
    return link(before.chain, row) == event.chain


def _moment(row: Mapping[str, Any]) -> float | None:
    """Engine time: as the journal has it, else as it is shown, to the millisecond."""
    at: Any = row.get("time")
    if at is None and isinstance(row.get("at"), str):
        try:
            at = datetime.fromisoformat(row["at"]).timestamp()
        except (ValueError, OverflowError):
            return None
    return float(at) if _number(at) and 0 <= at < LAST_MOMENT else None


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) and len(value) <= MAX_COLUMN else ""


def _sound(value: Any, depth: int) -> None:
    """Every number is one that arithmetic survives, every text is Unicode, nothing is nested without end."""
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        for key, item in value.items():
            _sound(key, depth + 1)
            _sound(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _sound(item, depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and not _number(value):
        raise ValueError("holds a number beyond all measure")
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("holds half a character")


def _fields(kind: str, data: Mapping[str, Any]) -> None:
    for name in EVENT_TYPES[kind][1]:
        if name not in data:
            slim = kind == "rollout-started" and name in ("settings", "runs")
            raise ValueError("was exported without what a replay needs: export it again with this anew" if slim else f"lacks its {name}")
    for name, value in data.items():
        if name in _CHECKS and not _CHECKS[name](value):
            raise ValueError(f"has a {name} that anew never wrote")


# --- what a field of that name always is, whatever the event

def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and abs(value) <= LARGEST


def _whole(value: Any) -> bool:
    return type(value) is int and -1 <= value <= LARGEST


def _word(value: Any) -> bool:
    return isinstance(value, str)


def _name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_COLUMN and value.isprintable()


def _or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _image(value: Any) -> bool:
    return isinstance(value, dict) and all(_word(value.get(key)) for key in ("family", "version", "digest"))


def _target(value: Any) -> bool:
    return isinstance(value, dict) and _word(value.get("kind")) and _whole(value.get("number")) and _image(value.get("image"))


def _run(value: Any) -> bool:
    return (isinstance(value, dict) and _name(value.get("server")) and all(_word(value.get(key)) for key in ("action", "path", "place", "reason"))
            and isinstance(value.get("canary"), bool) and _or_none(_whole)(value.get("source")) and _or_none(_target)(value.get("target"))
            and _or_none(_image)(value.get("home")) and {"source", "target", "home"} <= value.keys())


def _runs(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MAX_RUNS and all(map(_run, value))


def _amount(value: Any) -> bool:
    text = str(value).removesuffix("%")
    return text.isascii() and text.isdecimal() and len(text) < 10


def _settings(value: Any) -> bool:
    return isinstance(value, dict) and all(check(value[name]) for name, check in _SETTINGS.items() if name in value)


def _people(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and _word(one.get("by")) and _whole(one.get("uid")) and _number(one.get("at")) for one in value)


_SETTINGS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("max_unavailable", "max_surge", "canaries"), _amount),
    **dict.fromkeys(("min_healthy_time", "healthy_deadline", "progress_deadline", "drain_deadline", "retain"), _number),
    **dict.fromkeys(("promotion", "on_failure", "order", "on_disconnect"), _word),
    "max_failures": _whole, "checkpoint_pause": _or_none(_number),
    "checkpoints": lambda value: isinstance(value, list) and len(value) <= 100 and all(map(_whole, value)),
}
_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("version", "hash", "kind", "plan_hash", "cause", "state", "op", "step", "verb", "path", "error", "last_words", "words", "digest",
                     "place", "name", "what", "text", "command", "mode", "definition", "driver", "outside"), _word),
    **dict.fromkeys(("reason", "why"), _or_none(_word)),
    **dict.fromkeys(("epoch", "uid", "percent"), _whole), "number": _or_none(_whole), "source": _or_none(_whole),
    **dict.fromkeys(("seconds", "until"), _number),
    "from": _or_none(_image), "to": _image, "target": _or_none(_target), "runs": _runs, "settings": _settings, "approvals": _people,
    **dict.fromkeys(("facts", "request"), lambda value: isinstance(value, dict)),
    "changed": lambda value: isinstance(value, dict) and all(isinstance(pair, list) and len(pair) == 2 for pair in value.values()),
    "budget": lambda value: isinstance(value, dict) and _whole(value.get("surge")) and _whole(value.get("unavailable")),
    "servers": lambda value: isinstance(value, list) or (_whole(value) and 0 <= value <= MAX_RUNS),
}
