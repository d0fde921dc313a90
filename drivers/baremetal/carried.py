"""The helper's own text: put together from its parts, and carried to a host that has none (docs/host-protocol.md).

Rules
- On a host it is one file, so that one look tells what may be done there. It is written in parts, one for each thing that it
  is about; `python -m drivers.baremetal.carried` puts `anew-host` together again, and a test tells when that was forgotten.
- A shell reads its program from standard input in blocks, and what follows the program would be lost in the last one. So a
  verb that needs standard input for itself is carried another way: the host takes exactly the program's bytes first.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
PARTS: Final = ("words", "state", "looking", "bundles", "slots", "rauc", "sdboot", "bootc", "plain", "layout", "main")


@cache
def program() -> bytes:
    """The text of `anew-host`, as it is installed in images."""
    return (_HERE / "anew-host").read_bytes()


def built() -> bytes:
    """The same from its parts; only in a checkout, an installed package has the whole alone."""
    return b"".join((_HERE / "host" / f"{part}.sh").read_bytes() for part in PARTS)


def before_input(user: str) -> str:
    """What goes before `VERB ARGUMENT…` if `program()` and then the verb's own input are sent on standard input.

    `dd bs=1` is the one reader that every live system has and that never takes a byte too many.
    """
    script = f"'exec sh -c \"$(dd bs=1 count={len(program())} 2>/dev/null)\" carried \"$@\"'"
    return f"{'' if user == 'root' else 'sudo -n '}sh -c {script} carried"


if __name__ == "__main__":
    (_HERE / "anew-host").write_bytes(built())

__all__ = ["PARTS", "before_input", "built", "program"]
