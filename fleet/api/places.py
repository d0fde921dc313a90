"""Where things are: the socket, the state folder, the fleet file. Flag before ANEW_* before the user's before the system's.

Each function returns (path, where that came from), so that `anew info` can say both. Imports nothing heavy.
"""

from __future__ import annotations

import os

from fleet.api.client import SYSTEM_SOCKET
from fleet.core.errors import Invalid

SYSTEM_FLEET = "/etc/anew/fleet.toml"
Place = tuple[str, str]


def _home() -> str:
    home = os.environ.get("HOME") or os.path.expanduser("~")
    if not os.path.isabs(home):
        raise Invalid("there is no home folder; set HOME, or ANEW_STATE and ANEW_FLEET", where="HOME")
    return home


def _xdg(variable: str, below_home: str) -> Place:
    """An XDG base folder; relative values are ignored, as the specification asks."""
    value = os.environ.get(variable, "")
    if os.path.isabs(value):
        return value, variable
    return os.path.join(_home(), below_home), "default"


def find_state() -> Place:
    """The daemon's state folder (not made here)."""
    if state := os.environ.get("ANEW_STATE"):
        return os.path.abspath(state), "ANEW_STATE"
    base, source = _xdg("XDG_STATE_HOME", ".local/state")
    return os.path.join(base, "anew"), source


def find_socket(flag: str | None = None, system: str = SYSTEM_SOCKET) -> Place:
    """The daemon's socket: --socket, ANEW_SOCKET, ANEW_STATE, the user's, then the system's if only that exists."""
    if flag:
        return os.path.abspath(flag), "--socket"
    if path := os.environ.get("ANEW_SOCKET"):
        return os.path.abspath(path), "ANEW_SOCKET"
    state, source = find_state()
    if source == "ANEW_STATE":
        return os.path.join(state, "anew.sock"), source
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        own, source = os.path.join(runtime, "anew", "anew.sock"), "XDG_RUNTIME_DIR"
    else:
        own = os.path.join(state, "anew.sock")
    if not os.path.exists(own) and os.path.exists(system):
        return system, "system"
    return own, source


def find_fleet(flag: str | None = None) -> Place:
    """The fleet file that a daemon would be started on; it need not exist."""
    if flag:
        return os.path.abspath(flag), "--fleet"
    if path := os.environ.get("ANEW_FLEET"):
        return os.path.abspath(path), "ANEW_FLEET"
    own, source = user_config("fleet.toml"), _xdg("XDG_CONFIG_HOME", ".config")[1]
    if not os.path.exists(own) and os.path.exists(SYSTEM_FLEET):
        return SYSTEM_FLEET, "system"
    return own, source


def user_config(name: str) -> str:
    """A file of the user's configuration folder; it need not exist."""
    return os.path.join(_xdg("XDG_CONFIG_HOME", ".config")[0], "anew", name)


def packaged_fleet(name: str) -> str:
    """A fleet file that comes with anew (`demo`, `lab`): of the source tree, else as installed."""
    import sys

    tree = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    tried = [os.path.join(tree, "config", "fleets", f"{name}.toml"),
             os.path.join(sys.prefix, "share", "anew", "config", "fleets", f"{name}.toml")]
    for path in tried:
        if os.path.exists(path):
            return path
    raise Invalid(f"the fleet file of `{name}` did not come with this installation", where=tried[0], code="not-installed")
