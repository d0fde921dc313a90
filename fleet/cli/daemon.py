"""`anew daemon …` and `anew reload`."""

from __future__ import annotations

import os
import select
import signal

from fleet.api.client import DaemonUnreachable
from fleet.api.places import find_fleet, find_state
from fleet.api.start import daemon_command
from fleet.cli.text import local
from fleet.core.errors import Invalid, Refused

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from fleet.cli.context import Context

STOP_SECONDS = 60.0


def run(context: Context) -> None:
    """Become the daemon, in the foreground: the same program that is started on demand."""
    options = context.options
    fleet = find_fleet(getattr(options, "fleet", None))[0]
    if not os.path.exists(fleet):
        raise Invalid("there is no fleet file; write one, or name it with --fleet or ANEW_FLEET", where=fleet, code="no-fleet")
    state = os.path.abspath(options.state) if options.state else find_state()[0]
    command = daemon_command(fleet, context.socket, state)
    if options.group:
        command += ["--group", options.group]
    os.execv(command[0], command)  # noqa: S606 - becoming the daemon is the point, and no shell is wanted


def stop(context: Context) -> None:
    """Ask the daemon to end (SIGTERM), and wait until it has. Rollouts wait for the next daemon."""
    stop_daemon(context)
    if context.as_json:
        context.data({"ok": True, "socket": context.socket})
    else:
        context.say("the daemon has ended; servers are as they were, a rollout goes on with the next daemon")


def stop_daemon(context: Context) -> None:
    """End the process that listens on the socket, as the kernel names it."""
    pid = context.running().daemon_pid()
    if pid <= 1:
        raise Refused("the socket is held by the service manager; use systemctl stop anew", where=context.socket)
    try:
        process = os.pidfd_open(pid)  # keeps meaning this process, also if its number is given to another
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        exits = select.poll()
        exits.register(process, select.POLLIN)
        ended = exits.poll(STOP_SECONDS * 1000)
    except PermissionError as error:
        raise Refused(f"the daemon (pid {pid}) is not yours to stop", where=context.socket, code="role") from error
    except ProcessLookupError:
        return
    finally:
        os.close(process)
    if not ended:
        raise DaemonUnreachable(f"the daemon (pid {pid}) did not end within {STOP_SECONDS:.0f} s", where=context.socket)


def status(context: Context) -> int:
    """Whether a daemon runs; 6 if not."""
    try:
        client = context.running()
        pid = 0 if context.on else client.daemon_pid()
    except DaemonUnreachable as error:
        if context.as_json:
            raise
        context.say(f"no daemon listens on {context.socket}")
        return error.exit_code
    found = client.get("/v1/info")
    pid = pid or found["pid"]  # of another machine it is the daemon's own word
    if context.as_json:
        context.data({"running": True, "pid": pid, "socket": context.socket, "started_at": found.get("started_at"),
                      "paths": found.get("paths")})
        return 0
    context.say(f"a daemon runs since {local(found.get('started_at'))}, pid {pid}, socket {context.socket}")
    return 0


def reload(context: Context) -> None:
    """Have the daemon read the fleet file again."""
    context.answer(context.running().command("settings.reload"))
