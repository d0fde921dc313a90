"""`anew machine check` and `anew root` of many machines at once: what some of them do is nobody else's delay, and nobody else's loss."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from fleet.core.desired import Machine, Pool
from fleet.core.observed import Facts, Observed, Seen
from fleet.core.state import State
from fleet.engine import metal, roots
from fleet.engine.loop import Engine
from fleet.engine.view import PoolView
from tests.clocks import VirtualClock, run_virtual

SILENT, GOOD = 200, 20


class Machines:
    """A driver of machines: those named `silent…` answer nothing for a minute, `odd` meets a fault of anew's own."""

    def __init__(self) -> None:
        self.looking = 0

    async def check(self, name: str) -> Mapping[str, str]:
        self.looking += 1
        try:
            if name.startswith("silent"):
                await asyncio.sleep(60.0)  # virtual
                return {"reach": "no answer over SSH in 60.0 s"}
            if name == "odd":
                raise ZeroDivisionError
            return {"reach": "ok", "backend": "none", "root": "writable"}
        finally:
            self.looking -= 1

    async def probe(self, pool: Pool, server: str, number: int) -> Facts:
        return Facts(root="writable")

    async def root_fixed(self, pool: Pool, server: str) -> str:
        return "" if (told := await self.check(server))["reach"] == "ok" else told["reach"]

    async def writers(self, pool: Pool, server: str) -> tuple[str, ...]:
        return ()

    async def lock_root(self, *_: object) -> str:
        return ""


def office(*names: str) -> tuple[Engine, Machines]:
    machines = {name: Machine(name, "127.0.0.1", host_key="ssh-ed25519 AAAA") for name in names}
    view, driver, clock = PoolView(Pool("web", "baremetal", len(names), "web", machines=names)), Machines(), VirtualClock()
    view.observed = Observed("web", clock.now(), tuple(Seen(name, 0, "", "", "running", 0.0, place=name) for name in names))
    engine: Any = SimpleNamespace(desired=SimpleNamespace(machines=machines, path="anew.toml"), views={"web": view}, drivers={"baremetal": driver},
                                  hub=SimpleNamespace(changed=lambda pool, server: None), sight=lambda seen: seen.sight(State(), clock.now(), {}))
    return cast(Engine, engine), driver


def silent_ones() -> list[str]:
    return [f"silent{number}" for number in range(SILENT)]


async def _checked() -> None:
    good = [f"good{number}" for number in range(GOOD)]
    engine, driver = office(*silent_ones(), "odd", *good)
    rows = {row["name"]: row for row in await metal.check(engine, [])}
    assert [rows[name]["sentence"][:10] for name in good] == ["it answers"] * GOOD
    assert all("no answer over SSH in 60.0 s" in rows[name]["sentence"] for name in silent_ones())
    assert "anew itself failed" in rows["odd"]["sentence"]
    assert driver.looking == 0


def test_two_hundred_silent_machines_keep_nobody_from_being_checked() -> None:
    run_virtual(_checked())


async def _left() -> None:
    engine, driver = office(*silent_ones())
    asking = asyncio.ensure_future(metal.check(engine, []))
    await asyncio.sleep(1.0)  # virtual
    assert driver.looking
    asking.cancel()
    await asyncio.wait({asking})
    assert driver.looking == 0


def test_whoever_asked_and_left_leaves_no_looks_behind() -> None:
    run_virtual(_left())


async def _roots() -> None:
    engine, _ = office(*silent_ones(), "good")
    begun = asyncio.get_running_loop().time()
    rows = {row["name"]: row for row in await roots.report(engine, "web")}
    assert rows["good"]["observed"] == "writable"
    assert "did not answer within 40 s" in rows["silent0"]["why_not"]
    assert asyncio.get_running_loop().time() - begun < 60.0, "a client waits two minutes"


def test_the_roots_of_a_pool_are_told_while_a_client_still_waits() -> None:
    run_virtual(_roots())
