"""What a person orders for a machine, and a rollout's verb on the same machine: the end of one is not the end of the other."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, Literal, cast

from fleet.core.desired import Bmc, Machine, Pool
from fleet.core.events import Event
from fleet.core.state import State
from fleet.engine.loop import Engine
from fleet.engine.metal import Orders
from fleet.engine.record import Record
from fleet.engine.view import PoolView
from fleet.ports import Operation
from tests.clocks import SeededRng, VirtualClock, run_virtual
from tests.scenarios.memory import MemoryJournal


class Power:
    """A management controller that takes its time."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    async def recover(self, pool: Pool, server: str, how: Literal["cycle", "pxe"], op: Operation) -> str:
        await self.done.wait()
        return "its power was cycled"


def office(power: Power) -> tuple[Engine, PoolView, list[Event]]:
    machine = Machine("rack1", "127.0.0.1", bmc=Bmc("http://127.0.0.1:1/redfish/v1/Systems/1"))
    view = PoolView(Pool("web", "baremetal", 1, "web", mode="manual", machines=("rack1",)))
    clock, heard = VirtualClock(), cast(list[Event], [])
    record = Record(MemoryJournal(clock, ()), State())
    record.listen(heard.append)
    engine: Any = SimpleNamespace(desired=SimpleNamespace(machines={"rack1": machine}), views={"web": view}, drivers={"baremetal": power}, record=record,
                                  rng=SeededRng(1), actor=SimpleNamespace(epoch=1), holding=lambda seen: seen.lock, sight=lambda seen: seen.sight(record.state, clock.now(), {}))
    return cast(Engine, engine), view, heard


async def _until(heard: list[Event], kind: str) -> Event:
    for _ in range(1000):
        found = [event for event in heard if event.type == kind]
        if found:
            return found[0]
        await asyncio.sleep(0.01)  # virtual
    raise AssertionError(f"no {kind} among {[event.type for event in heard]}")


async def _cycles_while_booting(verb_ends_first: bool) -> None:
    power = Power()
    engine, view, heard = office(power)
    view.busy.add("rack1")  # a rollout boots it, and a person has lost patience
    answer = await Orders().recover(engine, "ana", {"server": "rack1"})
    assert answer["ok"] and "rack1" in engine.sight(view).busy
    if verb_ends_first:
        view.busy.discard("rack1")
        assert "rack1" in engine.sight(view).busy
    power.done.set()
    await _until(heard, "machine-recovered")
    await asyncio.sleep(0.1)
    assert ("rack1" in engine.sight(view).busy) is not verb_ends_first
    assert view.stir.is_set()


def test_a_rollout_s_verb_goes_on_when_an_order_for_the_same_machine_has_ended() -> None:
    run_virtual(_cycles_while_booting(verb_ends_first=False))


def test_no_step_begins_while_an_order_is_under_way_though_the_verb_before_has_ended() -> None:
    run_virtual(_cycles_while_booting(verb_ends_first=True))
