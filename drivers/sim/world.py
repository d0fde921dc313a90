"""The simulated world of one pool: what is true, as against what anybody believes.

Rules
- The world has no tasks of its own. A boot, a death or a late effect has a moment; `advance(now)` lets pass
  what is due.
- A disk has at most one writer. The attempt to attach it twice is refused *and* kept in `breaches`, as are
  the birth of an unstaged image and the re-use of a number: an oracle reads them, and they must stay empty
  whatever the faults.
- A caller with an older epoch than the newest seen is refused (I16).
- Where servers are machines with two slots (`in_place`), one incarnation of a server runs at a time; staging overwrites
  the idle slot; what is not committed when its dead-man fires, or dies before, gives way to the other slot by itself.
- Everything true is on file before a change is reported to the caller.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import Any

from drivers.sim.chance import fault_of, seconds_for, settings_of
from drivers.sim.faults import Faults
from drivers.sim.life import Life
from drivers.sim.record import Record
from fleet.core.desired import Pool
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.core.observed import Seen
from fleet.ports import Birth, Operation

DEAD_MAN = 120.0
"""Seconds a machine's trial may run uncommitted."""

_REWRITE_AFTER = 4
_KEPT_BREACHES = 1000


class World:
    """All incarnations of a pool. Only `SimDriver` and tests change it."""

    def __init__(self, fleet: str, pool: str, record: Record, faults: Faults) -> None:
        self.pool = pool
        self.lives: dict[tuple[str, int], Life] = {}
        self.staged: set[tuple[str, str]] = set()
        self.disks: set[tuple[str, str]] = set()
        self.breaches: list[str] = []
        self.epoch = 0
        self._fleet = fleet
        self._record = record
        self._faults = faults
        self._last: dict[str, int] = {}
        self._deaths: list[tuple[float, str, int]] = []
        self._late: list[tuple[float, int, Callable[[], object]]] = []
        self._lates = 0
        self._seen: dict[tuple[str, int], Seen] = {}
        self._all_seen: tuple[Seen, ...] | None = None
        self._load()

    # -- time ----------------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Let everything pass that is due at `now`."""
        while self._late and self._late[0][0] <= now:
            _, _, effect = heapq.heappop(self._late)
            try:
                effect()
            except AnewError:
                continue  # it came too late to be possible: nobody is left to be told
        while self._deaths and self._deaths[0][0] <= now:
            at, server, number = heapq.heappop(self._deaths)
            life = self.lives.get((server, number))
            if life is not None and life.state == "running" and life.dies_at == at:
                life.state = "crashed"
                self._changed(life)
                if life.in_place and not life.committed:
                    self._falls_back(life, at)

    def later(self, at: float, effect: Callable[[], object]) -> None:
        """Let `effect` happen at `at`: a request that was under way when its caller gave up."""
        self._lates += 1
        heapq.heappush(self._late, (at, self._lates, effect))

    # -- what is true --------------------------------------------------------------------------------------

    def seen(self) -> tuple[Seen, ...]:
        """All incarnations, in the order of their making. Built anew only for what has changed."""
        if self._all_seen is None:
            self._all_seen = tuple(self._seen.values())
        return self._all_seen

    def find(self, server: str, number: int) -> Life:
        """The incarnation; Refused if there is none."""
        life = self.lives.get((server, number))
        if life is None:
            raise Refused("there is no such incarnation in the simulated world", where=f"{server}.{number}")
        return life

    def running(self, server: str) -> Life | None:
        """The newest incarnation of a server that runs."""
        lives = (self.lives.get((server, number)) for number in range(self._last.get(server, -1), -1, -1))
        return next((life for life in lives if life is not None and life.state == "running"), None)

    def was_buried(self, server: str, number: int) -> bool:
        """True if this number was used and is gone."""
        return number <= self._last.get(server, -1) and (server, number) not in self.lives

    def health(self, server: str, number: int, now: float) -> tuple[bool, str]:
        """Whether the incarnation answers now, with the probe's words."""
        self.advance(now)
        life = self.lives.get((server, number))
        return (False, "sim: no such incarnation") if life is None else life.health(now)

    # -- verbs: each takes effect at once and is safe to repeat --------------------------------------------

    def fence(self, op: Operation) -> None:
        """Refuse a daemon that another one has replaced."""
        if op.epoch < self.epoch:
            raise Refused(
                f"epoch {op.epoch} is over: a daemon with epoch {self.epoch} has taken this pool",
                where=f"pool {self.pool}",
                code="stale-epoch",
            )
        if op.epoch > self.epoch:
            self.epoch = op.epoch
            self._record.append({"epoch": op.epoch})

    def stage(self, digest: str, place: str, in_place: bool = False) -> None:
        if (digest, place) not in self.staged:
            if in_place:
                self._overwrite_idle(place)
            self.staged.add((digest, place))
            self._record.append({"staged": [digest, place]})

    def conceive(self, pool: Pool, order: Birth, op: Operation) -> Life:
        """The first half of a birth: it exists, half-made, and has its disks. Adopts what the same operation
        made.
        """
        life = self.lives.get((order.server, order.number))
        name = f"{order.server}.{order.number}"
        if life is not None:
            if life.digest != order.image.ref.digest:
                raise Refused(f"the incarnation exists already, born from version {life.version}", where=name)
            if life.state == "half-made" and life.operation != op.id:
                life.operation, life.rollout, life.born_at = op.id, op.rollout, order.born_at
                self._changed(life)
            return life
        if self.was_buried(order.server, order.number):
            self._breach(f"{name}: the number of a buried incarnation was to be used again")
            raise Refused("an incarnation of this number was buried; numbers are used once", where=name)
        digest = order.image.ref.digest
        if (digest, order.place) not in self.staged:
            self._breach(f"{name}: birth of {order.image.ref}, which was never staged at {order.place}")
            raise Permanent(f"{order.image.ref} was not staged at {order.place}", where=name)
        life = Life.conceived(self._fleet, pool, order, op)
        self._disks_are_free(life)
        for disk in life.disks:
            self._have_disk(order.server, disk)
        self.lives[life.key] = life
        self._last[life.server] = max(life.number, self._last.get(life.server, -1))
        self._changed(life)
        return life

    def start(self, pool: Pool, life: Life, now: float, verb: str) -> Seen:
        """Power on. `verb` is `boot` for a new incarnation, `rise` for a revived one: how long it takes to
        answer.
        """
        if verb == "rise" and not life.starts:
            raise Refused(
                "it was never started, so there is nothing to go back to",
                where=life.name,
            )
        if life.state != "running":
            sim = settings_of(pool)
            fault = fault_of(sim, life.version)
            self._disks_are_free(life)
            takes = seconds_for(sim, verb, life.server, life.number)
            if life.in_place:
                self._leave_other_slot(life)
            life.state, life.started_at, life.starts = "running", now, life.starts + 1
            life.ready_at = math.inf if fault.kind in ("never-healthy", "never-boots") else now + takes
            life.dies_at = now + 0.6 * takes if fault.kind == "never-boots" else math.inf
            if fault.kind == "dies-after":
                life.dies_at = life.ready_at + fault.after
            if life.in_place and not life.committed:
                life.dies_at = min(life.dies_at, now + DEAD_MAN)
            asked = self._faults.death_of(life.server, life.number)
            if asked is not None:
                life.dies_at = min(life.dies_at, now + asked)
            self._changed(life)
        return self._seen[life.key]

    def commit(self, life: Life) -> None:
        now = self.running(life.server)
        if life.in_place and life.state != "running" and now is not None:
            raise Refused(f"incarnation {life.number} is not the one that runs; {now.number} is", where=life.server, code="wrong-state")
        if not life.committed:
            life.committed = True
            if life.in_place and life.dies_at == life.started_at + DEAD_MAN:
                life.dies_at = math.inf
            self._changed(life)

    def stop(self, life: Life) -> None:
        """Afterwards it does not run and its disks are free. A half-made one stays half-made."""
        if self.lives.get(life.key) is life and life.state in ("running", "crashed"):
            life.state, life.unlocked = "stopped", False
            self._changed(life)

    def remount(self, life: Life, unlocked: bool) -> None:
        """The root of a running incarnation becomes writable, or read-only again."""
        if life.state != "running":
            raise Refused("it does not run, so there is no root to remount", where=life.name)
        if life.unlocked != unlocked:
            life.unlocked = unlocked
            self._changed(life)

    def bury(self, life: Life) -> None:
        if life.state == "running":
            raise Refused("it is running; retire it first", where=life.name)
        self.lives.pop(life.key, None)
        self._seen.pop(life.key, None)
        self._all_seen = None
        self._record.append({"gone": [life.server, life.number]})
        self._tidy()

    # -- what others do to the world -----------------------------------------------------------------------

    def kill(self, server: str, number: int | None = None) -> None:
        """The running incarnation of a server (or the one named) ends as a power cut would end it."""
        for life in self._running(server, number):
            life.state = "crashed"
            self._changed(life)

    def taint(self, server: str) -> None:
        """Somebody opens the root of the running incarnation for writing."""
        for life in self._running(server, None):
            life.touched = True
            self._changed(life)

    def close(self) -> None:
        self._record.close()

    # -- machines with two slots ---------------------------------------------------------------------------

    def _overwrite_idle(self, server: str) -> None:
        """The slot that does not run gets another image: what it held is gone, as is an image staged there before."""
        trial = self.running(server)
        if trial is not None and not trial.committed and any(other.committed and other.state == "stopped" for other in self._siblings(trial)):
            raise Refused(f"incarnation {trial.number} is on trial, and the other slot is what the machine falls back to", where=server, code="wrong-state")
        self.staged = {pair for pair in self.staged if pair[1] != server}
        for life in [life for life in self.lives.values() if life.server == server and life.state != "running"]:
            self.bury(life)

    def _leave_other_slot(self, life: Life) -> None:
        self.staged = {pair for pair in self.staged if pair[1] != life.server}
        for other in self._siblings(life):
            if other.state == "running":
                other.state = "stopped" if other.committed else "crashed"
                self._changed(other)

    def _falls_back(self, life: Life, at: float) -> None:
        """The machine boots the slot that was last committed."""
        kept = [other for other in self._siblings(life) if other.committed and other.state == "stopped"]
        if not kept:
            return
        other = max(kept, key=lambda one: one.number)
        took = 0.0 if other.ready_at == math.inf else other.ready_at - other.started_at
        other.state, other.started_at, other.starts = "running", at, other.starts + 1
        other.ready_at, other.dies_at = at + took, math.inf
        self._changed(other)

    # -- inside --------------------------------------------------------------------------------------------

    def _running(self, server: str, number: int | None) -> list[Life]:
        return [
            life
            for life in self.lives.values()
            if life.server == server and life.state == "running" and number in (None, life.number)
        ]

    def _disks_are_free(self, life: Life) -> None:
        for other in self._siblings(life) if life.disks else ():
            for disk in set(life.disks) & set(other.holds):
                self._breach(
                    f"{life.name}: data disk {disk} was to be attached while "
                    f"{life.server}.{other.number} ({other.state}) holds it"
                )
                raise Transient(f"data disk {disk} is held by incarnation {other.number}", where=life.server)

    def _have_disk(self, server: str, disk: str) -> None:
        """Made blank on first use; there is no way to remove one."""
        if (server, disk) not in self.disks:
            self.disks.add((server, disk))
            self._record.append({"disk": [server, disk]})

    def _siblings(self, life: Life) -> Iterator[Life]:
        for number in range(self._last.get(life.server, -1) + 1):
            other = self.lives.get((life.server, number))
            if other is not None and number != life.number:
                yield other

    def _breach(self, sentence: str) -> None:
        if len(self.breaches) < _KEPT_BREACHES:
            self.breaches.append(sentence)
            self._record.append({"breach": sentence})

    def _changed(self, life: Life) -> None:
        self._seen[life.key] = life.seen()
        self._all_seen = None
        if life.state == "running" and life.dies_at != math.inf:
            heapq.heappush(self._deaths, (life.dies_at, life.server, life.number))
        self._record.append({"life": life.to_json()})
        self._tidy()

    def _tidy(self) -> None:
        if self._record.lines > 2000 + _REWRITE_AFTER * len(self.lives):
            self._record.rewrite(self._lines())

    def _lines(self) -> Iterator[dict[str, Any]]:
        yield {"format": 1, "fleet": self._fleet, "pool": self.pool}
        yield {"epoch": self.epoch}
        yield from ({"last": [server, number]} for server, number in self._last.items())
        yield from ({"staged": list(pair)} for pair in sorted(self.staged))
        yield from ({"disk": list(pair)} for pair in sorted(self.disks))
        yield from ({"breach": sentence} for sentence in self.breaches)
        yield from ({"life": life.to_json()} for life in self.lives.values())

    def _load(self) -> None:
        for number, line in enumerate(self._record.load(), start=1):
            try:
                self._take(line)
            except (KeyError, TypeError, ValueError) as problem:
                raise self._record.broken(number) from problem
        self._record.rewrite(self._lines())
        for life in self.lives.values():
            self._seen[life.key] = life.seen()
            if life.state == "running" and life.dies_at != math.inf:
                heapq.heappush(self._deaths, (life.dies_at, life.server, life.number))

    def _take(self, line: dict[str, Any]) -> None:
        for kind, value in line.items():
            if kind == "life":
                life = Life.from_json(value)
                self.lives[life.key] = life
                self._last[life.server] = max(life.number, self._last.get(life.server, -1))
            elif kind == "gone":
                self.lives.pop((str(value[0]), int(value[1])), None)
            elif kind == "last":
                self._last[str(value[0])] = int(value[1])
            elif kind == "staged":
                self.staged.add((str(value[0]), str(value[1])))
            elif kind == "disk":
                self.disks.add((str(value[0]), str(value[1])))
            elif kind == "breach":
                self.breaches.append(str(value))
            elif kind == "epoch":
                self.epoch = max(self.epoch, int(value))
            elif kind == "format" and value != 1:
                raise ValueError(f"format {value!r} is not known")
