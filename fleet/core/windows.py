"""When a pool may be changed: weekly windows in IANA time zones. Pure, given the time zone database.

Rules
- A window opens at a wall-clock time of its zone on each of its days. A time that the clock skips (spring) opens at the first
  instant after the gap; one that comes twice (autumn) opens at the first of the two.
- Its length is elapsed time: two hours are two hours, whatever the clock does meanwhile. It may pass midnight.
- Windows that overlap or touch are one stretch. No windows at all means always.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from math import inf
from zoneinfo import ZoneInfo

DAY = 86_400.0
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Window:
    """`days`: 0 is Monday. `start`: seconds after midnight by the wall clock of `zone`. `length`: seconds."""

    days: tuple[int, ...]
    start: int
    length: float
    zone: str


def open_until(windows: Sequence[Window], now: float) -> float | None:
    """The instant at which the stretch open now closes; None if all are closed, inf if there are none. `now`: seconds since the epoch."""
    if not windows:
        return inf
    end: float | None = None
    for opens, closes in _stretches(windows, now):
        if opens > (now if end is None else end):
            break
        if closes > now and (opens <= now or end is not None):
            end = closes if end is None else max(end, closes)
    return end


def last_opening(windows: Sequence[Window], now: float) -> float:
    """The instant at which the latest stretch began that is open or was; -inf if there are no windows."""
    since = until = -inf
    for opens, closes in _stretches(windows, now):
        if opens > now:
            break
        since = opens if opens > until else since
        until = max(until, closes)
    return since


def next_opening(windows: Sequence[Window], now: float) -> float | None:
    """The next instant after `now` at which a stretch opens; None if there are no windows."""
    for opens, closes in _stretches(windows, now):
        if opens > now and not any(first < opens <= last for first, last in _stretches(windows, now) if (first, last) != (opens, closes)):
            return opens
    return None


def spoken(windows: Sequence[Window], at: float, *, zoned: bool = False) -> str:
    """An opening for people, "Sat 02:00", by the wall clock of the window that opens then; with its zone, "Sat 02:00 Europe/Berlin"."""
    zone = next((window.zone for window in windows if any(opens == at for opens, _ in _week(window, at))), windows[0].zone)
    wall = datetime.fromtimestamp(at, _zone(zone))
    return f"{WEEKDAYS[wall.weekday()]} {wall:%H:%M}" + (f" {zone}" if zoned else "")


def _stretches(windows: Sequence[Window], now: float) -> list[tuple[float, float]]:
    """Openings and closings from before `now` (as long ago as the longest is long) to more than a week after, in order."""
    return sorted(pair for window in windows for pair in _week(window, now))


def _week(window: Window, now: float) -> Iterator[tuple[float, float]]:
    zone = _zone(window.zone)
    today = datetime.fromtimestamp(now, zone).date()
    back = int(window.length // DAY) + 2
    for shift in range(-back, 16):
        day = today + timedelta(days=shift)
        if day.weekday() in window.days:
            opens = opening(day, window.start, window.zone)
            yield opens, opens + window.length


@lru_cache(maxsize=4096)
def opening(day: date, start: int, zone: str) -> float:
    """The instant at which a zone's wall clock first shows `start` seconds past midnight on a day, or has skipped past it."""
    wall = datetime(day.year, day.month, day.day, tzinfo=_zone(zone)) + timedelta(seconds=start)
    late = wall.timestamp()
    if datetime.fromtimestamp(late, _zone(zone)).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return late
    early = wall.replace(fold=1).timestamp()
    while late - early > 1.0:  # the clock jumps somewhere between the two readings of a time that it never shows
        middle = (early + late) // 2
        if _offset(middle, zone) == _offset(late, zone):
            late = middle
        else:
            early = middle
    return late


def _offset(at: float, zone: str) -> timedelta | None:
    return datetime.fromtimestamp(at, UTC).astimezone(_zone(zone)).utcoffset()


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


__all__ = ["Window", "last_opening", "next_opening", "open_until", "opening", "spoken"]
