"""The frames of fleet.api.wire as typed values: servers, pools, rollouts, events. (Images and plans: tui/offers.py.)

Everything here is immutable, so "the row changed" is `is not`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import intern

from tui.fields import Raw, mapping, moment, number, rows, text, whole, words


@dataclass(frozen=True, slots=True)
class Kept:
    """A retained incarnation: what rollback could return to."""

    incarnation: int
    version: str
    until: float | None


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    pool: str
    uuid: str
    incarnation: int | None
    version: str
    digest: str
    born: float | None
    state: str
    healthy: bool
    health_words: str
    root: str
    address: str
    hypervisor: str
    held: str
    tainted: tuple[str, ...]
    unlocked_until: float | None
    unlocked_by: str
    unlocked_why: str
    retained: tuple[Kept, ...]
    reason: str


def server(row: Raw) -> Server:
    kept = row.get("retained")
    unlocked = mapping(row, "unlocked") if row.get("unlocked") else {}
    number_of = row.get("incarnation")
    return Server(
        name=text(row, "name"), pool=text(row, "pool"), uuid=text(row, "uuid"),
        incarnation=number_of if isinstance(number_of, int) else None,
        version=text(row, "version"), digest=text(row, "digest"), born=moment(row.get("born_at")),
        state=text(row, "state", "unknown"), healthy=row.get("healthy") is True,
        health_words=text(row, "health_words"), root=text(row, "root", "unknown"), address=text(row, "address"),
        hypervisor=text(row, "hypervisor"), held=text(row, "held"),
        tainted=words(row, "tainted") if row.get("tainted") else (),
        unlocked_until=moment(unlocked.get("until")), unlocked_by=text(unlocked, "by"), unlocked_why=text(unlocked, "why"),
        retained=tuple(
            Kept(whole(item, "incarnation"), text(item, "version"), moment(item.get("until")))
            for item in rows(row, "retained")
        ) if kept else (),  # the newest first
        reason=text(row, "reason"),
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A plan that waits for other people's approval. `given`: who approved it, each once."""

    hash: str
    to: str
    author: str
    servers: int
    needed: int
    left: int
    expires: float | None
    given: tuple[str, ...]


def waiting(row: Raw) -> Waiting | None:
    if not text(row, "hash"):
        return None
    return Waiting(
        hash=text(row, "hash"), to=text(row, "to"), author=text(row, "author"), servers=whole(row, "servers"), needed=whole(row, "needed"),
        left=whole(row, "left"), expires=moment(row.get("expires_at")), given=tuple(text(item, "by") for item in rows(row, "approvals")),
    )


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    driver: str
    mode: str
    size: int
    healthy: int
    available: int
    family: str
    stable: str
    target: str
    previous: str
    newest: str
    rejected: tuple[tuple[str, str], ...]
    versions: Mapping[str, int]
    root: str
    data: tuple[str, ...]
    oldest: float | None
    max_age: float | None
    rollout: str
    generation: int
    unreachable: Mapping[str, str]
    due: str = ""
    auto: str = ""
    proposal: Waiting | None = None


def pool(row: Raw) -> Pool:
    image = mapping(row, "image")
    versions = mapping(row, "versions")
    return Pool(
        name=text(row, "name"), driver=text(row, "driver"), mode=text(row, "mode"), size=whole(row, "size"),
        healthy=whole(row, "healthy"), available=whole(row, "available"), family=text(image, "family"),
        stable=text(image, "stable"), target=text(image, "target"), previous=text(image, "previous"),
        newest=text(image, "newest"),
        rejected=tuple((text(item, "version"), text(item, "reason")) for item in rows(image, "rejected")),
        versions={key: count for key, count in versions.items() if isinstance(count, int)},
        root=text(row, "root"), data=words(row, "data"), oldest=number(row, "oldest_age_seconds"),
        max_age=number(row, "max_age_seconds"), rollout=text(row, "rollout"), generation=whole(row, "generation"),
        unreachable={key: why for key, why in mapping(row, "unreachable").items() if isinstance(why, str)},
        due=text(row, "due"), auto=text(row, "auto"), proposal=waiting(mapping(row, "proposal")),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """One server in a rollout; `cell` is its glyph."""

    name: str
    step: str
    cell: str
    path: str
    canary: bool
    since: float | None
    reason: str
    error: str
    last_words: str
    deadline: float | None


@dataclass(frozen=True, slots=True)
class Rollout:
    """`at`: when this row came, by the clock of the terminal; its eta counts from there. `cells`: servers by glyph."""

    id: str
    pool: str
    kind: str
    image: str
    origin: str
    to: str
    state: str
    reason: str
    author: str
    plan_hash: str
    started: float | None
    ended: float | None
    eta: float | None
    eta_low: float | None
    eta_high: float | None
    typical: Mapping[str, float]
    max_surge: int
    max_unavailable: int
    surge_used: int
    missing: int
    in_flight: int
    failures: int
    max_failures: int
    rollback_cost: str
    waits: str
    checkpoint: str
    outside: str
    changed: str
    on_disconnect: str
    runs: tuple[Run, ...]
    approvals: tuple[str, ...]
    at: float = 0.0
    opens: float | None = None
    """When the checkpoint it stands at opens by itself."""
    cells: Mapping[str, int] = field(default_factory=dict)
    whole: bool = True
    """False when servers of it are still unknown here."""

    @property
    def active(self) -> bool:
        return self.state not in ENDED


ENDED = frozenset({"done", "rolled-back", "failed", "aborted"})
CELLS = ".dsbh+!<="


def run(row: Raw) -> Run:
    cell, step = text(row, "cell"), text(row, "step", "waiting")
    if len(cell) != 1 or cell not in CELLS:
        cell = "=" if step in ("skipped", "held") else "."
    return Run(
        name=text(row, "name"), step=step, cell=cell,
        path=text(row, "path"), canary=row.get("canary") is True, since=moment(row.get("since")),
        reason=text(row, "reason"), error=text(row, "error"), last_words=text(row, "last_words"),
        deadline=moment(row.get("deadline")),
    )


def rollout(row: Raw, at: float, before: Rollout | None = None) -> Rollout:
    """`at`: seconds by the terminal's clock. A row that says `partial` is laid over `before`, server by server."""
    budget = mapping(row, "budget")
    typical = mapping(row, "typical_seconds")
    fresh = {item.name: item for item in (run(found) for found in rows(row, "servers"))}
    part = row.get("partial") is True
    if part and before is not None:
        fresh = {**{item.name: item for item in before.runs}, **fresh}
    runs = tuple(fresh.values())
    counts = [count for count in mapping(row, "counts").values() if isinstance(count, int)]
    return Rollout(
        id=text(row, "id"), pool=text(row, "pool"), kind=text(row, "kind", "rollout"), image=text(row, "image"),
        origin=text(row, "from"), to=text(row, "to"), state=text(row, "state", "planned"), reason=text(row, "reason"),
        author=text(row, "author"), plan_hash=text(row, "plan_hash"), started=moment(row.get("started_at")),
        ended=moment(row.get("ended_at")), eta=number(row, "eta_seconds"), eta_low=number(row, "eta_low_seconds"),
        eta_high=number(row, "eta_high_seconds"),
        typical={key: float(value) for key, value in typical.items() if isinstance(value, (int, float))},
        max_surge=whole(budget, "max_surge"), max_unavailable=whole(budget, "max_unavailable"),
        surge_used=whole(budget, "surge_used"), missing=whole(budget, "missing"), in_flight=whole(budget, "in_flight"),
        failures=whole(row, "failures"), max_failures=whole(row, "max_failures"),
        rollback_cost=text(row, "rollback_cost"), waits=text(row, "waits"), checkpoint=to_checkpoint(mapping(row, "checkpoint")), outside=said_by(text(row, "outside"), text(row, "outside_by")),
        changed=text(row, "changed"), on_disconnect=text(row, "on_disconnect", "continue"), runs=runs, approvals=words(row, "approvals"), at=at, opens=moment(row.get("opens_at")), cells=counted(runs),
        whole=not part or len(runs) == sum(counts),
    )


def to_checkpoint(row: Raw) -> str:
    """`2 more servers follow until the checkpoint at 50%`; "" if none is ahead."""
    count = whole(row, "servers")
    return f"{count} more server{'s' if count != 1 else ''} follow until the checkpoint at {whole(row, 'percent')}%" if count > 0 else ""


def said_by(words: str, who: str) -> str:
    """What a person said, and who it was."""
    return f"{words} (said {who})" if words and who else words


def counted(runs: tuple[Run, ...]) -> dict[str, int]:
    """How many servers show each cell."""
    cells: dict[str, int] = {}
    for item in runs:
        cells[item.cell] = cells.get(item.cell, 0) + 1
    return cells


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a terminal. `asks_until`: when the driver's seat is theirs, if its driver keeps silent."""

    id: int
    name: str
    user: str
    role: str
    since: float | None
    asks_until: float | None
    place: Raw


def person(row: Raw) -> Person:
    user, terminal = text(row, "user"), text(row, "terminal")
    return Person(id=whole(row, "id"), name=f"{user}@{terminal}" if terminal else user, user=user, role=text(row, "role"), since=moment(row.get("since")),
                  asks_until=moment(row.get("asks_until")), place=mapping(row, "place"))


@dataclass(frozen=True, slots=True)
class Event:
    seq: int
    at: float | None
    type: str
    actor: str
    pool: str
    server: str
    rollout: str
    text: str


def event(row: Raw) -> Event:
    """Names are shared between events: 20,000 of them stay small."""
    return Event(
        seq=whole(row, "seq"), at=moment(row.get("at")), type=intern(text(row, "type")),
        actor=intern(text(row, "actor")), pool=intern(text(row, "pool")), server=intern(text(row, "server")),
        rollout=intern(text(row, "rollout")), text=text(row, "text"),
    )
