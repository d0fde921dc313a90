"""Rows, their canonical text and the chain over them. Pure: the same values give the same text on every machine.

Rules
- canonical JSON: keys sorted, no blanks, ASCII only, no NaN or infinity.
- chain(n) = sha256(chain(n-1) + canonical row n without its chain), in hex; chain(0) is "".
- text that is not Unicode (lone surrogates) is refused: two of them, written and read, may become one other character.
- what comes back is what was stored: tuples become lists before the row is hashed, keys must be text already.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from json.encoder import JSONEncoder, encode_basestring_ascii
from typing import Any, Final, NamedTuple

from fleet.core.errors import Refused
from fleet.core.events import Draft, Event, check_draft
from fleet.store.faults import JournalCorrupt

MAX_DATA: Final = 64 * 1024
"""Bytes of canonical JSON that one event's data may take."""

MAX_DATA_OF: Final[Mapping[str, int]] = {"rollout-started": 8 * 1024 * 1024}
"""Types with a cap of their own: this one pins the run of every server, and a pool may have thousands."""

MAX_DEPTH: Final = 32
"""Levels of lists and dicts in data; keeps every later JSON parser far from its recursion limit."""

MAX_COLUMN: Final = 512
"""Characters of actor, pool, server, rollout and request."""


_encode: Final = JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


class Ready(NamedTuple):
    """A draft that was checked; `data` is canonical JSON and `value` what it says."""

    type: str
    actor: str
    pool: str
    server: str
    rollout: str
    data: str
    request: str
    value: dict[str, Any]


class Row(NamedTuple):
    """An event as the journal stores it, in the order of the table's columns; `data` is canonical JSON."""

    seq: int
    at: float
    type: str
    actor: str
    pool: str
    server: str
    rollout: str
    data: str
    request: str
    chain: str


def canonical(value: Any) -> str:
    """The one JSON text of a value. Raises ValueError for NaN and infinity."""
    return _encode(value)


def row_text(row: Row) -> str:
    """`canonical` of the row without its chain, with the stored bytes of `data`: a changed blank is a changed row."""
    return _text(row.seq, row.at, row.type, row.actor, row.pool, row.server, row.rollout, row.data, row.request)


def _text(seq: int, at: float, kind: str, actor: str, pool: str, server: str, rollout: str, data: str,
          request: str) -> str:
    quote = encode_basestring_ascii
    return (
        f'{{"actor":{quote(actor)},"at":{at!r},"data":{data},"pool":{quote(pool)},"request":{quote(request)},'
        f'"rollout":{quote(rollout)},"seq":{seq},"server":{quote(server)},"type":{quote(kind)}}}'
    )


def link(previous: str, row: Row) -> str:
    """The chain value of `row` after a row with chain `previous`."""
    # ASCII whenever anew wrote it; a damaged row may hold anything, and must fail by its hash, not by its encoding.
    return sha256((previous + row_text(row)).encode("utf-8", "surrogatepass")).hexdigest()


def make_row(seq: int, at: float, ready: Ready, previous: str) -> Row:
    """The row that follows one with chain `previous`."""
    kind, actor, pool, server, rollout, data, request, _ = ready
    text = _text(seq, at, kind, actor, pool, server, rollout, data, request)
    chain = sha256((previous + text).encode("ascii")).hexdigest()
    return Row(seq, at, kind, actor, pool, server, rollout, data, request, chain)


def written(row: Row, ready: Ready) -> Event:
    """The event of a row just made; equal to `event_of` the row, without parsing its data again."""
    seq, at, kind, actor, pool, server, rollout, _, request, chain = row
    return Event(seq, at, kind, actor, pool, server, rollout, ready.value, request, chain)


def prepare(draft: Draft) -> Ready:
    """Check a draft and make its data canonical. Raises Refused with a sentence; nothing was written then."""
    try:
        check_draft(draft)
    except KeyError as error:
        raise Refused(f"the journal has no place for this event: {error.args[0]}", where=draft.type) from error
    for text in (draft.actor, draft.pool, draft.server, draft.rollout, draft.request):
        if len(text) > MAX_COLUMN or not text.isprintable():
            raise Refused("actor, pool, server, rollout and request of an event must be printable and at most "
                          f"{MAX_COLUMN} characters long, and this is not: {text[:40]!a}", where=draft.type)
    value = _plain(dict(draft.data), ("data",))
    try:
        text = canonical(value)
    except ValueError as error:  # an int too long for Python to write out
        raise Refused(f"the data of an event cannot be written as JSON: {error}", where=draft.type) from error
    cap = MAX_DATA_OF.get(draft.type, MAX_DATA)
    if len(text) > cap:
        raise Refused(f"the data of an event may take {cap} bytes and this takes {len(text)}: record less, "
                      "or a digest of it", where=draft.type)
    return Ready(draft.type, draft.actor, draft.pool, draft.server, draft.rollout, text, draft.request, value)


_Path = tuple[str | int, ...]


def _plain(value: Any, at: _Path) -> Any:
    """`value` made of nothing but dict, list, str, int, float, bool and None. Raises Refused naming the place."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _unicode(value, at)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Refused("is not a finite number, so JSON has no word for it", where=_place(at))
        return float(value)
    if len(at) > MAX_DEPTH:
        raise Refused(f"is nested more than {MAX_DEPTH} levels deep", where=_place(at))
    if isinstance(value, Mapping):  # plain ASCII text, nearly all there is, takes the short way: appends/s depend on it
        return {
            key if type(key) is str and key.isascii() else _key(key, at):
            item if type(item) is str and item.isascii() else _plain(item, (*at, key))
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*at, index)) for index, item in enumerate(value)]
    raise Refused(f"is a {type(value).__name__}, which JSON cannot hold", where=_place(at))


def _key(key: Any, at: _Path) -> str:
    if not isinstance(key, str):
        raise Refused(f"has the key {ascii(key)[:80]}, and keys must be text", where=_place(at))
    return _unicode(key, at)


def _unicode(text: str, at: _Path) -> str:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Refused("holds half a character (a lone surrogate), which is not Unicode text",
                          where=_place(at)) from error
    return str.__str__(text)  # an enum that is a str becomes its plain value


def _place(at: _Path) -> str:
    """`data.runs[3].name`, short and in ASCII."""
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at)
    return ascii(words[1:81])[1:-1]


def row_of(values: Sequence[Any], where: str) -> Row:
    """A row from what SQLite returned. Raises JournalCorrupt: one flipped bit turns a text into a blob or a NULL."""
    row = Row(*values)
    texts = (row.type, row.actor, row.pool, row.server, row.rollout, row.data, row.request, row.chain)
    if not isinstance(row.seq, int) or not isinstance(row.at, float) or not all(isinstance(t, str) for t in texts):
        raise JournalCorrupt(f"row {row.seq} of the journal has a column of another type than was written",
                             seq=row.seq if isinstance(row.seq, int) else 0, where=where)
    return row


def event_of(row: Row, where: str) -> Event:
    """The event of a row. Raises JournalCorrupt if its data is not a JSON object."""
    try:
        data = json.loads(row.data)
    except (ValueError, RecursionError) as error:
        raise JournalCorrupt(f"the data of row {row.seq} of the journal is not JSON", seq=row.seq,
                             where=where) from error
    if not isinstance(data, dict):
        raise JournalCorrupt(f"the data of row {row.seq} of the journal is not an object", seq=row.seq, where=where)
    return Event(row.seq, row.at, row.type, row.actor, row.pool, row.server, row.rollout, data, row.request, row.chain)


def fault_after(seq: int, chain: str, row: Row) -> str:
    """"" if `row` is the one that follows row `seq` with this chain, else the clause that says why it is not."""
    if row.seq != seq + 1:
        missing = f"row {seq + 1} is" if row.seq == seq + 2 else f"rows {seq + 1} to {row.seq - 1} are"
        return f"{missing} missing" if row.seq > seq else f"row {row.seq} stands where row {seq + 1} belongs"
    if link(chain, row) != row.chain:
        return f"row {row.seq} was changed, or a row before it: its chain value does not fit"
    return ""
