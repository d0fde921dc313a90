"""Line 1, always the same order: fleet, armed or read-only, the rollout in one phrase, who is here, last change."""

from __future__ import annotations

from math import ceil

from tui.clock import Clock
from tui.ink import Line, Span, clip_line, line_width
from tui.phrases import plural, rollout_phrase, when
from tui.shapes import Rollout
from tui.view_model import ViewModel


def state(model: ViewModel, armed_left: float, clock: Clock) -> Line:
    """Connection first (it makes all else old), then whether this terminal may change anything."""
    link = model.connection
    if link.state == "connecting":
        return (Span("connecting", "warn"), Span(f": {link.why}" if link.why else " to the daemon", "dim"))
    if link.state == "stale":
        return (Span(f" stale since {when(link.since, clock.now(), clock.zone)}, reconnecting ", "stale"),)
    if model.fails_on_purpose:
        return (Span(" DAEMON FAILS ON PURPOSE ", "stale"),)
    if model.read_only:
        return (Span(" DAEMON READ-ONLY ", "stale"),)
    if armed_left > 0:
        left = f"{ceil(armed_left / 60)}m" if armed_left >= 60 else "<1m"
        return (Span(f" ARMED {left} left ", "armed"),)
    return (Span("observer" if model.role == "observer" else f"read-only, {model.key_of('arm')} arms", "dim"),)


def rollouts(model: ViewModel, clock: Clock, looked_at: Rollout | None = None) -> Line:
    """The rollout looked at, else the one that most needs a person; and how many there are beside it."""
    active = model.active()
    if not active:
        return (Span("no rollout", "dim"),) if model.pools else ()
    if looked_at is not None and looked_at in active:
        active = [looked_at, *(item for item in active if item is not looked_at)]
    more = (Span(f" (+{len(active) - 1})", "dim"),) if len(active) > 1 else ()
    return (*rollout_phrase(active[0], clock.zone), *more)


WIDE = 120
"""Columns from which everybody is named, up to NAMED of them."""
NAMED = 5


def people(model: ViewModel, width: int = 80) -> Line:
    """You, the driver marked `*`, and how many more are here."""
    if not model.you:
        return ()
    others, driver = model.others if model.me else [], model.driver
    role = f" {model.role}" if model.role not in ("", "observer") and not others and not model.drives else ""
    said = [Span(model.name), Span("*" if model.drives else "", "accent"), Span(role, "dim")]
    named = others[:NAMED] if width >= WIDE else [person for person in others if person is driver]
    for person in named:
        said += [Span(f", {person.user}"), Span("*" if person is driver else "", "accent")]
    more = len(others) - len(named)
    said.append(Span(f" +{more}" if more else "", "dim"))
    return tuple(span for span in said if span.text)


def briefly(model: ViewModel) -> Line:
    """The same where there is no room for names: `you* +2` drives, `you +2*` does not, but one of the others."""
    others = len(model.others) if model.me else 0
    if not others and not model.drives:
        return ()
    star, more = Span("*" if model.driver is not None else "", "accent"), Span(f" +{others}" if others else "")
    said = (Span("you"), star, more) if model.drives else (Span("you"), more, star)
    return tuple(span for span in said if span.text)


def changed(model: ViewModel, clock: Clock) -> str:
    """When the fleet last changed. Not a clock: a clock would send a byte a minute for nothing."""
    last = model.local(model.events[-1].at) if model.events else None
    return "" if last is None else f"changed {when(last, clock.now(), clock.zone)}"


def header(
    model: ViewModel, armed_left: float, clock: Clock, width: int, looked_at: Rollout | None = None
) -> Line:
    """All of it in `width` cells; the right side gives way first, to a number of people at least, then the rollout is clipped."""
    left: Line = (Span(" "), Span(model.fleet or "anew", "title"), Span(" · ", "dim"), *state(model, armed_left, clock))
    middle = rollouts(model, clock, looked_at)
    right = people(model, width)
    last = changed(model, clock)
    pad = max(3, min(6, width - line_width(left) - line_width(middle) - line_width(right) - len(last) - 4))
    brief = briefly(model)
    for ending in (_joined(right, last), right, brief):
        room = width - line_width(left) - line_width(ending) - pad - (2 if ending else 0)
        if room >= line_width(middle):
            break
    middle = clip_line(middle, max(0, room))
    body: Line = (*left, Span(" " * pad), *middle)
    gap = width - line_width(body) - line_width(ending) - 1
    if not ending or gap < 1:
        return clip_line(body, width)
    return (*body, Span(" " * gap), *ending)


def _joined(right: Line, last: str) -> Line:
    if not last:
        return right
    return (*right, Span(" · " if right else "", "dim"), Span(last, "dim"))


def tiny(model: ViewModel, armed_left: float, clock: Clock, keys: str, width: int) -> Line:
    """The one line of a terminal too small for a picture: state, rollout, the keys that matter."""
    tail: Line = (Span(f" {keys}", "key"),)
    room = width - line_width(tail)
    faults = len(model.troubles())
    said: Line = (*rollouts(model, clock), Span(f" {plural(faults, 'fault')}" if faults else "", "bad"))
    short = "stale " if model.connection.state == "stale" else "ARMED " if armed_left > 0 else ""
    line = (Span(short, "armed" if short == "ARMED " else "stale"), *said)
    return (*clip_line(line, room), *tail) if room >= 8 else clip_line(line, width)
