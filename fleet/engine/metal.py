"""Machines that are only reached over SSH: what is known of them, a look at them now, and what is done to one outside a rollout.

What is ordered here may take many minutes (a first install writes a whole disk), so the command is answered when the order
is in the journal; the outcome is an event of its own, with the order's `op`. An order without outcome was cut off with its
daemon: what became of it is what the next look shows.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, cast

from fleet.core.desired import Machine
from fleet.core.errors import AnewError, Invalid, Refused
from fleet.core.events import Draft
from fleet.core.observed import Image
from fleet.core.printable import printable
from fleet.engine import remount
from fleet.engine.loop import Engine
from fleet.engine.plans import unknown
from fleet.engine.present import server_state
from fleet.engine.view import PoolView
from fleet.ports import Machines, Operation, Power

log = logging.getLogger("anew.metal")
CHECK_SECONDS = 90.0
"""For all machines of one question together; a client waits two minutes."""
INSTALL_SECONDS = 3600.0
RECOVER_SECONDS = 300.0
UNPINNED = "no host key is pinned, so nothing is ever sent to it"
Row = dict[str, Any]
Request = Mapping[str, Any]


def fingerprint(key: str) -> str:
    """ "SHA256:…" of a public key "TYPE BASE64", as ssh-keygen -l prints it; "" for none."""
    if not key:
        return ""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _view_of(engine: Engine, name: str) -> PoolView | None:
    return next((view for view in engine.views.values() if name in view.pool.machines), None)


def _driver(engine: Engine) -> Machines | None:
    """The driver whose places are machines; a fleet whose machines are in no pool has none."""
    views = [view for view in engine.views.values() if view.pool.machines]
    driver = engine.drivers[views[0].pool.driver] if views else None
    return cast(Machines, driver) if hasattr(driver, "check") else None


def _known(engine: Engine, name: str) -> Machine:
    machine = engine.desired.machines.get(name)
    if machine is None:
        raise unknown("machine", name, list(engine.desired.machines))
    return machine


def rows(engine: Engine, doing: Mapping[str, str]) -> list[Row]:
    """MachineRows: the fleet file's machines, with what was last seen of each; looks at none. `doing`: machine -> an order under way."""
    return [{**_row(engine, machine), "doing": doing.get(machine.name, "")} for machine in engine.desired.machines.values()]


def _row(engine: Engine, machine: Machine) -> Row:
    view = _view_of(engine, machine.name)
    row: Row = {
        "name": machine.name, "address": machine.address, "port": machine.port, "user": machine.user, "jump": machine.jump,
        "pool": view.pool.name if view else "", "pin": fingerprint(machine.host_key), "authority": fingerprint(machine.host_ca),
        "disk": machine.disk, "bmc": machine.bmc is not None, "console": bool(machine.console), "reach": "not looked at yet",
        "backend": "", "version": "", "root": "unknown", "state": "",
    }
    if not (machine.host_key or machine.host_ca):
        return {**row, "reach": UNPINNED}
    if view is None or view.observed is None:
        return {**row, "reach": (view.trouble if view else "") or ("in no pool, so it is only looked at when asked" if not view else row["reach"])}
    sight = engine.sight(view)
    serving = sight.serving(machine.name)
    facts = sight.facts.get((machine.name, serving.number)) if serving else None
    driver = _driver(engine)
    told = driver.told(machine.name) if driver is not None else {}
    return {
        **row, "reach": view.observed.unreachable.get(machine.name, "ok"), "backend": told.get("backend", ""),
        "version": serving.version if serving else "", "root": facts.root if facts else "unknown", "state": server_state(sight, machine.name),
    }


async def check(engine: Engine, names: Sequence[str]) -> list[Row]:
    """MachineChecks: a look now at these machines (none named: all), side by side; those that are silent delay no other."""
    machines = [_known(engine, name) for name in dict.fromkeys(names)] or list(engine.desired.machines.values())
    driver = _driver(engine)
    if driver is None:
        raise Refused("no pool of this fleet has machines, so there is nothing that could look at one; list it under `machines` of a pool with "
                      'driver = "baremetal"', where=engine.desired.path, code="no-machines")

    async def one(machine: Machine) -> Row:
        if not (machine.host_key or machine.host_ca):
            return _judged(machine, bool(_view_of(engine, machine.name)), {"reach": f"{UNPINNED}; run `anew machine pin {machine.name}`"})
        return _judged(machine, bool(_view_of(engine, machine.name)), await driver.check(machine.name))

    tasks = [asyncio.ensure_future(one(machine)) for machine in machines]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=CHECK_SECONDS)
        return [_checked(machine, task) for machine, task in zip(machines, tasks, strict=True)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _checked(machine: Machine, task: asyncio.Task[Row]) -> Row:
    """What a look brought; a fault of anew's own in one is told of that machine, and the others have their answers."""
    if not task.done():
        return _judged(machine, False, {"reach": f"it has not answered within {CHECK_SECONDS:.0f} s"})
    problem = task.exception()
    if problem is None:
        return task.result()
    if isinstance(problem, AnewError):
        return _judged(machine, False, {"reach": problem.beside(machine.name)})
    log.error("a fault in looking at %s", machine.name, exc_info=problem)
    return _judged(machine, False, {"reach": "anew itself failed in looking at it; the daemon's log says more"})


def _judged(machine: Machine, pooled: bool, told: Mapping[str, str]) -> Row:
    clean = {printable(str(key), 40): printable(str(value), 300) for key, value in list(told.items())[:40]}
    lacking = _lacking(clean, pooled)
    return {"name": machine.name, "ok": not lacking, "sentence": lacking or _praise(clean), "told": clean}


def _lacking(told: Mapping[str, str], pooled: bool) -> str:
    """Why a machine is not reachable or not ready for a rollout, "" if it is. One that is in no pool need only answer."""
    reach = told.get("reach", "the driver said nothing of it")
    if reach != "ok":
        return reach
    if not pooled:
        return ""
    if told.get("backend", "none") in ("none", ""):
        return "it answers, and has no A/B slots: it can be looked at, not rolled; `anew machine install` or an image of its own would give it some"
    if told.get("env", "ok") not in ("ok", "-"):
        return f"its boot environment is {told['env']}; the next rollout mends it before it writes anything"
    if told.get("data", "writable") != "writable":
        return f"its data partition is {told['data']}, so that no image can be brought there"
    if told.get("trial") == "yes":
        return "it runs an image on trial, which nobody has blessed yet"
    return ""


def _praise(told: Mapping[str, str]) -> str:
    said = [f"{told['backend']}, slot {told['booted']}" if "booted" in told else told.get("backend", ""), f"version {told['version']}" if "version" in told else "",
            f"root {told['root']}" if "root" in told else "", f"{told['free']} free" if "free" in told else "", told.get("note", "")]
    return ", ".join(["ready", *(part for part in said if part)]) if told.get("backend", "none") != "none" else ", ".join(
        ["answers", *(part for part in (told.get("os", ""), said[2]) if part)])


class Orders:
    """What was ordered for machines and is under way. One at a time for each machine."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}
        self.doing: dict[str, str] = {}

    async def install(self, engine: Engine, actor: str, request: Request) -> Row:
        """First install: the layout and an image onto the blank disk that the fleet file names, of a machine booted from a live system."""
        name, disk = str(request.get("server", "")), str(request.get("key", ""))
        machine, view = self._free(engine, name)
        if not machine.disk:
            raise Refused(f"the fleet file names no disk for it; set machines.{name}.disk to the serial number that `lsblk -o NAME,SERIAL` "
                          "shows there, and `anew reload`", where=f"machines.{name}.disk", code="no-disk")
        if disk != machine.disk:
            raise Refused(f"the fleet file names disk {machine.disk}, not {printable(disk, 64)!r}; nothing was written", where=f"machines.{name}.disk",
                          code="wrong-disk")
        serving = engine.sight(view).serving(name)
        if serving is not None and serving.digest:
            raise Refused("it runs an image that anew installed; roll out to it instead", where=name, code="wrong-state")
        image = self._image(engine, view, str(request.get("version", "")))
        driver = cast(Machines, engine.drivers[view.pool.driver])
        if not hasattr(driver, "install"):
            raise Refused(f"driver {view.pool.driver} has no first install", where=name)
        return await self._order(
            engine, view, actor, request, f"first install of {image.ref} on disk {disk} of {name}", "machine-installed",
            {"disk": disk, "digest": image.ref.digest, "version": image.ref.version}, INSTALL_SECONDS,
            lambda op: driver.install(name, view.pool, image, disk, op))

    async def recover(self, engine: Engine, actor: str, request: Request) -> Row:
        """Have the management controller cycle the machine's power, with kind `pxe` once into the network."""
        name, kind = str(request.get("server", "")), str(request.get("kind", "")) or "cycle"
        machine, view = self._free(engine, name)
        if kind not in ("cycle", "pxe"):
            raise Invalid(f"must be cycle or pxe, found {printable(kind, 40)!r}", where="kind")
        if machine.bmc is None:
            raise Refused(f"no management controller is configured for it; set machines.{name}.bmc, or go there", where=f"machines.{name}.bmc", code="no-bmc")
        driver = engine.drivers[view.pool.driver]
        if not hasattr(driver, "recover"):
            raise Refused(f"driver {view.pool.driver} cannot switch machines off and on", where=name)
        if engine.sight(view).available(name) and str(request.get("key", "")) != name:
            raise Refused("it serves, and answers healthily; if its power shall be cut all the same, type its name at the question instead of --yes",
                          where=name, code="healthy")
        how: Literal["cycle", "pxe"] = "pxe" if kind == "pxe" else "cycle"
        words = f"power cycle of {name}" + (", then booting once from the network" if how == "pxe" else "")
        return await self._order(engine, view, actor, request, words, "machine-recovered", {"how": how}, RECOVER_SECONDS,
                                 lambda op: cast(Power, driver).recover(view.pool, name, how, op))

    def _free(self, engine: Engine, name: str) -> tuple[Machine, PoolView]:
        machine = _known(engine, name)
        view = _view_of(engine, name)
        if view is None:
            raise Refused("it is in no pool; list it under `machines` of the pool whose image it shall run, and `anew reload`", where=name, code="no-pool")
        if view.pool.mode == "observe":
            raise Refused(f'pool {view.pool.name} is in mode "observe", which touches nothing; set mode = "manual" and `anew reload`',
                          where=f"pools.{view.pool.name}.mode", code="observe-mode")
        if name in self._running:
            raise Refused("something ordered for it is still under way; `anew journal follow` shows how it ends", where=name, code="busy")
        return machine, view

    def _image(self, engine: Engine, view: PoolView, version: str) -> Image:
        if version:
            return engine.catalogue.get(view.pool.image, version)
        stable = engine.record.state.pool(view.pool.name).stable
        found = engine.images.get(stable.digest) if stable else engine.newest(view.pool)
        return found or engine.catalogue.newest(view.pool.image)

    async def _order(self, engine: Engine, view: PoolView, actor: str, request: Request, what: str, done: str, data: Mapping[str, Any],
                     seconds: float, act: Callable[[Operation], Awaitable[str]]) -> Row:
        name = str(request["server"])
        def tell(words: str) -> None:
            self.doing[name] = f"{what}: {printable(words)}"

        op = Operation(engine.rng.token(), engine.actor.epoch, "", seconds, tell)
        async with engine.holding(view):
            rollout = engine.record.state.active(view.pool.name)
            if done == "machine-installed" and rollout is not None and name in rollout.runs and rollout.runs[name].active:
                raise Refused(f"rollout {rollout.id} is at work on it; pause or abort the rollout first", where=name)
            remount.must_rest(view, [name])
            draft = Draft("machine-ordered", actor, view.pool.name, name, "", {"op": op.id, "what": what, **data}, str(request.get("request", "")))
            events = await engine.record.write(draft)
            self.doing[name] = what
            view.ordered.add(name)
            self._running[name] = asyncio.create_task(self._carry_out(engine, view, name, what, done, op, act))
        return {"ok": True, "seq": events[-1].seq, "op": op.id, "message": f"{what} begun"}

    async def _carry_out(self, engine: Engine, view: PoolView, name: str, what: str, done: str, op: Operation,
                         act: Callable[[Operation], Awaitable[str]]) -> None:
        work = asyncio.ensure_future(act(op))
        await asyncio.wait({work}, timeout=op.deadline)
        error = _trouble(work, op.deadline, name)
        data: Mapping[str, Any] = {"what": what, "error": error} if error else {"text": printable(work.result(), 500)}
        log.info("%s: %s", what, error or data["text"])
        await engine.record.write(Draft("machine-failed" if error else done, pool=view.pool.name, server=name, data={"op": op.id, **data}))
        del self._running[name], self.doing[name]
        view.ordered.discard(name)
        view.look.set()
        view.wake()


def _trouble(work: asyncio.Future[str], seconds: float, name: str) -> str:
    """Why it did not come about, "" if it did."""
    if not work.done():
        work.cancel()
        return f"it took longer than {seconds / 60:.0f} min; look at the machine before it is tried again"
    problem = None if work.cancelled() else work.exception()
    if isinstance(problem, AnewError):
        return printable(problem.beside(name), 500)
    if problem is not None:
        log.error("a fault of anew", exc_info=problem)
        return "anew itself failed; the daemon's log has the details"
    return "it was cut off; look at the machine before it is tried again" if work.cancelled() else ""
