"""Verbs of the bare-metal driver that are cut off, fail or lose their answer at every single command, and then go on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from drivers.remotes import Answer, Remote
from drivers.ssh import SshSessions
from fleet.core.errors import Transient
from fleet.ports import Birth, Operation
from tests.metal.baremetal_world import BaremetalHarness, harness

Fault = Literal["cut", "not-done", "lost"]
FAULTS: tuple[Fault, ...] = ("cut", "not-done", "lost")
MOST_CALLS = 60
"""No verb here takes as many commands; more would mean that one never ends."""


@dataclass
class Line:
    """Between the driver and its hosts. At command `at` (0 for never): `cut` cancels the verb once the host has heard it, `not-done`
    loses the command, `lost` loses the answer. Commands that only look count too.
    """

    fault: Fault
    at: int = 0
    calls: int = 0
    lines: list[str] = field(default_factory=list)
    task: asyncio.Task[object] | None = None


@asynccontextmanager
async def cuttable(folder: Path, monkeypatch: pytest.MonkeyPatch, line: Line) -> AsyncIterator[BaremetalHarness]:
    real = SshSessions.run

    async def run(self: SshSessions, remote: Remote, command: str, deadline: float, cap: int = 65_536, input: bytes = b"") -> Answer:
        line.calls += 1
        line.lines.append(command)
        struck = line.calls == line.at
        if struck and line.fault == "not-done":
            raise Transient("the connection broke before it was sent", where=str(remote), retry_after=0.01)
        answer = await real(self, remote, command, deadline, cap, input)
        if struck and line.fault == "lost":
            raise Transient("the connection broke before the answer came", where=str(remote), retry_after=0.01)
        if struck and line.fault == "cut" and line.task is not None:
            line.task.cancel()
        return answer

    monkeypatch.setattr(SshSessions, "run", run)
    async with harness(folder, 1) as h:
        yield h


async def through(line: Line, verb: Callable[[], Awaitable[object]]) -> None:
    """As the engine does it: again after a Transient, and again by the next daemon after a cut."""
    for _ in range(MOST_CALLS):
        line.task = asyncio.ensure_future(_of(verb()))
        await asyncio.wait({line.task})
        if line.task.cancelled():
            continue
        try:
            line.task.result()
            return
        except Transient:
            continue
    raise AssertionError("it never got through")


async def _of(work: Awaitable[object]) -> object:
    return await work


async def _birth(h: BaremetalHarness, op: Operation) -> None:
    seen = await h.driver.birth(h.pool, Birth(h.place, 1, h.image, h.place, 1795311111.0), op)
    assert (seen.number, seen.state, seen.version, seen.operation, seen.born_at) == (1, "running", "2", op.id, 1795311111.0)


async def _birth_until(h: BaremetalHarness, op: Operation, verb: str) -> asyncio.Task[None]:
    """A birth that goes on, whose host has heard this verb."""
    birth = asyncio.create_task(_birth(h, op))
    async with asyncio.timeout(60):
        while verb not in h.host.verbs() and not birth.done():
            await asyncio.sleep(0.001)
    return birth


async def _nothing(h: BaremetalHarness) -> None:
    """Before a birth."""


async def _kept(h: BaremetalHarness) -> None:
    await h.born(1)
    await h.driver.commit(h.pool, h.place, 1, h.op())
    await h.born(2, h.version("3"))
    await h.driver.commit(h.pool, h.place, 2, h.op())


async def _on_trial(h: BaremetalHarness) -> None:
    await h.born(1)


Verb = tuple[Callable[[BaremetalHarness], Awaitable[None]], Callable[[BaremetalHarness, Operation], Awaitable[object]], dict[int, str]]
VERBS: dict[str, Verb] = {
    "stage": (_nothing, lambda h, op: h.driver.stage(h.pool, h.image, h.place, op), {0: "running"}),
    "birth": (_nothing, _birth, {0: "stopped", 1: "running"}),
    "commit": (_on_trial, lambda h, op: h.driver.commit(h.pool, h.place, 1, op), {0: "stopped", 1: "running"}),
    "revive": (_kept, lambda h, op: h.driver.revive(h.pool, h.place, 1, op), {1: "running", 2: "stopped"}),
    "fall-back": (_on_trial, lambda h, op: h.driver.revive(h.pool, h.place, 0, op), {0: "running", 1: "crashed"}),
    "bury": (_kept, lambda h, op: h.driver.bury(h.pool, h.place, 1, op), {2: "running"}),
    "retire": (_kept, lambda h, op: h.driver.retire(h.pool, h.place, 1, op), {1: "stopped", 2: "running"}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", VERBS)
async def test_a_verb_struck_at_any_command_ends_as_if_it_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: Fault) -> None:
    """Command 1, then 2, … until a run meets no fault any more."""
    before, verb, wanted = VERBS[name]
    struck = 0
    for at in itertools.count(1):
        assert at < MOST_CALLS
        line = Line(fault)
        with monkeypatch.context() as patch:
            async with cuttable(tmp_path / str(at), patch, line) as h:
                await before(h)
                line.calls, line.at = 0, at
                op, boots = h.op(), h.host.boots
                await through(line, partial(verb, h, op))
                met = line.calls >= at
                line.at = 0
                assert await h.states() == wanted, f"{fault} at command {at}: {line.lines}"
                assert h.host.boots - boots <= 1, "it rebooted once"
                assert h.host.disk.env.condition == "ok" and h.host.strange == []
                assert sum(call.verb == "install" for call in h.host.calls) <= 3
        if not met:
            break
        struck += 1
    assert struck >= 1


@pytest.mark.parametrize("verb", ["upload", "install", "arm", "reboot"])
async def test_a_birth_goes_on_with_the_next_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Killed right after the host has heard this verb; the next daemon has a higher epoch and remembers nothing."""
    line = Line("cut")
    async with cuttable(tmp_path, monkeypatch, line) as h:
        op = h.op()
        birth = await _birth_until(h, op, verb)
        birth.cancel()
        await asyncio.wait({birth})
        for host in h.own.hosts.values():
            host.facts, host.told_to_reboot = None, ""
        await through(line, lambda: _birth(h, Operation(op.id, 2, op.rollout, 30.0)))
        assert h.host.boots == 2 and h.host.disk.epoch >= 1
        assert await h.states() == {0: "stopped", 1: "running"}


@pytest.mark.parametrize("verb", ["upload", "install", "arm", "reboot"])
async def test_power_cut_in_any_step_of_a_birth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """The host comes back on the old slot, or has fallen back from the trial; the birth says which."""
    line = Line("cut")
    async with cuttable(tmp_path, monkeypatch, line) as h:
        op = h.op()
        birth = await _birth_until(h, op, verb)
        h.host.restart()
        await asyncio.wait({birth})
        if not birth.cancelled() and isinstance(birth.exception(), Transient):
            await through(line, lambda: _birth(h, op))
        else:
            birth.result()
        assert await h.states() == {0: "stopped", 1: "running"}
