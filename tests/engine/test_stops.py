"""What a plan says of where its rollout would stop by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.core.proposal import draw
from fleet.core.windows import Window
from fleet.engine.present import plan_row
from tests.core.picture import V2, ask, pool, seen, sight, whole

SATURDAY = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()


def said(servers: int = 12, windows: tuple[Window, ...] = (), kind: str = "rollout", **settings: Any) -> list[str]:
    fleet = tuple(replace(one, born_at=SATURDAY - 1000.0) for one in whole(servers))
    now = sight(*fleet, of=pool(servers, windows=windows), now=SATURDAY)
    row = plan_row(now, draw(now, ask(kind=kind, **settings)), [])
    return [line for line in row["summary"] if line.startswith(("stops", "the window", "pauses"))]


@pytest.mark.parametrize(("points", "pause", "words"), [
    ((25, 50), None, "stops to be looked at after 25% (3 servers) and 50% (6), until somebody promotes it"),
    ((1,), 1800.0, "stops to be looked at after 1% (1 server), for 30m"),
    ((10, 20, 30, 99), 60.0, "stops to be looked at after 10% (2 servers), 20% (3) and 30% (4), for 1m each")])
def test_checkpoints_are_told_in_servers(points: tuple[int, ...], pause: float | None, words: str) -> None:
    assert said(checkpoints=points, checkpoint_pause=pause) == [words]


def test_a_plan_without_stops_says_nothing_of_them() -> None:
    assert said() == said(servers=1, checkpoints=(50,)) == []


@pytest.mark.parametrize(("window", "words"), [
    (Window((5,), 22 * 3600, 4 * 3600.0, "Europe/Berlin"), ["the window is closed: nobody is begun before Sat 2026-11-21 22:00 Europe/Berlin"]),
    (Window((5,), 12 * 3600, 3600.0 + 60.0, "Europe/Berlin"), ["the window closes Sat 2026-11-21 13:01 Europe/Berlin, before all are done: "
                                                            "the others wait for the next one"]),
    (Window((5,), 12 * 3600, 12 * 3600.0, "Europe/Berlin"), [])])
def test_windows_are_told_when_they_would_make_somebody_wait(window: Window, words: list[str]) -> None:
    assert said(windows=(window,)) == words


def test_a_rollout_that_needs_its_terminal_says_so_and_the_way_back_does_not() -> None:
    assert said(on_disconnect="pause") == ["pauses if the terminal that drives it goes away"]
    fleet = tuple(seen(f"web-{n}") for n in (1, 2))
    now = sight(*fleet, of=pool(2, windows=(Window((0,), 0, 60.0, "UTC"),)), now=SATURDAY)
    back = plan_row(now, draw(now, ask(V2, "rollback", on_disconnect="pause")), [])
    assert not [line for line in back["summary"] if line.startswith(("the window", "pauses"))]
