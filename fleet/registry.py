"""Finds drivers, probes and the TUI by entry-point name, so that `fleet` imports none of them.

Groups: `anew.drivers`, `anew.probes` (both: a factory that takes Surroundings), `anew.tui` (a function that takes the
socket's path and text options, and returns an exit code) and `anew.connect` (a `Connector`: what a host shows of itself; and what
opens a `Forward`: a way to the daemon of another machine).
Nothing is imported before it is asked for: the scan of installed distributions
costs several starts of Python, so commands that need no entry point must not import this module.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, cast

from fleet.core.desired import Desired
from fleet.core.errors import Permanent
from fleet.ports import DriverFactory, ProbeFactory

DRIVERS = "anew.drivers"
PROBES = "anew.probes"
TUI = "anew.tui"
CONNECT = "anew.connect"

_WORD = {DRIVERS: "driver", PROBES: "health probe", TUI: "terminal UI", CONNECT: "way to reach hosts"}
_REMEDY = {
    "web": "install anew with its extra: pip install 'anew[web]'",
    "libvirt": "install libvirt's Python binding: apt install libvirt-dev pkg-config gcc, then pip install 'anew[libvirt]'",
}


class Connector(Protocol):
    """Looks at a host's SSH identity without a daemon. Keys are "TYPE BASE64", times in seconds; `Any` is a way to a jump host."""

    async def shown(self, host: str, port: int, deadline: float, jump: Any = None, identities: str = "") -> str:
        """The host key shown at an address. Nothing is authenticated there; to a jump host it is, with its key, else with anew's
        from the folder `identities` (STATE/identities).
        """

    def remote_of(self, name: str, desired: Desired) -> Any:
        """What `jump` takes: a machine of the fleet file. Refused if it has no pinned host key."""

    def own_key(self, identities: str) -> str:
        """ "ssh-ed25519 AAAA… anew", the public half of anew's own key in the folder `identities`; made if there is none."""

    def fingerprint(self, key: str) -> str:
        """ "ssh-ed25519 SHA256:…": what people compare. Refused if it is no public key."""


class Forward(Protocol):
    """A way to the daemon of another machine, for the life of this process. It is made anew by itself when it is lost."""

    name: str
    """ "[user@]host[:port]", for people."""
    socket: str
    """The path of a socket that leads there; of use in this process only."""

    def trouble(self) -> str:
        """Why there is no way at the moment, a sentence; "" if there is one."""


def names(group: str) -> tuple[str, ...]:
    """The names installed in a group, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def load_driver(name: str) -> DriverFactory:
    """The factory of a driver; Permanent with a sentence if it is missing or cannot be imported."""
    return cast(DriverFactory, _load(DRIVERS, name))


def load_probe(name: str) -> ProbeFactory:
    """The factory of a health probe; Permanent with a sentence if it is missing or cannot be imported."""
    return cast(ProbeFactory, _load(PROBES, name))


def load_tui() -> Callable[..., int]:
    """The function that opens the terminal UI on a socket's path, with its options by name; `reel` reads the past of a rollout for it,
    and with a `film` it shows that and speaks to no daemon.
    """
    return cast("Callable[..., int]", _load(TUI, "app"))


def load_web() -> Callable[..., int]:
    """The function that serves the terminal UI to browsers (tui/web.py); Permanent, with what to install, if the extra is not there."""
    return cast("Callable[..., int]", _load(TUI, "web"))


def load_connector() -> Connector:
    """What can look at a host's SSH identity."""
    return cast(Connector, _load(CONNECT, "ssh"))


def load_forward() -> Callable[[str, str], Forward]:
    """What opens a way to the daemon at `[user@]host[:port]`; the second word is its socket's path there, "" to have it found."""
    return cast("Callable[[str, str], Forward]", _load(CONNECT, "daemon"))


def _find(group: str, name: str) -> EntryPoint:
    found = entry_points(group=group, name=name)
    for point in found:
        return point
    known = ", ".join(names(group)) or "none; anew is not installed, run pip install on its folder"
    raise Permanent(f"there is no {_WORD[group]} named {name!r}; installed: {known}", code="not-installed", where=name)


def _load(group: str, name: str) -> Any:
    point = _find(group, name)
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        remedy = _REMEDY.get(name, "install anew again with all that it needs")
        raise Permanent(
            f"the {_WORD[group]} {name!r} cannot be loaded ({error}); {remedy}", code="not-installed", where=point.value
        ) from error
