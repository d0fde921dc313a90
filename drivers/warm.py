"""The SSH sessions of one daemon, shared by its drivers and probes, and as many of them warm as the fleet has hosts.

Rule: one connection a host and one memory of refused keys, whoever asks: two would double what a host sees of anew. The process's
soft limit of descriptors (1,024 with most systems) is raised for the connections, as far as it may be.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from drivers.identity import IdentityStore
from drivers.ssh import SshSessions
from fleet.core.desired import Desired
from fleet.ports import Surroundings

BESIDE = 256
"""Descriptors that are left for everything else."""


def room(wanted: int) -> int:
    """How many connections of `wanted` may stay open: the process's soft limit of descriptors is raised for them as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    if soft != resource.RLIM_INFINITY and soft < wanted + BESIDE:
        soft = min(hard, wanted + BESIDE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - BESIDE))


def remotes_in(desired: Desired) -> int:
    """How many a fleet file may make us speak to over SSH: its machines, and its servers with user networking or an address."""
    return len(desired.machines) + sum(pool.servers for pool in desired.pools.values() if not pool.machines)


_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, tuple[SshSessions, int]]] = WeakKeyDictionary()


@asynccontextmanager
async def shared(around: Surroundings) -> AsyncIterator[SshSessions]:
    """The sessions of one daemon, the same for its drivers and probes: one connection a host, one memory of refused keys."""
    folder = os.path.join(around.state_dir, "identities")
    here = _SHARED.setdefault(asyncio.get_running_loop(), {})
    sessions, users = here.get(folder, (None, 0))
    if sessions is None:
        sessions = SshSessions(IdentityStore(folder))
    sessions.expect(room(remotes_in(around.desired)))
    here[folder] = (sessions, users + 1)
    try:
        yield sessions
    finally:
        users = here[folder][1] - 1
        here[folder] = (sessions, users)
        if not users:
            del here[folder]
            await sessions.close()


__all__ = ["remotes_in", "room", "shared"]
