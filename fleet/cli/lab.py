"""`anew lab …`: a pool of small real virtual machines, by way of the daemon alone: nothing here speaks to libvirt.

The lab has a state folder, a socket and so a daemon of its own, and never meets the fleet of the person who tries it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time

from fleet.api.places import find_fleet, find_state, packaged_fleet
from fleet.cli.births import birth, until_born
from fleet.cli.daemon import stop_daemon
from fleet.cli.status import show
from fleet.cli.terminal import open_tui
from fleet.core.errors import Transient

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.api.client import Client
    from fleet.cli.context import Context

UP_SECONDS = 900.0
ABORT_SECONDS = 300.0
LOOK_SECONDS = 0.2
FIRST = "1"


def lab_state() -> str:
    """The lab's own state folder, below the user's."""
    return os.path.join(find_state()[0], "lab")


def _attach(context: Context) -> Client:
    """The lab's daemon, on the packaged fleet file or the one named."""
    fleet = find_fleet(getattr(context.options, "fleet", None))
    if fleet[1] != "--fleet":  # ANEW_FLEET is the person's own fleet, and the lab is not it
        fleet = (packaged_fleet("lab"), "packaged")
    state = lab_state()
    named = getattr(context.options, "socket", None)
    return context.attach(fleet, os.path.abspath(named) if named else os.path.join(state, "anew.sock"), state)


def up(context: Context) -> int:
    """Boot every empty pool at version 1 and wait until all servers are healthy."""
    client = _attach(context)
    birth(context, version=FIRST)
    until_born(context, UP_SECONDS)
    frame = client.get("/v1/status")
    if context.as_json:
        context.data(frame)
        return 0
    show(context, frame, everything=True)
    if context.options.watch and sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return open_tui(context)
    pool = frame["pools"][0]["name"]
    context.say()
    context.say(f"speak to it:        export ANEW_SOCKET={context.socket}")
    anew = "anew" if shutil.which("anew") or os.path.basename(sys.argv[0]) != "anew" else os.path.relpath(sys.argv[0])
    context.say(f"watch it:           {anew}")
    context.say(f"roll it forward:    {anew} rollout start {pool} --to 2 --wait")
    context.say(f"and back:           {anew} rollback {pool} --wait")
    context.say(f"remove everything:  {anew} lab down")
    return 0


def status(context: Context) -> int:
    """The lab's servers."""
    frame = _attach(context).get("/v1/status")
    if context.as_json:
        context.data(frame)
    else:
        show(context, frame, everything=True)
    return 0


def down(context: Context) -> int:
    """Remove every server of the lab's fleet and what is left over of it, then stop the daemon. Data disks are kept."""
    client = _attach(context)
    fleet = client.get("/v1/status")["fleet"]
    context.confirm(f"Remove all servers of the fleet {fleet} (data disks are kept)?", fleet)
    answers = remove_fleet(client)
    stop_daemon(context)
    if os.path.dirname(os.path.abspath(context.socket)) == lab_state():
        shutil.rmtree(lab_state(), ignore_errors=True)
    if context.as_json:
        context.data({"ok": True, "answers": answers})
        return 0
    for answer in answers:
        context.answer(answer)
    context.say("the daemon has ended")
    return 0


def remove_fleet(client: Client) -> list[dict[str, Any]]:
    """Have the daemon end all rollouts, remove the fleet's incarnations, then what its doctor lists as left over.

    All of it by commands, so that it is in the journal like everything else and nothing without our tag is touched:
    `doctor.fix` of kind `fleet`, then one for each finding that can be mended.
    """
    _end_rollouts(client)
    frame = client.get("/v1/status")
    answers = [client.command("doctor.fix", kind="fleet", key=frame["fleet"])]
    found = [row for row in client.get("/v1/leftovers")["findings"] if row["fix"]]
    return answers + [client.command("doctor.fix", place=row["place"], kind=row["kind"], key=row["key"], pool=row["pool"]) for row in found]


def _end_rollouts(client: Client) -> None:
    """Abort what is under way and wait until steps in flight have ended."""
    limit = time.monotonic() + ABORT_SECONDS
    asked: set[str] = set()
    while live := [row for row in client.get("/v1/rollouts")["rollouts"] if not row["ended_at"]]:
        for row in live:
            if row["id"] not in asked:
                client.command("rollout.abort", rollout=row["id"], why="lab down")
                asked.add(row["id"])
        if time.monotonic() > limit:
            raise Transient(f"its rollout did not end within {ABORT_SECONDS:.0f} s; try again", where=live[0]["pool"])
        time.sleep(LOOK_SECONDS)
