"""Frames in, rows and phrases out. Pure: no clock, no terminal, no Textual.

`ViewModel` is the terminal's copy of what the daemon said. Frames replace rows, nothing is computed from a past frame,
so a lost frame is healed by the next status. Times of the daemon are moved to the terminal's clock by `skew`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tui import fields, offers, shapes
from tui.keys import built_in
from tui.phrases import approved, mixed, rollout_state, server_trouble, server_words, who
from tui.shapes import Event, Person, Pool, Rollout, Server

KEEP_EVENTS = 20_000
"""Events kept in memory, about 10 MB; the daemon has them all."""
KEEP_ENDED = 20
"""Ended rollouts kept in memory; the daemon has them all."""
DELAY = 2.0
"""Seconds below which a difference between the clocks is taken for the time that a frame was on its way, which changes from frame to frame."""


@dataclass(frozen=True, slots=True)
class Connection:
    """`state`: connecting (never had a word yet) · live · stale. `since`: when the last word came."""

    state: str = "connecting"
    since: float | None = None
    why: str = ""

    @property
    def live(self) -> bool:
        return self.state == "live"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something a person should look at; `glyph` and words say it, the tone only underlines."""

    name: str
    words: str
    tone: str
    pool: str
    server: str = ""


@dataclass(slots=True)
class Tally:
    """One pool's servers, counted in one pass over all of them."""

    oldest_born: float | None = None
    returnable: int = 0
    held: int = 0
    tainted: int = 0
    unlocked: int = 0
    roots: dict[str, int] = field(default_factory=dict)


class ViewModel:
    """What the daemon said, indexed for drawing."""

    def __init__(self, key_of: Callable[[str], str] = built_in) -> None:
        """`key_of`: what is printed on the key of an action, for sentences that name one."""
        self.key_of = key_of
        self.fleet = ""
        self.seq = 0
        self.skew = 0.0
        self.read_only = ""
        self.fails_on_purpose = False
        self.you: Mapping[str, str] = {}
        self.people: dict[int, Person] = {}
        self.me = 0
        """This terminal's number among them; 0 while the daemon has not said it."""
        self.pools: dict[str, Pool] = {}
        self.servers: dict[str, Server] = {}
        self.rollouts: dict[str, Rollout] = {}
        self.events: list[Event] = []
        self.images: dict[str, offers.Image] = {}
        self.complete_from: int | None = None
        """Every event after this number is held here; 0: the whole journal is."""
        self.incomplete: set[str] = set()
        self.connection = Connection()
        self.servers_epoch = 0
        self.events_epoch = 0
        self._tallies: tuple[int, dict[str, Tally], list[Trouble]] = (-1, {}, [])

    # frames

    def status(self, frame: Mapping[str, Any], now: float) -> None:
        """Take a whole StatusFrame in place of all that was known; events are kept."""
        self.fleet = fields.text(frame, "fleet")
        self.seq = fields.whole(frame, "seq")
        self.read_only = fields.text(frame, "read_only")
        self.fails_on_purpose = bool(frame.get("failpoints"))
        you = fields.mapping(frame, "you")
        self.you = {key: value for key, value in you.items() if isinstance(value, str)}
        self._gather(frame)
        daemon_now = fields.moment(frame.get("now"))
        skew = 0.0 if daemon_now is None else now - daemon_now
        self.skew = skew if abs(skew) >= DELAY else 0.0
        self.pools, self.servers = {}, {}
        for row in fields.rows(frame, "pools"):
            pool = shapes.pool(row)
            self.pools[pool.name] = pool
            for item in fields.rows(row, "servers"):
                server = shapes.server(item)
                self.servers[server.name] = server
        ended = {key: item for key, item in self.rollouts.items() if not item.active}
        fresh = (shapes.rollout(row, now) for row in fields.rows(frame, "rollouts"))
        self.rollouts = {**ended, **{item.id: item for item in fresh}}
        self.servers_epoch += 1

    def frame(self, frame: Mapping[str, Any], now: float) -> None:
        """Take one line of the event stream. Unknown frames are ignored: a newer daemon may have more to say."""
        self.seq = max(self.seq, fields.whole(frame, "seq"))
        row = fields.mapping(frame, "row")
        match fields.text(frame, "frame"):
            case "event":
                self.add_events([row])
            case "server":
                server = shapes.server(row)
                if server.name:
                    self.servers[server.name] = server
                    self.servers_epoch += 1
            case "pool":
                pool = shapes.pool(row)
                if pool.name:
                    before = self.pools.get(pool.name)
                    self.pools[pool.name] = pool
                    if before is None or before.previous != pool.previous:
                        self.servers_epoch += 1  # the servers are counted against it
            case "rollout":
                self.add_rollout(row, now)
            case "people":
                self._gather(frame)
            case "hello":
                self.me = fields.whole(frame, "you")
            case "gone":
                self._gone(fields.text(frame, "kind"), fields.text(frame, "name"))

    def _gather(self, frame: fields.Raw) -> None:
        """Who is here now."""
        self.people = {person.id: person for person in map(shapes.person, fields.rows(frame, "people")) if person.id}

    def add_rollout(self, row: fields.Raw, now: float) -> None:
        """Take a rollout's row, whole or partial; `incomplete` names those that must be asked for whole."""
        rollout = shapes.rollout(row, now, self.rollouts.get(fields.text(row, "id")))
        if not rollout.id:
            return
        self.rollouts[rollout.id] = rollout
        (self.incomplete.discard if rollout.whole else self.incomplete.add)(rollout.id)
        self._forget_old()

    def _gone(self, kind: str, name: str) -> None:
        if kind == "server":
            self.servers.pop(name, None)
            self.servers_epoch += 1
        elif kind == "pool":
            self.pools.pop(name, None)

    def _forget_old(self) -> None:
        ended = sorted((item for item in self.rollouts.values() if not item.active), key=lambda item: item.started or 0)
        for item in ended[:-KEEP_ENDED]:
            del self.rollouts[item.id]

    def add_events(self, rows: list[fields.Raw]) -> None:
        """Insert events in the order of their numbers; one that is known already is not taken twice."""
        for event in map(shapes.event, rows):
            if not self.events or event.seq > self.events[-1].seq:
                self.events.append(event)
            else:
                place = bisect_left(self.events, event.seq, key=lambda item: item.seq)
                if self.events[place].seq == event.seq:
                    continue
                self.events.insert(place, event)
            self.seq = max(self.seq, event.seq)
        self._trim()
        self.events_epoch += 1

    def add_history(self, rows: list[fields.Raw], since: int) -> None:
        """Put a page of older events before those held; `since`: all events after this number are known then."""
        first = self.events[0].seq if self.events else self.seq + 1
        older = [event for event in map(shapes.event, rows) if since < event.seq < first]
        self.events[:0] = sorted(older, key=lambda item: item.seq)
        self.complete_from = since
        self._trim()
        self.events_epoch += 1

    def _trim(self) -> None:
        if len(self.events) > KEEP_EVENTS:
            del self.events[: len(self.events) - KEEP_EVENTS]
            self.complete_from = self.events[0].seq - 1

    @property
    def history_wanted(self) -> bool:
        """Is there room and reason for older events?"""
        return self.complete_from != 0 and len(self.events) < KEEP_EVENTS

    def reach(self, what: str = "events") -> str:
        """How far back the events held here go: `last 570 of 1,251 events`; "" when they are all there are."""
        if self.complete_from == 0 or not self.events or self.events[0].seq <= 1:
            return ""
        return f"last {len(self.events):,} of {self.seq:,} {what}".rstrip()

    def forget_events(self) -> None:
        self.events, self.complete_from = [], None
        self.events_epoch += 1

    # questions

    @property
    def tip(self) -> int:
        """The newest event held here: where a new stream goes on."""
        return self.events[-1].seq if self.events else 0

    @property
    def name(self) -> str:
        return self.you.get("name") or self.you.get("user") or "you"

    @property
    def role(self) -> str:
        return self.you.get("role", "")

    @property
    def driver(self) -> Person | None:
        """Who has the driver's seat."""
        return next((person for person in self.people.values() if person.role == "driver"), None)

    @property
    def drives(self) -> bool:
        """Does this terminal have it?"""
        return (driver := self.driver) is not None and driver.id == self.me

    @property
    def asks(self) -> Person | None:
        """Who asks for the seat."""
        return next((person for person in self.people.values() if person.asks_until is not None), None)

    @property
    def others(self) -> list[Person]:
        """Who else is here, the driver first."""
        return [person for person in self.people.values() if person.id != self.me]

    def after(self, seq: int) -> list[Event]:
        """The events held here that are newer than this number."""
        return self.events[bisect_right(self.events, seq, key=lambda item: item.seq):]

    def daemon_time(self, now: float) -> float:
        """The daemon's clock, from the terminal's."""
        return now - self.skew

    def local(self, moment: float | None) -> float | None:
        """A time the daemon said, on the terminal's clock."""
        return None if moment is None else moment + self.skew

    def age_of(self, server: Server, now: float) -> float | None:
        return None if server.born is None else max(0.0, self.daemon_time(now) - server.born)

    def pool_servers(self, pool: str) -> list[Server]:
        return [server for server in self.servers.values() if server.pool == pool]

    def _counted(self) -> tuple[int, dict[str, Tally], list[Trouble]]:
        """Counts of all pools and the servers in trouble: one pass, again only after a server changed."""
        if self._tallies[0] == self.servers_epoch:
            return self._tallies
        tallies: dict[str, Tally] = {}
        faults: list[Trouble] = []
        held: list[Trouble] = []
        for server in self.servers.values():
            tally = tallies.get(server.pool)
            if tally is None:
                tally = tallies[server.pool] = Tally()
            if server.born is not None and (tally.oldest_born is None or server.born < tally.oldest_born):
                tally.oldest_born = server.born
            tally.returnable += self._returnable(server)
            tally.held += bool(server.held)
            tally.tainted += bool(server.tainted)
            tally.unlocked += server.unlocked_until is not None
            tally.roots[server.root] = tally.roots.get(server.root, 0) + 1
            if words := server_trouble(server):
                tone = "warn" if server.healthy else "bad"
                faults.append(Trouble(server.name, words, tone, server.pool, server.name))
            elif server.held:
                held.append(Trouble(server.name, f'held: "{server.held}"', "warn", server.pool, server.name))
        self._tallies = (self.servers_epoch, tallies, faults + held)
        return self._tallies

    def _returnable(self, server: Server) -> bool:
        """Is it away from its pool's previous image, with an incarnation of that image retained?"""
        pool = self.pools.get(server.pool)
        previous = pool.previous if pool is not None else ""
        return bool(previous) and server.version != previous and any(kept.version == previous for kept in server.retained)

    def tally(self, pool: str) -> Tally:
        return self._counted()[1].get(pool) or Tally()

    def oldest(self, pool: Pool, now: float) -> float | None:
        """Age of the oldest incarnation of a pool, counted here so that it goes on between frames."""
        born = self.tally(pool.name).oldest_born
        return pool.oldest if born is None else max(0.0, self.daemon_time(now) - born)

    def active(self) -> list[Rollout]:
        """Rollouts under way: those that wait for a person first, then the newest."""
        waiting = ("paused", "awaiting-promotion", "awaiting-approval", "checkpoint")
        live = [rollout for rollout in self.rollouts.values() if rollout.active]
        return sorted(live, key=lambda item: (item.state not in waiting, -(item.started or 0), item.id))

    def newest(self) -> list[Rollout]:
        """All known rollouts: under way first, then the newest ended."""
        ended = [rollout for rollout in self.rollouts.values() if not rollout.active]
        return self.active() + sorted(ended, key=lambda item: -(item.started or 0))

    def rollout_of(self, pool: str) -> Rollout | None:
        """The rollout a pool is in, or its last one."""
        named = self.pools.get(pool)
        if named is not None and named.rollout in self.rollouts:
            return self.rollouts[named.rollout]
        return next((item for item in self.newest() if item.pool == pool), None)

    def generation(self, pool: str) -> int:
        found = self.pools.get(pool)
        return 0 if found is None else found.generation

    def troubles(self) -> list[Trouble]:
        """What needs a person: rollouts that stopped, servers that failed, places that do not answer."""
        found: list[Trouble] = []
        for rollout in self.active():
            if rollout.state in ("paused", "awaiting-promotion", "awaiting-approval", "checkpoint"):
                state, reason = rollout_state(rollout), rollout.reason
                words = reason if reason.startswith(f"{state} ") else f"{state}: {reason}" if reason else state
                found.append(Trouble(rollout.pool, words, "warn", rollout.pool))
        moving = {rollout.pool for rollout in self.active()}
        for pool in self.pools.values():
            found.extend(
                Trouble(pool.name, f"{place} cannot be reached: {why}", "bad", pool.name)
                for place, why in pool.unreachable.items()
            )
            if pool.auto.startswith("stopped"):
                found.append(Trouble(pool.name, f"mode auto is {pool.auto}", "bad", pool.name))
            if pool.proposal is not None:
                waits, of = pool.proposal, f"plan {pool.proposal.hash[:8]} of {who(pool.proposal.author)}"
                found.append(Trouble(pool.name, f"{of}: {approved(waits)}; {self.key_of('approve')} shows it" if waits.left else f"{of} is approved and may be started", "warn", pool.name))
            if pool.name not in moving and (words := mixed(pool)):
                found.append(Trouble(pool.name, words, "warn", pool.name))
        unborn = {pool.name for pool in self.pools.values() if pool.size and not pool.stable and not pool.versions} - moving
        found.extend(Trouble(name, f"no server was born yet: {self.key_of('plan')} plans the birth", "warn", name) for name in sorted(unborn))
        found.extend(item for item in self._counted()[2] if item.pool not in unborn or self.servers[item.server].held)
        return sorted(found, key=lambda item: item.tone != "bad")

    def faulty(self, server: Server) -> bool:
        return bool(server_trouble(server)) or bool(server.held)

    def waits(self, rollout: Rollout) -> list[tuple[str, str]]:
        """Waiting servers grouped by reason: `web-7 and 5 more`, why."""
        groups: dict[str, list[str]] = {}
        for run in rollout.runs:
            if run.cell == ".":
                groups.setdefault(run.reason or "waits for its turn", []).append(run.name)
        named = []
        for reason, names in groups.items():
            more = f" +{len(names) - 1}" if len(names) > 1 else ""
            named.append((names[0] + more, reason))
        return named

    def server_line(self, name: str) -> str:
        server = self.servers.get(name)
        return "" if server is None else server_words(server)

    def moved(self, rollout: Rollout) -> int:
        """Servers that a rollback of this rollout would touch."""
        return sum(count for cell, count in rollout.cells.items() if cell in "+bhds!")
