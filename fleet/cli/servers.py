"""`anew hold · release · adopt · root`: commands about single servers."""

from __future__ import annotations

from fleet.cli import plan as plans
from fleet.cli import rollout
from fleet.cli.text import local
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


def root(context: Context) -> int:
    """Show how root is mounted as seen inside, and what it takes to be as promised; or set the mode."""
    options = context.options
    frame = context.client.get("/v1/status")
    pool = next((row for row in frame["pools"] if options.name == row["name"] or options.name in (one["name"] for one in row.get("servers", ()))), None)
    if pool is None:
        raise Invalid("there is no pool and no server of this name", where=options.name, code="unknown-name")
    rows: list[dict[str, Any]] = context.client.get(f"/v1/roots/{options.name}")["roots"]
    if options.mode is None:
        _show_root(context, rows, pool)
        return 0
    if options.dry_run and context.as_json:
        context.data({"mode": options.mode, "roots": rows})
        return 0
    if not context.as_json:
        _tell_roots(context, rows, options.mode)
    if options.dry_run:
        context.say("nothing was changed")
        return 0
    what = {"pool": options.name} if options.name == pool["name"] else {"server": options.name}
    if options.mode == "writable":
        return _break(context, rows, what)
    return _promise(context, rows, what, pool)


def _break(context: Context, rows: list[dict[str, Any]], what: dict[str, str]) -> int:
    """Break the glass: a reason, the name typed, and a time after which it is locked again."""
    options, name = context.options, context.options.name
    if not options.why and any(not row["why_not"] for row in rows):
        raise Invalid("say why the root is made writable, for the colleagues who find it", where="--why", code="usage")
    context.confirm(f"Break glass: a writable root taints {name} and makes it due for replacement; it is locked again in {options.lasts or '1h'}.", name)
    context.answer(context.client.command("root.set", mode="writable", why=options.why, lasts=options.lasts, **what))
    return 0


def _promise(context: Context, rows: list[dict[str, Any]], what: dict[str, str], pool: dict[str, Any]) -> int:
    """Remount what can be remounted; what must be replaced is a plan of the pool like any other."""
    options = context.options
    able = [row for row in rows if (row["takes"] == "remount" if "pool" in what else not row["why_not"])]
    others = [row["name"] for row in rows if row["takes"] == "replacement"] if options.mode == rows[0]["wished"] else []
    if able or not others:
        if able:
            context.confirm(f"Remount {_servers(able)} read-only, now and after each boot?", "y" if len(able) == 1 else str(len(able)))
        answer = context.client.command("root.set", mode=options.mode, why=options.why, **what)
        context.answer({**answer, "replace": others} if others else answer)
    if not others or (able and context.as_json):
        return 0
    request: dict[str, Any] = {"pool": pool["name"], "kind": "rollout", "servers": others}
    if pool["image"]["stable"]:
        request["to"] = pool["image"]["stable"]
    return rollout.begin(context, request, plans.ask(context, request))


WRITERS_SHOWN = 20


def _servers(rows: list[dict[str, Any]]) -> str:
    return str(rows[0]["name"]) if len(rows) == 1 else f"{len(rows)} servers"


def _tell_roots(context: Context, rows: list[dict[str, Any]], mode: str) -> None:
    """What is there now, before anything is asked: the root as seen inside, what is open for writing on it, and who must be replaced."""
    for row in rows:
        if row["takes"] == "nothing" and mode == row["wished"] and len(rows) > 1:
            continue
        if row["takes"] == "replacement" and mode == row["wished"]:
            context.say(f"{row['name']}: root is {row['observed']}, as seen inside; it takes a replacement: {row['why_not']}")
            continue
        if row["why_not"]:
            context.say(f"{row['name']}: {row['why_not']}")
            continue
        context.say(f"{row['name']}: root is {row['observed']}, as seen inside; asked for: {mode}")
        _tell_writers(context, row)
    kept = sum(row["takes"] == "nothing" for row in rows)
    if kept and mode == rows[0]["wished"] and len(rows) > 1:
        context.say(f"{kept} of {len(rows)} servers are {mode} as promised")


def _tell_writers(context: Context, row: dict[str, Any]) -> None:
    for line in row["writers"][:WRITERS_SHOWN]:
        context.say(f"  open for writing: {line}")
    if len(row["writers"]) > WRITERS_SHOWN:
        context.say(f"  and {len(row['writers']) - WRITERS_SHOWN} more")
    if not row["writers"]:
        context.say("  nothing is open for writing there")


def _show_root(context: Context, rows: list[dict[str, Any]], pool: dict[str, Any]) -> None:
    """A line for each server, looked at now: what is wished, what is seen inside, and what the one takes to be the other."""
    if context.as_json:
        context.data({"servers": rows})
        return
    context.rows(("server", "wished", "seen inside", "takes", ""), [
        (row["name"], row["wished"], (row["observed"], "red" if row["observed"] == "writable" else ""), row["takes"],
         f"unlocked until {local(row['unlocked_until'])}" if row["unlocked_until"] else "" if row["takes"] == "nothing" else row["why_not"]) for row in rows])
    if len(rows) == 1 and rows[0]["writers"]:
        context.say()
        _tell_writers(context, rows[0])
    takes = {row["takes"] for row in rows}
    context.say()
    if takes & {"remount", "replacement"}:
        how = "" if context.options.name == rows[0]["name"] and takes == {"remount"} else " under the pool's budget"
        context.say(f"`anew root {context.options.name} {rows[0]['wished']}` does it{how}, and asks first")
    context.say("another mode takes effect at birth:")
    context.say(f"  set `root` of [pools.{pool['name']}] in the fleet file, `anew reload`, `anew rollout start {pool['name']}`")
