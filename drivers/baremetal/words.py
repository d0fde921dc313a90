"""What is said to a host: one line, made of words that were matched against a grammar first.

Rules (docs/host-protocol.md, *Arguments*)
- A line is `anew-host VERB ARGUMENT…`; every word is of a grammar without blanks, quotes or anything a shell would read,
  so that nothing needs to be quoted and nothing can be smuggled in.
- What changes a host carries the daemon's epoch and the operation's id first.
- Nothing a host said goes into a line but its boot id, which is matched again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from fleet.core.errors import Refused
from fleet.ports import Operation

HELPER: Final = "anew-host"
SHORT: Final = 30.0
"""Seconds for a verb of which no more is known. What changes a host has the time of its operation: a slow one is not a dead one."""

WORD: Final = r"[A-Za-z0-9._:@/=%+-]+"
NUMBER: Final = r"[0-9]{1,15}"
OP: Final = r"[0-9a-f]{16}"
ROLLOUT: Final = r"[0-9a-f]{8}(?:[0-9a-f]{8})?"
SHA: Final = r"[0-9a-f]{64}"
DIGEST: Final = r"sha256:[0-9a-f]{64}"
URL: Final = r"http://[A-Za-z0-9][A-Za-z0-9._:@/=%+-]{0,380}"
VERSION: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
SERIAL: Final = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}"
NAME: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
BOOT_ID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True, slots=True)
class Words:
    """A verb and its arguments, each of its grammar."""

    verb: str
    arguments: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """For a host that has the helper."""
        return " ".join((HELPER, self.verb, *self.arguments))

    def carried(self, user: str) -> str:
        """For a host that has none: the helper's text follows on standard input."""
        shell = "sh -s --" if user == "root" else "sudo -n sh -s --"
        return " ".join((shell, self.verb, *self.arguments))


def observe() -> Words:
    """Everything about the host; changes nothing."""
    return Words("observe")


def last_words() -> Words:
    """The end of the boot that failed last."""
    return Words("lastwords")


def writers() -> Words:
    """What is open for writing below the root."""
    return Words("writers")


def have(sha: str) -> Words:
    """How much of a bundle is there."""
    return Words("have", (_of(SHA, sha, "a sha256"),))


def upload(op: Operation, sha: str, size: int, offset: int) -> Words:
    """Standard input is the bundle's next bytes."""
    return _acting(op, "upload", _of(SHA, sha, "a sha256"), _whole(size), _whole(offset))


def patch(op: Operation, old: str, new: str, size: int, delta: str) -> Words:
    """Make bundle `new` of `size` bytes from bundle `old` ("" for none: plain zstd) and the uploaded `delta`."""
    return _acting(op, "patch", _of(SHA, old, "a sha256") if old else "-", _of(SHA, new, "a sha256"), _whole(size), _of(SHA, delta, "a sha256"))


def pull(op: Operation, sha: str, size: int, url: str) -> Words:
    """The host fetches the bundle itself, over http, and checks it."""
    return _acting(op, "pull", _of(SHA, sha, "a sha256"), _whole(size), _of(URL, url, "an http address"))


def install(op: Operation, sha: str, digest: str, version: str) -> Words:
    """Write the bundle's image to the idle slot, without making it the one that boots."""
    return _acting(op, "install", _of(SHA, sha, "a sha256"), _of(DIGEST, digest, "a digest"), _of(VERSION, version, "a version"))


def arm(op: Operation, number: int, digest: str, born: float, rollout: str) -> Words:
    """The idle slot becomes an incarnation and is tried at the next boot, once."""
    of_rollout = _of(ROLLOUT, rollout, "a rollout's id") if rollout else "-"
    return _acting(op, "arm", _whole(number), _of(DIGEST, digest, "a digest"), _whole(int(born)), of_rollout)


def activate(op: Operation, number: int) -> Words:
    """The idle, retained incarnation boots next."""
    return _acting(op, "activate", _whole(number))


def reboot(op: Operation, boot_id: str) -> Words:
    """Through firmware, and only if this boot is still the one."""
    return _acting(op, "reboot", _of(BOOT_ID, boot_id, "a boot id"))


def bless(op: Operation, number: int) -> Words:
    """The booted incarnation is the one to keep."""
    return _acting(op, "bless", _whole(number))


def reject(op: Operation, number: int) -> Words:
    """The idle incarnation will not boot again."""
    return _acting(op, "reject", _whole(number))


def forget(op: Operation, number: int) -> Words:
    """The idle incarnation's record goes."""
    return _acting(op, "forget", _whole(number))


def repair(op: Operation) -> Words:
    """A boot environment that is empty or torn is made anew from what booted."""
    return _acting(op, "repair")


def lock(op: Operation, mode: Literal["read-only", "writable"]) -> Words:
    """Remount the root of a plain host, and make it last."""
    return _acting(op, "lock", mode)


def layout(op: Operation, serial: str, sha: str, size: int, digest: str, version: str, name: str) -> Words:
    """First install onto the blank disk with this serial number; carried, and the bundle is its standard input."""
    return _acting(op, "layout", _of(SERIAL, serial, "a disk's serial number"), _of(SHA, sha, "a sha256"), _whole(size),
                   _of(DIGEST, digest, "a digest"), _of(VERSION, version, "a version"), _of(NAME, name, "a host name"))


def _acting(op: Operation, verb: str, *arguments: str) -> Words:
    return Words(verb, (_whole(op.epoch), _of(OP, op.id, "an operation's id"), *arguments))


def _of(grammar: str, value: str, what: str) -> str:
    if not re.fullmatch(grammar, value):
        raise Refused(f"{value[:80]!a} is not {what} that a host takes; nothing was sent", where=HELPER)
    return value


def _whole(value: int) -> str:
    if not 0 <= value < 10**15:
        raise Refused(f"{value} is no number that a host takes; nothing was sent", where=HELPER)
    return str(value)


__all__ = [
    "Words", "activate", "arm", "bless", "forget", "have", "install", "last_words", "layout", "lock", "observe", "patch", "pull", "reboot", "reject", "repair",
    "upload", "writers",
]
