"""What a replacement did, step by step: how long each step took beside the median of its pool, and the last lines of a console."""

from __future__ import annotations

from collections.abc import Sequence

from tui import fields, phrases
from tui.fields import Raw
from tui.ink import Line, Span, wrap
from tui.screens.base import LABEL, fact

NAME, TOOK, MEDIAN, VERDICT = 11, 7, 9, 15
MOST = 12
"""Steps shown, the newest: a server that went back and forth has more."""

WIDEST = 48
PANIC = "Kernel panic"
TONES = {"failed": "bad", "now": "accent", "ahead": "dim", "left": "dim"}


def steps(told: Raw, now: float, width: int) -> list[Line]:
    """A row each: step, time, median, what to make of it, and a bar. `now`: by the daemon's clock, for the step under way.

    `━` is time taken, `!` what a long step took beyond the median, `─` what is left until it.
    """
    rows = fields.rows(told, "steps")[-MOST:]
    if not rows:
        return []
    times = [_seconds(row, now) for row in rows]
    medians = [fields.number(row, "median_seconds") for row in rows]
    room = min(WIDEST, width - 4 - NAME - TOOK - MEDIAN - VERDICT)
    scale = room / max(0.1, *(one or 0.0 for one in (*times, *medians)))
    head = (Span(f" {'steps':<{NAME}}{'took':>{TOOK}}{'median':>{MEDIAN}}", "dim"),)
    return [head, *(_step(row, time, median, scale) for row, time, median in zip(rows, times, medians, strict=True))]


def _seconds(row: Raw, now: float) -> float | None:
    if fields.text(row, "how") == "now" and (since := fields.moment(row.get("since"))) is not None:
        return max(0.0, now - since)
    return fields.number(row, "seconds")


def _step(row: Raw, time: float | None, median: float | None, scale: float) -> Line:
    step, how, limit = fields.text(row, "step"), fields.text(row, "how"), fields.number(row, "long_from_seconds")
    long = time is not None and limit is not None and time > limit
    tone = TONES.get(how, "plain")
    shown = "-" if time is None else phrases.span(time) if how == "now" else brief(time)
    return (
        Span(f" {phrases.STEP_WORDS.get(step, step):<{NAME}}", tone),
        Span(f"{shown:>{TOOK}}", "warn" if long else "dim" if time is None else "plain"),
        Span(f"{'-' if median is None else brief(median):>{MEDIAN}}", "dim"),
        Span(f"  {_verdict(how, long, time, median):<{VERDICT}} ", "bad" if how == "failed" else "warn" if long else tone),
        *_bar(how, long, time, median, scale),
    )


def _verdict(how: str, long: bool, time: float | None, median: float | None) -> str:
    """One or two words; colour only underlines them."""
    words = {"failed": "failed", "now": "now", "ahead": "to come", "left": "given up"}.get(how, "")
    if not long or time is None or how == "left":
        return words
    times = f" {time / median:.1f}x" if median and time < 100 * median else ""
    return f"failed{times}" if how == "failed" else f"{words}, long{times}" if words else f"long{times}"


def _bar(how: str, long: bool, time: float | None, median: float | None, scale: float) -> Line:
    usual = round((median or 0.0) * scale)
    done = 0 if time is None else max(1, round(time * scale))
    over = max(0, done - usual) if long else 0
    return (Span("━" * (done - over), "bad" if how == "failed" else "bar"), Span("!" * over, "warn"), Span("─" * (usual - done), "faint"))


def brief(seconds: float) -> str:
    """`0.3s`, `9.9s`, then as a clock says it."""
    return f"{max(0.0, seconds):.1f}s" if seconds < 9.95 else phrases.span(seconds + 0.5)


def said(console: str, most: int) -> list[str]:
    """The lines that tell why it died: the last ones, or those from a panic on, below which there is only its trace."""
    lines = [line for line in console.splitlines() if line.strip()]
    return lines[:most] if lines and PANIC in lines[0] else lines[-most:]


def failure(error: str, console: str, width: int, most: int) -> list[Line]:
    """Why it failed, in the words of who found it so (a probe's are in them), and the end of its console."""
    labels: Sequence[tuple[str, list[str], str]] = (("error", wrap(error, width - LABEL - 2, 3) if error else [], "bad"), ("console", said(console, most), "dim"))
    return [fact(label if not index else "", Span(text, tone)) for label, texts, tone in labels for index, text in enumerate(texts)]
