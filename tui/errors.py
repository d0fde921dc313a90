"""The one error of the terminal."""

from __future__ import annotations

from collections.abc import Sequence


class LinkError(Exception):
    """A request that had no effect, or of which none is known: a sentence, and the difference where a plan was stale."""

    def __init__(self, sentence: str, difference: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.difference = tuple(difference)
