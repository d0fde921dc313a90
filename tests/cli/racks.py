"""Pretended machines in a thread of this process, with a fleet file and images for a real daemon that drives them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from drivers.identity import IdentityStore
from tests.cli.running import Ended, at_terminal, run
from tests.metal.fake_bmc import FakeBmc, fake_bmc, good
from tests.metal.host import Pace
from tests.metal.hosts import World

T = TypeVar("T")
DEADLINE = 180.0
HEAD = """\
[fleet]
name = "racks"

[images.web]
path = "images"

"""
POOL = """
[pools.web]
driver = "baremetal"
machines = [{machines}]
image = "web"
mode = "manual"

[[pools.web.health]]
tcp = {{ port = {port} }}
interval = "200ms"

[pools.web.rollout]
promotion = "auto"
min_healthy_time = "300ms"
drain_deadline = "1s"
"""


def image(folder: Path, version: str) -> None:
    """A version of the family `web` whose bundle only pretended hosts boot."""
    place = folder / version
    place.mkdir(parents=True)
    content = f"a bundle of web/{version}\n".encode().ljust(4000, b"x")
    (place / "bundle.raucb").write_bytes(content)
    (place / "image.toml").write_text(
        f'family = "web"\nversion = "{version}"\nbuilt_at = 2026-11-2{version[0]}T00:00:00Z\nkind = "rauc"\nroot = "bundle.raucb"\n'
        f'[files]\n"bundle.raucb" = {{ sha256 = "{hashlib.sha256(content).hexdigest()}", size = {len(content)} }}\n')


class Racks:
    """`count` hosts that are on, a fleet file of them, and the state folder of a daemon that commands start."""

    def __init__(self, folder: Path, count: int = 2, pace: Pace | None = None) -> None:
        self.file, self.state = folder / "fleet.toml", folder / "state"
        self.state.mkdir(mode=0o700)
        for version in ("1", "2"):
            image(folder / "images", version)
        self.bmc: FakeBmc | None = None
        self._count, self._pace = count, pace or Pace(boot=0.3)
        self._loop = asyncio.new_event_loop()
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._live()), daemon=True)
        self._thread.start()
        assert self._ready.wait(DEADLINE)

    async def _live(self) -> None:
        self.world = World(self._count, self._pace)
        self.world.welcome_key(IdentityStore(str(self.state / "identities")).client_public())
        async with self.world, fake_bmc(good()) as self.bmc:
            self._ready.set()
            await self._end.wait()

    def tables(self) -> str:
        """`[machines.NAME]` of every host, its host key pinned."""
        return "".join(f'[machines.{host.name}]\naddress = "{host.address}"\nport = {host.port}\nuser = "{host.user}"\nhost_key = "{host.host_key}"\n'
                       for host in self.world)

    def write(self, change: Callable[[str], str] = str) -> None:
        """The fleet file of these hosts, changed by `change`."""
        machines = ", ".join(f'"{host.name}"' for host in self.world)
        self.file.write_text(change(HEAD + self.tables() + POOL.format(machines=machines, port=self.world.service_port)))

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something to the hosts, in their thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    @property
    def where(self) -> dict[str, str]:
        return {"ANEW_FLEET": str(self.file), "ANEW_STATE": str(self.state), "HOME": str(self.state)}

    def anew(self, *arguments: str) -> Ended:
        return run(None, *arguments, **self.where)

    def data(self, *arguments: str) -> Any:
        ended = self.anew(*arguments, "--json")
        assert ended.code == 0, ended.err
        return json.loads(ended.out)

    def typing(self, typed: str, *arguments: str) -> tuple[int, str]:
        return at_terminal(None, typed, *arguments, **self.where)

    def events(self, *types: str) -> list[dict[str, Any]]:
        """What the journal has of these types."""
        return [row for row in map(json.loads, self.anew("journal", "export").out.splitlines()) if row["type"] in types]

    def close(self) -> None:
        """End the daemon, if there is one, and the hosts."""
        if os.path.exists(self.state / "anew.sock"):
            self.anew("daemon", "stop")
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
