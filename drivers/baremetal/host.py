"""One machine: its warm session, what it told last, and how it is asked.

Rules
- One attempt to look at a time, whoever asks; all who ask meanwhile get its answer. An attempt has 35 s, since each one
  costs a booting host a fork and a key exchange; after one that failed, and after a word to reboot, the next begins 5 s later.
- A look that must be *fresh* (after something was done) never takes the answer of an attempt begun before.
- A machine is not kept busy with being looked at: if a look took more than a second, the next one that nobody waits for begins
  after four times as long. Until then, and while it is under way, the last answer stands, unless something was done to the machine since.
- A machine without helper gets it carried: only verbs that A/B slots have no part in.
- What is asked is `words`, what comes back is parsed by `protocol`. Only `Transient`, `Permanent`, `Refused` leave.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from drivers.baremetal import carried, protocol, words
from drivers.baremetal import facts as reading
from drivers.baremetal.facts import HostFacts
from drivers.baremetal.protocol import Frame
from drivers.baremetal.words import Words
from drivers.refusals import obstacle
from drivers.remotes import Answer, Remote, remote_of
from fleet.core.desired import Desired, Machine
from fleet.core.errors import AnewError, Permanent, Transient
from fleet.ports import Clock, Operation

log = logging.getLogger("anew.baremetal")

LOOK: Final = 35.0
"""Seconds for one attempt: 25 for a host that boots to shake hands, 10 for it to look around."""
SPACING: Final = 5.0
REST: Final = 4.0
QUICK: Final = 1.0
LONGEST_REST: Final = 30.0
LONGEST_STAND: Final = 60.0
LOOKING: Final = frozenset({"observe", "have", "lastwords", "writers"})
CARRIED: Final = frozenset({"observe", "writers", "lock", "lastwords"})

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Sessions(Protocol):
    """What is needed of `drivers.ssh.SshSessions`."""

    async def run(self, remote: Remote, command: str, deadline: float, cap: int = ..., input: bytes = b"") -> Answer: ...

    def drop(self, remote: Remote) -> None: ...


class Host:
    """One machine of the fleet file. Used on the event loop only."""

    def __init__(self, machine: Machine, desired: Desired, sessions: Sessions, clock: Clock, spawn: Spawn, spacing: float = SPACING) -> None:
        self.machine = machine
        self.facts: HostFacts | None = None
        self.trouble: AnewError | None = None
        self.told_to_reboot = ""
        """The operation that told it last, "" if it has been seen in another boot since."""
        self._desired = desired
        self._sessions = sessions
        self._clock = clock
        self._spawn = spawn
        self._spacing = spacing
        self._attempt: asyncio.Task[None] | None = None
        self._began = 0
        self._not_before = 0.0
        self._due = 0.0
        self._stands_until = 0.0
        self._changes = 0
        self._carry = False

    @property
    def name(self) -> str:
        """The server's name, too."""
        return self.machine.name

    @property
    def remote(self) -> Remote:
        """Refused without a pinned host key: then nothing is ever sent to it."""
        return remote_of(self.name, self._desired)

    async def ask(self, what: Words, deadline: float = words.SHORT, given: bytes = b"") -> Frame:
        """One verb, answered with ok. `deadline` in seconds, connecting included."""
        if what.verb in LOOKING:
            return await self._said(what, deadline, given)
        try:
            return await self._said(what, deadline, given)
        finally:
            self._changes += 1
            self._stands_until = 0.0

    async def _said(self, what: Words, deadline: float, given: bytes) -> Frame:
        remote = self.remote
        try:
            if self._carry and what.verb in CARRIED:
                return await self._asked(remote, what, what.carried(remote.user), deadline, carried.program())
            return await self._asked(remote, what, what.line, deadline, given)
        except Permanent as missing:
            if missing.code != "no-helper" or what.verb not in CARRIED or self._carry:
                raise
        frame = await self._asked(remote, what, what.carried(remote.user), deadline, carried.program())
        self._carry = True
        return frame

    async def reboot(self, op: Operation, boot_id: str) -> str:
        """Tell it to reboot if it still runs that boot; "" if it said that it will, else why that is not known. The connection ends here,
        unless it said no.

        Nobody looks for 5 s: it would only get into the way of a system that goes down.
        """
        before, self.told_to_reboot = self.told_to_reboot, op.id
        said_no = False
        try:
            await self.ask(words.reboot(op, boot_id))
        except AnewError as problem:
            said_no = not isinstance(problem, Transient) or problem.code in protocol.TRANSIENT
            if not isinstance(problem, Transient):
                raise
            return problem.message
        finally:
            if said_no:
                self.told_to_reboot = before
            else:
                self._sessions.drop(self.remote)
                self.trouble = Transient("it was told to reboot, and has not been seen since", where=self.name)
                self._not_before = self._clock.now() + self._spacing
        return ""

    async def look(self) -> HostFacts:
        """What the machine shows now, not before. Waits for its turn, and for the spacing after a failed attempt."""
        attempts = self._began
        if self._attempt is not None and not self._attempt.done():
            await asyncio.wait({self._attempt})
        while self._began == attempts:
            wait = self._not_before - self._clock.now()
            if wait > 0:
                await self._clock.sleep(wait)
            elif self._attempt is None or self._attempt.done():
                self.begin()
        task = self._attempt
        assert task is not None
        await asyncio.wait({task})
        return self.answer()

    @property
    def stands(self) -> bool:
        """True if what it told last is young enough to be told again, and nothing was done to it since."""
        return self.trouble is None and self.facts is not None and self._clock.now() < self._stands_until

    def begin(self, *, fresh: bool = True) -> asyncio.Task[None] | None:
        """Start an attempt if none is under way. None if it is too early for one, or if it may rest (`fresh` asks all the same)."""
        if self._attempt is None or self._attempt.done():
            now = self._clock.now()
            if now < self._not_before or (not fresh and self.stands and now < self._due):
                return None
            self._began += 1
            self._attempt = self._spawn(self._look())
            self._attempt.add_done_callback(self._looked)
        return self._attempt

    def answer(self) -> HostFacts:
        """What the last attempt brought."""
        if self.trouble is not None:
            raise self.trouble
        if self.facts is None:
            raise Transient("it has not been looked at yet", where=self.name)
        return self.facts

    def _looked(self, attempt: asyncio.Task[None]) -> None:
        """A fault of anew's own in a look is this machine's trouble, and nobody else's."""
        if not attempt.cancelled() and (fault := attempt.exception()) is not None:
            log.error("a fault in looking at %s", self.name, exc_info=fault)
            self.trouble = Transient("anew itself failed in looking at it; the daemon's log says more", retry_after=self._spacing, where=self.name)
            self._not_before = self._clock.now() + self._spacing

    async def _look(self) -> None:
        began, changes = self._clock.now(), self._changes
        try:
            found = reading.read(await self.ask(words.observe(), LOOK), self.name)
        except AnewError as problem:
            self.trouble = problem
            self._not_before = self._clock.now() + self._spacing
            return
        if self.facts is not None and self.facts.boot_id != found.boot_id:
            self._carry, self.told_to_reboot = False, ""
        self.facts, self.trouble, self._not_before = found, None, 0.0
        now = self._clock.now()
        took = now - began
        self._due = now + min(LONGEST_REST, REST * max(0.0, took - QUICK))
        self._stands_until = min(self._due + self._spacing + 3 * took, now + LONGEST_STAND) if changes == self._changes else 0.0

    async def _asked(self, remote: Remote, what: Words, line: str, deadline: float, given: bytes) -> Frame:
        answer = await self._sessions.run(remote, line, deadline, protocol.ANSWER_CAP, given)
        if answer.cut:
            raise Permanent("it answers with more than 1 MiB; whatever answers there is not anew-host", where=self.name)
        try:
            frame = protocol.parse(answer.output, self.name, words=answer.errors[: protocol.LINE_CAP].decode("utf-8", "replace"))
        except protocol.Unanswered:
            known = obstacle(remote, answer.status, answer.output, answer.errors)
            if known is not None:
                raise known from None
            if answer.status == 127:
                raise Permanent("it has no anew-host; install /usr/bin/anew-host there", where=self.name, code="no-helper") from None
            raise
        return protocol.require(frame, self.name, epoch=self.facts.epoch if self.facts else 0)


__all__ = ["Host", "Sessions", "Spawn"]
