"""The first screen's word about the way back is what the key of the way back would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tui import story
from tests.tui.stage import session


def _with_a_way_back(rolling: bool) -> dict[str, Any]:
    """The pool web on 1, before it 0; each of its servers has kept an incarnation of 0."""
    status = story.status()
    web = status["pools"][0]
    web["image"] |= {"previous": "0"}
    for server in web["servers"]:
        server["retained"] = [{"incarnation": 1, "version": "0", "until": "2026-06-02T14:00:00Z"}]
    if not rolling:
        status["rollouts"] = [row for row in status["rollouts"] if row["pool"] != "web"]
    return status


async def test_the_way_back_of_a_pool_at_rest_is_to_its_previous_image(tmp_path: Path) -> None:
    async with session(tmp_path, status=_with_a_way_back(rolling=False)) as user:
        await user.see("12 servers can return to 0 in seconds")


async def test_while_a_rollout_is_under_way_no_other_way_back_is_promised(tmp_path: Path) -> None:
    async with session(tmp_path, status=_with_a_way_back(rolling=True)) as user:
        await user.see("1→2 rolling")
        assert "can return to" not in user.text
