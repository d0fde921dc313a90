"""`ssh = "systemctl is-system-running"`: a command run on the server itself, over a session with its pinned
host key.

Its output never decides, only its exit code does: what a server prints is its own word.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drivers.identity import IdentityStore
from drivers.probes.words import OUTPUT_CAP, Unreachable, host_port, took, words
from drivers.ssh import Remote, SshSessions
from fleet.core.desired import HealthCheck, Pool
from fleet.core.errors import AnewError
from fleet.core.observed import Seen
from fleet.ports import Clock, Surroundings


class SshProbe:
    """Passes on exit code 0."""

    kind = "ssh"

    def __init__(self, sessions: SshSessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def check(self, pool: Pool, check: HealthCheck, seen: Seen) -> tuple[bool, str]:
        command = str(check.options.get("command") or "true")
        user = str(check.options.get("user") or pool.ssh_user)
        begun = self._clock.now()
        try:
            host, port = host_port(seen.address)
            answer = await self._sessions.run(
                Remote(seen.server, host, port, user), command, check.deadline, OUTPUT_CAP
            )
        except Unreachable as problem:
            passed, said = False, str(problem)
        except AnewError as problem:
            passed, said = False, problem.message
        else:
            line = answer.output.decode("utf-8", "replace").strip().split("\n")[0][:120]
            ended = f"exit {answer.status}" if answer.status is not None else "ended without an exit code"
            passed, said = answer.status == 0, f"{ended}: {line}" if line else ended
        return passed, words(f"ssh: {said} in {took(self._clock.now() - begun)}")


@asynccontextmanager
async def make(around: Surroundings) -> AsyncIterator[SshProbe]:
    """The `anew.probes` entry point."""
    sessions = SshSessions(IdentityStore(os.path.join(around.state_dir, "identities")))
    try:
        yield SshProbe(sessions, around.clock)
    finally:
        await sessions.close()
