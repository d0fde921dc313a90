"""A world of pretended bare-metal hosts in this process: real SSH servers that speak docs/host-protocol.md.

    async with World(count=3) as world:
        world.welcome_key(identities.client_public())
        machines = world.machines()            # as the fleet file would name them, host keys pinned
        await world["rack2"].be(Evil(stall="no-answer"))

Every host has an address of its own (127.0.20.1 and on), its own ed25519 host key, a disk that outlives power cuts, and a
service port, the same everywhere, that says a banner while the host serves (`world.service_port`, for `tcp` health checks).
Nothing here knows what the controller wants: `most_missing` is counted from what the hosts themselves know of their service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from types import TracebackType

import asyncssh

from fleet.core.desired import Machine
from tests.metal.host import Host, Pace
from tests.metal.serving import program
from tests.ports import free_port

NETWORK = 20
"""Hosts live in 127.0.NETWORK.x and the networks above it, 250 each."""


class World:
    """`count` hosts named rack1, rack2, …; on inside the `async with`, and gone with every task and socket after it."""

    def __init__(self, count: int = 3, pace: Pace | None = None, prefix: str = "rack", network: int = NETWORK) -> None:
        self.pace = pace or Pace()
        self.program = program
        self.welcome: set[bytes] = set()
        self.service_port = free_port()
        self.hosts = {
            f"{prefix}{number}": Host(self, f"{prefix}{number}", _address(number, network), self.service_port) for number in range(1, count + 1)
        }
        self.missing: set[str] = set(self.hosts)
        self.most_missing = 0
        self.history: list[tuple[str, bool, str]] = []
        self._watching = False

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts.values())

    async def __aenter__(self) -> World:
        try:
            await asyncio.gather(*(host.power_on() for host in self))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self.watch()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for host in self:
            host.power_cut()
        others = [task for task in asyncio.all_tasks() if task.get_name().startswith("host ")]
        if others:
            await asyncio.wait(others, timeout=5)

    def welcome_key(self, public: str) -> None:
        """Let in whoever has this key ("ssh-ed25519 AAAA… comment"), on every host."""
        self.welcome.add(asyncssh.import_public_key(public).public_data)

    def machines(self, **more: str) -> Mapping[str, Machine]:
        """`[machines.NAME]` of every host, with the host key it has now; `more` goes into each."""
        return {
            host.name: Machine(host.name, host.address, host.port, host.user, host_key=host.host_key, **more)  # type: ignore[arg-type]
            for host in self
        }

    def watch(self) -> None:
        """Count from here on: `most_missing` becomes the most hosts that did not serve at one moment."""
        self._watching = True
        self.most_missing = len(self.missing)
        self.history.clear()

    def changed(self, host: Host) -> None:
        """A host began or ceased to serve."""
        if host.serving:
            self.missing.discard(host.name)
        else:
            self.missing.add(host.name)
        if self._watching:
            self.most_missing = max(self.most_missing, len(self.missing))
            self.history.append((host.name, host.serving, host.version))

    def versions(self) -> dict[str, int]:
        """version -> how many hosts run it and serve."""
        found: dict[str, int] = {}
        for host in self:
            if host.serving:
                found[host.version] = found.get(host.version, 0) + 1
        return found


def _address(number: int, network: int) -> str:
    return f"127.0.{network + (number - 1) // 250}.{(number - 1) % 250 + 1}"
