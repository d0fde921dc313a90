"""A serial console as text: bytes in, the last lines out. Guests are hostile, so nothing of their colour survives."""

from __future__ import annotations

import codecs
from collections import deque

from tui.untrusted import untrusted, without_sequences

KEEP_LINES = 2000
LONGEST = 2000
"""Characters of one console line that are kept; a guest may write a megabyte without a newline."""


class Scrollback:
    """The last lines of a console. Whole escape sequences go, `\\r` starts the line again, `\\b` takes one back."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=KEEP_LINES)
        self.open = ""
        self.count = 0
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> None:
        """Take bytes as they come; a sequence cut in two is held back until its rest arrives."""
        text = self._held + self._decoder.decode(data)
        self._held = ""
        start = text.rfind("\x1b")
        if start >= 0 and len(text) - start < 64 and without_sequences(text[start:]).startswith("\x1b"):
            text, self._held = text[:start], text[start:]
        *whole, rest = without_sequences(text).split("\n")
        for part in whole:
            self._end(part)
        self.open = self._over(self.open, rest)

    def _end(self, part: str) -> None:
        self.lines.append(self._over(self.open, part.removesuffix("\r")))
        self.count += 1
        self.open = ""

    @staticmethod
    def _over(before: str, part: str) -> str:
        """What a terminal would show of `before` + `part` on one line."""
        if "\r" in part:
            before, part = "", part.rstrip("\r").rpartition("\r")[2]
        while "\b" in part:
            head, _, part = part.partition("\b")
            before = (before + head)[:-1]
        return untrusted((before + part).replace("\t", "    "), LONGEST)

    def tail(self, count: int, back: int = 0) -> list[str]:
        """`count` lines, ending `back` lines before the newest."""
        every = [*self.lines, self.open] if self.open else list(self.lines)
        end = max(0, len(every) - back)
        return every[max(0, end - count) : end]
