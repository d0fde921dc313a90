"""Random plays: a pool, settings, an image with a fault, verbs that fail, servers that die, daemons that are killed, and an
operator who gives commands at any time. The oracle judges every change of the world; in the end, faults stop and a
person brings the rollout to its end.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

from drivers.sim import Faults
from drivers.sim.faults import Outcome
from fleet.core.errors import AnewError
from tests.scenarios.stage import Stage, staged

PATIENCE = 12
"""So many times a person looks at a rollout that rests before the test says that it never ends."""


@dataclass(frozen=True)
class VerbFault:
    """The nth call of a verb goes wrong."""

    verb: str
    outcome: Outcome
    nth: int
    times: int = 1


@dataclass(frozen=True)
class Order:
    """`after` seconds since the last one: a command, or `kill N` (server N dies), or `restart` (the daemon is killed)."""

    after: float
    what: str


@dataclass(frozen=True)
class Play:
    """One random case; `repr` of it is its replay. `patient`: the faults still strike once the orders were given."""

    servers: int = 3
    surge: str = "1"
    unavailable: str = "0"
    canaries: str = "1"
    promotion: str = "manual"
    order: str = "oldest"
    max_failures: int = 0
    on_failure: str = "pause"
    data: bool = False
    fault: str = ""
    jitter: float = 0.3
    seed: int = 1
    retain: str = "5m"
    faults: tuple[VerbFault, ...] = ()
    orders: tuple[Order, ...] = ()
    cure: str = "rollback"
    patient: bool = False
    in_place: bool = False

    @property
    def fleet(self) -> str:
        """The fleet file."""
        broken = f'"2" = "{self.fault}"' if self.fault else ""
        data = 'data = [{ name = "state", size = "1GiB" }]' if self.data else ""
        return f"""
[fleet]
name = "chaos"
[images.web]
simulated = ["1", "2"]
[pools.web]
driver = "sim"
servers = {self.servers}
image = "web"
mode = "manual"
{data}
sim = {{ seed = {self.seed}, boot = "2s", jitter = {self.jitter}, in_place = {str(self.in_place).lower()}, faults = {{ {broken} }} }}
[pools.web.rollout]
max_surge = {_amount(self.surge)}
max_unavailable = {_amount(self.unavailable)}
canaries = {_amount(self.canaries)}
promotion = "{self.promotion}"
order = "{self.order}"
max_failures = {self.max_failures}
on_failure = "{self.on_failure}"
min_healthy_time = "2s"
healthy_deadline = "15s"
progress_deadline = "90s"
retain = "{self.retain}"
"""


def _amount(text: str) -> str:
    return f'"{text}"' if text.endswith("%") else text


async def perform(play: Play) -> int:
    """Play it; raises Broken when a promise is, AssertionError if it does not end. How many faults struck."""
    faults = Faults()
    with tempfile.TemporaryDirectory() as folder:
        async with staged(play.fleet, folder, faults, seed=play.seed) as stage:
            await stage.birth("1")
            for fault in play.faults:
                faults.fail(fault.verb, fault.outcome, nth=fault.nth, times=fault.times)
            await stage.command("rollout.start", plan={"to": "2"})
            for order in play.orders:
                await stage.clock.sleep(order.after)
                await obey(stage, order.what)
            await bring_to_an_end(stage, play)
            judge_the_end(stage, play)
    return len(faults.used)


async def obey(stage: Stage, what: str) -> None:
    """Give one order; what anew refuses is refused, and changes nothing."""
    word, _, rest = what.partition(" ")
    server = f"web-{rest}" if rest else ""
    if word == "kill":
        stage.world.kill(server)
    elif word == "restart":
        await stage.restart()
    elif word == "start":
        await _try(stage, "rollout.start", plan={"to": "2"})
    elif word in ("hold", "release"):
        await _try(stage, f"server.{word}", server=server, why="for a reason")
    elif word == "rollback":
        await _try(stage, "rollback.start")
    else:
        await _try(stage, f"rollout.{word}")


async def _try(stage: Stage, command: str, **request: Any) -> None:
    try:
        await stage.command(command, **request)
    except AnewError:
        pass


async def bring_to_an_end(stage: Stage, play: Play) -> None:
    """Faults stop; a person looks at what rests, and decides."""
    if not play.patient:
        stage.faults._rules.clear()
    for turn in range(PATIENCE):
        await stage.settle(limit=8000.0)
        rollout = stage.rollout
        if rollout is None:
            return
        if rollout.state == "awaiting-promotion" and play.cure == "resume" and turn < 3:
            await stage.command("rollout.promote")
        elif rollout.state == "paused" and not rollout.ending and (
                rollout.resume_to == "rolling-back" and turn < 6 or play.cure == "resume" and turn < 3):
            await stage.command("rollout.resume")
        elif play.cure != "abort" and turn < 6 and not rollout.ending:
            await stage.command("rollback.start")
        else:
            await _try(stage, "rollout.abort")
    raise AssertionError(f"I20: it does not end; {stage.describe()}")


def judge_the_end(stage: Stage, play: Play) -> None:
    """Without dead servers and failing verbs, everybody serves once the rollout has ended."""
    died = any(life.dies_at < float("inf") and life.committed for life in stage.world.lives.values())
    if play.faults or died or any(order.what.startswith("kill") for order in play.orders):
        return
    assert stage.oracle is not None
    well = stage.oracle.count_well(stage.clock.now())
    assert well == play.servers, f"{well} of {play.servers} serve in the end; {stage.describe()}"
