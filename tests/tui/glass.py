"""What a terminal shows after some bytes: rows of text, with the few sequences that the app writes."""

from __future__ import annotations

import codecs
import re

from rich.cells import cell_len

TOKEN = re.compile(
    r"\x1b\[(?P<args>[0-?]*)[ -/]*(?P<final>[@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1bP[^\x1b]*\x1b\\|\x1b[()][0-9A-B]|\x1b[^\[\]P()]"
    r"|(?P<text>[^\x00-\x1f\x7f]+)|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])")


class Glass:
    """Feed it bytes; `rows` are as wide and as many as the terminal has."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.columns, self.lines = columns, lines
        self.cells = [[" "] * columns for _ in range(lines)]
        self.x = self.y = 0
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def rows(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    def feed(self, data: bytes) -> None:
        """Take bytes; a sequence or a character that is cut waits for its rest."""
        text = self._held + self._decoder.decode(data)
        last = text.rfind("\x1b")
        end = last if last >= 0 and not TOKEN.match(text, last) else len(text)
        text, self._held = text[:end], text[end:]
        for found in TOKEN.finditer(text):
            if found["text"]:
                self._write(found["text"])
            elif found["control"]:
                self.x = 0 if found["control"] == "\r" else self.x
                self.y = min(self.y + 1, self.lines - 1) if found["control"] == "\n" else self.y
            elif found["final"] == "H":
                row, _, column = found["args"].partition(";")
                self.y, self.x = min(int(row or 1), self.lines) - 1, min(int(column or 1), self.columns) - 1
            elif found["final"] == "J":
                self.cells = [[" "] * self.columns for _ in range(self.lines)]

    def _write(self, text: str) -> None:
        for char in text:
            for place, part in enumerate((char, "", "")[: cell_len(char)]):
                if self.x + place < self.columns:
                    self.cells[self.y][self.x + place] = part
            self.x += cell_len(char)
