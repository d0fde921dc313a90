"""The root of a server: what is wished, what is seen inside, who writes there, what a change takes, and doing it under the pool's budget.

Rules
- What is shown after a change is what was then seen inside, never what was wished; a lock that is not seen is an error.
- A root that comes from an image is never remounted: it is read-only by construction, or replaced; that is an ordinary plan of the pool.
- Several servers are remounted in batches of what the pool's budget has room for; the next batch waits until the last one is seen well,
  and the first failure ends it.
- Making a root writable breaks the glass (engine/glass.py).
- Looking is done without the pool's lock, and so is breaking the glass once it is noted: a host that hangs keeps nobody's pause waiting.
- Nothing is changed in a pool that is only observed, nor while a rollout of the pool is under way; but the glass may be broken of a server
  that the rollout is not at work on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.core import rootmode
from fleet.core.errors import AnewError, Invalid, Permanent, Refused
from fleet.core.events import Draft
from fleet.core.observed import Facts
from fleet.core.printable import printable
from fleet.core.sight import some
from fleet.engine import glass, remount
from fleet.engine.loop import Engine
from fleet.engine.plans import find_server, find_view
from fleet.engine.present import moment
from fleet.engine.view import PoolView
from fleet.ports import RootLocker

LOOK = 40.0
"""Seconds for one server, all of them side by side; a command is waited for two minutes, and a pool's silent servers are not to use them up."""
BEGIN = 30.0
"""Seconds in which batches are begun, for the same reason; what is left is told, and asked for again."""
BEAT = 0.25
WORDS_TOLD = 3
MODES = ("read-only", "ephemeral", "writable")
Request = Mapping[str, Any]
Row = dict[str, Any]


# --- looking


async def report(engine: Engine, name: str) -> list[Row]:
    """RootRows of a pool or a server, looked at now: the mode wished and seen, what it takes to keep the promise, and what writes there."""
    view = engine.views.get(name) or find_server(engine, name)
    names = view.pool.server_names if name in engine.views else (name,)
    return await _rows(engine, view, names)


async def _rows(engine: Engine, view: PoolView, names: Sequence[str]) -> list[Row]:
    return list(await asyncio.gather(*(_row(engine, view, server) for server in names)))


async def _row(engine: Engine, view: PoolView, server: str) -> Row:
    wished, locker, broken = view.pool.root, remount.locker_of(engine, view), engine.sight(view).known(server).glass
    facts, why, fixed, writers = _known(engine, view, server), "", locker is None, list[str]()
    if locker is None:
        why = f"its root comes from the image: a change takes effect at birth, by pools.{view.pool.name}.root and a rollout"
    else:
        try:
            async with asyncio.timeout(LOOK):
                why = await _fixed(locker, view, server)
                fixed = bool(why)
                facts = await remount.look_inside(engine, view, server)
                if not why:
                    why = "" if facts.root != "unknown" else facts.note or "its root is not known"
                    writers = await remount.writers(locker, view, server)
        except AnewError as error:
            why = why or printable(error.beside(server), 300)
        except TimeoutError:
            why = why or f"it did not answer within {LOOK:g} s"
    return {"name": server, "pool": view.pool.name, "wished": wished, "observed": facts.root, "why_not": why, "writers": writers,
            "takes": rootmode.takes(wished, facts.root, fixed), "unlocked_until": moment(broken.until) if broken else None}


def _known(engine: Engine, view: PoolView, server: str) -> Facts:
    sight = engine.sight(view)
    seen = sight.serving(server)
    return (sight.facts.get((server, seen.number)) if seen else None) or Facts()


async def _fixed(locker: RootLocker, view: PoolView, server: str) -> str:
    return printable(await locker.root_fixed(view.pool, server), 300)


# --- changing


async def set_root(engine: Engine, actor: str, request: Request) -> Row:
    """`root.set`: remount what can be remounted, a batch at a time; tell of the others what replaces them; or break the glass."""
    server, mode = str(request.get("server", "")), str(request.get("mode", ""))
    view = find_server(engine, server) if server else find_view(engine, str(request.get("pool", "")))
    if mode not in MODES:
        raise Invalid(f"must be {', '.join(MODES[:-1])} or {MODES[-1]}, found {printable(mode, 40)!r}", where="mode")
    names = (server,) if server else view.pool.server_names
    if mode == "writable":
        return await _break(engine, view, actor, request, names)
    if mode != view.pool.root:
        raise Refused(f'the root mode of pool {view.pool.name} is "{view.pool.root}", set by pools.{view.pool.name}.root in {engine.desired.path}; '
                      "change it there, `anew reload`, and roll out", where=f"pools.{view.pool.name}.root")
    rows = await _rows(engine, view, names)
    async with engine.holding(view):
        return await _promise(engine, view, actor, request, rows)


async def _break(engine: Engine, view: PoolView, actor: str, request: Request, names: Sequence[str]) -> Row:
    locker, one = remount.locker_of(engine, view), names[0] if len(names) == 1 else ""
    if locker is None:
        raise Refused(f"its root is its image, attached read-only, and no remount makes it writable; {glass.instead(view.pool)}",
                      where=one or view.pool.name, code="not-lockable")
    glass.asked(request)
    _may(engine, view, one)
    rows = await _rows(engine, view, names)
    async with engine.holding(view):
        _may(engine, view, one)
        breaking = await glass.noted(engine, view, actor, request, rows)
    return await glass.opened(engine, view, locker, breaking)


def _may(engine: Engine, view: PoolView, glass_of: str = "") -> None:
    """Refused where nothing may be touched now, or not this one server's glass. It holds for as long as the pool's lock is held."""
    if view.pool.mode == "observe":
        raise Refused(f'pool {view.pool.name} is in mode "observe", which touches nothing; set mode = "manual" and `anew reload`',
                      where=f"pools.{view.pool.name}.mode", code="observe-mode")
    rollout = engine.record.state.active(view.pool.name)
    run = rollout.runs.get(glass_of) if rollout is not None else None
    if rollout is not None and (not glass_of or (run is not None and run.active)):
        raise Refused(f"a rollout of pool {view.pool.name} is under way; change roots after it", where=view.pool.name)


async def _promise(engine: Engine, view: PoolView, actor: str, request: Request, rows: Sequence[Row]) -> Row:
    """Every server of these RootRows is to be as its pool promises. One that is named alone is locked again even if it is, so that it lasts over
    a reboot. The caller holds the pool's lock.
    """
    names = [row["name"] for row in rows]
    pool, one, mode = view.pool, names[0] if len(names) == 1 else "", str(request["mode"])
    locker = remount.locker_of(engine, view)
    able = [row["name"] for row in rows if row["takes"] == "remount" or (one and locker and mode == "read-only" and not row["why_not"])]
    others = [row["name"] for row in rows if row["takes"] == "replacement"]
    if one and locker and not able and not others:
        raise Refused(f"{one}: {rows[0]['why_not']}", where=one, code="not-lockable")
    if able:
        _may(engine, view)
        remount.must_rest(view, able)
    room = remount.room(engine, view, able)
    drafts = [Draft("server-tainted", actor, pool.name, name, "", {"why": "its root is writable"}) for name in others
              if mode == "read-only" and not engine.record.state.pool(pool.name).server(name).tainted]
    why = printable(str(request.get("why", ""))) or ", ".join([*([f"{some(able)} to remount"] if able else []), f"{len(others)} to replace"])
    drafts.append(Draft("root-set", actor, pool.name, one, "", {"mode": mode, "why": why}, str(request.get("request", ""))))
    events = await engine.record.write(*drafts)
    words = []
    if able and locker is not None:
        words.append(await _in_batches(engine, view, locker, able, room, one))
    if others:
        words.append(f"{some(others)}: root is writable inside; the next rollout replaces {'it' if len(others) == 1 else 'them'}" if mode == "read-only"
                     else f"{some(others)}: only a replacement makes {'it' if len(others) == 1 else 'them'} {mode}; "
                          f"`anew rollout start {pool.name} --servers {','.join(others[:5])}` plans it")
    unknown = [row["name"] for row in rows if row["takes"] == "unknown"]
    if unknown and (able or others):
        words.append(f"{some(unknown)}: not looked into")
    nothing = f"nothing to do: {f'{len(names)} servers are' if len(names) > 1 else f'{one} is'} {mode} as promised or not yet looked into"
    return {"ok": True, "seq": events[-1].seq, "message": "; ".join(words) or nothing}


async def _in_batches(engine: Engine, view: PoolView, locker: RootLocker, names: Sequence[str], room: int, one: str) -> str:
    """Lock these servers. Raises Permanent with what failed, what was done, and what was not begun."""
    done, begun, at = list[str](), engine.clock.now(), 0
    while at < len(names) and (at == 0 or engine.clock.now() - begun < BEGIN):
        batch = names[at:at + room]
        at += len(batch)
        well = [name for name in batch if engine.sight(view).available(name)]
        changes = await asyncio.gather(*(remount.change_one(engine, view, locker, name, "read-only") for name in batch))
        await remount.tell(engine, view, changes, "read-only")
        done += [change.words for change in changes if not change.error]
        failed = [remount.in_words(change) for change in changes if change.error]
        if not failed and at < len(names):
            failed = await _unwell(engine, view, well)
        if failed:
            left = [f"{len(names) - at} others were not touched"] if at < len(names) else []
            raise Permanent("; ".join([*failed, *done, *left]), where=one or view.pool.name, code="root")
    left = [f"{len(names) - at} more, {room} at a time: ask again to go on"] if at < len(names) else []
    return "; ".join([*(done if len(done) <= WORDS_TOLD else [f"{len(done)} servers are read-only, as seen inside"]), *left])


async def _unwell(engine: Engine, view: PoolView, names: Sequence[str]) -> list[str]:
    """A sentence of each server that served before its remount and does not now; waits until every one was asked since."""
    since, until = engine.clock.now(), engine.clock.now() + engine.sight(view).gap
    while engine.clock.now() < until:
        sight = engine.sight(view)
        seen = [sight.health.get((name, serving.number)) for name in names if (serving := sight.serving(name))]
        if all(health is not None and health.last > since for health in seen):
            break
        await engine.clock.sleep(BEAT)
    return [f"{name} does not serve since its remount" for name in names if not engine.sight(view).available(name)]
