"""Plays a case: the daemon lives and dies, blows fall, people press keys; the judge looks on.

safety: faults never stop; after `span` virtual seconds the curtain falls. liveness: faults stop after the last order; a person looks
at whatever rests, and decides, until the rollout has ended.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fleet.core.errors import AnewError
from fleet.core.planner import HOUSEKEEPING_DEADLINE, TIDY_AGAIN
from tests.clocks import Deadlock, Overrun
from tests.scenarios.oracle import Broken
from tests.sim.case import Blow, Case, Order
from tests.sim.history import History
from tests.sim.loop import run
from tests.sim.menu import menu_of
from tests.sim.world import SimStage, heard, past_of

PATIENCE = 14
"""So many times a person looks at a rollout that rests before the case says that it never ends."""

TIDY = 2 * (HOUSEKEEPING_DEADLINE + TIDY_AGAIN[0]) + 20.0
"""Seconds after the end in which strays are stopped at the latest: a house-keeping verb that hangs has its deadline, and is tried again
after as long as it has failed already; and a margin."""

LIMIT = 9000.0
"""Virtual seconds in which a rollout comes to rest once faults have stopped: the longest verb's deadline is an hour."""

Triple = tuple[str, str, str]


@dataclass(slots=True)
class Result:
    """`broken`: "" or the sentence. `trace`: sha256 of the journal. `triples`: (action, fault, outcome) that were reached."""

    broken: str = ""
    trace: str = ""
    triples: set[Triple] = field(default_factory=set)
    events: int = 0


def play(case: Case, trace: bool = False) -> Result:
    """Play one case to its end or to the first broken promise."""
    result = Result()
    past = past_of(*case.shape)
    collecting = gc.isenabled()
    gc.disable()  # a case is small and short; its cycles are collected when it is over
    try:
        with heard():
            run(_perform(case, result, trace), case.seed, past.at, 40_000.0)
    except (Deadlock, Overrun) as error:
        result.broken = f"I20: {error}"
    finally:
        if collecting:
            gc.enable()
    return result


async def _perform(case: Case, result: Result, trace: bool) -> None:
    stage = SimStage(case)
    history = History()
    await stage.begin()
    try:
        await _script(stage, case, history)
        if case.mode == "liveness":
            await _to_an_end(stage, case)
        _look_back(stage, history)
        stage.check()
    except (Broken, AssertionError) as error:
        result.broken = str(error) or type(error).__name__
    finally:
        await stage.kill()
    result.events = len(stage.journal.events)
    result.triples = set(_triples(stage))
    if trace:
        result.trace = _trace(stage)


async def _script(stage: SimStage, case: Case, history: History) -> None:
    """Everything that happens at a time of its own."""
    await stage.until(lambda: stage.view.observed is not None, 60.0, "a first look")
    _arm(stage, case)
    start = stage.clock.now()
    people = [Person(stage, history, number) for number in range(1 + max((order.who for order in case.orders), default=0))]
    pressed: list[asyncio.Task[None]] = []
    script: list[Order | Blow] = [*case.orders, *case.blows]
    for happens in sorted(script, key=lambda what: what.at):
        await _wait(stage, start + happens.at)
        if isinstance(happens, Blow):
            await _strike(stage, happens)
        else:
            pressed.append(asyncio.get_running_loop().create_task(people[happens.who].press(happens)))
    if case.mode == "safety":
        await _wait(stage, start + case.span)
    await _wait(stage, stage.clock.now() + 1.0)  # who pressed last gets an answer too
    for press in pressed:
        press.cancel()
    await asyncio.gather(*pressed, return_exceptions=True)
    for press in pressed:
        if not press.cancelled() and (error := press.exception()) is not None:
            stage.oracle.broken.append(f"a command ended with {error!r}")


def _arm(stage: SimStage, case: Case) -> None:
    """The faults of the case strike from now on."""
    menu = menu_of(case)
    stage.menu.seed, stage.menu.rates, stage.menu.late_by = menu.seed, menu.rates, menu.late_by
    stage.menu._rules.extend(menu._rules)


async def _wait(stage: SimStage, until: float) -> None:
    """Time passes; a daemon that dies meanwhile is started again."""
    while True:
        stage.check()
        if stage.dies.is_set():
            await stage.restart()
        left = until - stage.clock.now()
        if left <= 0:
            return
        try:
            async with asyncio.timeout(left):
                await stage.dies.wait()
        except TimeoutError:
            pass


async def _strike(stage: SimStage, blow: Blow) -> None:
    menu, server = stage.menu, f"web-{blow.whom}"
    if blow.what == "dies":
        stage.world.kill(server)
        _mark(stage, server, "server died")
    elif blow.what == "flaps":
        stage.flapping[server] = stage.clock.now() + blow.lasts
        _mark(stage, server, "health flaps")
    elif blow.what in ("deaf", "away"):
        _for_a_while(stage, blow)
    elif blow.what == "kill":
        await stage.restart()
    elif blow.what == "crash":
        stage.journal.crash_in, stage.journal.after = blow.whom, bool(blow.lasts)
    elif blow.what == "stop":
        for op in stage.oracle.open:
            menu.struck.setdefault(op, set()).add("daemon stopped")
        loop: Any = asyncio.get_running_loop()
        loop.jump(blow.lasts)
        stage.oracle.away(stage.clock.now())


def _mark(stage: SimStage, server: str, fault: str) -> None:
    for op in stage.oracle.open:
        if stage.oracle.asked[op][0] == server:
            stage.menu.struck.setdefault(op, set()).add(fault)


def _for_a_while(stage: SimStage, blow: Blow) -> None:
    menu, pool = stage.menu, stage.pool
    loop = asyncio.get_running_loop()
    if blow.what == "deaf":
        menu.deaf = True
        loop.call_later(blow.lasts, lambda: setattr(menu, "deaf", False))
        return
    place = pool.places[(blow.whom - 1) % len(pool.places)]
    menu.unreachable[place] = "no route to it"
    loop.call_later(blow.lasts, lambda: menu.unreachable.pop(place, None))


class Person:
    """Presses keys, and remembers the generation that was on the screen at the last look."""

    def __init__(self, stage: SimStage, history: History, number: int) -> None:
        self._stage = stage
        self._history = history
        self._name = f"person{number}"
        self._uid = 1000 + number
        self._looked = stage.state.pool(stage.pool.name).generation
        self._pressed = 0

    async def press(self, order: Order) -> None:
        """One key, once or twice; whoever gets no answer because the daemon was killed asks again, with the same id."""
        now = self._stage.state.pool(self._stage.pool.name).generation
        generation = {"": None, "now": now, "stale": self._looked}[order.seen]
        self._looked = now
        if order.what == "look":
            return
        self._pressed += 1
        request = f"{self._name}-{self._pressed}"
        times = 2 if order.twice else 1
        await asyncio.gather(*(self._ask(order, request, generation) for _ in range(times)))

    async def _ask(self, order: Order, request: str, generation: int | None) -> None:
        command, more = _command(order.what)
        asked = {"command": command, "pool": self._stage.pool.name, "request": request, **more}
        if generation is not None:
            asked["generation"] = generation
        while True:
            call = self._history.give(self._name, command, request, generation)
            inbox = self._stage.inbox
            try:
                self._history.ack(call, await inbox.command(self._name, asked, self._uid))
            except AnewError as error:
                self._history.refuse(call, str(error))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                while self._stage.inbox is inbox:
                    await asyncio.sleep(0.05)
                continue
            return


def _command(what: str) -> tuple[str, dict[str, Any]]:
    word, _, rest = what.partition(" ")
    if word == "start":
        return "rollout.start", {"plan": {"to": rest}}
    if word == "rollback":
        return "rollback.start", {}
    if word in ("approve", "withdraw"):
        return f"plan.{word}", {}
    if word in ("hold", "release"):
        return f"server.{word}", {"server": f"web-{rest}", "why": "for a reason"}
    if word in ("reject", "unreject"):
        return f"image.{word}", {"version": rest, "why": "for a reason"}
    return f"rollout.{word}", {}


# --- how it ends

async def _to_an_end(stage: SimStage, case: Case) -> None:
    """Faults stop; a person looks at what rests, and decides."""
    stage.menu.calm()
    for server, until in stage.flapping.items():
        stage.flapping[server] = min(until, stage.clock.now())
    stage.journal.crash_in = 0
    for turn in range(PATIENCE):
        await stage.settle(LIMIT)
        rollout = stage.rollout
        if rollout is None:
            await _tidy(stage, case)
            return
        try:
            await stage.command(_decision(rollout, case.cure, turn), "boss")
        except AnewError:
            await stage.clock.sleep(1.0)
    raise AssertionError(f"I20: it does not end; {stage.describe()}")


def _decision(rollout: Any, cure: str, turn: int) -> str:
    waits = rollout.state in ("awaiting-promotion", "checkpoint")
    if waits and cure == "resume" and turn < 6:
        return "rollout.promote"
    turning = rollout.resume_to == "rolling-back" and turn < 7
    if rollout.state == "paused" and not rollout.ending and (turning or (cure == "resume" and turn < 5)):
        return "rollout.resume"
    if cure != "abort" and turn < 8 and not rollout.ending:
        return "rollback.start"
    return "rollout.abort"


async def _tidy(stage: SimStage, case: Case) -> None:
    """I21, and for whom nothing went wrong, that everybody serves."""
    ends = stage.clock.now() + TIDY
    await stage.clock.sleep(2.0 + case.late_by)  # the last request that takes effect too late
    while found := stage.oracle.orphans(stage.state.pool(stage.pool.name)):
        stage.check()
        if stage.clock.now() >= ends:
            stage.oracle.broken += found
            break
        await stage.clock.sleep(5.0)
    if case.calm and "dies" not in case.image:
        well = stage.oracle.count_well(stage.clock.now())
        assert well == case.servers, f"I20: {well} of {case.servers} serve in the end, and nothing went wrong; {stage.describe()}"


def _look_back(stage: SimStage, history: History) -> None:
    stage.check_fold(stage.engine.record.state)
    stage.oracle.broken += history.problems(stage.journal.events, stage.oracle.generations)


def _triples(stage: SimStage) -> Iterator[Triple]:
    """What each intent met and what became of it."""
    judge = stage.oracle
    for op, (_, _, step) in judge.asked.items():
        outcome = judge.fate.get(op, "cut off")
        for fault in stage.menu.struck.get(op, ()) or ("none",):
            yield step, fault, outcome


def _trace(stage: SimStage) -> str:
    """The same for the same case, whatever process plays it."""
    digest = hashlib.sha256()
    for event in stage.journal.events:
        row = (event.type, event.actor, event.pool, event.server, event.rollout, round(event.at, 6), json.dumps(event.data, sort_keys=True))
        digest.update(repr(row).encode())
    return digest.hexdigest()
