"""The screens. Each is imported when it is first opened: the first paint waits for one of them only."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tui.desk import Desk
    from tui.screens.base import View

SCREENS = ("fleet", "servers", "server", "images", "rollout", "plan", "events", "console", "replay", "diff", "help")


def make(name: str, desk: Desk) -> View:
    """The view of that name. Raises KeyError for one that is not in SCREENS."""
    if name not in SCREENS:
        raise KeyError(name)
    return cast("View", import_module(f"tui.screens.{name}").make(desk))
