"""When a host does not let anew in: what is said of it, and when it is asked again.

Rule: a refused key is not tried again for 30 s, then 60 s, … at most 5 min, however often somebody asks. Hosts with fail2ban or
faillock shut out an address that fails a handful of times in a row, and each failure is a line in somebody's log. A guest that
anew made itself (no pinned key) begins at 5 s: while it boots, SSH may be up before its authorized keys are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from drivers.remotes import Remote
from fleet.core.errors import Permanent, Transient
from fleet.core.printable import printable

FIRST, FIRST_OF_GUESTS, LONGEST = 30.0, 5.0, 300.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class _Hold:
    until: float
    pause: float


class Refusals:
    """Remembers who refused anew's key. `now`: seconds of a clock that never goes back."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._holds: dict[Remote, _Hold] = {}

    def check(self, remote: Remote) -> None:
        """Raises Transient, code "auth", while the remote is not to be asked again."""
        hold = self._holds.get(remote)
        if hold is not None and hold.until > self._now():
            raise self._said(remote, hold)

    def refused(self, remote: Remote) -> Transient:
        """Note that it refused just now; the error to raise."""
        before = self._holds.get(remote)
        first = FIRST if remote.pins or remote.authorities else FIRST_OF_GUESTS
        pause = first if before is None else min(LONGEST, 2 * before.pause)
        hold = self._holds[remote] = _Hold(self._now() + pause, pause)
        return self._said(remote, hold)

    def accepted(self, remote: Remote) -> None:
        """It let us in: forget what was."""
        self._holds.pop(remote, None)

    def _said(self, remote: Remote, hold: _Hold) -> Transient:
        left = max(1.0, hold.until - self._now())
        key = "the keys of the SSH agent" if remote.agent else f"the key {remote.key}" if remote.key else "anew's key"
        public = "the public key" if remote.agent or remote.key else "what `anew machine key` prints"
        return Transient(
            f"it does not accept {key} for user {remote.user}; put {public} into that user's authorized_keys, or name "
            f"another user; next try in {left:.0f} s",
            retry_after=left, where=str(remote), code="auth",
        )


_OBSTACLES: tuple[tuple[str, str, str], ...] = (
    (r"sudo: .*(password is required|terminal is required|no tty present|askpass)", "sudo",
     "sudo asks for a password there; give user {user} a NOPASSWD rule for /usr/bin/anew-host"),
    (r"(is not in the sudoers file|is not allowed to (execute|run))", "sudo",
     "user {user} may not use sudo there; give it a NOPASSWD rule for /usr/bin/anew-host, or name another user"),
    (r"sudo: (command )?not found|sudo: No such file", "sudo",
     "user {user} is not root, and there is no sudo there; install sudo, or let anew in as root"),
    (r"[Pp]lease login as the user", "user", "it lets user {user} in only to say that another user is to be used: {said}"),
    (r"(This account is|account) currently not available", "user",
     "user {user} has no shell there; name another user, or give this one /bin/sh"),
    (r"(password has expired|[Pp]assword change required|required to change your password)", "user",
     "the password of user {user} has expired there, and it wants a new one before anything else; change it, or take its age away"),
    (r"anew-host: (command )?(not found|No such file)", "no-helper",
     "there is no anew-host there; boot an image that has it, or let it be carried"),
)


def obstacle(remote: Remote, status: int | None, output: bytes, errors: bytes) -> Permanent | None:
    """The sentence for a command that never ran as it should: sudo that asks, a wrong user, no helper. None: nothing known.

    `output` and `errors` are a host's own words: they are matched by their beginning, and shown as one printable line.
    """
    if status == 0:
        return None
    for words in (errors[:2048].decode("utf-8", "replace"), output[:2048].decode("utf-8", "replace")):
        for pattern, code, sentence in _OBSTACLES:
            if (found := re.search(pattern, words)) is not None:
                line = words[words.rfind("\n", 0, found.start()) + 1:].split("\n", 1)[0]
                said = printable(" ".join(line.split()), 120)
                return Permanent(sentence.format(user=remote.user, said=said), where=str(remote), code=code)
    return None


__all__ = ["Refusals", "obstacle"]
