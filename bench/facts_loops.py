"""Facts from many hosts inside one process: anew's own sessions, its driver, and a bare asyncssh loop, by CPU time.

Run by bench.facts as `python -m bench.facts_loops METHOD HOSTS.json`, a fresh process for each: prints one JSON object with
seconds of CPU for the start (interpreter and imports), cold (connect and first answers), warm (the mean of later rounds).
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.openssh import ANSWER, COMMAND, Hosts

WARM_ROUNDS = 5
HANDSHAKES = 48
DEADLINE = 120.0
Round = Callable[[], Awaitable[None]]
"""Asks every host once, over connections that it keeps, and sees that all have answered."""


def cpu() -> float:
    """User and system seconds of this process and of children that have ended."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


@asynccontextmanager
async def bare(hosts: Hosts) -> AsyncIterator[Round]:
    """What one would write by hand: options built once, the pinned key parsed once, 48 handshakes at a time, nothing else."""
    import asyncssh

    options = asyncssh.SSHClientConnectionOptions(
        config=None, client_keys=[asyncssh.read_private_key(hosts.client_key)], agent_path=None, x509_trusted_certs=None, x509_trusted_cert_paths=None,
        gss_host=None, gss_kex=False, gss_auth=False, preferred_auth="publickey", kex_algs=["mlkem768x25519-sha256", "curve25519-sha256"],
        encryption_algs=["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"], compression_algs=["none"], known_hosts=b"", username=hosts.user,
        server_host_key_algs=["ssh-ed25519"])
    pinned = asyncssh.import_public_key(hosts.host_key)
    shaking = asyncio.Semaphore(HANDSHAKES)
    kept: dict[int, asyncssh.SSHClientConnection] = {}

    async def ask(number: int) -> bytes:
        connection = kept.get(number)
        if connection is None:
            async with shaking:
                connection = kept[number] = await asyncssh.connect(hosts.addresses[number], hosts.port, options=options, config=None, known_hosts=([pinned], [], []))
        done = await connection.run(COMMAND, encoding=None, stdin=asyncssh.DEVNULL)
        assert isinstance(done.stdout, bytes)
        return done.stdout

    yield lambda: _all(ask, hosts)
    for connection in kept.values():
        connection.abort()


@dataclass(frozen=True, slots=True)
class _Keys:
    """Every host has one key here."""

    hosts: Hosts

    def host_public(self, server: str) -> str:
        return self.hosts.host_key

    def client_private_path(self) -> str:
        return self.hosts.client_key


@asynccontextmanager
async def sessions(hosts: Hosts) -> AsyncIterator[Round]:
    """anew's session module (drivers/ssh.py) with all it promises: pins, caps, deadlines, one kept connection a server."""
    from drivers.ssh import Remote, SshSessions

    made = SshSessions(_Keys(hosts))
    remotes = [Remote(f"bench-{number}", address, hosts.port, hosts.user) for number, address in enumerate(hosts.addresses)]

    async def ask(number: int) -> bytes:
        return (await made.run(remotes[number], COMMAND, DEADLINE)).output

    yield lambda: _all(ask, hosts)
    await made.close()


@asynccontextmanager
async def driver(hosts: Hosts) -> AsyncIterator[Round]:
    """What the engine calls: `BaremetalDriver.observe` on a pool of these machines, answers parsed and judged."""
    from drivers.baremetal import make
    from drivers.baremetal.host import LONGEST_STAND
    from fleet.core.desired import Desired, Machine, Pool
    from fleet.engine.clock import SystemClock, SystemRng
    from fleet.ports import Surroundings

    machines = {f"bench-{number}": Machine(f"bench-{number}", address, hosts.port, hosts.user, key=hosts.client_key, host_key=hosts.host_key)
                for number, address in enumerate(hosts.addresses)}
    pool = Pool("bench", "baremetal", len(machines), "bench", machines=tuple(machines))
    desired = Desired("bench", {}, {}, {pool.name: pool}, machines=machines)
    state = str(Path(hosts.client_key).with_name("state"))
    clock = SystemClock()
    async with make(Surroundings(desired, state, clock, SystemRng(), options={"baremetal.glance": DEADLINE})) as made:
        async def look() -> None:
            clock.not_before(clock.now() + LONGEST_STAND)  # no answer of an earlier round stands for one of this
            seen = await made.observe(pool)
            if seen.unreachable or sum(server.version == "1" and server.number == 1 for server in seen.incarnations) != len(machines):
                raise RuntimeError(f"{len(seen.incarnations)} of {len(machines)} seen; {dict(list(seen.unreachable.items())[:3])}")

        yield look


METHODS: dict[str, Callable[[Hosts], AbstractAsyncContextManager[Round]]] = {"bare": bare, "sessions": sessions, "driver": driver}


async def measure(method: str, hosts: Hosts) -> dict[str, Any]:
    """Seconds of CPU: {"start", "cold", "warm"} for all hosts together."""
    async with METHODS[method](hosts) as look:
        found = {"start": cpu()}
        await look()
        found["cold"] = cpu() - found["start"]
        began = cpu()
        for _ in range(WARM_ROUNDS):
            await look()
        found["warm"] = (cpu() - began) / WARM_ROUNDS
    return found


async def _all(ask: Callable[[int], Awaitable[bytes]], hosts: Hosts) -> None:
    wanted = ANSWER.encode()
    for number, said in enumerate(await asyncio.gather(*map(ask, range(len(hosts.addresses))))):
        if said != wanted:
            raise RuntimeError(f"host {number} gave another answer: {said[:200]!a}")


def main(method: str, path: str) -> None:
    described = json.loads(Path(path).read_text(encoding="utf-8"))
    hosts = Hosts(**{**described, "addresses": tuple(described["addresses"])})
    print(json.dumps(asyncio.run(measure(method, hosts))))


if __name__ == "__main__":
    main(*sys.argv[1:])
