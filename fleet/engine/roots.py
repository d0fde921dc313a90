"""The root of a server: what is wished, what is seen inside, who writes there, and a lock for hosts that have no slots yet.

Rules
- What is shown after a change is what was then seen inside, never what was wished; a lock that is not seen is an error.
- Making a root writable breaks the glass: it takes a reason, and the server is tainted before anything is sent to it.
- Nothing is changed while a rollout of the pool is under way, nor in a pool that is only observed.
- A root that comes from an image is never remounted: it is read-only by construction, or replaced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from fleet.core.errors import AnewError, Invalid, Permanent, Refused
from fleet.core.events import Draft
from fleet.core.observed import Facts
from fleet.core.printable import printable
from fleet.engine.loop import Engine
from fleet.engine.plans import find_server, find_view
from fleet.engine.view import PoolView
from fleet.ports import Machines, Operation, RootLocker

LOOK, CHANGE, WHY_NOT = 40.0, 60.0, 15.0
"""Seconds for one server, all of them side by side; a command is waited for two minutes, and a pool's silent servers are not to use them up."""
WRITERS_TOLD = 3
Request = Mapping[str, Any]
Row = dict[str, Any]
Mode = Literal["read-only", "writable"]


@dataclass(frozen=True, slots=True)
class _Changed:
    """What became of one server. `error` is "" if the root is now seen as it was asked for."""

    server: str
    words: str
    error: AnewError | None = None


async def report(engine: Engine, name: str) -> list[Row]:
    """RootRows of a pool or a server, looked at now: the mode wished and seen, whether it can be locked, and what writes there."""
    view = engine.views.get(name) or find_server(engine, name)
    names = view.pool.server_names if name in engine.views else (name,)
    return list(await asyncio.gather(*(_row(engine, view, server) for server in names)))


async def _row(engine: Engine, view: PoolView, server: str) -> Row:
    row: Row = {"name": server, "pool": view.pool.name, "wished": view.pool.root, "observed": _observed(engine, view, server), "why_not": "", "writers": []}
    locker = _locker(engine, view)
    if locker is None:
        return {**row, "why_not": f"its root comes from the image: a change takes effect at birth, by pools.{view.pool.name}.root and a rollout"}
    try:
        async with asyncio.timeout(LOOK):
            if why := await _by_construction(engine, view, server):
                return {**row, "why_not": why}
            facts = await _look_inside(engine, view, server)
            return {**row, "observed": facts.root, "why_not": "" if facts.root != "unknown" else facts.note or "its root is not known",
                    "writers": await _writers(locker, view, server)}
    except AnewError as error:
        return {**row, "why_not": printable(error.beside(server), 300)}
    except TimeoutError:
        return {**row, "why_not": f"it did not answer within {LOOK:g} s"}


async def _writers(locker: RootLocker, view: PoolView, server: str) -> list[str]:
    """That the root itself is a writable mount needs no line."""
    return [line for line in await locker.writers(view.pool, server) if line != "mount - /"]


def _locker(engine: Engine, view: PoolView) -> RootLocker | None:
    driver = engine.drivers[view.pool.driver]
    return cast(RootLocker, driver) if hasattr(driver, "lock_root") else None


def _observed(engine: Engine, view: PoolView, server: str) -> str:
    sight = engine.sight(view)
    seen = sight.serving(server)
    facts = sight.facts.get((server, seen.number)) if seen else None
    return facts.root if facts else "unknown"


async def _by_construction(engine: Engine, view: PoolView, server: str) -> str:
    """Why this root is not for locking, "" if it is: a host with slots boots what its image says."""
    driver = engine.drivers[view.pool.driver]
    if not hasattr(driver, "check"):
        return ""
    told = await cast(Machines, driver).check(server)
    if told.get("reach", "ok") != "ok":
        return printable(told["reach"], 300)
    if told.get("backend", "none") not in ("none", ""):
        return f"it has A/B slots ({printable(told['backend'], 20)}): its root is the image itself, read-only by construction"
    return ""


async def _look_inside(engine: Engine, view: PoolView, server: str) -> Facts:
    """Facts of the incarnation that runs, kept for everybody who looks."""
    seen = engine.sight(view).serving(server)
    if seen is None:
        raise Refused("it has not been seen running, so there is no root to look at", where=server, code="not-running")
    facts = await engine.drivers[view.pool.driver].probe(view.pool, server, seen.number)
    if facts.root != "unknown":
        view.facts[(server, seen.number)] = facts
        engine.hub.changed(view.pool.name, server)
    return facts


async def set_root(engine: Engine, actor: str, request: Request) -> Row:
    """`root.set`: lock or unlock roots where the driver can; elsewhere mark servers whose root is not what the pool promises."""
    server, mode = str(request.get("server", "")), str(request.get("mode", ""))
    view = find_server(engine, server) if server else find_view(engine, str(request.get("pool", "")))
    locker = _locker(engine, view)
    if locker is None:
        return await _promise(engine, view, actor, request)
    if mode not in ("read-only", "writable"):
        raise Invalid(f"must be read-only or writable, found {printable(mode, 40)!r}", where="mode")
    why = printable(str(request.get("why", "")))
    if mode == "writable" and not why:
        raise Invalid("say why the root is made writable (--why), for the colleagues who find it", where="why")
    if view.pool.mode == "observe":
        raise Refused(f'pool {view.pool.name} is in mode "observe", which touches nothing; set mode = "manual" and `anew reload`',
                      where=f"pools.{view.pool.name}.mode", code="observe-mode")
    names = (server,) if server else view.pool.server_names
    async with engine.holding(view):
        if engine.record.state.active(view.pool.name) is not None:
            raise Refused(f"a rollout of pool {view.pool.name} is under way; change roots after it", where=view.pool.name)
        return await _change(engine, view, locker, actor, request, names, "writable" if mode == "writable" else "read-only", why)


async def _change(engine: Engine, view: PoolView, locker: RootLocker, actor: str, request: Request, names: Sequence[str], mode: Mode, why: str) -> Row:
    pool, one = view.pool.name, names[0] if len(names) == 1 else ""
    held = dict(zip(names, await asyncio.gather(*(_construction(engine, view, name) for name in names)), strict=True))
    able = [name for name in names if not held[name]]
    if not able:
        raise Refused("; ".join(f"{name}: {held[name]}" for name in names[:WRITERS_TOLD]), where=one or pool, code="not-lockable")
    drafts = [Draft("root-set", actor, pool, one, "", {"mode": mode, "why": why or f"{', '.join(able[:5])}"}, str(request.get("request", "")))]
    if mode == "writable":
        drafts += [Draft("server-tainted", actor, pool, name, "", {"why": f"its root was made writable: {why}"}) for name in able]
    events = await engine.record.write(*drafts)
    done = await asyncio.gather(*(_change_one(engine, view, locker, name, mode) for name in able))
    failed = [change for change in done if change.error]
    if failed:
        events = await engine.record.write(*(Draft("warning", "engine", pool, change.server, "", {"text": printable(
            f"root of {change.server} not made {mode}: {change.error}", 500)}) for change in failed))
    view.look.set()
    words = [*(change.words for change in done if not change.error), *(f"{name}: {held[name]}" for name in names if held[name])]
    if failed:
        raise Permanent("; ".join([*(_without_where(change) for change in failed), *words]), where=one or pool, code="root")
    return {"ok": True, "seq": events[-1].seq, "message": "; ".join(words)}


def _without_where(change: _Changed) -> str:
    assert change.error is not None
    return f"{change.server}: {change.error.message}"


async def _construction(engine: Engine, view: PoolView, name: str) -> str:
    try:
        async with asyncio.timeout(LOOK):
            return await _by_construction(engine, view, name)
    except AnewError as error:
        return printable(error.beside(name), 300)
    except TimeoutError:
        return f"it did not answer within {LOOK:g} s"


async def _change_one(engine: Engine, view: PoolView, locker: RootLocker, name: str, mode: Mode) -> _Changed:
    op = Operation(engine.rng.token(), engine.actor.epoch, "", CHANGE)
    try:
        async with asyncio.timeout(CHANGE):
            words = await locker.lock_root(view.pool, name, mode, op)
            facts = await _look_inside(engine, view, name)
    except AnewError as error:
        return _Changed(name, "", await _with_writers(view, locker, name, error) if mode == "read-only" else error)
    except TimeoutError:
        return _Changed(name, "", Permanent(f"it took longer than {CHANGE:g} s; look again what it is", where=name))
    if facts.root != mode:
        seen = facts.root if facts.root != "unknown" else f"unknown ({facts.note})"
        return _Changed(name, "", Permanent(f"the host said that it is done, but inside its root is {seen}", where=name))
    return _Changed(name, f"{name}: {facts.root}, as seen inside ({printable(words, 200)})")


async def _with_writers(view: PoolView, locker: RootLocker, name: str, error: AnewError) -> AnewError:
    """A lock that failed, with what writes there: usually the reason."""
    try:
        async with asyncio.timeout(WHY_NOT):
            writers = await _writers(locker, view, name)
    except (AnewError, TimeoutError):
        return error
    if not writers:
        return error
    more = f" and {len(writers) - WRITERS_TOLD} more" if len(writers) > WRITERS_TOLD else ""
    return Permanent(f"{error.message}. Open there: {', '.join(writers[:WRITERS_TOLD])}{more}", where=name, code=error.code)


async def _promise(engine: Engine, view: PoolView, actor: str, request: Request) -> dict[str, Any]:
    """Where roots come from images: servers whose root is not what the pool promises are marked, and the next rollout replaces them."""
    server, mode, pool = str(request.get("server", "")), str(request.get("mode", "")), view.pool
    if mode == "writable":
        raise Refused("this release makes no writable roots; a server is changed by replacing it", where=server or pool.name)
    if mode != pool.root:
        raise Refused(f'the root mode of pool {pool.name} is "{pool.root}", set by pools.{pool.name}.root in {engine.desired.path}; '
                      "change it there, `anew reload`, and roll out", where=f"pools.{pool.name}.root")
    names = (server,) if server else pool.server_names
    sight = engine.sight(view)
    wrong = []
    for name in names:
        seen = sight.serving(name)
        facts = sight.facts.get((name, seen.number)) if seen else None
        if facts is not None and pool.root == "read-only" and facts.root == "writable":
            wrong.append(name)
    drafts = [Draft("server-tainted", actor=actor, pool=pool.name, server=name, data={"why": "its root is writable"}) for name in wrong]
    drafts.append(Draft("root-set", actor=actor, pool=pool.name, server=server, request=str(request.get("request", "")), data={"mode": mode, "why": f"{len(wrong)} to replace"}))
    async with engine.holding(view):
        events = await engine.record.write(*drafts)
    message = f"{', '.join(wrong)}: root is writable inside; the next rollout replaces it" if wrong else f"nothing to do: {len(names)} servers are {mode} as promised or not yet looked into"
    return {"ok": True, "seq": events[-1].seq, "message": message}
