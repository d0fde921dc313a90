"""`--on`: the daemon of another machine. Found by entry point, for SSH is no business of `fleet`."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from fleet.core.errors import Refused
from fleet.registry import Forward, load_forward

if TYPE_CHECKING:
    from fleet.cli.context import Context

NAME = 12
"""Characters of this machine's name in a terminal's."""
LONGEST = 32
"""What a daemon takes for the name of a terminal."""


def check(context: Context) -> None:
    """Refuse what makes no sense for a daemon of another machine, before anything is sent there."""
    if here := getattr(context.options, "here", ""):
        raise Refused(f"`{here}` is about this machine, not about the daemon at {context.on}; log in there and call it there", where="--on", code="here")
    if hasattr(context.options, "fleet"):
        raise Refused(f"the daemon at {context.on} keeps the fleet file that it was started with; leave --fleet out, or --on", where="--fleet", code="here")


def open_way(on: str, socket: str) -> Forward:
    """A way there. Passphrases are asked for now, if there is somebody to ask."""
    return load_forward()(on, socket, _passphrase if sys.stdin.isatty() and sys.stderr.isatty() else None)


def _passphrase(path: str) -> str:
    import getpass

    try:
        return getpass.getpass(f"Passphrase for {path}: ", stream=sys.stderr)
    except EOFError:
        return ""


def away(terminal: str) -> str:
    """The name of this terminal over there, where `pts/3` is somebody else's: `ssh:laptop/pts/3`."""
    machine = re.sub(r"[^A-Za-z0-9_-]", "", os.uname().nodename.partition(".")[0])[:NAME]
    return f"ssh:{machine}/{terminal}"[:LONGEST].rstrip("/")


__all__ = ["away", "check", "open_way"]
