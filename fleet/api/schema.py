"""Checks the bodies and queries that clients send, by hand: unknown keys are refused, every type is checked.

Bad input is `Invalid` and names the key. Nothing here knows what a command means: the engine judges that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from fleet.api.wire import COMMANDS
from fleet.core.errors import Invalid

MAX_TEXT = 4096
MAX_SERVERS = 20_000
MAX_OVERRIDES = 64
MAX_SEQ = 2**63 - 1

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Check = Callable[[Any, str], None]


def _bad(where: str, what: str) -> NoReturn:
    raise Invalid(what, where=where)


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        _bad(where, f"must be a text, found {_name(value)}")
    if len(value) > MAX_TEXT or "\x00" in value:
        _bad(where, f"must be a text of at most {MAX_TEXT} characters without NUL")


def _whole(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEQ:
        _bad(where, f"must be a whole number from 0, found {_name(value)}")


def _flag(value: Any, where: str) -> None:
    if not isinstance(value, bool):
        _bad(where, f"must be true or false, found {_name(value)}")


def _names(value: Any, where: str) -> None:
    if not isinstance(value, list) or len(value) > MAX_SERVERS:
        _bad(where, f"must be a list of at most {MAX_SERVERS} names")
    for item in value:
        _text(item, where)


def _texts_by_name(value: Any, where: str) -> None:
    if not isinstance(value, dict) or len(value) > MAX_OVERRIDES:
        _bad(where, f"must be an object of at most {MAX_OVERRIDES} texts")
    for key, item in value.items():
        _text(item, f"{where}.{key[:64]}")


def _plan(value: Any, where: str) -> None:
    _object(value, where, PLAN_KEYS)


def _one_of(*allowed: str) -> Check:
    def check(value: Any, where: str) -> None:
        if value not in allowed:
            _bad(where, f"must be one of {', '.join(allowed)}; found {_name(value)}")

    return check


def _request_id(value: Any, where: str) -> None:
    if not isinstance(value, str) or not _REQUEST_ID.fullmatch(value):
        _bad(where, "must be 1 to 64 letters, digits, dots, dashes or underscores")


PLAN_KEYS: Mapping[str, Check] = {
    "pool": _text, "kind": _one_of("rollout", "rollback"), "to": _text, "servers": _names, "older_than": _text,
    "overrides": _texts_by_name,
}
COMMAND_KEYS: Mapping[str, Check] = {
    "command": _one_of(*COMMANDS), "request": _request_id, "generation": _whole, "plan": _plan, "overrides": _texts_by_name,
    "driven": _flag,
    **dict.fromkeys(("pool", "server", "rollout", "plan_hash", "why", "lasts", "outside", "text", "mode", "version", "family", "path",
                     "domain", "place", "key", "kind", "terminal"), _text),
}


def _name(value: Any) -> str:
    """A value as an error message shows it: short, and harmless on a terminal."""
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _object(value: Any, where: str, keys: Mapping[str, Check]) -> dict[str, Any]:
    if not isinstance(value, dict):
        _bad(where, f"must be an object, found {_name(value)}")
    for key, item in value.items():
        check = keys.get(key)
        path = f"{where}.{key[:64]}" if where else key[:64]
        if check is None:
            _bad(path, f"is not a known key; known are {', '.join(sorted(keys))}")
        check(item, path)
    return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        _bad("body", "has the same key twice")
    return found


def _no_constant(text: str) -> NoReturn:
    _bad("body", f"{text} is not JSON")


def parse_body(body: bytes) -> Any:
    """The JSON value of a body; Invalid for anything that is not strict JSON, nested absurdly, or has a key twice."""
    try:
        return json.loads(body, object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Invalid("the body is not JSON that can be read", where="body") from error


def plan_request(body: bytes) -> dict[str, Any]:
    """A checked PlanRequest; `pool` must be given."""
    found = _object(parse_body(body), "", {**PLAN_KEYS, "looked_at": _text})
    if "pool" not in found:
        _bad("pool", "must be given")
    return found


def command_request(body: bytes) -> dict[str, Any]:
    """A checked CommandRequest; `command` and `request` must be given."""
    found = _object(parse_body(body), "", COMMAND_KEYS)
    for key in ("command", "request"):
        if key not in found:
            _bad(key, "must be given")
    return found


def check_request(body: bytes) -> dict[str, Any]:
    """A checked MachineCheckRequest."""
    return _object(parse_body(body), "", {"machines": _names})


def place_request(body: bytes) -> dict[str, Any]:
    """A checked PlaceRequest."""
    return _object(parse_body(body), "", {**dict.fromkeys(("screen", "pool", "server", "rollout"), _text), "plan": _plan})


def whole_query(query: Mapping[str, str], key: str, default: int, most: int = MAX_SEQ) -> int:
    """A whole number of the query string, from 0 to `most`."""
    given = query.get(key)
    if given is None:
        return default
    if not given.isascii() or not given.isdecimal() or len(given) > 19 or int(given) > most:
        _bad(key, f"must be a whole number from 0 to {most}, found {_name(given)}")
    return int(given)
