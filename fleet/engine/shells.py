"""A person's shell on a server: what it leaves in the journal, and the way that is told for it.

Rules
- Whoever logs in may change anything, so the server is tainted, with who and when, before the way is told; it stays so until the server is
  replaced, whether or not the login came about: nobody here sees that. So is what a rollout is just bringing into service there.
- What a client says of the end of a shell is its own word, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from fleet.core.errors import Refused
from fleet.core.events import Draft
from fleet.core.printable import printable
from fleet.engine.loop import Engine
from fleet.engine.plans import find_server
from fleet.engine.view import PoolView
from fleet.ports import Login, Way

WORDS = 200
COMING = ("booting", "proving", "admitting")
Request = Mapping[str, Any]
Row = dict[str, Any]


async def open_shell(engine: Engine, actor: str, request: Request) -> Row:
    """`shell.open`: mark the server tainted, then say how to log in to it. Refused where nothing could prove the server to be itself."""
    name = str(request.get("server", ""))
    view = find_server(engine, name)
    driver = engine.drivers[view.pool.driver]
    if not hasattr(driver, "way_in"):
        what = "is simulated: there is no machine to log in to" if view.pool.driver == "sim" else f"is driven by {view.pool.driver}, which knows no way to log in"
        raise Refused(f"{name} {what}; its console shows what it says", where=name, code="no-shell")
    async with engine.holding(view):
        seen = engine.sight(view).serving(name)
        way = cast(Login, driver).way_in(view.pool, name, seen)
        when = datetime.fromtimestamp(engine.clock.now(), UTC)
        events = await engine.record.write(Draft("server-tainted", actor, view.pool.name, name, "", {
            "why": f"shell by {actor}, {when:%Y-%m-%d %H:%M}Z", **_coming(engine, view, name)}, str(request.get("request", ""))))
    view.wake()
    return {"ok": True, "seq": events[-1].seq, "message": f"{name} is tainted now, and due for replacement", "shell": _row(way)}


def _coming(engine: Engine, view: PoolView, name: str) -> dict[str, int]:
    """The incarnation that a rollout is just bringing into service: on a machine it answers at the same address."""
    rollout = engine.record.state.active(view.pool.name)
    run = rollout.runs.get(name) if rollout is not None else None
    return {"coming": run.target.number} if run is not None and run.target is not None and run.step in COMING else {}


def end_words(request: Request) -> str:
    """What a client said of how its shell ended."""
    return printable(str(request.get("text", "")), WORDS) or "the shell ended"


def _row(way: Way) -> Row:
    """A ShellWay."""
    return {"host": way.host, "port": way.port, "user": way.user, "pins": list(way.pins), "authorities": list(way.authorities),
            "key": way.key, "sole": way.sole, "jump": None if way.jump is None else _row(way.jump)}


__all__ = ["end_words", "open_shell"]
