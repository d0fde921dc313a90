"""Windows at the edges of daylight saving time, at midnight, and where they touch."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import pytest

from fleet.core.windows import Window, next_opening, open_until, spoken

EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)
HOUR = 3600.0


def at(text: str) -> float:
    """An instant of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def clock(text: str) -> int:
    hours, minutes = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes)


# zone, start by the wall clock, hours, a moment before, when it opens, when it closes (all UTC)
EDGES = [
    # Europe/Berlin: 2026-03-29 02:00 → 03:00, 2026-10-25 03:00 → 02:00
    ("Europe/Berlin", "01:30", 2, "2026-03-28 23:00", "2026-03-29 00:30", "2026-03-29 02:30"),   # spans the gap: two hours elapse
    ("Europe/Berlin", "02:30", 2, "2026-03-28 23:00", "2026-03-29 01:00", "2026-03-29 03:00"),   # skipped: opens after the gap
    ("Europe/Berlin", "03:00", 2, "2026-03-28 23:00", "2026-03-29 01:00", "2026-03-29 03:00"),
    ("Europe/Berlin", "02:30", 2, "2026-10-24 22:00", "2026-10-25 00:30", "2026-10-25 02:30"),   # comes twice: the first
    ("Europe/Berlin", "03:00", 2, "2026-10-24 22:00", "2026-10-25 02:00", "2026-10-25 04:00"),
    ("Europe/Berlin", "22:00", 6, "2026-10-24 12:00", "2026-10-24 20:00", "2026-10-25 02:00"),   # over midnight and the repeat
    # US/Eastern: 2026-03-08 02:00 → 03:00, 2026-11-01 02:00 → 01:00
    ("US/Eastern", "02:00", 1, "2026-03-08 04:00", "2026-03-08 07:00", "2026-03-08 08:00"),
    ("US/Eastern", "02:59", 1, "2026-03-08 04:00", "2026-03-08 07:00", "2026-03-08 08:00"),
    ("US/Eastern", "01:30", 1, "2026-11-01 02:00", "2026-11-01 05:30", "2026-11-01 06:30"),
    ("US/Eastern", "02:00", 1, "2026-11-01 02:00", "2026-11-01 07:00", "2026-11-01 08:00"),
    ("US/Eastern", "23:30", 4, "2026-03-07 12:00", "2026-03-08 04:30", "2026-03-08 08:30"),
    # Australia/Lord_Howe moves by half an hour: 2026-10-04 02:00 → 02:30, 2026-04-05 02:00 → 01:30
    ("Australia/Lord_Howe", "02:15", 1, "2026-10-03 12:00", "2026-10-03 15:30", "2026-10-03 16:30"),
    ("Australia/Lord_Howe", "02:30", 1, "2026-10-03 12:00", "2026-10-03 15:30", "2026-10-03 16:30"),
    ("Australia/Lord_Howe", "01:45", 1, "2026-04-04 12:00", "2026-04-04 14:45", "2026-04-04 15:45"),
    ("Australia/Lord_Howe", "02:00", 1, "2026-04-04 12:00", "2026-04-04 15:30", "2026-04-04 16:30"),
]


@pytest.mark.parametrize(("zone", "start", "hours", "before", "opens", "closes"), EDGES, ids=[f"{edge[0]} {edge[1]} {edge[4]}" for edge in EDGES])
def test_a_window_opens_and_closes_at_the_edges_of_daylight_saving_time(
    zone: str, start: str, hours: int, before: str, opens: str, closes: str
) -> None:
    windows = (Window(EVERY_DAY, clock(start), hours * HOUR, zone),)
    assert next_opening(windows, at(before)) == at(opens)
    assert open_until(windows, at(opens) - 1) is None
    assert open_until(windows, at(opens)) == at(closes)
    assert open_until(windows, at(closes) - 1) == at(closes)
    assert open_until(windows, at(closes)) is None


def test_no_windows_means_always() -> None:
    assert open_until((), 0.0) == inf
    assert next_opening((), 0.0) is None


def test_only_on_its_days() -> None:
    saturday = (Window((5,), clock("22:00"), 4 * HOUR, "UTC"),)
    assert next_opening(saturday, at("2026-11-22 01:00")) == at("2026-11-28 22:00")
    assert open_until(saturday, at("2026-11-22 01:00")) == at("2026-11-22 02:00")  # it began on Saturday
    assert open_until(saturday, at("2026-11-22 22:30")) is None


def test_windows_that_touch_or_overlap_are_one_stretch() -> None:
    windows = (Window((6,), clock("00:00"), 2 * HOUR, "UTC"), Window((6,), clock("02:00"), HOUR, "UTC"), Window((6,), clock("02:30"), HOUR, "UTC"))
    assert open_until(windows, at("2026-11-22 00:00")) == at("2026-11-22 03:30")
    assert next_opening(windows, at("2026-11-22 00:30")) == at("2026-11-29 00:00")


def test_without_a_zone_database_of_the_machine_the_one_that_comes_with_anew_is_used() -> None:
    program = "from fleet.core.windows import opening; from datetime import date; print(opening(date(2026, 10, 4), 8100, 'Australia/Lord_Howe'))"
    said = subprocess.run([sys.executable, "-c", program], env={"PYTHONTZPATH": ""}, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60, check=True)
    assert float(said.stdout) == at("2026-10-03 15:30")


def test_a_window_longer_than_a_day() -> None:
    weekend = (Window((4,), clock("20:00"), 56 * HOUR, "Europe/Berlin"),)
    assert open_until(weekend, at("2026-11-22 12:00")) == at("2026-11-23 03:00")


def test_an_opening_is_told_by_the_wall_clock_of_the_window_that_opens() -> None:
    both = (Window((4,), clock("20:00"), HOUR, "UTC"), Window((5,), clock("02:00"), HOUR, "Europe/Berlin"))
    assert spoken(both, at("2026-11-20 20:00")) == "Fri 20:00"
    assert spoken(both, at("2026-11-21 01:00")) == "Sat 02:00"
