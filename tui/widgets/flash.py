"""The flash line: one sentence above the keys. Errors come here as sentences, never as boxes."""

from __future__ import annotations

from dataclasses import dataclass

from tui.ink import Line, Span
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

    def line(self, standing: Trouble | None) -> Line:
        """The sentence, or else what still needs somebody."""
        if self.words:
            return (Span(f" {GLYPHS.get(self.tone, '')}{self.words}", self.tone),)
        if standing is None:
            return ()
        return (Span(" ! ", standing.tone), Span(f"{standing.name} ", standing.tone), Span(standing.words, "dim"))
