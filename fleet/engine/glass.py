"""Breaking the glass: the root of a server that must be changed by hand, now. It needs a reason, is over after a while, and taints.

Rules
- The reason, who, when and for how long are in the journal, as a taint of the server, before anything is sent to it. The taint stays until
  another incarnation serves; only the lock comes back by itself.
- When the time is over the daemon locks the root again, also if it was not running at that moment; what cannot be locked is tried again, ever
  later, and told once.
- A server that a rollout is at work on is left to it, and so is a pool that is only observed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fleet.core.desired import Pool
from fleet.core.errors import Invalid, Permanent, Refused
from fleet.core.events import Draft, Event
from fleet.core.grammar import BadValue, describe, parse_duration
from fleet.core.printable import printable
from fleet.core.sight import Sight, span
from fleet.core.state import Glass
from fleet.engine import remount
from fleet.engine.view import PoolView

if TYPE_CHECKING:
    from fleet.engine.loop import Engine
    from fleet.ports import RootLocker

USUAL = "1h"
SHORTEST, LONGEST = 60.0, 7 * 86_400.0
AGAIN, RARELY = 60.0, 900.0
"""Seconds after which a lock that failed is tried again: at least, and at most. Between them, for as long as it has failed already."""
NAP = 30.0
"""A clock of the machine that was set, or stood still in its sleep, is noticed after so long."""
BARRED_TOLD = 3
Request = Mapping[str, Any]
Row = dict[str, Any]


def asked(request: Request) -> tuple[str, float]:
    """Why, and for how many seconds. Raises Invalid."""
    why, lasts = printable(str(request.get("why", "")), 300).strip(), str(request.get("lasts", "") or USUAL)
    if not why:
        raise Invalid("say why the root is made writable (--why), for the colleagues who find it", where="why")
    seconds = parse_duration(lasts, where="lasts")
    if not SHORTEST <= seconds <= LONGEST:
        raise BadValue(describe(lasts), f"a duration from {span(SHORTEST)} to {span(LONGEST)}", where="lasts")
    return why, seconds


def instead(pool: Pool) -> str:
    """What to do where no root can be made writable."""
    image = "put the change into an image and roll it out"
    if pool.machines or pool.in_place or pool.root == "ephemeral":
        return image
    return (f'{image}; to try something by hand, set pools.{pool.name}.root = "ephemeral", `anew reload`, and replace one server: '
            "what is written there is gone with it")


@dataclass(frozen=True, slots=True)
class Breaking:
    """Glass whose breaking is in the journal: of these servers, until then; `left`: which are not opened, and why."""

    names: Sequence[str]
    left: Sequence[str]
    seq: int
    until: float
    seconds: float


async def noted(engine: Engine, view: PoolView, actor: str, request: Request, rows: Sequence[Row]) -> Breaking:
    """Decide of which of these servers the glass is broken, and write it down. The caller holds the pool's lock, and goes on with `opened`."""
    pool, one = view.pool, rows[0]["name"] if len(rows) == 1 else ""
    why, seconds = asked(request)
    sight = engine.sight(view)
    barred = {row["name"]: said for row in rows if (said := _barred(sight, row))}
    able = [row["name"] for row in rows if row["name"] not in barred]
    left = [f"{name}: {said}" for name, said in barred.items()]
    if not able:
        more = f"; {instead(pool)}" if any(row["why_not"] for row in rows) else ""
        raise Refused("; ".join(left[:BARRED_TOLD]) + more, where=one or pool.name, code="not-lockable")
    room = remount.room(engine, view, able)
    if len(able) > room:
        raise Refused(f"it would unlock {len(able)} servers, and the pool's budget has room for {room} at a time; break the glass of single servers",
                      where=pool.name, code="budget")
    remount.must_rest(view, able)
    until = engine.clock.now() + seconds
    view.ordered.update(able)  # the writing waits, and neither a rollout nor the lock of an earlier glass may come between
    events: Sequence[Event] = ()
    try:
        events = await engine.record.write(*_notes(sight, actor, request, able, why, seconds))
    finally:
        if not events:
            view.ordered.difference_update(able)
    view.glass.set()
    return Breaking(able, left, events[-1].seq, until, seconds)


async def opened(engine: Engine, view: PoolView, locker: RootLocker, breaking: Breaking) -> Row:
    """Unlock the roots of which that was noted. Without the pool's lock: a host that hangs keeps nobody's pause waiting."""
    try:
        changes = await asyncio.gather(*(remount.change_one(engine, view, locker, name, "writable") for name in breaking.names))
    finally:
        view.ordered.difference_update(breaking.names)
        view.wake()
    await remount.tell(engine, view, changes, "writable")
    words = [*(change.words for change in changes if not change.error), *breaking.left]
    if failed := [remount.in_words(change) for change in changes if change.error]:
        raise Permanent("; ".join([*failed, *words]), where=breaking.names[0] if len(breaking.names) == 1 else view.pool.name, code="root")
    until = datetime.fromtimestamp(breaking.until, UTC)
    return {"ok": True, "seq": breaking.seq, "message": f"tainted, and locked again at {until:%H:%M}Z, in {span(breaking.seconds)}; {'; '.join(words)}"}


def _barred(sight: Sight, row: Row) -> str:
    """Why the glass of this server is not broken, "" if it is."""
    if row["why_not"]:
        return str(row["why_not"])
    if sight.serving(row["name"]) is None:
        return "it was looked into, and is not seen running any more"
    if row["observed"] == "writable" and not row["unlocked_until"]:
        return f"its root is writable already; `anew root {row['name']} read-only` locks it"
    return ""


def _notes(sight: Sight, actor: str, request: Request, names: Sequence[str], why: str, seconds: float) -> list[Draft]:
    pool, now = sight.pool.name, sight.now
    taint = f"root unlocked by {actor}, {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M}Z, for {span(seconds)}: {why}"
    notes = [Draft("root-set", actor, pool, names[0] if len(names) == 1 else "", "", {"mode": "writable", "why": why}, str(request.get("request", "")))]
    for name in names:
        serving = sight.serving(name)
        assert serving is not None  # as _barred found
        notes.append(Draft("server-tainted", actor, pool, name, "", {"why": taint}))
        notes.append(Draft("root-unlocked", actor, pool, name, "", {"number": serving.number, "until": now + seconds, "why": why}))
    return notes


async def keep(engine: Engine, view: PoolView) -> None:
    """Lock again, for ever, what was unlocked and whose time is over."""
    tries: dict[tuple[str, float], _Try] = {}
    while True:
        view.glass.clear()
        now, broken_now = engine.clock.now(), _open(engine, view)
        tries = {(name, glass.until): tries.get((name, glass.until)) or _Try(glass.until) for name, glass in broken_now.items()}
        ripe = [key for key, one in tries.items() if one.at <= now]
        await asyncio.gather(*(_try(engine, view, name, broken_now[name], tries[name, until]) for name, until in ripe))
        due = [one.at for one in tries.values() if not one.done]
        nap = min(NAP, max(0.01, min(due) - engine.clock.now())) if due else None
        try:
            async with asyncio.timeout(nap):
                await view.glass.wait()
        except TimeoutError:
            pass


@dataclass(slots=True)
class _Try:
    """A lock that is due: when it is tried next, since when it fails, and whether that has been told."""

    at: float
    since: float | None = None
    told: bool = False
    done: bool = False


async def _try(engine: Engine, view: PoolView, name: str, glass: Glass, one: _Try) -> None:
    trouble = await _lock(engine, view, name, glass)
    one.done, now = trouble is None, engine.clock.now()
    if trouble is None:
        return
    one.since = now if one.since is None else one.since
    one.at = now + min(RARELY, max(AGAIN, now - one.since))
    if trouble and not one.told:
        one.told = True
        await engine.record.write(Draft("warning", "engine", view.pool.name, name, "", {"text": printable(
            f"{name} was to be locked again, and is not: {trouble}; it is tried again, ever later", 500)}))


def _open(engine: Engine, view: PoolView) -> Mapping[str, Glass]:
    servers = engine.record.state.pool(view.pool.name).servers
    return {name: server.glass for name, server in servers.items() if server.glass is not None and name in view.pool.server_names}


async def _lock(engine: Engine, view: PoolView, name: str, glass: Glass) -> str | None:
    """Lock one root whose time is over. None if there is nothing left to do, "" if it must not be touched now, else why it failed."""
    pool, locker = view.pool, remount.locker_of(engine, view)
    async with view.lock:
        if engine.record.state.pool(pool.name).server(name).glass != glass:
            return None
        rollout = engine.record.state.active(pool.name)
        run = rollout.runs.get(name) if rollout else None
        if pool.mode == "observe":
            return f'pool {pool.name} is in mode "observe", which touches nothing'
        if engine.over or locker is None or (run is not None and run.active) or name in view.busy | view.ordered:
            return ""
        view.ordered.add(name)
    try:
        change = await remount.change_one(engine, view, locker, name, "read-only")
    finally:
        view.ordered.discard(name)
        view.wake()
    if change.error is not None:
        return change.error.message
    await remount.tell(engine, view, [change], "read-only", f"its time is over: {glass.why}")
    return None


__all__ = ["LONGEST", "SHORTEST", "USUAL", "asked", "instead", "keep", "noted", "opened"]
