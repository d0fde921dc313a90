"""Adoption and doctor: what is done to machines outside a rollout, one at a time and only when told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, cast

from fleet.core.errors import Invalid, Permanent, Refused
from fleet.core.events import Draft
from fleet.core.observed import Foreign, Leftover
from fleet.engine.loop import Engine
from fleet.engine.plans import find_view
from fleet.engine.view import PoolView
from fleet.ports import Adopter, Operation

log = logging.getLogger("anew.machines")
DEADLINE = 120.0
Request = Mapping[str, Any]



def _adopter(engine: Engine, view: PoolView) -> Adopter:
    driver = engine.drivers[view.pool.driver]
    if not hasattr(driver, "adopt"):
        raise Refused(f"driver {view.pool.driver} cannot take over machines that it did not make", where=view.pool.name)
    return cast(Adopter, driver)


def _operation(engine: Engine) -> Operation:
    return Operation(engine.rng.token(), engine.actor.epoch, "", DEADLINE)


def foreign(engine: Engine) -> list[dict[str, Any]]:
    """ForeignRows: what anew did not make, per hypervisor, each once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for view in engine.views.values():
        for item in view.observed.foreign if view.observed else ():
            found[item.place, item.uuid or item.name] = {"place": item.place, "name": item.name, "uuid": item.uuid, "state": item.state, "note": item.note}
    return [found[key] for key in sorted(found)]


async def adopt(engine: Engine, actor: str, request: Request) -> dict[str, Any]:
    """A foreign machine becomes incarnation 0 of an absent server; neither its disks nor its run are touched."""
    view = find_view(engine, str(request.get("pool", "")))
    domain, place = str(request.get("domain", "")), str(request.get("place", ""))
    adopter = _adopter(engine, view)
    matches = [item for item in (view.observed.foreign if view.observed else ()) if domain in (item.name, item.uuid) and place in ("", item.place)]
    if len(matches) != 1:
        places = ", ".join(item.place for item in matches)
        raise Invalid(f"no foreign domain {domain!r} is seen by pool {view.pool.name}" if not matches else
                      f"{domain!r} exists on {places}; name the hypervisor", code="unknown-domain")
    server = str(request.get("server", "")) or _free_name(engine, view)
    if server not in view.pool.server_names:
        raise Invalid(f"pool {view.pool.name} has no server {server!r}", code="unknown-server")
    async with engine.holding(view):
        if engine.record.state.active(view.pool.name) is not None:
            raise Refused(f"a rollout of pool {view.pool.name} is under way; adopt after it", where=view.pool.name)
        if engine.sight(view).by_server.get(server):
            raise Refused(f"server {server} exists already; choose a name that is absent with --as", where=server)
        return await _take_over(engine, actor, request, view, matches[0], server, adopter)


async def _take_over(engine: Engine, actor: str, request: Request, view: PoolView, found: Foreign, server: str, adopter: Adopter) -> dict[str, Any]:
    seen = await adopter.adopt(view.pool, server, found, _operation(engine))
    events = await engine.record.write(Draft("server-adopted", actor=actor, pool=view.pool.name, server=server, request=str(request.get("request", "")),
                                             data={"number": seen.number, "digest": seen.digest, "place": found.place, "name": found.name}))
    view.confirm(events[-1].at, server, seen.number, seen)
    view.look.set()
    return {"ok": True, "seq": events[-1].seq, "message": f"{found.name} on {found.place} is now {server}, incarnation {seen.number}; the next rollout replaces and retains it"}


def _free_name(engine: Engine, view: PoolView) -> str:
    present = engine.sight(view).by_server
    for name in view.pool.server_names:
        if not present.get(name):
            return name
    raise Refused(f"pool {view.pool.name} has no absent server; raise `servers` in the fleet file first", where=view.pool.name)


def findings(engine: Engine) -> list[dict[str, Any]]:
    """What doctor lists: leftovers with our tag, hypervisors that do not answer, servers that a person must look at."""
    rows: list[dict[str, Any]] = []
    for view in engine.views.values():
        name = view.pool.name
        if view.observed is None:
            rows.append(_finding(name, view.pool.driver, "pool", name, view.trouble or "not observed yet", ""))
            continue
        for item in view.observed.leftovers:
            rows.append(_finding(name, item.place, item.kind, item.key, item.note or "nothing refers to it", f"remove this {item.kind}, and nothing else"))
        for place, why in view.observed.unreachable.items():
            rows.append(_finding(name, place, "hypervisor", place, why, ""))
        rows.extend(_surplus(engine, view))
        for clash in view.observed.foreign:
            if clash.note:
                rows.append(_finding(name, clash.place, "foreign", clash.name, clash.note, ""))
        rows.extend(_sick_servers(engine, view))
    return list({(row["place"], row["kind"], row["key"]): row for row in rows}.values())


def _surplus(engine: Engine, view: PoolView) -> list[dict[str, Any]]:
    """Incarnations of servers that the fleet file has no place for any more."""
    sight = engine.sight(view)
    gone = f"the fleet file has only {view.pool.servers} servers in pool {view.pool.name}"
    return [_finding(view.pool.name, seen.place, "surplus", f"{name}.{number}", f"{seen.state}, version {seen.version}; {gone}",
                     "stop it and remove it; its data disks are kept")
            for name in sight.surplus for number, seen in sorted(sight.by_server[name].items())]


async def _remove_surplus(engine: Engine, actor: str, view: PoolView, key: str) -> dict[str, Any]:
    sight, driver = engine.sight(view), engine.drivers[view.pool.driver]
    server, _, number = key.rpartition(".")
    seen = sight.seen(server, int(number)) if server in sight.surplus and number.isdigit() else None
    if seen is None:
        raise Refused(f"{key} is not on doctor's list; run `anew doctor` again", where=view.pool.name, code="not-listed")
    async with engine.holding(view):
        if seen.state != "stopped":
            await driver.retire(view.pool, server, seen.number, _operation(engine))
        await driver.bury(view.pool, server, seen.number, _operation(engine))
        events = await engine.record.write(Draft("incarnation-buried", actor=actor, pool=view.pool.name, server=server, data={"number": seen.number}))
    view.confirm(events[-1].at, server, seen.number, None)
    view.look.set()
    return {"ok": True, "seq": events[-1].seq, "message": f"{key} was stopped and removed"}


def _sick_servers(engine: Engine, view: PoolView) -> list[dict[str, Any]]:
    sight = engine.sight(view)
    rollout = sight.rollout
    rows = []
    for server in sorted(sight.missing):
        if rollout is not None and server in rollout.runs and rollout.runs[server].active:
            continue
        seen = sight.serving(server)
        health = sight.health.get((server, seen.number)) if seen else None
        note = (health.words if health else "not probed yet") if seen else "no incarnation of it runs"
        rows.append(_finding(view.pool.name, sight.place(server), "server", server, note, ""))
    return rows


def _finding(pool: str, place: str, kind: str, key: str, note: str, fix: str) -> dict[str, Any]:
    return {"pool": pool, "place": place, "kind": kind, "key": key, "note": note, "fix": fix}


async def fix(engine: Engine, actor: str, request: Request) -> dict[str, Any]:
    """Do exactly one listed fix; kind `fleet` takes every incarnation of the fleet down (the lab's end)."""
    kind, key, place = str(request.get("kind", "")), str(request.get("key", "")), str(request.get("place", ""))
    if kind == "fleet":
        return await take_down(engine, actor, request)
    view = find_view(engine, str(request.get("pool", "")))
    if kind == "surplus":
        return await _remove_surplus(engine, actor, view, key)
    listed = view.observed.leftovers if view.observed else ()
    match = next((item for item in listed if (item.kind, item.key, item.place) == (kind, key, place)), None)
    if match is None:
        raise Refused(f"{kind} {key} is not on doctor's list; run `anew doctor` again", where=place, code="not-listed")
    async with engine.holding(view):
        await _sweep(engine, view, match)
    events = await engine.record.write(Draft("warning", actor=actor, pool=view.pool.name, data={"text": f"doctor removed {kind} {key} on {place}"}))
    view.look.set()
    return {"ok": True, "seq": events[-1].seq, "message": f"removed {kind} {key}"}


async def _sweep(engine: Engine, view: PoolView, item: Leftover) -> None:
    try:
        async with asyncio.timeout(DEADLINE):
            await _adopter(engine, view).sweep(view.pool, item, _operation(engine))
    except TimeoutError:
        raise Permanent(f"{item.place} did not remove {item.key} within {DEADLINE:g}s", where=item.place) from None


async def take_down(engine: Engine, actor: str, request: Request) -> dict[str, Any]:
    """Stop and remove every incarnation of the fleet named by `key`. Data disks stay: there is no verb that deletes them."""
    if request.get("key") != engine.desired.fleet:
        raise Refused(f"this daemon has the fleet {engine.desired.fleet}, not {str(request.get('key', ''))[:64]!r}", where="key")
    removed, seq = 0, engine.record.state.seq
    for view in engine.views.values():
        await _at_rest(engine, view)
        async with engine.holding(view):
            removed += await _empty_pool(engine, actor, view)
        view.look.set()
    data = sorted({f"{disk.name} of {view.pool.name}" for view in engine.views.values() for disk in view.pool.data})
    kept = f"; data disks were kept: {', '.join(data)}" if data else ""
    return {"ok": True, "seq": max(seq, engine.record.state.seq), "message": f"{removed} incarnations of fleet {engine.desired.fleet} removed{kept}"}


async def _at_rest(engine: Engine, view: PoolView) -> None:
    """Wait until an aborted rollout has finished what was in flight."""
    try:
        async with asyncio.timeout(DEADLINE):
            while engine.record.state.active(view.pool.name) is not None:
                await engine.clock.sleep(0.2)
    except TimeoutError:
        raise Refused(f"a rollout of pool {view.pool.name} is still under way; abort it, or wait for its end", where=view.pool.name) from None


async def _empty_pool(engine: Engine, actor: str, view: PoolView) -> int:
    driver, pool = engine.drivers[view.pool.driver], view.pool
    seen = view.observed.incarnations if view.observed else ()
    for item in seen:
        if item.state != "stopped":
            await driver.retire(pool, item.server, item.number, _operation(engine))
        await driver.bury(pool, item.server, item.number, _operation(engine))
    await _sweep_all(engine, view)
    events = await engine.record.write(
        Draft("warning", actor=actor, pool=pool.name, data={"text": f"pool {pool.name} was taken down: {len(seen)} incarnations removed"}),
        *(Draft("incarnation-buried", actor=actor, pool=pool.name, server=item.server, data={"number": item.number}) for item in seen))
    for item in seen:
        view.confirm(events[-1].at, item.server, item.number, None)
    return len(seen)


async def _sweep_all(engine: Engine, view: PoolView) -> None:
    """Remove what is left over now that the incarnations are gone; what is no leftover any more is somebody else's."""
    if not hasattr(engine.drivers[view.pool.driver], "sweep"):
        return
    await engine.watch.look(view)
    for left in view.observed.leftovers if view.observed else ():
        try:
            await _sweep(engine, view, left)
        except Refused as error:
            log.info("kept %s %s: %s", left.kind, left.key, error)
