"""The key `e`: a shell on a server. It taints the server, and says so first; the journal has it before the terminal is lent to ssh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.api.shell import NoShell, Shell, program
from tui import fields
from tui.errors import LinkError
from tui.shapes import Server
from tui.untrusted import one_line

if TYPE_CHECKING:
    from tui.desk import Desk
    from tui.lending import Lender


def ask(desk: Desk, server: Server) -> None:
    """What can be known to fail is said before anything is asked, and so before the server is tainted."""
    try:
        program()
    except NoShell as error:
        desk.say(f"{one_line(error.message)}.", "warn")
        return
    lend = desk.stage.lender()
    if lend is None:
        desk.say(f"This is no terminal that could be lent to ssh: `anew shell {server.name}` does the same in one.", "warn")
        return
    desk.say(f"A shell taints {server.name}: the journal says that you were there, and the next rollout replaces it.", "warn")
    desk.ask(f"Log in to {server.name}? y:", lambda _: desk.spawn(_open(desk, server, lend)), "yes")


async def _open(desk: Desk, server: Server, lend: Lender) -> None:
    if desk.away:
        return
    desk.away = True
    try:
        answer = await desk.calls.command({
            "request": desk.clock.request_name(), "command": "shell.open", "pool": server.pool, "server": server.name})
        way = fields.mapping(answer, "shell")
        if not way:
            desk.say("The daemon was started anew meanwhile: ask again.", "warn")
            return
        desk.prompt = None
        try:
            shell = Shell(server.name, way, away=bool(desk.options.get("on")))
            how = await lend(shell)
        except NoShell as error:
            desk.say(f"{server.name} is tainted, but there was no shell: {one_line(str(error))}.", "bad")
            return
    finally:
        desk.away = False
    desk.armed_until = None  # what came from that server last may have made this terminal type
    desk.say(f"{how} Read-only again.", "warn" if shell.failed else "plain")
    await _tell(desk, server, how)


async def _tell(desk: Desk, server: Server, how: str) -> None:
    """The end of it, into the journal; the daemon may be gone by now, and nobody waits for this."""
    try:
        await desk.calls.command({"request": desk.clock.request_name(), "command": "shell.ended", "server": server.name, "text": how})
    except LinkError as error:
        desk.say(f"{how} Its end is not in the journal: {error.sentence}", "warn")
