"""The oracle: judges the simulated world and the journal's order, never what the engine believes.

A server is *well* if an admitted incarnation of it (a `commit` of which returned) runs, has booted and has not died. The engine learns of a death
by its next probe; a decision taken within LAG of a death is judged as if the dead one still served.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from drivers.sim import Life, World
from fleet.core import budget
from fleet.core.budget import Budget
from fleet.core.codec import settings_in
from fleet.core.desired import Pool, RolloutSettings
from fleet.core.events import Event
from fleet.core.lifecycle import BACKWARD, ENDS, next_step

LAG = 3.5
"""Seconds: the longest pace of probes (2 s), their nap, and a margin."""


class Broken(AssertionError):
    """A promise was broken in the world."""


class WatchedWorld(World):
    """Tells of every change, by the server's name."""

    told: Callable[[str], None] = staticmethod(lambda server: None)

    def _changed(self, life: Life) -> None:
        super()._changed(life)
        self.told(life.server)

    def bury(self, life: Life) -> None:
        super().bury(life)
        self.told(life.server)

    def photograph(self) -> list[dict[str, Any]]:
        """The world as its file would hold it."""
        return list(self._lines())

    def lives_of(self, server: str) -> list[Life]:
        """All incarnations of one server, the oldest first."""
        return [self.lives[server, number] for number in range(self._last.get(server, -1) + 1) if (server, number) in self.lives]


class Oracle:
    """Watches one pool. What is broken is kept in `broken`: the engine would catch an exception, as it must. `last_died`: until when a server
    that died served, whatever became of its slot since.
    """

    lag = LAG

    def __init__(self, pool: Pool, world: WatchedWorld) -> None:
        self.pool = pool
        self.world = world
        self.settings: RolloutSettings = pool.rollout
        self.limits: Budget = budget.resolve(pool.rollout.max_surge, pool.rollout.max_unavailable, pool.servers)
        self.state = ""
        self.kind = ""
        self.promoted = True
        self.canaries: set[str] = set()
        self.begun: set[str] = set()
        self.failed: set[str] = set()
        self.least = pool.servers
        self.most_extra = 0
        self.extra: dict[str, int] = {}
        self.unproved: set[str] = set()
        self.judged: set[str] = set()
        self.leaving: dict[str, str] = {}
        self.died: dict[tuple[str, int], float] = {}
        self.last_died: dict[str, float] = {}
        self.ended_at: dict[tuple[str, int], float] = {}
        self.aborting = False
        self.admitted: set[tuple[str, int]] = set()
        self.intents: set[str] = set()
        self.flying: dict[str, str] = {}
        self.carried: set[str] = set()
        self.broken: list[str] = []

    def _break(self, sentence: str) -> None:
        self.broken.append(sentence)

    def check(self) -> None:
        """Raises Broken if a promise was."""
        if self.broken:
            raise Broken("; ".join(self.broken[:3]))

    # --- what the world is like

    def lives(self, server: str) -> list[Life]:
        return self.world.lives_of(server)

    def _last_well(self, life: Life, now: float) -> float:
        """Until when this incarnation served; -inf if it never did."""
        if life.key not in self.admitted or life.ready_at > now:
            return -math.inf
        if life.state == "running":
            return now if now < life.dies_at else life.dies_at
        return self.died.get(life.key, -math.inf) if life.state == "crashed" else -math.inf

    def well(self, server: str, now: float, lag: float = 0.0) -> bool:
        return max([self.last_died.get(server, -math.inf), *(self._last_well(life, now) for life in self.lives(server))]) >= now - lag

    def count_well(self, now: float, names: Iterable[str] | None = None) -> int:
        return sum(self.well(name, now) for name in (names or self.pool.server_names))

    # --- I1: who is taken out of service

    def retiring(self, server: str, number: int, op: str, now: float) -> None:
        """A call of `retire`. Judged once for each intent, at the moment it was decided."""
        life = self.world.lives.get((server, number))
        if op in self.judged or life is None or life.state != "running":
            return
        self.judged.add(op)
        others = [other for other in self.lives(server) if other.number != number]
        if life.key not in self.admitted or now < life.ready_at or now >= life.dies_at:
            return  # it does not serve: nothing is taken away
        if any(self._last_well(other, now) >= now - self.lag for other in others):
            return  # another incarnation of the server has its place
        self.leaving[server] = op
        left = sum(self.well(name, now, self.lag) for name in self.pool.server_names if name not in self.leaving)
        if left < self.pool.servers - max(self.limits.unavailable, len(self.carried)):
            self._break(f"I1: {server}.{number} is taken out of service and leaves {left} of {self.pool.servers} well, "
                         f"{self.limits.unavailable} may be missing")

    def done(self, server: str, op: str) -> None:
        """A verb's call ended."""
        if self.leaving.get(server) == op:
            del self.leaving[server]

    # --- I2, I10: after every change of the world

    def changed(self, server: str, now: float) -> None:
        """Something changed about this server."""
        if self.world.breaches:
            self._break(f"I10/I13: {self.world.breaches[-1]}")
        mine = self.lives(server)
        for life in mine:
            if life.state == "crashed":
                self.died.setdefault(life.key, min(now, life.dies_at))
                self.last_died[server] = max(self.last_died.get(server, -math.inf), self._last_well(life, now))
            elif life.state == "running":
                self.died.pop(life.key, None)
            if life.state in ("stopped", "crashed"):
                self.ended_at.setdefault(life.key, now)
            else:
                self.ended_at.pop(life.key, None)
        if sum(bool(life.holds) for life in mine) > 1:
            self._break(f"I10: two incarnations of {server} hold its data disk")
        running = [life for life in mine if life.state == "running" and self.meant(life)]
        self.extra[server] = max(0, len(running) - 1)
        (self.unproved.discard if all(life.committed for life in running) else self.unproved.add)(server)
        doubles = sum(self.extra.values())
        self.most_extra = max(self.most_extra, doubles)
        self._tally(now)
        if doubles > max(self.limits.surge, len(self.carried)):
            self._break(f"I2: {doubles} extra incarnations run, {self.limits.surge} may")
        unproved = {name for name in self.unproved if not self.left_over(name)}
        if len(unproved) > max(self.limits.surge + self.limits.unavailable, len(self.carried)):
            self._break(f"I2: {len(unproved)} servers are unproved at once: {sorted(unproved)}")

    def _tally(self, now: float) -> None:
        """For a story's last line; nothing is judged by it."""
        self.least = min(self.least, self.count_well(now))

    def meant(self, life: Life) -> bool:
        """False for an incarnation that nobody wants any more (a request that took effect too late); no budget can hold it."""
        return True

    def left_over(self, server: str) -> bool:
        """True for a server where nothing is in flight any more, and that only runs twice: that is counted as an extra one."""
        return False

    # --- I3, I4

    def committing(self, server: str, number: int, now: float) -> None:
        """A call of `commit`: the newborn was well for min_healthy_time, in the world too."""
        life = self.world.lives.get((server, number))
        if life is None or life.committed or self.kind == "":
            return
        if now - life.ready_at < self.settings.min_healthy_time - 1e-6:
            self._break(f"I3: {server}.{number} is admitted {now - life.ready_at:.2f} s after it was well")

    def burying(self, server: str, number: int, now: float) -> None:
        life = self.world.lives.get((server, number))
        if life is None or not life.committed or life.state == "running":
            return  # one that runs is not removed: the driver refuses it
        if not any(self._heir(other, now) for other in self.lives(server) if other.number != number):
            self._break(f"I3: {server}.{number} is buried, and nothing proved runs in its place")
        if now - self.ended_at.get((server, number), now) < min(self.settings.retain, self.pool.rollout.retain) - 1e-6:
            self._break(f"I4: {server}.{number} is buried before its retention ended")

    def _heir(self, life: Life, now: float) -> bool:
        return self._last_well(life, now) >= now - self.lag and now - life.ready_at >= self.settings.min_healthy_time

    # --- I7, I8, I9: the order of the journal

    def hear(self, event: Event, now: float) -> None:
        react = getattr(self, "_on_" + event.type.replace("-", "_"), None)
        if react is not None:
            react(event, event.data, now)

    def _on_rollout_started(self, event: Event, data: dict[str, Any], now: float) -> None:
        self.settings = settings_in(data["settings"])
        self.limits = budget.resolve(self.settings.max_surge, self.settings.max_unavailable, self.pool.servers)
        self.kind, self.state = data["kind"], "planned"
        self.canaries = {run["server"] for run in data["runs"] if run["canary"]}
        self.promoted = not self.canaries
        self.begun, self.failed, self.aborting = set(), set(), False

    def _on_rollout_moved(self, event: Event, data: dict[str, Any], now: float) -> None:
        self.state = data["state"]
        self.aborting = self.aborting or data["cause"] == "abort"
        if data["cause"] == "promoted":
            self.promoted = True
        if data["cause"].startswith("resume-"):
            self.failed = set()

    def _on_rollout_set(self, event: Event, data: dict[str, Any], now: float) -> None:
        """What was in flight when a budget was lowered is carried to its end."""
        self.settings = settings_in(data["settings"])
        self.limits = Budget(data["budget"]["surge"], data["budget"]["unavailable"])
        self.carried = set(self.flying)

    def _on_step_done(self, event: Event, data: dict[str, Any], now: float) -> None:
        path = self.flying.get(event.server, "") if event.rollout else ""
        if path and next_step(path, data["step"]) == ENDS[path]:
            self._landed(event.server)

    def _on_server_settled(self, event: Event, data: dict[str, Any], now: float) -> None:
        self._landed(event.server)

    def _landed(self, server: str) -> None:
        self.flying.pop(server, None)
        self.carried.discard(server)

    def _on_rollout_ended(self, event: Event, data: dict[str, Any], now: float) -> None:
        self.state = self.kind = ""

    def _on_step_failed(self, event: Event, data: dict[str, Any], now: float) -> None:
        if event.rollout and self.state in ("canary", "rolling"):
            self.failed.add(event.server)
        if data["step"] == "admitting" and self.flying.get(event.server) == "birth":
            self.admitted.discard((event.server, data["number"]))  # the hook after `commit` failed: nobody was ever sent there

    def _on_step_begun(self, event: Event, data: dict[str, Any], now: float) -> None:
        if not event.rollout or data["op"] in self.intents:
            return  # an intent of an earlier daemon is taken up again: the step was begun then
        self.intents.add(data["op"])
        first = event.server not in self.begun
        if data["path"] == "in-place" and data["step"] == "preparing" and self.state != "paused":
            return  # nothing is taken away by it
        self.begun.add(event.server)
        if len(self.carried) >= self.limits.surge + self.limits.unavailable and event.server not in self.flying and data["path"] not in BACKWARD:
            self._break(f"I2: {event.server} is begun while {len(self.carried)} are in flight from before the budget was lowered")
        self.flying[event.server] = data["path"]
        turned = self.state == "rolling-back" or self.kind == "rollback" or data["path"] in BACKWARD
        if first and not turned and not self.promoted and event.server not in self.canaries:
            self._break(f"I9: {event.server} is begun before the canaries were proved and promoted")
        if first and not turned and len(self.failed) > self.settings.max_failures:
            self._break(f"I8: {event.server} is begun after {len(self.failed)} failed")
        if self.state == "paused" and data["path"] not in BACKWARD and (first or self._needless(data)):
            self._break(f"I7: {event.server} begins {data['step']} on {data['path']} though the rollout is paused")

    def _needless(self, data: dict[str, Any]) -> bool:
        """A step that no pause may begin: standing still would have cost nothing. What an abort finishes may be begun."""
        if data["path"] == "delete-first":
            return data["step"] in ("preparing", "draining", "stopping")
        if data["path"] == "in-place":
            return data["step"] in ("preparing", "draining") or (data["step"] == "booting" and not self.pool.hooks.drain)
        return not (self.aborting and (data["step"] in ("draining", "retiring") or (data["path"], self.kind) == ("birth", "rollback")))
