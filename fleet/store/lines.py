"""The journal as JSON lines, for people, other machines and auditors.

Each line is one row, keys sorted, with its own `chain` and the `previous` one, so that a part of a journal can be
verified too. Reformatting numbers breaks the chain: keep the file as it was exported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from fleet.store.chain import Row, canonical, fault_after, row_text

MAX_LINE: Final = 16 * 1024 * 1024
"""Characters of one line: more than the largest event, so that a hostile file cannot fill the memory of the parser."""

_TEXTS: Final = ("type", "actor", "pool", "server", "rollout", "request", "chain", "previous")
_KEYS: Final = frozenset({*_TEXTS, "seq", "at", "data"})


def line_of(row: Row, previous: str) -> str:
    """One line without its newline: the canonical row with `chain` and `previous` put where sorting puts them."""
    value = json.loads(row_text(row))
    value["chain"] = row.chain
    value["previous"] = previous
    return canonical(value)


def verify_lines(lines: Iterable[str], tips: Iterable[tuple[int, str]] = ()) -> str:
    """"" if exported lines hold together and show every tip (seq, chain) of the system log, else the sentence why not.

    Lines that start after row 1 are verified from there on: what was before them is taken as their `previous` says.
    """
    wanted = dict(tips)
    seq, chain, number = 0, "", 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row, previous, fault = _parse(line)
        if row is None:
            return f"Line {number} {fault}."
        if not chain and previous and row.seq > 1:
            seq, chain = row.seq - 1, previous
        fault = fault_after(seq, chain, row)
        if not fault and previous != chain:
            fault = f"row {row.seq} names another row before it than the one that is there"
        if fault:
            return f"Line {number}: {fault}."
        seq, chain = row.seq, row.chain
        if wanted.pop(seq, chain) != chain:
            return f"Line {number}: row {seq} is not the one whose chain value the system log recorded."
    if not chain:
        return "There is no row in it: export the journal again."
    return tail_fault(seq, wanted)


def tail_fault(last: int, tips: Iterable[int]) -> str:
    """The sentence about logged tips that lie after the last row there is; "" if there is none."""
    beyond = max((seq for seq in tips if seq > last), default=0)
    if not beyond:
        return ""
    return f"The end is cut off: the system log recorded row {beyond}, and the last row here is {last}."


def _parse(line: str) -> tuple[Row | None, str, str]:
    """(row, previous, ""), or (None, "", why this line is not a row)."""
    if len(line) > MAX_LINE:
        return None, "", f"is longer than {MAX_LINE} characters, which no row is"
    try:
        value: Any = json.loads(line)
        if not isinstance(value, dict) or value.keys() != _KEYS:
            return None, "", "is not a row of a journal: it has other fields than an exported row"
        texts = [value[name] for name in _TEXTS]
        at, seq = value["at"], value["seq"]
        if (not all(isinstance(text, str) for text in texts) or type(seq) is not int or type(at) not in (int, float)
                or not isinstance(value["data"], dict)):
            return None, "", "is not a row of a journal: a field is of the wrong type"
        kind, actor, pool, server, rollout, request, chain, previous = texts
        row = Row(seq, float(at), kind, actor, pool, server, rollout, canonical(value["data"]), request, chain)
    except (ValueError, OverflowError, RecursionError):
        return None, "", "is not JSON: the file is cut off or was changed"
    return row, previous, ""
