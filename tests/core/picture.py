"""Small pictures of a pool for the tests of the pure core: one line a server."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fleet.core.desired import Amount, DataDisk, Pool, RolloutSettings
from fleet.core.events import Draft, Event
from fleet.core.fold import fold, fold_all
from fleet.core.observed import Facts, Health, Image, ImageRef, Observed, Running, Seen
from fleet.core.proposal import Ask, Plan, draw
from fleet.core.sight import Sight
from fleet.core.state import State
from fleet.engine.starts import started

NOW = 1_000_000.0
V1, V2, V3 = (ImageRef("web", version, "sha256:" + version * 64) for version in "123")
IMAGES = {ref.digest: Image(ref, "simulated") for ref in (V1, V2, V3)}
SETTINGS = RolloutSettings(max_unavailable=Amount(0), max_surge=Amount(1), canaries=Amount(0), promotion="auto", min_healthy_time=5.0)


def pool(servers: int = 3, *, data: bool = False, **changes: Any) -> Pool:
    disks = (DataDisk("state", 1),) if data else ()
    return Pool("web", "sim", servers, "web", mode="manual", data=disks, rollout=SETTINGS, **changes)


def seen(server: str, number: int = 1, image: ImageRef = V1, state: Running = "running", born: float = NOW - 100.0, place: str = "sim") -> Seen:
    return Seen(server, number, image.digest, image.version, state, born, place)


def sight(*incarnations: Seen, of: Pool | None = None, state: State | None = None, sick: tuple[str, ...] = (), now: float = NOW,
          health: Mapping[tuple[str, int], Health] | None = None, facts: Mapping[tuple[str, int], Facts] | None = None,
          unreachable: Mapping[str, str] | None = None, busy: tuple[str, ...] = ()) -> Sight:
    """Everybody who runs is healthy since long ago, except the `sick`, and tells that its root is read-only."""
    running = [one for one in incarnations if one.state == "running"]
    known = {(one.server, one.number): Health(one.server not in sick, now - 50.0, now, "tcp 22") for one in running}
    told = {(one.server, one.number): Facts("read-only") for one in running}
    return Sight(of or pool(), state or State(), Observed("web", now, incarnations, unreachable=unreachable or {}), {**known, **(health or {})},
                 {**told, **(facts or {})}, now, frozenset(busy), IMAGES)


def whole(servers: int = 3, image: ImageRef = V1) -> tuple[Seen, ...]:
    """Every server serves incarnation 1; web-1 is the oldest."""
    return tuple(seen(f"web-{n}", 1, image, born=NOW - 1000.0 * (servers + 1 - n)) for n in range(1, servers + 1))


def ask(image: ImageRef = V2, kind: str = "rollout", surge: bool = True, **changes: Any) -> Ask:
    names = {name: changes.pop(name) for name in ("servers", "older_than", "fleet_size") if name in changes}
    return Ask(kind, image, replace(SETTINGS, **changes), surge, **{"fleet_size": 100, **names})


class Book:
    """A journal that is folded as it is written."""

    def __init__(self, now: float = NOW - 10.0) -> None:
        self.state = State()
        self.events: list[Event] = []
        self.now = now
        self._ids = itertools.count(1)

    def write(self, *drafts: Draft) -> State:
        for draft in drafts:
            event = Event(len(self.events) + 1, self.now, draft.type, draft.actor, draft.pool, draft.server, draft.rollout, draft.data, draft.request, "")
            self.events.append(event)
            self.state = fold(self.state, event)
        return self.state

    def start(self, plan: Plan, of: Pool | None = None, rollout: str = "r1") -> State:
        return self.write(*started(plan, of or pool(), rollout, "ana", ""))

    def move(self, cause: str, reason: str = "", rollout: str = "r1") -> State:
        return self.write(Draft("rollout-moved", pool="web", rollout=rollout, data={"cause": cause, "state": "", "reason": reason}))

    def begin(self, server: str, step: str, path: str = "", rollout: str = "r1") -> str:
        op = f"op{next(self._ids)}"
        self.write(Draft("step-begun", pool="web", server=server, rollout=rollout,
                         data={"op": op, "step": step, "verb": "", "number": 0, "path": path, "reason": step}))
        return op

    def done(self, server: str, step: str, op: str, rollout: str = "r1") -> State:
        return self.write(Draft("step-done", pool="web", server=server, rollout=rollout, data={"op": op, "step": step, "facts": {}}))

    def fail(self, server: str, step: str, op: str, error: str = "broken", rollout: str = "r1") -> State:
        return self.write(Draft("step-failed", pool="web", server=server, rollout=rollout,
                                data={"op": op, "step": step, "error": error, "last_words": "", "number": 2}))

    def walk(self, server: str, *steps: str) -> State:
        for step in steps:
            self.done(server, step, self.begin(server, step))
        return self.state

    def again(self) -> State:
        """The same journal, folded from nothing."""
        return fold_all(State(), self.events)


def begun(*incarnations: Seen, **changes: Any) -> Book:
    """A book with rollout r1 of those servers that has just taken its first transition; `of`, `kind`, `image` and settings."""
    book, rollout = Book(), "r1"
    of, kind, image = changes.pop("of", None), changes.pop("kind", "rollout"), changes.pop("image", V2)
    now = sight(*incarnations, of=of, now=book.now)
    wanted = ask(image, kind, **changes)
    book.start(draw(now, wanted), of or now.pool, rollout)
    first = "begin-rollback" if kind == "rollback" else "begin-canary" if any(run.canary for run in book.state.rollouts[rollout].runs.values()) else "begin"
    book.move(first, rollout=rollout)
    return book
