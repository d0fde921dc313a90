"""The last line: the keys of this view that work now. It is made from the one table of keys."""

from __future__ import annotations

from tui.ink import Line, Span, width_of
from tui.keymap import Keymap
from tui.keys import Situation, at_foot, footer_words, label, why_not

TOO_SMALL = "too small, needs 60x20"


def footer(keymap: Keymap, at: Situation, width: int) -> Line:
    """As many keys as fit, the most telling first; `: command` and `? help` always have a place."""
    able = [key for key in keymap.keys if at_foot(key, at) and key.on(at.screen) and not why_not(key, at)]
    last = [key for key in able if key.action in ("command", "help")]
    if at.screen == "help":
        last = []
    first = [key for key in able if key not in last and key.action not in ("command", "help")]
    said = [(label(key), footer_words(key, at)) for key in first]
    ends = [(label(key), footer_words(key, at)) for key in last]
    room = width - 1 - sum(_size(pair) for pair in ends)
    shown: list[tuple[str, str]] = []
    for pair in said:
        if _size(pair) <= room:
            shown.append(pair)
            room -= _size(pair)
    spans: list[Span] = [Span(" ")]
    for key, words in (*shown, *ends):
        spans += [Span(key, "key"), Span(f" {words}  ", "dim")]
    return tuple(spans)


def tiny_keys(at: Situation) -> str:
    """The keys that a terminal too small for a footer still names."""
    if at.rollout is None or not at.rollout.active:
        return TOO_SMALL
    paused = at.rollout.state == "paused"
    return f"{at.key_of('pause')} {'resume' if paused else 'pause'} {at.key_of('rollback')} back"


def _size(pair: tuple[str, str]) -> int:
    return width_of(pair[0]) + width_of(pair[1]) + 3
