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
    row = _foreign(context, options.domain, options.on)
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
        raise Invalid(f"there is one of this name on {places}; say which with --on", where=domain, code="usage")
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
    if options.mode == "writable":
        context.confirm(f"Break glass: a writable root taints {options.name} and makes it due for replacement.", options.name)
    context.answer(context.client.command("root.set", mode=options.mode, why=options.why, **what))


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
