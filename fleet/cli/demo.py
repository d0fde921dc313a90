"""`anew demo`: a fleet that exists only in the simulated world, in a state folder and with a daemon of its own."""

from __future__ import annotations

import os
import sys

from fleet.api.places import find_fleet, find_state, packaged_fleet
from fleet.cli.births import AT_ONCE, birth
from fleet.cli.status import show
from fleet.cli.terminal import open_tui

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from fleet.cli.context import Context


def demo(context: Context) -> int:
    """Start the demo's daemon, bring its empty pools up, open the TUI; without a terminal, say how to attach."""
    state = os.path.join(find_state()[0], "demo")
    named = getattr(context.options, "socket", None)
    socket = os.path.abspath(named) if named else os.path.join(state, "anew.sock")
    flag = getattr(context.options, "fleet", None)
    fleet = find_fleet(flag) if flag else (packaged_fleet("demo"), "packaged")
    client = context.attach(fleet, socket, state)
    birth(context, overrides=AT_ONCE)
    if sys.stdin.isatty() and sys.stdout.isatty() and not context.as_json and os.environ.get("TERM") != "dumb":
        return open_tui(context)
    frame = client.get("/v1/status")
    if context.as_json:
        context.data(frame)
        return 0
    show(context, frame, most=0)
    context.say()
    context.say(f"attach from a terminal:   anew --socket {socket}")
    context.say(f"end the demo:             anew --socket {socket} daemon stop")
    return 0
