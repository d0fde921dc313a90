"""Everything that servers, images, people and peers may write is dropped to plain text here.

Rules of this border:
  * Textual strips five control codes only; ESC, CSI, OSC, C1 and bidi reach the terminal through every widget. So no
    string from the daemon is drawn before it went through `untrusted`, once where it enters (tui/link.py) and once
    more where a row is painted (tui/ink.py): either alone is enough, both together survive a mistake.
  * Dropped: C0 except newline and tab, DEL, C1, every format character (bidi, zero width, soft hyphen, tags), lone
    surrogates (they would end the writer thread), private use, line and paragraph separators.
  * Length is capped, so one line of a megabyte costs nothing.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

LIMIT = 4096
"""Characters kept of one string: more than any screen shows."""

MAX_DEPTH = 40
"""Levels of nesting accepted in a frame; the deepest true one has seven."""

_SUSPECT = re.compile(r"[^\n\t\x20-\x7e]")
_BAD_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ESCAPES = (b"\\u", b"\\b", b"\\f", b"\\r", b"\x7f")
"""What JSON in ASCII must contain to mean a character worth dropping; raw control characters are no JSON at all."""
_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC, to their end or the line's
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"  # all else that ESC introduces
    r"|\x9b[0-?]*[ -/]*[@-~]"  # CSI in eight bits
)


def _kept(match: re.Match[str]) -> str:
    char = match.group()
    return "" if unicodedata.category(char) in _BAD_CATEGORIES else char


def untrusted(text: str, limit: int = LIMIT) -> str:
    """`text` without a character that could steer a terminal, at most `limit` characters long."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if _SUSPECT.search(text) is None:
        return text
    return _SUSPECT.sub(_kept, text)


def one_line(text: str, limit: int = LIMIT) -> str:
    """Like `untrusted`, and newlines and tabs become single blanks."""
    return untrusted(text, limit).replace("\n", " ").replace("\t", " ")


def without_sequences(text: str) -> str:
    """`text` without whole escape sequences, so that `ESC[31mred` reads `red` and not `[31mred`."""
    return _ANSI.sub("", text)


def clean_value(value: Any, depth: int = 0) -> Any:
    """A JSON value with every string (keys too) made safe. Raises ValueError when nested deeper than MAX_DEPTH."""
    if isinstance(value, str):
        return untrusted(value)
    if depth > MAX_DEPTH:
        raise ValueError("a frame is nested too deeply")
    if isinstance(value, dict):
        return {untrusted(str(key)): clean_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [clean_value(item, depth + 1) for item in value]
    return value


def clean_json(body: bytes) -> Any:
    """Parse `body` and clean every string in it. Raises ValueError for what is not JSON.

    Status frames of large fleets are megabytes of plain ASCII: a look at the bytes proves that no string in them can
    hold a character worth dropping, and the walk over all strings is saved. Length is capped when painted.
    """
    try:
        value = json.loads(body)
    except RecursionError as error:
        raise ValueError("a frame is nested too deeply") from error
    if body.isascii() and not any(escape in body for escape in _ESCAPES):
        return value
    return clean_value(value)
