"""Looking: one loop per pool that asks the driver what exists, and one that asks the servers' health from outside.

A silent hypervisor or a slow probe delays nobody else. Health is the controller's own: a gap in looking starts the
healthy time anew (rollout.md, min_healthy_time).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from fleet.core.desired import HealthCheck
from fleet.core.errors import AnewError
from fleet.core.events import Draft
from fleet.core.observed import Facts, Health, Observed, Seen
from fleet.core.printable import printable
from fleet.core.sight import PROBES_PER_SECOND, longest_gap
from fleet.core.state import Rollout, Run
from fleet.engine.record import Record
from fleet.engine.view import Key, PoolView
from fleet.ports import Clock, Driver, Probe

OBSERVE_EVERY = 5.0
OBSERVE_DEADLINE = 60.0
AT_ONCE = 64
FACTS_EVERY = 60.0
FACTS_DEADLINE = 15.0
PROVING_EVERY = 1.0
NEWBORN_EVERY = 0.2
NEWBORN_PROBES_PER_SECOND = 400.0
SIMULATED = (HealthCheck("sim"),)
"""The checks of a pool that names none: only simulated ones may."""


def _answers(view: PoolView, run: Run) -> bool:
    health = view.health.get((run.server, run.target.number)) if run.target else None
    return health is not None and health.healthy


def _running(observed: Observed | None) -> list[tuple[Key, Seen]]:
    return [((seen.server, seen.number), seen) for seen in observed.incarnations if seen.state == "running"] if observed else []


class Watch:
    """The eyes of one daemon. `changed(view, server)` is called when a row on the screen may have changed."""

    def __init__(self, record: Record, drivers: Mapping[str, Driver], probes: Mapping[str, Probe], clock: Clock,
                 changed: Callable[[PoolView, str], None]) -> None:
        self.record = record
        self.drivers = drivers
        self.probes = probes
        self.clock = clock
        self.changed = changed

    async def observe(self, view: PoolView) -> None:
        """Observe for ever: every few seconds, and at once when somebody waits for a look."""
        while True:
            view.look.clear()
            await self.look(view)
            try:
                async with asyncio.timeout(OBSERVE_EVERY):
                    await view.look.wait()
            except TimeoutError:
                pass

    async def look(self, view: PoolView) -> None:
        """One observation, taken into the view."""
        started = self.clock.now()
        trouble = ""
        try:
            async with asyncio.timeout(OBSERVE_DEADLINE):
                seen = await self.drivers[view.pool.driver].observe(view.pool)
        except (AnewError, TimeoutError) as error:
            trouble = str(error) or f"the driver did not answer within {OBSERVE_DEADLINE:g}s"
            seen = Observed(view.pool.name, started, unreachable=dict.fromkeys(view.pool.places, trouble))
        changed = view.take_in(seen, started)
        if view.trouble != trouble:
            changed.add("")
        view.trouble = trouble
        view.wake()
        for server in changed:
            self.changed(view, server)

    async def glance(self, view: PoolView) -> None:
        """Look for ever at the few machines that a decision waits for: each is a place of its own, and a pool has many."""
        while True:
            await view.glance.wait()
            view.glance.clear()
            names, view.glance_at = frozenset(view.glance_at), set()
            started = self.clock.now()
            try:
                async with asyncio.timeout(OBSERVE_DEADLINE):
                    seen = await self.drivers[view.pool.driver].observe(replace(view.pool, machines=tuple(sorted(names)), servers=len(names)))
            except (AnewError, TimeoutError):
                view.look.set()  # which tells what is wrong with the whole pool
                continue
            view.take_in_some(seen, started, names)
            view.wake()
            for server in names:
                self.changed(view, server)

    async def health(self, view: PoolView) -> None:
        """Probe for ever. Each incarnation is asked at its own pace: newborns often, the others at the check's interval."""
        due: dict[Key, float] = {}
        asking: set[Key] = set()
        room = asyncio.Semaphore(AT_ONCE)
        known, running = view.observed, _running(view.observed)
        async with asyncio.TaskGroup() as tasks:
            while True:
                now = self.clock.now()
                if known is not view.observed:
                    known, running = view.observed, _running(view.observed)
                for key, seen in running:
                    if due.get(key, 0.0) > now or key in asking:
                        continue
                    asking.add(key)
                    due[key] = now + self._pace(view, key, len(running))
                    tasks.create_task(self._ask(view, seen, asking, room, tasks))
                if len(due) > 2 * len(running) + 16:
                    due = {key: at for key, at in due.items() if at > now}
                await self.clock.sleep(self._nap(view, due, now))

    def _nap(self, view: PoolView, due: Mapping[Key, float], now: float) -> float:
        return min(max(min(due.values(), default=now + 1.0) - now, 0.05), 0.5)

    def _pace(self, view: PoolView, key: Key, running: int) -> float:
        interval = min((check.interval for check in self._checks(view)), default=2.0)
        rollout = self.record.state.active(view.pool.name)
        run = rollout.runs.get(key[0]) if rollout else None
        if run is not None and run.active and run.target is not None and run.target.number == key[1]:
            assert rollout is not None
            return self._newborn_pace(view, key, rollout, interval)
        return max(interval, running / PROBES_PER_SECOND)

    def _newborn_pace(self, view: PoolView, key: Key, rollout: Rollout, interval: float) -> float:
        """One that does not answer yet is asked often, as its budget waits for it; one that does, four times in its trial."""
        health = view.health.get(key)
        if health is not None and health.healthy:
            return max(0.1, min(PROVING_EVERY, interval, rollout.settings.min_healthy_time / 4))
        silent = sum(run.active and run.step in ("booting", "proving") and not _answers(view, run) for run in rollout.runs.values())
        return min(PROVING_EVERY, interval, max(NEWBORN_EVERY, silent / NEWBORN_PROBES_PER_SECOND))

    def _checks(self, view: PoolView) -> tuple[HealthCheck, ...]:
        return view.pool.health or SIMULATED

    async def _ask(self, view: PoolView, seen: Seen, asking: set[Key], room: asyncio.Semaphore, tasks: asyncio.TaskGroup) -> None:
        key = (seen.server, seen.number)
        try:
            async with room:
                healthy, words = await self._all_checks(view, seen)
            current = view.find(*key)
            if current is not None and current.state == "running":
                await self._judge(view, key, healthy, printable(words))
                if healthy and self.clock.now() >= view.peek_at.get(key, 0.0):
                    view.peek_at[key] = self.clock.now() + FACTS_EVERY
                    tasks.create_task(self._inside(view, key))
        finally:
            asking.discard(key)

    async def _all_checks(self, view: PoolView, seen: Seen) -> tuple[bool, str]:
        """All checks must pass, and one of them must look from outside: the guest agent's word alone never passes a server."""
        said, outside = [], False
        for check in self._checks(view):
            probe = self.probes.get(check.kind)
            if probe is None:
                return False, f"there is no probe named {check.kind}"
            healthy, words = await probe.check(view.pool, check, seen)
            if not healthy:
                return False, words
            outside = outside or check.kind != "agent"
            said.append(words)
        return outside, ", ".join(said) if outside else "only the guest agent answers; a probe from outside is needed"

    async def _judge(self, view: PoolView, key: Key, healthy: bool, words: str) -> None:
        """Take one verdict in. A change is news; that a server is found healthy after a restart of the daemon is none."""
        now = self.clock.now()
        before = view.health.get(key)
        same = before is not None and before.healthy == healthy and now - before.last <= self._gap(view)
        view.health[key] = Health(healthy, before.since if same and before else now, now, words)
        if before is not None and same:
            if not healthy and before.words != words:
                self.changed(view, key[0])
            return
        rollout = self._rollout_of(view, key)
        news = before.healthy != healthy if before else healthy and bool(rollout)
        if news and not self._leaving(view, key):
            kind = "server-healthy" if healthy else "server-unhealthy"
            await self.record.write(Draft(kind, pool=view.pool.name, server=key[0], rollout=rollout, data={"number": key[1], "words": words}))
        if not healthy:
            view.facts.pop(key, None)
            view.peek_at.pop(key, None)
            view.look.set()
        self.changed(view, key[0])
        view.wake()

    def _leaving(self, view: PoolView, key: Key) -> bool:
        """True while we are stopping this incarnation: that it falls silent is no news."""
        rollout = self.record.state.active(view.pool.name)
        run = rollout.runs.get(key[0]) if rollout else None
        if run is None or run.source != key[1]:
            return False
        return run.step in ("stopping", "retiring") or (run.step == "booting" and run.path in ("in-place", "fall-back"))

    def _gap(self, view: PoolView) -> float:
        """So long without a look, and the healthy time starts anew."""
        return longest_gap(view.pool, len(view.observed.incarnations) if view.observed else 0)

    def _rollout_of(self, view: PoolView, key: Key) -> str:
        rollout = self.record.state.active(view.pool.name)
        run = rollout.runs.get(key[0]) if rollout else None
        return rollout.id if rollout and run and run.target and run.target.number == key[1] else ""

    async def _inside(self, view: PoolView, key: Key) -> None:
        """Facts from inside, once it is healthy; a server that says nothing is `unknown`, never assumed."""
        try:
            async with asyncio.timeout(FACTS_DEADLINE):
                facts = await self.drivers[view.pool.driver].probe(view.pool, *key)
        except (AnewError, TimeoutError) as error:
            facts = Facts(note=str(error) or "the server told nothing about itself in time")
        if view.find(*key) is None or view.facts.get(key) == facts:
            return
        view.facts[key] = replace(facts, version=printable(facts.version, 64), os=printable(facts.os, 128), note=printable(facts.note))
        self.changed(view, key[0])
        view.wake()
