"""`ssh = "systemctl is-system-running"`: a command run on the server itself, over a session with its pinned
host key: a guest's is the one anew gave it, a machine's the one in the fleet file.

Its output never decides, only its exit code does: what a server prints is its own word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from drivers.probes.words import OUTPUT_CAP, Unreachable, host_port, took, words
from drivers.remotes import Remote, remote_of
from drivers.ssh import SshSessions
from drivers.warm import shared
from fleet.core.desired import Desired, HealthCheck, Pool
from fleet.core.errors import AnewError
from fleet.core.observed import Seen
from fleet.ports import Clock, Surroundings


class SshProbe:
    """Passes on exit code 0."""

    kind = "ssh"

    def __init__(self, sessions: SshSessions, clock: Clock, desired: Desired | None = None) -> None:
        self._sessions = sessions
        self._clock = clock
        self._desired = desired

    async def check(self, pool: Pool, check: HealthCheck, seen: Seen) -> tuple[bool, str]:
        command = str(check.options.get("command") or "true")
        begun = self._clock.now()
        try:
            remote = self._remote(pool, seen, str(check.options.get("user") or ""))
            answer = await self._sessions.run(remote, command, check.deadline, OUTPUT_CAP)
        except Unreachable as problem:
            passed, said = False, str(problem)
        except AnewError as problem:
            passed, said = False, problem.message
        else:
            spoken = answer.output.strip() or answer.errors.strip()
            line = spoken.decode("utf-8", "replace").split("\n")[0][:120]
            ended = f"exit {answer.status}" if answer.status is not None else "ended without an exit code"
            passed, said = answer.status == 0, f"{ended}: {line}" if line else ended
        return passed, words(f"ssh: {said} in {took(self._clock.now() - begun)}")

    def _remote(self, pool: Pool, seen: Seen, user: str) -> Remote:
        if self._desired is not None and seen.place in self._desired.machines:
            machine = remote_of(seen.place, self._desired)
            return replace(machine, user=user or machine.user)
        host, port = host_port(seen.address)
        return Remote(seen.server, host, port, user or pool.ssh_user)


@asynccontextmanager
async def make(around: Surroundings) -> AsyncIterator[SshProbe]:
    """The `anew.probes` entry point."""
    async with shared(around) as sessions:
        yield SshProbe(sessions, around.clock, around.desired)
