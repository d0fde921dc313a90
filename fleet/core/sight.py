"""One pool as it is judged at one moment: the fleet file, the journal's state, what was observed, and the health seen.

Everything the planner, the plan and the screens derive from these four stands here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from heapq import nsmallest

from fleet.core.desired import Pool
from fleet.core.observed import Facts, Health, Image, ImageRef, Observed, Seen
from fleet.core.state import PoolState, Rollout, Run, Server, State

PROBES_PER_SECOND = 200.0
"""Of one pool, at most."""


@dataclass(frozen=True)
class Sight:
    """`health` and `facts` by (server, incarnation number). `busy`: servers with a verb under way in this process.

    `images`: catalogued images by digest. `looked`: server -> time of a confirmed outcome newer than `observed`. Not slotted: it caches what it derives, and lives for one decision.
    """

    pool: Pool
    state: State
    observed: Observed | None
    health: Mapping[tuple[str, int], Health]
    facts: Mapping[tuple[str, int], Facts]
    now: float
    busy: frozenset[str] = frozenset()
    images: Mapping[str, Image] = field(default_factory=dict)
    looked: Mapping[str, float] = field(default_factory=dict)

    def looked_at(self, server: str) -> float:
        """Engine time from which the picture of this server holds: the observation, or a later confirmed outcome."""
        return max(self.observed.at if self.observed else -1.0, self.looked.get(server, -1.0))

    @cached_property
    def pool_state(self) -> PoolState:
        """What the journal knows of the pool."""
        return self.state.pool(self.pool.name)

    @cached_property
    def rollout(self) -> Rollout | None:
        """The pool's rollout under way."""
        return self.state.active(self.pool.name)

    @cached_property
    def under_way(self) -> tuple[Run, ...]:
        """The active runs of the rollout under way, in the plan's order."""
        return tuple(run for run in self.rollout.runs.values() if run.active) if self.rollout else ()

    def known(self, server: str) -> Server:
        """What the journal knows of a server."""
        return self.pool_state.server(server)

    @cached_property
    def by_server(self) -> Mapping[str, Mapping[int, Seen]]:
        """server -> number -> incarnation, as observed."""
        return self.observed.by_server if self.observed else {}

    def seen(self, server: str, number: int | None) -> Seen | None:
        """The incarnation as observed, None if it was not."""
        return None if number is None else self.by_server.get(server, {}).get(number)

    def serving(self, server: str) -> Seen | None:
        """The incarnation in service: the admitted one if it runs; with no word of it in the journal, the highest that runs."""
        mine = self.by_server.get(server)
        if not mine:
            return None
        admitted = self.pool_state.server(server).admitted
        if admitted is not None:
            seen = mine.get(admitted)
            return seen if seen and seen.state == "running" else None
        running = [number for number, seen in mine.items() if seen.state == "running" and not self._unproved(server, number)]
        return mine[max(running)] if running else None

    def standby(self, server: str) -> Seen | None:
        """What was in service before the one that is, and was not got rid of, while that one does not run: it may serve for all we know, unless it
        was asked and did not answer.
        """
        known, mine = self.known(server), self.by_server.get(server, {})
        if not known.before or self.pool.in_place or self.serving(server) is not None:
            return None
        return next((mine[number] for number in reversed(known.before) if number in mine and mine[number].state == "running"
                     and number not in known.failed and (self.healthy(server, number) or not self.asked(server, number))), None)

    def _unproved(self, server: str, number: int) -> bool:
        """A newborn that its rollout has not admitted, or gives up since it could not: it runs, but it is not in service."""
        rollout = self.rollout
        run = rollout.runs.get(server) if rollout else None
        if run is None or not run.active:
            return False
        return run.source == number if run.path == "clear" else run.target is not None and run.target.number == number

    def image_of(self, seen: Seen) -> ImageRef:
        """The image an incarnation was born from, by the digest found on it."""
        image = self.images.get(seen.digest)
        return image.ref if image else ImageRef(self.pool.image, seen.version, seen.digest)

    @cached_property
    def gap(self) -> float:
        """Seconds after which a look at a server's health is too old to be relied on."""
        return longest_gap(self.pool, len(self.observed.incarnations) if self.observed else 0)

    def asked(self, server: str, number: int) -> bool:
        """True if the outside probes asked it how it is, and that was not long ago."""
        health = self.health.get((server, number))
        return health is not None and self.now - health.last <= self.gap

    def healthy(self, server: str, number: int | None) -> bool:
        """True if the outside probes passed at the last look, and that was not long ago."""
        health = self.health.get((server, number)) if number is not None else None
        return health is not None and health.healthy and self.now - health.last <= self.gap

    def unknown(self, server: str) -> bool:
        """It runs in service, and nobody asked it lately how it is: it must not be taken for a sick one (nor for a well one)."""
        seen = self.serving(server)
        return seen is not None and not self.asked(server, seen.number)

    def available(self, server: str) -> bool:
        """In service and healthy."""
        seen = self.serving(server)
        return seen is not None and self.healthy(server, seen.number)

    @cached_property
    def missing(self) -> frozenset[str]:
        """Servers of the pool that do not serve now, for whatever reason."""
        health, oldest, serving = self.health, self.now - self.gap, self.serving
        found = []
        for name in self.pool.server_names:
            seen = serving(name)
            known = health.get((name, seen.number)) if seen is not None else None
            if known is None or not known.healthy or known.last < oldest:
                found.append(name)
        return frozenset(found)

    @cached_property
    def unadmitted(self) -> frozenset[str]:
        """Servers whose incarnation in service was started again and not admitted since: well or not, nobody can rely on them."""
        return frozenset(name for name, server in self.pool_state.servers.items() if server.restarted).intersection(self.pool.server_names)

    @cached_property
    def held(self) -> frozenset[str]:
        """Servers that nothing but an explicit command touches."""
        return frozenset(name for name, server in self.pool_state.servers.items() if server.held is not None)

    @cached_property
    def surplus(self) -> tuple[str, ...]:
        """Servers that exist but that the fleet file has no more (`servers` was lowered): nothing touches them by itself."""
        return tuple(sorted(set(self.by_server) - set(self.pool.server_names)))

    def place(self, server: str) -> str:
        """Where the server lives: where it was seen, else its turn among the pool's hypervisors."""
        mine = self.by_server.get(server, {})
        for number in sorted(mine, reverse=True):
            if mine[number].place:
                return mine[number].place
        return home_place(self.pool, server)

    @property
    def clock_in_doubt(self) -> bool:
        """True from a daemon's start on a clock far ahead of the journal until a person started or resumed a rollout here."""
        return self.state.leapt_at > self.pool_state.automatic.acknowledged_at

    def unreachable(self, server: str) -> str:
        """"" or the sentence why the server's hypervisor does not answer."""
        away = self.observed.unreachable if self.observed else {}
        return away.get(self.place(server), "") if away else ""

    def highest(self, server: str) -> int:
        """The highest incarnation number ever seen or given."""
        return max([self.known(server).last_number, self.known(server).admitted or 0, *self.by_server.get(server, {})])

    def retained(self, server: str) -> Mapping[int, Seen]:
        """Stopped, whole incarnations that rollback could return to (never one that failed its proof)."""
        known = self.known(server)
        return {number: seen for number, seen in self.by_server.get(server, {}).items()
                if seen.state == "stopped" and number not in known.failed and number != known.admitted}


def longest_gap(pool: Pool, incarnations: int) -> float:
    """Seconds without a look that are no gap yet: two rounds of the slowest probe, or of a whole large pool."""
    return 2 * max(pool.slowest_probe, incarnations / PROBES_PER_SECOND) + 1.0


def home_place(pool: Pool, server: str) -> str:
    """Servers take turns among the hypervisors, so that failure domains are even."""
    if pool.in_place:
        return server
    index = int(server.rsplit("-", 1)[1]) - 1
    return pool.places[index % len(pool.places)]


def span(seconds: float) -> str:
    """A duration for people: "7s", "4m 10s", "2h 10m", "6d 4h"."""
    whole = max(0, int(seconds + 0.5))
    for size, unit, small, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size}{unit} {rest}{smaller}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def some(names: Iterable[str]) -> str:
    """Up to three names, in order, and how many more: "web-1, web-2, web-10 and 4 more"."""
    listed = set(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(nsmallest(3, listed, key=lambda name: (len(name), name))) + more
