"""What is wrong with a fleet file: every problem with its place, all of them in one error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet.core.errors import Invalid

MOST_TOLD = 50
"""Problems told at once; a hostile file with 100,000 unknown keys must fill neither a terminal nor an afternoon."""

Key = tuple[str | int, ...]
"""A key path: table and key names, and indexes into lists."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` counts from 1, 0 = no line is known. `allowed` and `hint` may be ""."""

    file: str
    line: int
    key: str
    found: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        key = f"{self.key}: " if self.key else ""
        found = f"found {self.found}" if self.found else ""
        allowed = f"allowed {self.allowed}" if self.allowed else ""
        words = ", ".join(part for part in (found, allowed) if part)
        return place + key + (f"{words}. {self.hint}" if words and self.hint else words or self.hint)


class SettingsInvalid(Invalid):
    """All problems of a file (or of a plan's overrides) at once; the message has one line for each."""

    code = "invalid-settings"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        lines = [str(problem) for problem in self.problems[:MOST_TOLD]]
        if len(self.problems) > MOST_TOLD:
            lines.append("... and more problems after these")
        super().__init__("\n".join(lines))


def dotted(key: Key) -> str:
    """`("pools", "web", "health", 0, "tcp")` -> `pools.web.health[0].tcp`; names that need it are quoted and cut."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + _bare(part)
    return text


def _bare(name: str) -> str:
    if name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name) and len(name) <= 60:
        return name
    cut = name if len(name) <= 60 else name[:57] + "..."
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut) + '"'


def nearest(name: object, known: Sequence[str]) -> str:
    """The known name that was probably meant, or ""."""
    if not isinstance(name, str) or len(name) > 64:
        return ""
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return close[0] if close else ""


def did_you_mean(name: object, known: Sequence[str]) -> str:
    """`Did you mean "servers"?`, or ""."""
    close = nearest(name, known)
    return f'Did you mean "{close}"?' if close else ""
