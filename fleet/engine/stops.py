"""Where and when a plan's rollout would stop by itself, in words: its checkpoints, its pool's windows, its terminal."""

from __future__ import annotations

from datetime import datetime
from math import inf
from zoneinfo import ZoneInfo

from fleet.core.checkpoints import servers_at
from fleet.core.grammar import format_duration
from fleet.core.proposal import Plan
from fleet.core.sight import Sight
from fleet.core.windows import next_opening, open_until


def stops(sight: Sight, plan: Plan) -> list[str]:
    """A sentence for each; none for what stops it nowhere."""
    return [words for words in (_looks(plan), _windows(sight, plan), _terminal(plan)) if words]


def _looks(plan: Plan) -> str:
    """`stops to be looked at after 25% (3 servers) and 50% (6), until somebody promotes it`."""
    acting, pause = len(plan.acting), plan.settings.checkpoint_pause
    points = [(percent, servers_at(percent, acting)) for percent in plan.settings.checkpoints] if plan.kind == "rollout" else []
    said = [f"{percent}% ({count}{'' if index else ' servers' if count > 1 else ' server'})"
            for index, (percent, count) in enumerate((percent, count) for percent, count in points if count < acting)]
    if not said:
        return ""
    each = "until somebody promotes it" if pause is None else f"for {format_duration(pause)}" + (" each" if said[1:] else "")
    return f"stops to be looked at after {' and '.join(filter(None, (', '.join(said[:-1]), said[-1])))}, {each}"


def _windows(sight: Sight, plan: Plan) -> str:
    windows = sight.pool.windows
    if not windows or plan.kind == "rollback":
        return ""
    zone = ZoneInfo(windows[0].zone)

    def moment(at: float) -> str:
        return f"{datetime.fromtimestamp(at, zone):%a %Y-%m-%d %H:%M} {windows[0].zone}"

    until, opens = open_until(windows, sight.now), next_opening(windows, sight.now)
    if until is None:
        return f"the window is closed: nobody is begun before {moment(opens)}" if opens is not None else ""
    if until == inf or sight.now + plan.estimate <= until:
        return ""
    return f"the window closes {moment(until)}, before all are done: the others wait for the next one"


def _terminal(plan: Plan) -> str:
    pauses = plan.settings.on_disconnect == "pause" and plan.kind != "rollback"
    return "pauses if the terminal that drives it goes away" if pauses else ""


__all__ = ["stops"]
