"""The real engine, journal, catalogue and bare-metal driver on a world of pretended hosts; only the processes are one.

Everything a rollout promises is asked of the engine's own state, and everything it did of the hosts.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.baremetal import make
from drivers.identity import IdentityStore
from drivers.probes.tcp import TcpProbe
from fleet import settings
from fleet.core.desired import Machine
from fleet.core.events import Draft, Event
from fleet.core.observed import Seen
from fleet.core.state import Rollout, State
from fleet.engine.clock import SystemClock, SystemRng
from fleet.engine.inbox import Inbox
from fleet.engine.loop import Engine
from fleet.engine.record import Record
from fleet.images.catalogue import FolderCatalogue
from fleet.ports import Surroundings
from fleet.store.journal import open_journal
from tests.images.folders import manifest_text

FLEET = """
[fleet]
name = "metal"
[images.web]
path = "images"
[pools.web]
driver = "baremetal"
machines = [{machines}]
image = "web"
mode = "manual"
[[pools.web.health]]
tcp = {{ port = {port}, expect = "anew-service" }}
interval = "5s"
deadline = "2s"
[pools.web.rollout]
{rollout}
"""
ROLLOUT: Mapping[str, object] = {
    "max_unavailable": 1, "canaries": 1, "promotion": "auto", "min_healthy_time": "300ms", "healthy_deadline": "20s", "progress_deadline": "5m",
}
QUICK: Mapping[str, object] = {"baremetal.spacing": 0.1, "baremetal.glance": 3.0}


def add_image(folder: Path, version: str, size: int = 4000, content: bytes = b"") -> None:
    """A bundle of the family web in the catalogue's folder."""
    place = folder / "images" / version
    place.mkdir(parents=True)
    data = content or f"a bundle of web/{version}\n".encode().ljust(size, b"x")
    (place / "web.raucb").write_bytes(data)
    built = f"2026-11-21T2{int(hashlib.sha256(version.encode()).hexdigest(), 16) % 4}:00:00Z"
    (place / "image.toml").write_text(manifest_text(version, {"web.raucb": data}, kind="rauc", root="web.raucb", built_at=built), encoding="utf-8")


def fleet_text(machines: Mapping[str, Machine], port: int, rollout: Mapping[str, object]) -> str:
    """The fleet file of all machines in one pool; `port` is where their service says its banner."""
    lines = "\n".join(f"{key} = {value if isinstance(value, int) else repr(value)}" for key, value in {**ROLLOUT, **rollout}.items())
    names = ", ".join(f'"{name}"' for name in machines)
    return FLEET.format(machines=names, port=port, rollout=lines) + "".join(
        f'[machines.{name}]\naddress = "{one.address}"\nport = {one.port}\nuser = "{one.user}"\nhost_key = "{one.host_key}"\n'
        for name, one in machines.items()
    )


class Rolling:
    """An engine at work. `events` is everything that was journalled since it began."""

    def __init__(self, engine: Engine, inbox: Inbox, running: asyncio.Task[None]) -> None:
        self.engine, self.inbox, self._running = engine, inbox, running
        self.events: list[Event] = []
        self.heard = asyncio.Event()
        engine.record.listen(self._hear)

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self.heard.set()

    @property
    def rollout(self) -> Rollout:
        """The pool's last one."""
        found = self.engine.last_rollout("web")
        assert found is not None
        return found

    async def start(self, to: str, **overrides: object) -> Rollout:
        """`anew rollout`."""
        plan: dict[str, Any] = {"to": to, **({"overrides": overrides} if overrides else {})}
        await self.inbox.command("test", {"command": "rollout.start", "pool": "web", "request": self.engine.rng.token(), "plan": plan})
        return self.rollout

    async def until(self, true: Callable[[], object], what: str, deadline: float = 180.0) -> None:
        """Wait for events, and now and then look anyway: a host may change without one. An engine that died is heard of at once."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline
        while not true():
            if self._running.done():
                self._running.result()
            assert loop.time() < ends, f"not within {deadline:g} s: {what}\n{self.tale()}"
            self.heard.clear()
            try:
                async with asyncio.timeout(0.1):
                    await self.heard.wait()
            except TimeoutError:
                pass

    def busy(self, name: str) -> bool:
        """Whether something is being done to a machine that has not failed yet."""
        view = self.engine.views["web"]
        return name in view.busy and not (view.observed and name in view.observed.unreachable)

    def seen(self, name: str) -> tuple[Seen, ...]:
        """A machine's incarnations as observed."""
        observed = self.engine.views["web"].observed
        return tuple(observed.by_server.get(name, {}).values()) if observed else ()

    def sentence(self, name: str) -> str:
        """What a person reads of a machine now: why it is not reached, why it failed, or what it waits for."""
        view = self.engine.views["web"]
        found = self.engine.last_rollout("web")
        run = found.runs.get(name) if found else None
        wait = view.shown_waits().get(name)
        away = view.observed.unreachable.get(name, "") if view.observed else ""
        return away or (run.error if run else "") or (wait.reason if wait else "") or (run.reason if run else "")

    def tale(self) -> str:
        """For a failed assertion: how the rollout stands, and who is not done."""
        found = self.engine.last_rollout("web")
        if found is None:
            return "no rollout"
        undone = [f"{run.server}: {run.step}/{run.phase} {self.sentence(run.server)}" for run in found.runs.values() if run.step != "serving"]
        return "\n".join([f"{found.state}: {found.reason}", *undone[:60]])


def client_key(folder: Path) -> str:
    """The public key with which the engine below `folder` will come; made now if it is not there."""
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    return IdentityStore(str(folder / "state" / "identities")).client_public()


@asynccontextmanager
async def rolling(
    folder: Path, machines: Mapping[str, Machine], port: int, rollout: Mapping[str, object] | None = None, options: Mapping[str, object] | None = None
) -> AsyncIterator[Rolling]:
    """An engine on machines that are up. Its images are those in `folder` when it begins."""
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    (folder / "fleet.toml").write_text(fleet_text(machines, port, rollout or {}), encoding="utf-8")
    desired = settings.load(str(folder / "fleet.toml"))
    clock, rng = SystemClock(), SystemRng()
    catalogue = FolderCatalogue(desired.images, str(folder / "state"))
    catalogue.refresh()
    around = Surroundings(desired, str(folder / "state"), clock, rng, options={**QUICK, **(options or {})})
    async with open_journal(str(folder / "state" / "journal.db"), clock, log_tip=lambda _seq, _chain: None) as journal, make(around) as driver:
        record = Record(journal, State())
        await record.write(Draft("daemon-started", data={"epoch": 1, "version": "test"}))
        engine = Engine(desired, record, catalogue, {"baremetal": driver}, {"tcp": TcpProbe(clock)}, clock, rng, 1)
        running = asyncio.create_task(engine.run())
        made = Rolling(engine, Inbox(lambda: engine, journal.find_request, _no_reload, lambda: ""), running)
        try:
            await engine.first_look(running)
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _no_reload(actor: str) -> str:
    raise AssertionError("nothing is reloaded here")
