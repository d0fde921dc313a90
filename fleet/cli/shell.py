"""`anew shell SERVER`: a login that is journalled, with the pinned host key, and that taints the server."""

from __future__ import annotations

import sys

from fleet.api.shell import Shell, program
from fleet.core.errors import AnewError, Invalid, Refused

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from fleet.cli.context import Context

UNTOLD = "its end is not in the journal"


def shell(context: Context) -> int:
    """Ask, have it journalled, log in, say how it ended: 0 if there was a session that ended by itself, else 1."""
    server = context.options.server
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Invalid("a shell needs a terminal, and this is none; type it in one", where=server, code="no-terminal")
    program()
    context.confirm(f"A shell on {server} taints it: the journal says that you were there, and the next rollout replaces it.", "y")
    answer = context.client.command("shell.open", server=server)
    if not isinstance(way := answer.get("shell"), dict):
        raise Refused("the daemon was started anew meanwhile; ask again", where=server, code="no-way")
    context.note(f"{answer.get('message', '')}; logging in to {way.get('user', '')}@{way.get('host', '')}")
    with Shell(server, way, away=bool(context.on)) as session:
        how = session.wait()
    try:
        context.client.command("shell.ended", server=server, text=how)
    except AnewError as error:
        how = f"{how} ({UNTOLD}: {error.message})"
    if context.as_json:
        context.data({"server": server, "how": how, "failed": session.failed})
    else:
        context.note(how)
    return 1 if session.failed else 0
