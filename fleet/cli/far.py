"""`--on`: what a command may be about if its daemon is on another machine, and what its terminal is called there."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from fleet.core.errors import Invalid, Refused

if TYPE_CHECKING:
    from fleet.cli.context import Context

NAME = 12
"""Characters of this machine's name in a terminal's."""
LONGEST = 32
"""What a daemon takes for the name of a terminal."""


def check(context: Context) -> None:
    """Refuse what makes no sense for a daemon of another machine, before anything is sent there."""
    if not context.on:
        raise Invalid("--on names no machine; leave it out for the daemon of this one", where="--on", code="usage")
    if here := getattr(context.options, "here", ""):
        raise Refused(f"`{here}` is about this machine, not about the daemon at {context.on}; log in there and call it there", where="--on", code="here")
    if hasattr(context.options, "fleet"):
        raise Refused(f"the daemon at {context.on} keeps the fleet file that it was started with; leave --fleet out, or --on", where="--fleet", code="here")


def away(terminal: str) -> str:
    """The name of this terminal over there, where `pts/3` is somebody else's: `ssh:laptop/pts/3`."""
    machine = re.sub(r"[^A-Za-z0-9_-]", "", os.uname().nodename.partition(".")[0])[:NAME]
    return f"ssh:{machine}/{terminal}"[:LONGEST].rstrip("/")


__all__ = ["away", "check"]
