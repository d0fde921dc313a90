"""Pretended hosts in a process of their own, so that what the controller needs is measured without them.

`python -m tests.metal.farm COUNT PACE` runs a world; a line of JSON on standard input is an order, a line on standard output its
answer; the end of the input is the end of the world. `Farm` is the other end.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from fleet.core.desired import Machine
from tests.metal.evil import Evil
from tests.metal.host import Host, Pace
from tests.metal.hosts import World

ROOT = Path(__file__).parents[2]
LONGEST_LINE = 64 * 2**20


class TooFewDescriptors(Exception):
    """So many hosts cannot be here."""


@contextmanager
def descriptors(wanted: int) -> Iterator[None]:
    """This process, and those that it starts meanwhile, may open so many: the hard limit is raised too, if that is allowed."""
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard if hard == resource.RLIM_INFINITY else max(hard, wanted)))
        except (ValueError, OSError):
            raise TooFewDescriptors(f"{wanted} open files are needed, and a process may have {hard} here; raise the hard limit (ulimit -Hn)") from None
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Farm:
    """`count` hosts in a child process, named rack1 and on. `machines`: as the fleet file names them.

    Four descriptors a host: it listens at two ports and has a connection at each, whose other end is this process's. Raises
    TooFewDescriptors where that is not allowed.
    """

    def __init__(self, count: int, pace: Pace | None = None) -> None:
        self._descriptors = 4 * count + 256
        self._limits = ExitStack()
        self._arguments = [str(count), json.dumps(asdict(pace or Pace()))]
        self._process: asyncio.subprocess.Process | None = None
        self.machines: Mapping[str, Machine] = {}
        self.service_port = 0

    async def __aenter__(self) -> Farm:
        self._limits.enter_context(descriptors(self._descriptors))
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.metal.farm", *self._arguments, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                limit=LONGEST_LINE)
            about = await self._answer()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self.machines = {one["name"]: Machine(**one) for one in about["machines"]}
        self.service_port = about["service_port"]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        with self._limits:
            if self._process is None:
                return
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                async with asyncio.timeout(10):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def order(self, do: str, names: Iterable[str] = (), **more: object) -> Any:
        """One order, and its answer."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "names": list(names), **more}).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> Any:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the hosts' process ended"
        return json.loads(line)


class _Steward:
    """Carries out orders in the child."""

    def __init__(self, world: World) -> None:
        self.world = world

    def about(self) -> dict[str, Any]:
        """What the other end must know first."""
        machines = [{key: value for key, value in asdict(machine).items() if key != "bmc"} for machine in self.world.machines().values()]
        return {"machines": machines, "service_port": self.world.service_port}

    async def obey(self, order: dict[str, Any]) -> Any:
        """One order's answer."""
        hosts = [self.world[name] for name in order["names"]]
        match order["do"]:
            case "welcome":
                self.world.welcome_key(order["key"])
            case "be":
                for host in hosts:
                    await host.be(Evil(**{**order["evil"], "verbs": tuple(order["evil"].get("verbs", ()))}))
            case "pace":
                for host in hosts:
                    host.pace = replace(host.pace, **order["pace"])
            case "change-key":
                for host in hosts:
                    await host.change_key()
            case "power-cut":
                for host in hosts:
                    host.power_cut()
            case "watch":
                self.world.watch()
            case _:
                return self.report()
        return "done"

    def report(self) -> dict[str, Any]:
        """The hosts' own view of all that was."""
        return {"most_missing": self.world.most_missing, "missing": sorted(self.world.missing), "history": self.world.history,
                "hosts": {host.name: _told(host) for host in self.world}}


def _told(host: Host) -> dict[str, Any]:
    return {"version": host.version, "serving": host.serving, "verbs": host.verbs(), "strange": host.strange, "boots": host.boots,
            "keys_shown": host.door.keys_shown, "opened": host.door.opened, "blessed": not host.trial}


async def main(count: str, pace: str) -> None:
    """Until the input ends."""
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with World(int(count), Pace(**json.loads(pace))) as world:
        gc.freeze()
        steward = _Steward(world)
        print(json.dumps(steward.about()), flush=True)
        while line := await reader.readline():
            print(json.dumps(await steward.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
