"""What the terminal UI says of a rollout that stands before its window."""

from __future__ import annotations

from pathlib import Path

from tests.tui import story
from tests.tui.stage import session

CLOSED = "waits: the window is closed, opens Sat 02:00 Europe/Berlin"


async def test_a_rollout_before_its_window_says_so_in_place_of_an_eta(tmp_path: Path) -> None:
    status = story.status()
    status["rollouts"] = [{**story.web_rollout(), "waits": CLOSED, "eta_seconds": None, "eta_low_seconds": None, "eta_high_seconds": None}]
    async with session(tmp_path, status=status) as user:
        await user.see("waits: the window")
        await user.press("5")
        await user.see(f"-, it {CLOSED}")
