"""On which line of a TOML text is each key? `tomllib` does not say, so this reads the text a second time.

It runs only on text that `tomllib` accepted, so it may trust the syntax and only has to find its way: comments, four
kinds of strings, tables, arrays of tables, dotted keys, arrays and inline tables. A key that is not found falls back
to the nearest enclosing table.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

from fleet.settings.problems import Key

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}' r"|'''(?:[^']|'(?!''))*'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]*")


@dataclass(frozen=True, slots=True)
class Pair:
    """Where a key and its value stand, as offsets into the text. `inline`: within braces, where no line of its own is possible."""

    key_start: int
    key_end: int
    value_start: int
    value_end: int
    inline: bool


class Lines:
    """The line of each key path of one text."""

    def __init__(self, text: str = "") -> None:
        self._at: dict[Key, int] = {}
        self._pairs: dict[Key, Pair] = {}
        if text:
            scanner = _Scanner(text)
            self._at, self._pairs = scanner.scan(), scanner.pairs

    def of(self, key: Key) -> int:
        """The line (from 1) where `key` is written, else where the nearest table around it begins, else 1."""
        for length in range(len(key), 0, -1):
            line = self._at.get(key[:length])
            if line is not None:
                return line
        return 1

    def pair(self, key: Key) -> Pair | None:
        """Where exactly this key is written with a value, if it is."""
        return self._pairs.get(key)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.counted = 0
        self.line = 1
        self.found: dict[Key, int] = {}
        self.pairs: dict[Key, Pair] = {}
        self.arrays: dict[Key, int] = {}

    def scan(self) -> dict[Key, int]:
        table: Key = ()
        while self._skip(_GAP):
            if self.text[self.pos] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self.found

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Go past `pattern`; False at the end of the text."""
        match = pattern.match(self.text, self.pos)
        self.pos = match.end() if match else self.pos
        return self.pos < len(self.text)

    def _here(self) -> int:
        self.line += self.text.count("\n", self.counted, self.pos)
        self.counted = self.pos
        return self.line

    def _note(self, key: Key, line: int) -> None:
        for length in range(1, len(key) + 1):
            self.found.setdefault(key[:length], line)

    def _header(self) -> Key:
        line = self._here()
        many = self.text.startswith("[[", self.pos)
        self.pos += 2 if many else 1
        names = self._key()
        self.pos += 2 if many else 1
        key: Key = ()
        for name in names[:-1]:
            key = self._through_array((*key, name))
        key = (*key, names[-1])
        if many:
            index = self.arrays.get(key, -1) + 1
            self.arrays[key] = index
            self.found.setdefault(key, line)
            key = (*key, index)
        # A table that a dotted header or key had already implied is best shown where it gets its own header.
        self.found[key] = line
        self._note(key, line)
        return key

    def _through_array(self, key: Key) -> Key:
        """A name that means an array of tables means its last element."""
        return (*key, self.arrays[key]) if key in self.arrays else key

    def _pair(self, table: Key, inline: bool = False) -> None:
        line, start = self._here(), self.pos
        key: Key = (*table, *self._key())
        end = self.pos
        self.found.setdefault(key, line)
        self._note(key, line)
        self._skip(_BLANK)
        self.pos += 1  # the equals sign
        self._skip(_GAP)
        value = self.pos
        self._value(key)
        last = self.pos
        while last > value and self.text[last - 1].isspace():
            last -= 1
        self.pairs[key] = Pair(start, end, value, last, inline)

    def _key(self) -> list[str]:
        names: list[str] = []
        while True:
            self._skip(_BLANK)
            names.append(self._name())
            self._skip(_BLANK)
            if not self.text.startswith(".", self.pos):
                return names
            self.pos += 1

    def _name(self) -> str:
        bare = _BARE.match(self.text, self.pos)
        if bare:
            self.pos = bare.end()
            return bare.group()
        quoted = _STRING.match(self.text, self.pos)
        if quoted is None:  # not reached on text that tomllib took; end the scan rather than loop
            raise ValueError(f"no key at offset {self.pos}")
        self.pos = quoted.end()
        raw = quoted.group()
        return raw[1:-1] if raw[0] == "'" or "\\" not in raw else str(tomllib.loads(f"name = {raw}")["name"])

    def _value(self, key: Key) -> None:
        self._skip(_GAP)
        self.found.setdefault(key, self._here())
        first = self.text[self.pos : self.pos + 1]
        if first in ("[", "{"):
            self.pos += 1
            self._members(key, "]" if first == "[" else "}")
        elif first in ('"', "'"):
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _members(self, key: Key, end: str) -> None:
        index = 0
        while self._skip(_GAP) and self.text[self.pos] != end:
            if self.text[self.pos] == ",":
                self.pos += 1
            elif end == "]":
                self._value((*key, index))
                index += 1
            else:
                self._pair(key, inline=True)
        self.pos += 1
