"""`anew hold · release · adopt · root`: commands about single servers."""

from __future__ import annotations

from fleet.core.errors import Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context


def hold(context: Context) -> None:
    """Skip a server in everything but explicit commands."""
    context.answer(context.client.command("server.hold", server=context.options.server, why=context.options.why))


def release(context: Context) -> None:
    """End a hold."""
    context.answer(context.client.command("server.release", server=context.options.server))


def adopt(context: Context) -> None:
    """Make a foreign domain incarnation 0 of a server, after saying what that means."""
    options = context.options
    row = _foreign(context, options.domain, options.hypervisor)
    if not getattr(options, "yes", False) and not context.as_json:
        context.say(f"{row['name']} on {row['place']} ({row['state']}, {row['uuid']})" + (f": {row['note']}" if row["note"] else ""))
        context.say(f"becomes incarnation 0 of {options.name or 'the first free server'} of the pool {options.pool}:")
        context.say("  anew adds its metadata to the domain; neither its disks nor its run are touched")
        context.say("  the next rollout of the pool replaces it and retains it, startable, for the pool's retention time")
    context.confirm(f"Adopt {row['name']}?", "y")
    context.answer(context.client.command("server.adopt", domain=row["name"], place=row["place"], key=row["uuid"],
                                          pool=options.pool, server=options.name))


def _foreign(context: Context, domain: str, place: str | None) -> dict[str, Any]:
    rows: list[dict[str, Any]] = context.client.get("/v1/foreign")["foreign"]
    found = [row for row in rows if domain in (row["name"], row["uuid"]) and place in (None, row["place"])]
    if not found:
        known = ", ".join(f"{row['name']} on {row['place']}" for row in rows[:12]) or "none"
        raise Invalid(f"there is no domain of this name that anew did not make; there are: {known}", where=domain, code="unknown-domain")
    if len(found) > 1:
        places = ", ".join(row["place"] for row in found)
        raise Invalid(f"there is one of this name on {places}; say which with --hypervisor", where=domain, code="usage")
    return found[0]


def root(context: Context) -> None:
    """Show how root is mounted as seen inside, and what a change would take; or set the mode."""
    options = context.options
    frame = context.client.get("/v1/status")
    pools = [row for row in frame["pools"] if row["name"] == options.name]
    servers = [row for pool in frame["pools"] for row in pool.get("servers", ()) if options.name in (row["name"], pool["name"])]
    if not pools and not servers:
        raise Invalid("there is no pool and no server of this name", where=options.name, code="unknown-name")
    if options.mode is None:
        _show_root(context, frame, servers, pools)
        return
    what = {"pool": options.name} if pools else {"server": options.name}
    rows: list[dict[str, Any]] = context.client.get(f"/v1/roots/{options.name}")["roots"]
    able = [row for row in rows if not row["why_not"]]
    if options.dry_run and context.as_json:
        context.data({"mode": options.mode, "roots": rows})
        return
    if not context.as_json:
        _tell_roots(context, rows, options.mode)
    if options.dry_run:
        context.say("nothing was changed")
        return
    if options.mode == "writable":
        if able and not options.why:
            raise Invalid("say why the root is made writable, for the colleagues who find it", where="--why", code="usage")
        context.confirm(f"Break glass: a writable root taints {options.name} and makes it due for replacement.", options.name)
    elif able:
        context.confirm(f"Remount {_servers(able)} read-only, now and after each boot?", "y" if len(able) == 1 else str(len(able)))
    context.answer(context.client.command("root.set", mode=options.mode, why=options.why, **what))


WRITERS_SHOWN = 20


def _servers(rows: list[dict[str, Any]]) -> str:
    return str(rows[0]["name"]) if len(rows) == 1 else f"{len(rows)} servers"


def _tell_roots(context: Context, rows: list[dict[str, Any]], mode: str) -> None:
    """What is there now, before anything is asked: the root as seen inside, and what is open for writing on it."""
    for row in rows:
        if row["why_not"]:
            context.say(f"{row['name']}: {row['why_not']}")
            continue
        context.say(f"{row['name']}: root is {row['observed']}, as seen inside; asked for: {mode}")
        for line in row["writers"][:WRITERS_SHOWN]:
            context.say(f"  open for writing: {line}")
        if len(row["writers"]) > WRITERS_SHOWN:
            context.say(f"  and {len(row['writers']) - WRITERS_SHOWN} more")
        if not row["writers"]:
            context.say("  nothing is open for writing there")


def _show_root(context: Context, frame: dict[str, Any], servers: list[dict[str, Any]], pools: list[dict[str, Any]]) -> None:
    wished = {pool["name"]: pool["root"] for pool in frame["pools"]}
    if context.as_json:
        context.data({"servers": [{"name": row["name"], "wished": wished[row["pool"]], "observed": row["root"]} for row in servers]})
        return
    context.rows(("server", "wished", "seen inside"), [
        (row["name"], wished[row["pool"]], (row["root"], "red" if row["root"] == "writable" else "")) for row in servers])
    pool = pools[0]["name"] if pools else servers[0]["pool"]
    context.say()
    context.say("a change takes effect at birth:")
    context.say(f"  set `root` of [pools.{pool}] in the fleet file, `anew reload`, `anew rollout start {pool}`")
