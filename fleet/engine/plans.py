"""From what a person asked for to a drawn plan: names resolved, settings overridden, the image pinned by digest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from fleet import settings
from fleet.core.desired import Pool
from fleet.core.errors import Invalid, Refused
from fleet.core.grammar import parse_age
from fleet.core.observed import ImageRef
from fleet.core.proposal import Ask, Plan, draw
from fleet.core.sight import Sight
from fleet.engine.loop import Engine
from fleet.engine.view import PoolView

FIRST_LOOK = 30.0
"""Seconds that a question about a pool waits for its first observation."""


def find_view(engine: Engine, pool: str) -> PoolView:
    """The pool's view; Invalid with the nearest name if there is no such pool."""
    view = engine.views.get(pool)
    if view is None:
        raise unknown("pool", pool, list(engine.views))
    return view


def find_server(engine: Engine, server: str) -> PoolView:
    """The view of the pool that has the server."""
    for view in engine.views.values():
        if server in view.pool.server_names:
            return view
    raise unknown("server", server, [name for view in engine.views.values() for name in view.pool.server_names])


def unknown(what: str, name: str, known: Sequence[str]) -> Invalid:
    """The sentence for a name that does not exist."""
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {len(known)}: {', '.join(known[:5])}{' …' if len(known) > 5 else ''}"
    return Invalid(f"no {what} {name!r}; {hint}", code=f"unknown-{what}")


async def first_look(engine: Engine, pool: str) -> None:
    """Wait for the pool's first observation: the daemon may just have been started by the command that now asks."""
    view = engine.views.get(pool)
    if view is not None and view.observed is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK):
                await view.looked_once.wait()


def draw_plan(engine: Engine, request: Mapping[str, Any]) -> tuple[Sight, Plan]:
    """Draw what is asked for on the fleet as it is now. Raises Invalid or Refused with the reason."""
    view = find_view(engine, str(request.get("pool", "")))
    kind = str(request.get("kind", "rollout"))
    if request.get("to") == "":
        raise Invalid("the version to go to is empty; leave it out for the newest", where="to", code="empty-selection")
    if kind == "rollback" and request.get("to"):
        raise Invalid("a rollback goes to the previous image; to go to another one, start a rollout", where="to")
    pool = settings.override(view.pool, request["overrides"]) if request.get("overrides") else view.pool
    sight = replace_pool(engine.sight(view), pool)
    driver = engine.drivers[pool.driver]
    fleet_size = sum(other.pool.servers for other in engine.views.values())
    servers = tuple(request["servers"]) if request.get("servers") is not None else None
    older = parse_age(request["older_than"], where="older-than") if request.get("older_than") else None
    image = _rollback_image(sight, servers) if kind == "rollback" else _rollout_image(engine, sight, str(request.get("to", "")), older)
    if kind == "rollout" and not any(sight.serving(name) for name in pool.server_names):
        kind = "birth"
    return sight, draw(sight, Ask(kind, image, pool.rollout, driver.surge, fleet_size, servers, older))


def replace_pool(sight: Sight, pool: Pool) -> Sight:
    """The same sight with other settings of the pool."""
    return sight if pool is sight.pool else replace(sight, pool=pool)


def _rollout_image(engine: Engine, sight: Sight, version: str, older: float | None) -> ImageRef:
    """The version asked for; re-birth by age stays on stable; else the newest that the pool did not reject."""
    pool, state = sight.pool, sight.pool_state
    if version:
        return engine.catalogue.get(pool.image, version).ref
    if older is not None and state.stable is not None:
        return state.stable
    found = engine.newest(pool)
    if found is None:
        engine.catalogue.newest(pool.image)
        raise Refused(f"every version of {pool.image} is rejected for pool {pool.name}", where=pool.name, code="rejected")
    return found.ref


def _rollback_image(sight: Sight, servers: tuple[str, ...] | None) -> ImageRef:
    """`previous`, or for servers that already run it, `stable`."""
    state = sight.pool_state
    wanted = state.previous
    if servers is not None and state.stable is not None:
        running = {seen.digest for name in servers if (seen := sight.serving(name)) is not None}
        if running and state.stable.digest not in running:
            wanted = state.stable
    if wanted is None:
        raise Refused(f"pool {sight.pool.name} has no previous image to go back to", where=sight.pool.name, code="no-previous")
    return wanted
