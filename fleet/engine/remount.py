"""Remounting the root of one server where it runs: whether that can be done, doing it, and what was then seen inside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from fleet.core import budget
from fleet.core.errors import AnewError, Permanent, Refused
from fleet.core.events import Draft
from fleet.core.observed import Facts
from fleet.core.printable import printable
from fleet.core.sight import some
from fleet.engine.view import PoolView
from fleet.ports import Operation, RootLocker

if TYPE_CHECKING:
    from fleet.engine.loop import Engine

CHANGE, WHY_NOT = 60.0, 15.0
"""Seconds for one server. A command is waited for two minutes."""
WRITERS_TOLD = 3
Mode = Literal["read-only", "writable"]


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of one server. `error` is "" if the root is now seen as it was asked for."""

    server: str
    words: str
    error: AnewError | None = None


def locker_of(engine: Engine, view: PoolView) -> RootLocker | None:
    """The pool's driver, if it can remount a root."""
    driver = engine.drivers[view.pool.driver]
    return cast(RootLocker, driver) if hasattr(driver, "lock_root") else None


async def writers(locker: RootLocker, view: PoolView, server: str) -> list[str]:
    """That the root itself is a writable mount needs no line."""
    return [line for line in await locker.writers(view.pool, server) if line != "mount - /"]


async def look_inside(engine: Engine, view: PoolView, server: str) -> Facts:
    """Facts of the incarnation that runs, kept for everybody who looks."""
    seen = engine.sight(view).serving(server)
    if seen is None:
        raise Refused("it has not been seen running, so there is no root to look at", where=server, code="not-running")
    facts = await engine.drivers[view.pool.driver].probe(view.pool, server, seen.number)
    if facts.root != "unknown":
        view.facts[(server, seen.number)] = facts
        engine.hub.changed(view.pool.name, server)
    return facts


def room(engine: Engine, view: PoolView, names: Sequence[str]) -> int:
    """How many may be remounted at once; what is missing already has used up its part. A server that is named alone is a person's own choice."""
    pool, missing = view.pool, len(engine.sight(view).missing)
    limit = max(1, budget.resolve(pool.rollout.max_surge, pool.rollout.max_unavailable, pool.servers).unavailable)
    if len(names) > 1 and missing >= limit:
        raise Refused(f"{missing} of {pool.servers} servers do not serve, and max_unavailable leaves no room for a remount; look at "
                      f"{some(engine.sight(view).missing)} first, or change single servers by name", where=pool.name, code="budget")
    return max(1, limit - missing)


def must_rest(view: PoolView, names: Sequence[str]) -> None:
    """Refused while a remount or another order of one of these servers is under way: of two at once, nobody can say which the root ends as."""
    if taken := [name for name in names if name in view.ordered]:
        raise Refused(f"something ordered for {some(taken)} is under way just now; ask again when it has ended", where=taken[0], code="busy")


async def change_one(engine: Engine, view: PoolView, locker: RootLocker, name: str, mode: Mode) -> Changed:
    """Remount one root, and look."""
    op = Operation(engine.rng.token(), engine.actor.epoch, "", CHANGE)
    try:
        async with asyncio.timeout(CHANGE):
            words = await locker.lock_root(view.pool, name, mode, op)
            facts = await look_inside(engine, view, name)
    except AnewError as error:
        return Changed(name, "", await _with_writers(view, locker, name, error) if mode == "read-only" else error)
    except TimeoutError:
        return Changed(name, "", Permanent(f"it took longer than {CHANGE:g} s; look again what it is", where=name))
    if facts.root != mode:
        seen = facts.root if facts.root != "unknown" else f"unknown ({facts.note})"
        return Changed(name, "", Permanent(f"the host said that it is done, but inside its root is {seen}", where=name))
    return Changed(name, f"{name}: {facts.root}, as seen inside ({printable(words, 200)})")


async def _with_writers(view: PoolView, locker: RootLocker, name: str, error: AnewError) -> AnewError:
    """A lock that failed, with what writes there: usually the reason."""
    try:
        async with asyncio.timeout(WHY_NOT):
            found = await writers(locker, view, name)
    except (AnewError, TimeoutError):
        return error
    if not found:
        return error
    more = f" and {len(found) - WRITERS_TOLD} more" if len(found) > WRITERS_TOLD else ""
    return Permanent(f"{error.message}. Open there: {', '.join(found[:WRITERS_TOLD])}{more}", where=name, code=error.code)


async def tell(engine: Engine, view: PoolView, changes: Sequence[Changed], mode: Mode, why: str = "locked by hand") -> None:
    """What became of remounts, for the journal: failures as warnings, and glass that is whole again."""
    pool, drafts = view.pool.name, list[Draft]()
    for change in changes:
        broken = engine.record.state.pool(pool).server(change.server).glass
        if change.error:
            drafts.append(Draft("warning", "engine", pool, change.server, "", {
                "text": printable(f"root of {change.server} not made {mode}: {change.error.message}", 500)}))
        elif mode == "read-only" and broken is not None:
            drafts.append(Draft("root-locked", "engine", pool, change.server, "", {"number": broken.number, "why": why}))
    if drafts:
        await engine.record.write(*drafts)
    view.look.set()


def in_words(change: Changed) -> str:
    """Of a change that failed: which server, and why."""
    assert change.error is not None
    return f"{change.server}: {change.error.message}"
