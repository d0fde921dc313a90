"""What the daemon sees of one pool right now: the last observation, health, facts, and what is under way.

Changed only on the event loop. Confirmed outcomes of verbs are put into the observation at once, so that the planner
never acts on a picture older than what the daemon itself just did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fleet.core.auto import Verdict
from fleet.core.decision import Wait
from fleet.core.desired import Pool
from fleet.core.observed import Facts, Health, Image, Observed, Seen
from fleet.core.sight import Sight
from fleet.core.state import State

Key = tuple[str, int]


@dataclass(slots=True)
class PoolView:
    """`told`: server -> how far the verb under way has come. `looked`: server -> engine time of the last confirmed outcome; a slower observation never overwrites it.
    `busy`: servers with a rollout's verb under way; `ordered`: machines with an order of a person's under way. Apart, so that the end of one
    is not taken for the end of the other. `glance_at`: machines that a decision waits to see; the rest of the pool need not be looked at for it.
    `glass`: a root was unlocked.
    `auto`: what is due here, and why mode auto does not begin it. `turns`: how often the pool was decided on; `deciding`: it is just now.
    """

    pool: Pool
    observed: Observed | None = None
    health: dict[Key, Health] = field(default_factory=dict)
    facts: dict[Key, Facts] = field(default_factory=dict)
    peek_at: dict[Key, float] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    ordered: set[str] = field(default_factory=set)
    looked: dict[str, float] = field(default_factory=dict)
    waits: Mapping[str, Wait] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    auto: Verdict = field(default_factory=Verdict)
    trouble: str = ""
    halt: str = ""
    turns: int = 0
    deciding: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stir: asyncio.Event = field(default_factory=asyncio.Event)
    look: asyncio.Event = field(default_factory=asyncio.Event)
    glance: asyncio.Event = field(default_factory=asyncio.Event)
    glance_at: set[str] = field(default_factory=set)
    glass: asyncio.Event = field(default_factory=asyncio.Event)
    looked_once: asyncio.Event = field(default_factory=asyncio.Event)

    def sight(self, state: State, now: float, images: Mapping[str, Image]) -> Sight:
        """Everything the planner may know, as values of this moment."""
        return Sight(self.pool, state, self.observed, self.health, self.facts, now, frozenset(self.busy | self.ordered), images, self.looked)

    def wake(self) -> None:
        """Plan again, now."""
        self.stir.set()

    def take_in(self, seen: Observed, started_at: float) -> set[str]:
        """A new observation that began at `started_at`. The servers that changed; "" among them if the whole pool did."""
        newer = {name for name, at in self.looked.items() if at > started_at}
        incarnations = seen.incarnations
        if newer and self.observed is not None:
            kept = tuple(item for item in self.observed.incarnations if item.server in newer)
            incarnations = (*(item for item in incarnations if item.server not in newer), *kept)
        before = self.observed
        self.observed = replace(seen, at=started_at, incarnations=self._unreached(seen, incarnations))
        self.looked = {name: at for name, at in self.looked.items() if name in newer}
        self.looked_once.set()
        self._forget()
        return {""} if before is None else _changed(before, self.observed)

    def take_in_some(self, seen: Observed, started_at: float, names: frozenset[str]) -> None:
        """A look at a few machines of the pool. What is known of the others stands, and of those acted on meanwhile."""
        before = self.observed
        if before is None:
            return
        here = {name for name in names if self.looked.get(name, -1.0) <= started_at}
        found = (item for item in self._unreached(seen, seen.incarnations) if item.server in here)
        away = {name: why for name, why in before.unreachable.items() if name not in here}
        away |= {name: why for name, why in seen.unreachable.items() if name in here}
        kept = (item for item in before.incarnations if item.server not in here)
        self.observed = replace(before, incarnations=(*kept, *found), unreachable=away)
        self.looked |= dict.fromkeys(here, started_at)
        self._forget()

    def _unreached(self, seen: Observed, incarnations: tuple[Seen, ...]) -> tuple[Seen, ...]:
        """What lives on a hypervisor that does not answer is unknown, not absent: the last word about it stands."""
        if not seen.unreachable or self.observed is None:
            return incarnations
        known = {(item.server, item.number) for item in incarnations}
        kept = (item for item in self.observed.incarnations if item.place in seen.unreachable and (item.server, item.number) not in known)
        return (*incarnations, *kept)

    def confirm(self, at: float, server: str, number: int, seen: Seen | None) -> None:
        """A verb's confirmed outcome: the incarnation as it is now, None if it is gone."""
        self.looked[server] = at
        if self.observed is None:
            return
        rest = [item for item in self.observed.incarnations if (item.server, item.number) != (server, number)]
        if seen is not None:
            rest.append(seen)
        self.observed = replace(self.observed, incarnations=tuple(rest))
        self._forget()

    def end_others(self, at: float, server: str, number: int) -> None:
        """A machine runs one incarnation: it booted this one, so no other runs. One look at a whole pool for each boot would be most of
        the work of rolling a large one.
        """
        for other in list(self.observed.by_server.get(server, {}).values()) if self.observed else ():
            if other.number != number and other.state == "running":
                self.confirm(at, server, other.number, replace(other, state="stopped"))

    def shown_waits(self) -> Mapping[str, Wait]:
        """The waits with how far each verb has come, for people."""
        if not self.told:
            return self.waits
        return {**self.waits, **{name: replace(wait, reason=words) for name, words in self.told.items() if (wait := self.waits.get(name))}}

    def find(self, server: str, number: int) -> Seen | None:
        """The incarnation as last observed."""
        return self.observed.by_server.get(server, {}).get(number) if self.observed else None

    def _forget(self) -> None:
        """Health and facts of what does not run any more are no longer true."""
        running = {(item.server, item.number) for item in self.observed.incarnations if item.state == "running"} if self.observed else set()
        for known in (self.health, self.facts, self.peek_at):
            for key in [key for key in known if key not in running]:
                del known[key]


def _changed(before: Observed, after: Observed) -> set[str]:
    if (before.unreachable, before.foreign, before.leftovers) != (after.unreachable, after.foreign, after.leftovers):
        return {""}
    if before.incarnations == after.incarnations:
        return set()
    old, new = before.by_server, after.by_server
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
