"""The helper's own text, for a host that has none: docs/host-protocol.md, *Carried*.

A shell reads its program from standard input in blocks, and what follows the program would be lost in the last one. So a
verb that needs standard input for itself is carried another way: the host takes exactly the program's bytes first.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def program() -> bytes:
    """The text of `anew-host`, as it is installed in images."""
    return Path(__file__).with_name("anew-host").read_bytes()


def before_input(user: str) -> str:
    """What goes before `VERB ARGUMENT…` if `program()` and then the verb's own input are sent on standard input.

    `dd bs=1` is the one reader that every live system has and that never takes a byte too many.
    """
    script = f"'exec sh -c \"$(dd bs=1 count={len(program())} 2>/dev/null)\" carried \"$@\"'"
    return f"{'' if user == 'root' else 'sudo -n '}sh -c {script} carried"


__all__ = ["before_input", "program"]
