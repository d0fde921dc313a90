"""What a plan that needs other people's approval meets where other people cannot reach the daemon: its socket is open to one user.

root passes every socket's mode, and is somebody else to any other user. So a daemon of root's that is closed can have no approval
at all, and that of a user can have one: root's, or that user's own for a plan of root's.
"""

from __future__ import annotations

import os
import pwd
from typing import Any

OTHERS = 0o022
"""Who may write to a socket may connect to it."""
AGAIN = "stop it (`anew daemon stop`) and run it for a group (`anew daemon run --group GROUP`)"


def closed_words(socket_path: str, needed: int) -> str:
    """The sentence for a plan that needs so many approvals; "" if there may be people who can give them."""
    try:
        found = os.stat(socket_path)
    except OSError:
        return ""
    if not needed or found.st_mode & OTHERS:
        return ""
    user = _name(found.st_uid)
    if found.st_uid and needed == 1:
        return f"only root can approve what {user} proposes: the daemon's socket {socket_path} is closed to others; to let them in, {AGAIN}"
    who = f"{user} and root" if found.st_uid else user
    return (f"it cannot get {'its approval' if needed == 1 else f'{needed} approvals'}: only {who} can reach the daemon, whose socket {socket_path} is closed to others; "
            f"to let them in, {AGAIN}")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def with_words(frame: dict[str, Any], socket_path: str) -> dict[str, Any]:
    """A plan's frame, with the sentence in what it needs if it still waits for somebody."""
    needs = frame.get("needs", {})
    words = closed_words(socket_path, needs.get("approvals", 0)) if needs.get("approvals_left") else ""
    return {**frame, "needs": {**needs, "closed": words}} if words else frame
