"""The oracle of the simulator: what tests/scenarios/oracle.py judges, and everything else that the simulated world can show.

Judged after every event (of the journal, of the world, of a driver's verb, of a probe):

| promise | how |
| --- | --- |
| I1 | at every `retire` (and every boot that ends another incarnation): who serves in the world without this server |
| I2 | at every change of the world: extra and unproved incarnations against the budget, across crashes and turns |
| I3 | no commit without a proof; a proof is `min_healthy_time` of unbroken answers to this daemon's own probes; nobody buried without an heir |
| I4 | nobody buried before its retention ended; no slot overwritten that is the only way back |
| I5 | I1 to I3 are judged in rollbacks too; that they wait for nothing sick is I20 |
| I6 | where a rollout ended as rolled back, what serves is what was there before it |
| I7, I8, I9 | at every intent: pause, failures, canaries, promotion by a person, checkpoints |
| I10, I13 | by the world: two writers, or an attach while another incarnation holds the disk (not one that came after the look it was decided on) |
| I14 | at every verb: its intent is in the journal, with the same server and incarnation |
| I15 | one operation id makes one incarnation, however often it is tried and whoever tries it |
| I16 | at every verb: it carries the epoch of the daemon that lives |
| I17 | no verb before this daemon looked; no step on a server whose last step failed or was cut off, before it was looked at again |
| I18, I31 | by the history of commands (history.py), at the end |
| I19 | at every restart and at the end: the state is the fold of the journal |
| I20 | a liveness case ends; where nothing is wrong nothing fails, nothing pauses, and everybody serves in the end |
| I21 | at the end of a liveness case: what exists beside a server's incarnation in service is stopped, and retained by the journal |
| I24 | daemons die at any append to the journal, before and after it, and the next one goes on under all of the above |
| I33 | at every start: so many fresh approvals of this plan's hash, by other uids than its author's |

Not to be judged here, and tested elsewhere: I11 (the port has no such verb: tests/drivers), I12 (tests/metal), I22 (simulated
servers have no names but their own: tests/drivers).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drivers.sim import Life
from fleet.core.desired import Pool
from fleet.core.events import Event
from fleet.core.lifecycle import BACKWARD
from fleet.core.sight import longest_gap
from fleet.core.state import PoolState, State
from fleet.ports import Operation
from tests.scenarios.oracle import Oracle, WatchedWorld

HAIR = 1e-3
"""Seconds by which two clocks of the same loop may differ."""

DECIDES = frozenset({"rollout-started", "rollout-moved", "rollout-ended", "server-held", "server-released", "image-rejected", "image-unrejected"})
"""Events after which a decision taken before them is stale (counted here, not read from the engine)."""


NOTHING_WRONG = "nothing is wrong with anything"
ONLY_DEAF = "only the probes are broken, and no server is"


class SimWorld(WatchedWorld):
    """What a request did that took effect after its caller gave up is nobody's intent: `strays` names what it started, and which of its starts it was.
    `by_itself`: starts of machines that went back to their committed slot. `risen`: strays that had died, and that nobody had stopped.
    `known`: server -> when the daemon had looked, as it decided on its last step.
    """

    def __init__(self, *args: Any) -> None:
        self.strays: set[tuple[str, int, int]] = set()
        self.by_itself: set[tuple[str, int, int]] = set()
        self.risen: set[tuple[str, int, int]] = set()
        self.known: dict[str, float] = {}
        self._late_now = self._unforeseen = False
        super().__init__(*args)

    def later(self, at: float, effect: Any) -> None:
        def late() -> None:
            self._late_now = True
            try:
                effect()
            finally:
                self._late_now = False

        super().later(at, late)

    @property
    def deaf(self) -> bool:
        """Every probe fails just now."""
        return self._faults.deaf

    def _changed(self, life: Life) -> None:
        if life.state == "running" and self._late_now:
            self.strays.add((*life.key, life.starts))
            if life.key in self._seen and self._seen[life.key].state == "crashed":
                self.risen.add((*life.key, life.starts))
        super()._changed(life)

    def _falls_back(self, life: Life, at: float) -> None:
        before = {other.key: other.starts for other in self._siblings(life)}
        super()._falls_back(life, at)
        self.by_itself |= {(*other.key, other.starts) for other in self._siblings(life) if other.starts != before[other.key]}

    def _disks_are_free(self, life: Life) -> None:
        holders = [other for other in self._siblings(life) if set(life.disks) & set(other.holds)]
        self._unforeseen = bool(holders) and all(self._came_unseen(other) for other in holders)
        try:
            super()._disks_are_free(life)
        finally:
            self._unforeseen = False

    def _came_unseen(self, life: Life) -> bool:
        """A late request started it after the look on which its server's last step was decided, or in its very instant: only the hypervisor can know,
        and it refuses.
        """
        return (*life.key, life.starts) in self.strays and life.started_at >= self.known.get(life.server, -math.inf)

    def _breach(self, sentence: str) -> None:
        if not (self._late_now or self._unforeseen):  # else it was refused, and nobody who lives had asked for it, or could have known
            super()._breach(sentence)


class Judge(Oracle):
    """One for a case; daemons come and go."""

    world: SimWorld

    def __init__(self, pool: Pool, world: SimWorld) -> None:
        super().__init__(pool, world)
        self.epoch = self.heard = 0
        self.generation = 0
        self.served: dict[tuple[str, int], int] = {}
        self.last_admitted: dict[str, int] = {}
        self.generations: dict[int, int] = {}
        self.asked: dict[str, tuple[str, int, str]] = {}
        self.open: dict[str, str] = {}
        self.fate: dict[str, str] = {}
        self.began = self.looked = 0.0
        self.unsure: dict[str, float] = {}
        self.answers: dict[tuple[str, int], list[float]] = {}
        self.just_ended: dict[tuple[str, int], tuple[float, float]] = {}
        self.refused: dict[tuple[str, int], float] = {}
        self.heard_at = self.deaf_at = self.told_at = -math.inf
        self.will_not_boot: set[tuple[str, int]] = set()
        self.proved: set[tuple[str, int, int]] = set()
        self.unstopped: set[tuple[str, int, int]] = set()
        self.made: dict[str, tuple[str, int]] = {}
        self.homes: dict[str, str] = {}
        self.acting: set[str] = set()
        self.passed: set[int] = set()
        self.reached: set[int] = set()
        self.target = ""
        self.went_on_alone = False
        self.held: set[str] = set()
        self.blameless = ""
        self.fell: set[str] = set()
        self.again: set[str] = set()
        self.flapping: dict[str, float] = {}
        self.proposed: tuple[str, int] = ("", -1)
        self.approved: dict[int, float] = {}

    def recall(self, state: State) -> None:
        """The past of the case: all of its incarnations were proved and admitted."""
        pool: PoolState = state.pool(self.pool.name)
        self.generation, self.epoch, self.heard = pool.generation, state.epoch, state.seq
        for life in self.world.lives.values():
            self.admitted.add(life.key)
            self.proved.add((*life.key, life.starts))
            self.served[life.key] = life.starts
            self.last_admitted[life.server] = life.number

    def blame(self, calm: bool, deaf: bool) -> None:
        """What cannot fail in this case: any step, where nothing is wrong; any server, where only all probes fail at once."""
        self.blameless = NOTHING_WRONG if calm else ONLY_DEAF if deaf else ""

    def commits(self, server: str, number: int) -> None:
        """A commit returned: from now on it serves, until it stops."""
        life = self.world.lives.get((server, number))
        if life is not None:
            self.served[life.key] = life.starts
            self.last_admitted[server] = number

    def retiring(self, server: str, number: int, op: str, now: float) -> None:
        """To take down a server whose health flaps, or one that was started again and was asked and not heard before it was admitted, takes nothing
        away for sure; it counts for the others all the same.
        """
        life = self.world.lives.get((server, number))
        unheard = life is not None and self.served.get(life.key) != life.starts and self.refused.get(life.key, -math.inf) >= life.ready_at
        if self.heard_at < self.told_at and now - self.deaf_at <= self.lag:
            self._repairing(life, now)
        elif now > self.flapping.get(server, 0.0) + self.lag and not unheard:
            super().retiring(server, number, op, now)

    def _repairing(self, life: Life | None, now: float) -> None:
        """A person decided while no probe answered, and none did since: who is sick cannot be known. Judged is what the rollout itself took."""
        if life is None or self._last_well(life, now) < now:
            return
        taken = {name for name in self.flying if not self.well(name, now, self.lag)} | {life.server}
        if len(taken) > max(1, self.limits.unavailable, len(self.carried)):
            self._break(f"I1: {life.name} is taken out of service while no probe answers, and {len(taken)} are: {sorted(taken)}")

    def _last_well(self, life: Life, now: float) -> float:
        """One that was started again serves only when it was admitted again; a machine that went back by itself, as soon as it answers, and so does
        one that died in service and that a late request started.
        """
        serves = self.served.get(life.key) == life.starts or (*life.key, life.starts) in self.world.by_itself or self._serves_on(life)
        return super()._last_well(life, now) if serves else -math.inf

    def _serves_on(self, life: Life) -> bool:
        """Nobody took it out of service since it was admitted, and nobody else was admitted there: it died, and was started by nobody who lives."""
        admitted = self.served.get(life.key)
        if admitted is None or self.last_admitted.get(life.server) != life.number:
            return False
        return all((*life.key, start) in self.world.risen for start in range(admitted + 1, life.starts + 1))

    def _heir(self, life: Life, now: float) -> bool:
        """One in service that nobody of the engine's started again is an heir once it is proved again, by its answers."""
        if self.meant(life):
            return super()._heir(life, now)
        answers = self.answers.get(life.key)
        answered = answers is not None and answers[1] - answers[0] >= self.settings.min_healthy_time - HAIR
        return answered and max(Oracle._last_well(self, life, now), self.last_died.get(life.server, -math.inf)) >= now - self.lag

    def _tally(self, now: float) -> None:
        """A case has no last line."""

    def meant(self, life: Life) -> bool:
        return (*life.key, life.starts) not in self.world.strays

    def left_over(self, server: str) -> bool:
        """Its run is settled, and what was not admitted could not be stopped beside what serves: an extra one, but nobody down waits for it to go."""
        unproved = (life for life in self.lives(server) if life.state == "running" and self.meant(life) and not life.committed)
        return server not in self.flying and all((*life.key, life.starts) in self.unstopped for life in unproved)

    def away(self, now: float) -> None:
        """The daemon did not run for a while: a death in that time could not be known to it before `now`."""
        known = {key for key, life in self.world.lives.items() if life.state == "crashed"}
        self.world.advance(now)
        for key, life in self.world.lives.items():
            if life.state == "crashed" and key not in known:
                self.died[key] = now

    # --- probes

    def answered(self, key: tuple[str, int], healthy: bool, now: float) -> None:
        """The answer to one probe of the daemon that lives."""
        before = self.answers.get(key)
        if healthy:
            self.heard_at = now
        elif self.world.deaf:
            self.deaf_at = now
        if not healthy:
            self.refused[key] = now
            if before is not None:
                self.just_ended[key] = before[0], now
            self.answers.pop(key, None)
        elif before is None or now - before[1] > longest_gap(self.pool, len(self.world.lives)):
            self.answers[key] = [now, now]
            self.refused.pop(key, None)
        else:
            before[1] = now

    # --- I14 to I17: verbs

    def acts(self, verb: str, server: str, number: int, op: Operation, now: float) -> None:
        """A call of a verb that changes something."""
        intent = self.asked.get(op.id)
        if intent is None:
            self._break(f"I14: {verb} of {server}.{number} without an intent in the journal")
        elif verb != "stage" and (intent[0], intent[1]) != (server, number):
            self._break(f"I14: {verb} of {server}.{number}, but the intent {intent[2]} is about {intent[0]}.{intent[1]}")
        if op.epoch != self.epoch:
            self._break(f"I16: {verb} of {server}.{number} carries epoch {op.epoch}, the daemon that lives has {self.epoch}")
        if self.looked < self.began:
            self._break(f"I17: {verb} of {server}.{number} before the daemon looked at what is there")

    def born(self, server: str, number: int, op: Operation) -> None:
        """A birth returned."""
        if self.made.setdefault(op.id, (server, number)) != (server, number):
            self._break(f"I15: operation {op.id} made {self.made[op.id]} and {(server, number)}")

    @contextmanager
    def staging(self, place: str) -> Iterator[None]:
        """On a machine the idle slot is overwritten: not if what it holds is the way back, unless that was tried and did not boot. What the machine
        refuses harms nobody.
        """
        mine = self.lives(place) if self.pool.in_place and place in self.pool.server_names else []
        on_trial = any(life.state == "running" and not life.committed and life.key not in self.admitted for life in mine)
        needed = {life.key for life in mine if life.state == "stopped" and life.committed and life.key not in self.will_not_boot} if on_trial else set()
        try:
            yield
        finally:
            if needed - {life.key for life in self.lives(place)}:
                self._break(f"I4: the idle slot of {place} is overwritten, and what runs there was not proved")

    def committing(self, server: str, number: int, now: float) -> None:
        life = self.world.lives.get((server, number))
        if life is not None and life.state == "running" and (server, number, life.starts) not in self.proved:
            self._break(f"I3: {server}.{number} is admitted and was not proved since it was started")

    # --- the journal

    def hear(self, event: Event, now: float) -> None:
        self.heard = event.seq
        if event.type in DECIDES and event.pool:
            self.generations[event.seq] = self.generation
            self.generation += 1
        super().hear(event, now)

    def _on_daemon_started(self, event: Event, data: dict[str, Any], now: float) -> None:
        self.epoch = data["epoch"]
        self.began, self.looked = now, -1.0
        self.answers.clear()
        self.leaving.clear()
        self.unsure = {**self.unsure, **{self.asked[op][0]: now for op in self.open}}

    def _on_rollout_started(self, event: Event, data: dict[str, Any], now: float) -> None:
        super()._on_rollout_started(event, data, now)
        self.homes = {run["server"]: run["home"]["digest"] for run in data["runs"] if run["action"] == "replace" and run["home"]}
        self.acting = {run["server"] for run in data["runs"] if run["action"] in ("replace", "birth")}
        self.target = data["to"]["digest"]
        self.told_at = now
        if data["kind"] != "rollback":
            self._check_approvals(data["plan_hash"], now)
        self.passed, self.reached, self.went_on_alone, self.fell, self.again = set(), set(), False, set(), set()

    def _on_rollout_moved(self, event: Event, data: dict[str, Any], now: float) -> None:
        before = self.state
        if event.actor != "engine" and data["cause"] != "pause":
            self.told_at = now
        if data["cause"].startswith("resume-"):
            self.again |= self.fell & set(self.flying)  # tried again, too, once they are back
            self.begun -= self.fell - self.again
            self.fell = set()
        super()._on_rollout_moved(event, data, now)
        if data["cause"] == "checkpoint-reached":
            self.reached = {percent for percent in self.settings.checkpoints if self._share(percent) <= len(self.begun & self.acting)}
        if before == "checkpoint" and self.state == "rolling":
            self._opened(event, data["cause"])
        if self.blameless == NOTHING_WRONG and data["cause"] == "pause" and event.actor == "engine":
            self._break(f"I20: the rollout paused by itself ({data['reason']}), but {self.blameless}")
        if data["cause"] == "promoted" and before in ("canary", "awaiting-promotion") and event.actor == "engine":
            self.went_on_alone = self.settings.promotion == "manual" and self.kind == "rollout"

    def _opened(self, event: Event, cause: str) -> None:
        self.passed |= self.reached  # a resume beside it may have sent some of those before it to be tried again
        if event.actor == "engine" and self.settings.checkpoint_pause is None:
            self._break(f"I9: a checkpoint that waits for a person was opened by the engine ({cause})")

    def _on_rollout_ended(self, event: Event, data: dict[str, Any], now: float) -> None:
        if data["state"] == "rolled-back":
            for server, home in self.homes.items():
                wanted = self.target if self.kind == "rollback" else home
                serving = [life for life in self.lives(server) if life.state == "running" and life.key in self.admitted]
                if server in self.begun - self.held and serving and all(life.digest != wanted for life in serving):
                    self._break(f"I6: {server} serves {serving[-1].version} after it was rolled back")
        super()._on_rollout_ended(event, data, now)

    def _on_step_begun(self, event: Event, data: dict[str, Any], now: float) -> None:
        op, server = data["op"], event.server
        first = event.server not in self.begun
        super()._on_step_begun(event, data, now)
        self.asked[op] = server, data["number"], data["step"]
        self.open[op] = data["verb"]
        self.world.known[server] = self.looked
        unsure = self.unsure.get(server)
        if unsure is not None and self.looked < unsure:
            self._break(f"I17: {server} begins {data['step']} without a look at it since its last step was cut off or failed")
        self.unsure.pop(server, None)
        if first and server in self.begun and data["path"] not in BACKWARD:
            self._gates(server)

    def _gates(self, server: str) -> None:
        """I9 beyond the canaries: a person's promotion, and the checkpoints."""
        if self.kind != "rollout" or self.state == "rolling-back":
            return
        if self.went_on_alone and server not in self.canaries:
            self._break(f"I9: {server} is begun, and nobody promoted the canaries")
        for percent in self.settings.checkpoints:
            most = self._share(percent)
            if percent not in self.passed and len(self.begun & self.acting) == most + 1 and most < len(self.acting) and server not in self.canaries:
                self._break(f"I9: {server} is begun beyond the checkpoint at {percent}%, {most} servers")

    def _share(self, percent: int) -> int:
        """Servers that may be begun before a checkpoint is open."""
        return -(-percent * len(self.acting) // 100)

    def _on_step_done(self, event: Event, data: dict[str, Any], now: float) -> None:
        super()._on_step_done(event, data, now)
        op = data["op"]
        self.open.pop(op, None)
        self.fate[op] = "done"
        server, number, step = self.asked.get(op, ("", 0, ""))
        self._is_back(server)
        if step != "proving":
            return
        life, answers = self.world.lives.get((server, number)), self.answers.get((server, number))
        if life is not None:
            self.proved.add((server, number, life.starts))
        since, until = self.just_ended.get((server, number), (now, -1.0))
        if answers is None and until >= now - HAIR:
            answers = [since, until]  # an answer of this very instant, which nobody could have taken in
        healthy = 0.0 if answers is None else now - answers[0]
        if healthy < self.settings.min_healthy_time - HAIR:
            self._break(f"I3: {server}.{number} counts as proved, but answered without a gap for {healthy:.2f} s only")

    def _on_server_settled(self, event: Event, data: dict[str, Any], now: float) -> None:
        super()._on_server_settled(event, data, now)
        self._is_back(event.server)
        if data["state"] == "skipped":
            self.begun.discard(event.server)  # it was only prepared: nothing was taken from it
        if data["state"] in ("serving", "quarantined"):
            self.fell.discard(event.server)  # no resume tries it again: it stays among those begun

    def _told_of_silence(self) -> bool:
        """A person went on although nobody answered, and nobody did since: silence counts again. One server alone tells nothing of the probes."""
        return self.heard_at < self.told_at or self.pool.servers < 2

    def _is_back(self, server: str) -> None:
        """One that had failed when somebody resumed waits for its turn anew."""
        if server in self.again and server not in self.flying:
            self.again.discard(server)
            self.begun.discard(server)

    def _on_server_held(self, event: Event, data: dict[str, Any], now: float) -> None:
        self.held.add(event.server)

    def _on_server_released(self, event: Event, data: dict[str, Any], now: float) -> None:
        self.held.discard(event.server)

    def _on_step_failed(self, event: Event, data: dict[str, Any], now: float) -> None:
        super()._on_step_failed(event, data, now)
        life = self.world.lives.get((event.server, data.get("number", -1)))
        if self.open.pop(data["op"], "") == "retire" and life is not None and self.extra.get(event.server, 0):
            self.unstopped.add((*life.key, life.starts))
        self.fate[data["op"]] = "failed"
        gone = "no such incarnation" in data["error"]  # its retention ended while a rollback to it was planned
        excused = gone or (self.blameless == ONLY_DEAF and self._told_of_silence())
        if self.blameless and not excused:
            self._break(f"I20: {data['step']} of {event.server} failed ({data['error']}), but {self.blameless}")
        self.unsure[event.server] = event.at
        self.fell.add(event.server)
        if data["step"] == "booting":
            self.will_not_boot.add((event.server, data.get("number", -1)))

    # --- I33

    def _on_plan_proposed(self, event: Event, data: dict[str, Any], now: float) -> None:
        self.proposed, self.approved = (data["hash"], data["uid"]), {}

    def _on_plan_withdrawn(self, event: Event, data: dict[str, Any], now: float) -> None:
        self.proposed, self.approved = ("", -1), {}

    def _on_plan_approved(self, event: Event, data: dict[str, Any], now: float) -> None:
        if data["hash"] == self.proposed[0] and data["uid"] != self.proposed[1]:
            self.approved[data["uid"]] = now

    def _check_approvals(self, plan_hash: str, now: float) -> None:
        fresh = [uid for uid, at in self.approved.items() if now < at + self.pool.approval_expiry] if plan_hash == self.proposed[0] else []
        if len(fresh) < self.pool.approvals:
            self._break(f"I33: plan {plan_hash} was started with {len(fresh)} of {self.pool.approvals} approvals of other people")
        self.proposed, self.approved = ("", -1), {}

    # --- the end

    def orphans(self, state: PoolState) -> list[str]:
        """I21: beside what serves nothing runs, and what is kept is known to be kept."""
        found = []
        for name in self.pool.server_names:
            known = state.server(name)
            serving = self.world.lives.get((name, known.admitted)) if known.admitted is not None else None
            if serving is None or serving.state != "running":
                continue  # nothing is removed beside a server that is away
            for life in self.lives(name):
                if life.number == serving.number or (self.pool.in_place and life.state != "stopped"):
                    continue
                if life.state == "running":
                    found.append(f"I21: {life.name} runs beside {serving.name}, and nobody wants it")
                elif life.number not in known.retained:
                    found.append(f"I21: {life.name} is {life.state}, and the journal does not retain it")
        return found
