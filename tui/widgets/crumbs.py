"""The rule above the footer, and in it the way one came: `── fleet › servers web › web-3 ───`. `esc` goes back along it."""

from __future__ import annotations

from collections.abc import Sequence

from tui.ink import Line, Span, clip_line, line_width


def rule(names: Sequence[str], width: int) -> Line:
    """The last name is where one is; if all do not fit, the first give way. One name alone is home and says nothing."""
    trail = _trail(names)
    more: tuple[Span, ...] = ()
    while len(names) > 2 and line_width(trail) > width - 6:
        names, more = names[1:], (Span("… › ", "dim"),)
        trail = (*more, *_trail(names))
    if len(names) < 2 or width < 20:
        return (Span("─" * width, "faint"),)
    kept = clip_line(trail, width - 6)
    return (Span("── ", "faint"), *kept, Span(f" {'─' * max(0, width - line_width(kept) - 4)}", "faint"))


def _trail(names: Sequence[str]) -> Line:
    *before, last = names or ("",)
    return (*(Span(f"{name} › ", "dim") for name in before), Span(last, "head"))
