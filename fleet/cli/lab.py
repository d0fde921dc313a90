"""`anew lab …`: a pool of small real virtual machines, by way of the daemon alone: nothing here speaks to libvirt."""

from __future__ import annotations

from fleet.api.places import find_fleet, find_state, packaged_fleet
from fleet.cli.births import birth, until_born
from fleet.cli.daemon import stop_daemon
from fleet.cli.status import show

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.api.client import Client
    from fleet.cli.context import Context

UP_SECONDS = 900.0
FIRST = "1"


def _attach(context: Context) -> Client:
    """The daemon of the lab's fleet file (or the one named)."""
    fleet = find_fleet(getattr(context.options, "fleet", None))
    if fleet[1] not in ("--fleet", "ANEW_FLEET"):
        fleet = (packaged_fleet("lab"), "packaged")
    return context.attach(fleet, context.socket, find_state()[0])


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
    pool = frame["pools"][0]["name"]
    context.say()
    context.say("watch it:           anew")
    context.say(f"roll it forward:    anew rollout start {pool} --to 2 --wait")
    context.say(f"and back:           anew rollback {pool} --wait")
    context.say("remove everything:  anew lab down")
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
    """Remove every domain, volume and seed of the lab's fleet, data disks included, then stop the daemon."""
    client = _attach(context)
    frame = client.get("/v1/status")
    context.confirm(f"Remove all servers and data disks of the fleet {frame['fleet']}?", frame["fleet"])
    answer = remove_fleet(client, frame)
    stop_daemon(context)
    context.answer(answer)
    return 0


def remove_fleet(client: Client, frame: dict[str, Any]) -> dict[str, Any]:
    """Have the daemon end all rollouts, then remove everything with this fleet's tag and nothing else.

    One command, `doctor.fix` with kind `fleet` and the fleet's name as key, so that it is in the journal like any other;
    the engine refuses it for a fleet of another name.
    """
    for row in frame["rollouts"]:
        if not row["ended_at"]:
            client.command("rollout.abort", rollout=row["id"], why="lab down")
    return client.command("doctor.fix", kind="fleet", key=frame["fleet"])
