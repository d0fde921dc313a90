"""`anew info`: every path, where it came from, and what runs. No secrets."""

from __future__ import annotations

import os
import sys

from fleet.api.client import DaemonUnreachable
from fleet.api.places import find_fleet, find_socket, find_state, user_config
from fleet.cli.text import local
from fleet.cli.variables import READ

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context


def info(context: Context) -> int:
    """What this command would use, and what the daemon says of itself. Starts nothing."""
    options = context.options
    from fleet.cli.main import VERSION

    places = {
        "anew": (VERSION, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))), "python": (sys.version.split()[0], sys.executable),
        "fleet": find_fleet(getattr(options, "fleet", None)), "socket": (context.on, "--on") if context.on else find_socket(getattr(options, "socket", None)),
        "state": find_state(), **_terminal(), "colour": _colour(context),
    }
    around = _environment()
    try:
        daemon: dict[str, Any] | None = context.running().get("/v1/info")
    except DaemonUnreachable:
        daemon = None
    if context.as_json:
        context.data({"client": {key: {"value": path, "from": source} for key, (path, source) in places.items()}, "environment": around, "daemon": daemon})
        return 0
    context.say("this command", "bold")
    context.rows(("what", "value", "from"), [(key, path, source) for key, (path, source) in places.items()])
    if around:
        context.say()
        context.say("the environment", "bold")
        context.rows(("variable", "value", "is"), [(name, value, READ.get(name, "nothing that anew knows; a slip of the pen?").replace("`", "")) for name, value in around.items()])
    context.say()
    if daemon is None:
        context.say("no daemon runs; the first command that needs one starts it")
        return 0
    context.say(f"the daemon, pid {daemon['pid']}, since {local(daemon['started_at'])}", "bold")
    context.rows(("what", "value"), [row for part in ("fleet", "versions", "paths", "settings", "failpoints", "you") for row in _flat(part, daemon.get(part))])
    return 0


def _terminal() -> dict[str, tuple[str, str]]:
    """What the terminal UI would begin with. A file that cannot be used is told here, too, and does not stop the rest."""
    from fleet.cli.terminal import from_file

    path = user_config("terminal.toml")
    found = from_file(path)
    wrong = found.pop("problems", "").replace("\n", " ").replace(f"{path}: ", "")
    source = f"not all of it is used: {wrong}" if wrong else path if os.path.exists(path) else "default"
    theme = ("mono", "NO_COLOR") if os.environ.get("NO_COLOR") else _chosen("ANEW_THEME", found.get("theme"), path, "by the terminal")
    keys = sorted(f"{key.removeprefix('keys.')} = {value}" for key, value in found.items() if key.startswith("keys."))
    return {"terminal UI": (path, source), "theme": theme,
            "ascii": _chosen("ANEW_ASCII", found.get("ascii"), path, "by the terminal"), "keys": (", ".join(keys) or "-", path if keys else "default")}


def _chosen(variable: str, in_file: str | None, path: str, otherwise: str) -> tuple[str, str]:
    if value := os.environ.get(variable):
        return value, variable
    return (in_file, path) if in_file is not None else (otherwise, "default")


def _colour(context: Context) -> tuple[str, str]:
    """Whether output is coloured, and what decided it."""
    asked = getattr(context.options, "color", "auto")
    plain = "NO_COLOR" if os.environ.get("NO_COLOR") else "TERM" if os.environ.get("TERM") == "dumb" else "stdout"
    return "on" if context.palette.on else "off", "--color" if asked != "auto" else plain


def _environment() -> dict[str, str]:
    """What is set of what anew reads; and what looks as if it were meant for anew, but is not known. Nothing else of the environment is shown."""
    return {name: value for name, value in sorted(os.environ.items()) if name in READ or name.startswith("ANEW_")}


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """Nested objects as dotted rows."""
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in _flat(f"{name}.{key}", inner)]
    if isinstance(value, list):
        return [(name, ", ".join(str(one) for one in value) or "-")]
    return [(name, "-" if value is None else str(value))]
