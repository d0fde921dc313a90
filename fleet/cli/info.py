"""`anew info`: every path, where it came from, and what runs. No secrets."""

from __future__ import annotations

from fleet.api.client import DaemonUnreachable
from fleet.api.places import find_fleet, find_socket, find_state
from fleet.cli.text import local

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context


def info(context: Context) -> int:
    """What this command would use, and what the daemon says of itself. Starts nothing."""
    options = context.options
    places = {
        "fleet": find_fleet(getattr(options, "fleet", None)), "socket": find_socket(getattr(options, "socket", None)),
        "state": find_state(),
    }
    try:
        daemon: dict[str, Any] | None = context.running().get("/v1/info")
    except DaemonUnreachable:
        daemon = None
    if context.as_json:
        context.data({"client": {key: {"value": path, "from": source} for key, (path, source) in places.items()}, "daemon": daemon})
        return 0
    context.say("this command", "bold")
    context.rows(("what", "value", "from"), [(key, path, source) for key, (path, source) in places.items()])
    context.say()
    if daemon is None:
        context.say("no daemon runs; the first command that needs one starts it")
        return 0
    context.say(f"the daemon, pid {daemon['pid']}, since {local(daemon['started_at'])}", "bold")
    context.rows(("what", "value"), [row for part in ("versions", "paths", "settings", "failpoints", "you") for row in _flat(part, daemon.get(part))])
    return 0


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """Nested objects as dotted rows."""
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in _flat(f"{name}.{key}", inner)]
    if isinstance(value, list):
        return [(name, ", ".join(str(one) for one in value) or "-")]
    return [(name, "-" if value is None else str(value))]
