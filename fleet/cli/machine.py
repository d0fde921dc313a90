"""`anew machine list · check · install · recover`: machines that are only reached over SSH, by way of the daemon."""

from __future__ import annotations

from fleet.api.client import DaemonUnreachable
from fleet.cli.status import nearest
from fleet.cli.text import count, printable
from fleet.core.errors import Invalid, Refused

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context

INTERRUPTED = 130
SHOWN = 8
"""Characters of a fingerprint in a table; --json and `machine pin` have all of it."""
OUTCOMES = ("machine-installed", "machine-recovered", "machine-failed")


def list_all(context: Context) -> None:
    """The fleet file's machines, as last seen."""
    rows: list[dict[str, Any]] = context.client.get("/v1/machines")["machines"]
    if context.as_json:
        context.data({"machines": rows})
        return
    if not rows:
        context.say("the fleet file has no machines; `anew machine add NAME ADDRESS` writes one")
        return
    context.rows(("machine", "address", "pool", "key", "image", "backend", "root", "reach"), [_listed(row) for row in rows])
    lines = [f"  {row['name']}: {row['doing']}" for row in rows if row["doing"]]
    lines += [f"! {row['name']}: {row['reach']}" for row in rows if _troubled(row) and (row["pin"] or row["authority"])]
    unpinned = [row["name"] for row in rows if not (row["pin"] or row["authority"])]
    if unpinned:
        lines.append(f"! {', '.join(unpinned[:8])}{' …' if len(unpinned) > 8 else ''}: no host key is pinned, so nothing is ever sent there; "
                     f"`anew machine pin {unpinned[0]}` shows one and asks")
    if lines:
        context.say()
    for line in lines:
        context.say(line)


def _listed(row: dict[str, Any]) -> list[Any]:
    known = row["pin"] or row["authority"]
    pin = (known.removeprefix("SHA256:")[:SHOWN] + "…" if row["pin"] else "by CA", "") if known else ("none", "red")
    address = row["address"] if row["port"] == 22 else f"[{row['address']}]:{row['port']}" if ":" in row["address"] else f"{row['address']}:{row['port']}"
    reach = ("ok", "green") if row["reach"] == "ok" else ("no", "red") if _troubled(row) else "-"
    root = (row["root"], "red") if row["root"] == "writable" else row["root"]
    return [row["name"], address, row["pool"] or "-", pin, row["version"] or "-", row["backend"] or "-", root, reach]


def _troubled(row: dict[str, Any]) -> bool:
    return bool(row["reach"] != "ok" and row["pool"])


def check(context: Context) -> int:
    """Look at machines now; a sentence for each, 1 if any is not reachable or not ready."""
    names = list(dict.fromkeys(context.options.machines))
    rows: list[dict[str, Any]] = context.client.post("/v1/machines/check", {"machines": names})["checks"]
    bad = [row for row in rows if not row["ok"]]
    if context.as_json:
        context.data({"ok": not bad, "checks": rows})
        return 1 if bad else 0
    for row in rows:
        context.say(f"{row['name']}: {row['sentence']}", "" if row["ok"] else "red")
    if not rows:
        context.say("the fleet file has no machines")
    elif len(rows) > 1:
        context.say(f"{count(len(rows), 'machine')}, {len(bad)} not ready" if bad else f"{count(len(rows), 'machine')}, all ready")
    return 1 if bad else 0


def install(context: Context) -> int:
    """First install, after the disk's serial number was typed."""
    row = _machine(context, context.options.machine)
    name, disk, typed = row["name"], row["disk"], context.options.disk
    if not disk:
        raise Refused(f"the fleet file names no disk for it; set machines.{name}.disk to the serial number that `lsblk -o NAME,SERIAL` shows there",
                      where=f"machines.{name}.disk", code="no-disk")
    if typed is not None and typed != disk:
        raise Refused(f"the fleet file names disk {disk}; nothing was written", where="--disk", code="wrong-disk")
    if typed is None:
        context.note(f"{name} ({row['address']}) gets anew's layout and {row['pool'] or 'its pool'}'s image, onto the disk with serial number {disk}.")
        context.note("It must be booted from another disk or a live system. A disk that is not blank is refused there, and never written.")
        context.confirm(f"Write disk {disk} of {name}?", disk, instead="--disk SERIAL answers it")
    answer = context.client.command("machine.install", server=name, key=disk, version=context.options.to)
    return _until_ended(context, name, answer)


def recover(context: Context) -> int:
    """A power cycle from outside."""
    row = _machine(context, context.options.machine)
    how = "its power is cycled, and it boots once from the network" if context.options.pxe else "its power is cycled"
    context.confirm(f"{row['name']} ({row['address']}): {how}; whatever runs there is cut off.", row["name"])
    typed = "" if context.options.yes else row["name"]
    kind = "pxe" if context.options.pxe else "cycle"
    answer = context.client.command("machine.recover", server=row["name"], kind=kind, key=typed)
    return _until_ended(context, row["name"], answer)


def _machine(context: Context, name: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = context.client.get("/v1/machines")["machines"]
    for row in rows:
        if row["name"] == name:
            return row
    raise Invalid(f"the fleet file has no machine of this name{nearest(name, [row['name'] for row in rows])}", where=name, code="unknown-machine")


def _until_ended(context: Context, name: str, answer: dict[str, Any]) -> int:
    """Wait for the event that ends what was ordered: 0, or 1 if it failed. Ctrl-C ends the wait, not the work."""
    if not context.as_json:
        context.note(str(answer["message"]))
    said = ""
    try:
        for frame in context.client.lines("/v1/events", since=int(answer["seq"])):
            row = frame.get("row") or {}
            if frame.get("frame") == "event" and row.get("type") in OUTCOMES and row["data"].get("op") == answer["op"]:
                return _told(context, row)
            if not frame and not context.as_json and (doing := _machine(context, name)["doing"]) != said:
                context.note(said := doing)
    except KeyboardInterrupt:
        context.note("it goes on; `anew journal follow` shows how it ends")
        return INTERRUPTED
    raise DaemonUnreachable("the daemon ended before this did; `anew machine check` shows what became of it", where=context.socket)


def _told(context: Context, row: dict[str, Any]) -> int:
    if context.as_json:
        context.data(row)
    else:
        context.say(printable(row["text"]))
    return 1 if row["type"] == "machine-failed" else 0
