"""The flash line: one sentence above the keys. Errors come here as sentences, never as boxes."""

from __future__ import annotations

from dataclasses import dataclass

from tui.ink import Line, Span, wrap
from tui.shapes import Event
from tui.view_model import Trouble

GLYPHS = {"bad": "! ", "warn": "! ", "good": "+ "}
MOVES = frozenset({"rollout-moved", "rollout-set", "rollout-ended"})
"""Events after which what was said of a rollout is not so any more."""


@dataclass
class Flash:
    """What is being said. `tone` underlines it; a glyph says it without colour. `rollout`: whose state it tells, as it is after the event `seq`."""

    words: str = ""
    tone: str = "plain"
    rollout: str = ""
    seq: int = 0

    def say(self, words: str, tone: str, rollout: str = "", seq: int = 0) -> None:
        self.words, self.tone, self.rollout, self.seq = words, tone, rollout, seq

    def clear(self) -> None:
        self.say("", "plain")

    def heard(self, event: Event) -> None:
        """What is said of a rollout goes when that rollout moves on."""
        if self.rollout and event.rollout == self.rollout and event.seq > self.seq and event.type in MOVES:
            self.clear()

    def lines(self, standing: Trouble | None, width: int) -> list[Line]:
        """The sentence in one line, or in two if it needs them; without one, what still needs somebody."""
        if self.words:
            glyph = GLYPHS.get(self.tone, "")
            rows = wrap(self.words, max(1, width - 2 - len(glyph)), 2)
            return [(Span(f" {glyph if not at else ' ' * len(glyph)}{row}", self.tone),) for at, row in enumerate(rows)]
        if standing is None:
            return [()]
        return [(Span(" ! ", standing.tone), Span(f"{standing.name} ", standing.tone), Span(standing.words, "dim"))]
