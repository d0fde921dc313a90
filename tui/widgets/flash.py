"""The flash line: one sentence above the keys. Errors come here as sentences, never as boxes."""

from __future__ import annotations

from dataclasses import dataclass

from tui.ink import Line, Span, wrap
from tui.view_model import Trouble

GLYPHS = {"bad": "! ", "warn": "! ", "good": "+ "}


@dataclass
class Flash:
    """What is being said. `tone` underlines it; a glyph says it without colour."""

    words: str = ""
    tone: str = "plain"

    def say(self, words: str, tone: str) -> None:
        self.words, self.tone = words, tone

    def clear(self) -> None:
        self.words, self.tone = "", "plain"

    def lines(self, standing: Trouble | None, width: int) -> list[Line]:
        """The sentence in one line, or in two if it needs them; without one, what still needs somebody."""
        if self.words:
            glyph = GLYPHS.get(self.tone, "")
            rows = wrap(self.words, max(1, width - 2 - len(glyph)), 2)
            return [(Span(f" {glyph if not at else ' ' * len(glyph)}{row}", self.tone),) for at, row in enumerate(rows)]
        if standing is None:
            return [()]
        return [(Span(" ! ", standing.tone), Span(f"{standing.name} ", standing.tone), Span(standing.words, "dim"))]
