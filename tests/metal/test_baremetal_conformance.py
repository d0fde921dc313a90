"""The bare-metal driver keeps what every driver promises, on pretended hosts.

A machine cannot stop one incarnation without booting another, so the harness does what the engine does: it keeps incarnation 1 and
boots what ran before, incarnation 0, which it shows to nobody. A machine's data lies on its own partition: pools of machines
have no data disks, and the cases about them do not apply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.core.desired import Pool
from fleet.core.observed import Observed
from fleet.ports import Operation
from tests.drivers import conformance
from tests.metal.baremetal_world import BaremetalHarness, harness

DEADLINE = 60.0
NOT_HERE = {
    conformance.a_data_disk_has_one_writer, conformance.data_outlives_every_incarnation, conformance.a_cancelled_birth_stands_in_nobodys_way,
}


class StartedAndStopped:
    """The driver, with `retire` as far as the engine's way back goes. Everything else is the driver's own."""

    def __init__(self, h: BaremetalHarness, op: Callable[[], Operation]) -> None:
        self._h = h
        self._op = op
        self.name, self.surge = h.own.name, h.own.surge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._h.own, name)

    async def observe(self, pool: Pool) -> Observed:
        """Once the machines that are on and not cut off have answered: a reboot is seen as such, and passes."""
        ends = asyncio.get_running_loop().time() + DEADLINE
        while (seen := await self._h.own.observe(pool)).unreachable and not any(host.evil.stall for host in self._h.world):
            assert asyncio.get_running_loop().time() < ends, seen.unreachable
            await asyncio.sleep(0.02)
        return replace(seen, incarnations=tuple(item for item in seen.incarnations if item.number))

    async def retire(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        await self._h.own.retire(pool, server, number, op)
        (running,) = (item for item in (await self._h.own.observe(pool)).incarnations if item.state == "running" and item.server == server)
        if running.number == number:
            await self._h.own.commit(pool, server, number, op)
            await self._h.own.revive(pool, server, 0, self._op())


@pytest.mark.parametrize("case", [case for case in conformance.CASES if case not in NOT_HERE], ids=conformance.name)
async def test_conformance(case: conformance.Case, tmp_path: Path) -> None:
    async with harness(tmp_path) as h:
        own = h.op
        def op(epoch: int = 1, deadline: float = 0.0) -> Operation:
            """Patient with a machine that answers, however busy this one is; not with one that is cut off."""
            return own(epoch, deadline or (6.0 if any(host.evil.stall for host in h.world) else DEADLINE))

        h.op = op  # type: ignore[method-assign]
        h.driver = StartedAndStopped(h, h.op)
        await case(h)
        assert all(host.strange == [] for host in h.world)


def test_only_data_disks_are_left_out() -> None:
    assert NOT_HERE < set(conformance.CASES) and all("data" in str(case.__code__.co_names) for case in NOT_HERE)
