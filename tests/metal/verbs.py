"""The pretended helper program: verbs in, the exact text of docs/host-protocol.md out, on a pretended host's disk.

Arguments are held against the contract's grammars, so that a controller that is careless with its words fails here too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.metal import saying
from tests.metal.bundles import GETTING, Stream, patch, pull, upload
from tests.metal.disk import Content, Record, other
from tests.metal.refusing import Fail

if TYPE_CHECKING:
    from tests.metal.host import Host

GRAMMAR: Final = {
    "EPOCH": r"[0-9]{1,15}",
    "OP": r"[0-9a-f]{16}",
    "SHA": r"[0-9a-f]{64}",
    "OLD": r"[0-9a-f]{64}|-",
    "DIGEST": r"sha256:[0-9a-f]{64}",
    "WHOLE": r"[0-9]{1,15}",
    "VERSION": r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}",
    "ROLLOUT": r"[0-9a-f]{8}([0-9a-f]{8})?|-",
    "BOOT_ID": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "URL": r"http://[A-Za-z0-9._:@/%+-]+",
    "MODE": r"read-only|writable",
}
LOOKING: Final = {"observe": "", "have": "SHA", "lastwords": "", "writers": ""}
ACTING: Final = {
    "upload": "SHA WHOLE WHOLE",
    "patch": "OLD SHA WHOLE SHA",
    "pull": "SHA WHOLE URL",
    "install": "SHA DIGEST VERSION",
    "arm": "WHOLE DIGEST WHOLE ROLLOUT",
    "activate": "WHOLE",
    "reboot": "BOOT_ID",
    "bless": "WHOLE",
    "reject": "WHOLE",
    "forget": "WHOLE",
    "repair": "",
    "lock": "MODE",
}


@dataclass(slots=True)
class Talk:
    """One call of the program: the host, the words after the verb without EPOCH and OP, and both directions."""

    host: Host
    verb: str
    op: str
    words: tuple[str, ...]
    stream: Stream

    def say(self, line: str) -> None:
        """A line of the answer."""
        self.stream.write(line.encode() + b"\n")

    def raw(self, name: str, text: bytes) -> None:
        """A raw section."""
        self.stream.write(f"--- {name} {len(text)}\n".encode() + text + b"\n")


async def answer(host: Host, words: list[str], stream: Stream) -> int:
    """Run one verb and say its answer. The exit code."""
    talk = None
    stream.write(b"anew-host 1\n")
    try:
        talk = _talk(host, words, stream)
        if talk.verb in LOOKING:
            await _look(talk)
        else:
            await _act(talk, int(words[1]))
    except Fail as fail:
        stream.write(f"error {fail.code} {fail.sentence}\n".encode())
        return fail.exit
    stream.write(b"ok\n")
    return 0


def _talk(host: Host, words: list[str], stream: Stream) -> Talk:
    verb, given = (words[0], words[1:]) if words else ("", [])
    shape = LOOKING.get(verb)
    wanted = f"EPOCH OP {ACTING.get(verb, '')}".split() if shape is None else shape.split()
    if shape is None and verb not in ACTING:
        raise Fail("usage", "no such verb")
    if len(given) != len(wanted) or not all(re.fullmatch(GRAMMAR[kind], word, re.ASCII) for kind, word in zip(wanted, given, strict=True)):
        raise Fail("usage", f"{verb} takes {' '.join(wanted)}")
    return Talk(host, verb, "" if shape is not None else given[1], tuple(given if shape is not None else given[2:]), stream)


async def _look(talk: Talk) -> None:
    disk = talk.host.disk
    match talk.verb:
        case "observe":
            talk.stream.write(saying.observe(talk.host).removeprefix(b"anew-host 1\n"))
            _wait_for_rauc(talk.host)
        case "have":
            held = disk.bundles.get(talk.words[0])
            talk.say(f"size {held.size if held else 0}")
            talk.say(f"state {'none' if held is None else 'complete' if held.complete else 'part'}")
            if held is not None and not held.complete:
                talk.say(f"sha_so_far {held.sha}")
        case "lastwords":
            talk.raw("words", disk.last_words.encode()[-4096:])
        case _:
            talk.raw("writers", b"rsyslogd 412 /var/log/syslog\nmount - /boot\n" if talk.host.plain else b"")


async def _act(talk: Talk, epoch: int) -> None:
    """Under the lock and the epoch, as every verb below the line."""
    host = talk.host
    if host.evil.read_only_data:
        raise Fail("read-only-data", "the data partition is mounted read-only")
    if epoch < host.disk.epoch:
        raise Fail("stale-epoch", f"epoch {host.disk.epoch} was seen here, this is {epoch}")
    host.disk.epoch = epoch
    host.disk.note(f"{epoch} {talk.op} {talk.verb} {' '.join(talk.words)}")
    if talk.verb in GETTING:
        await {"upload": upload, "patch": patch, "pull": pull}[talk.verb](host, talk.words, talk.stream)
        return
    lock = host.lock
    try:
        async with asyncio.timeout(host.pace.lock):
            if host.evil.locked_by:
                await asyncio.get_running_loop().create_future()
            await lock.acquire()
    except TimeoutError:
        raise Fail("busy", f"operation {host.evil.locked_by or host.held_by} holds the lock") from None
    host.held_by = talk.op
    try:
        await VERBS[talk.verb](talk)
    finally:
        lock.release()
        if host.lock is lock:
            host.held_by = ""


def _idle(talk: Talk, number: int) -> Record:
    """The idle slot's record, which must be this incarnation."""
    _ab(talk.host)
    record = talk.host.disk.records.get(other(str(talk.host.booted)))
    if record is None or record.number != number:
        raise Fail("wrong-state", f"the idle slot does not hold incarnation {number}")
    return record


def _wait_for_rauc(host: Host) -> None:
    if saying.backend(host) == "rauc" and not host.rauc_answers():
        raise Fail("not-ready", "rauc does not answer yet; its service may still be starting")


def _ab(host: Host) -> None:
    if saying.backend(host) == "none" or host.booted is None:
        raise Fail("no-backend", "there is no RAUC, no systemd-boot and no bootc here")
    _wait_for_rauc(host)
    if host.disk.env.condition != "ok":
        raise Fail("failed", "the boot environment cannot be read; repair it first")


async def _install(talk: Talk) -> None:
    host, disk, (sha, digest, version) = talk.host, talk.host.disk, talk.words
    if saying.backend(host) != "none" and disk.env.condition != "ok":
        await _repair(talk)
        talk.say("repaired env")
    _ab(host)
    slot, held = other(str(host.booted)), disk.bundles.get(sha)
    record = disk.records.get(slot)
    if record is not None and (record.digest, record.state) == (digest, "staged"):
        return
    if host.trial:
        raise Fail("wrong-state", "the booted slot is on trial; bless it or let it fall back first")
    if held is None or not held.complete:
        raise Fail("wrong-state", f"bundle {sha[:12]} is not here whole")
    if held.head.startswith(b"unsigned"):
        raise Fail("bad-bytes", "the bundle's signature does not hold")
    image_id = f"web-{version}-{sha[:8]}"
    disk.env.bad(slot)
    disk.contents[slot], disk.records[slot] = None, Record(digest, version, image_id, "writing", sha, talk.op)
    for percent in (0, 50):
        talk.say(f"progress {percent}")
        if host.pace.install:
            await host.spend(host.pace.install / 2)
    talk.say("progress 100")
    disk.contents[slot] = Content(digest, version, image_id, sha, held.size)
    disk.records[slot].state = "staged"
    running = host.content.sha if host.content else ""
    disk.bundles = {name: kept for name, kept in disk.bundles.items() if name in (sha, running) or not kept.complete}


async def _arm(talk: Talk) -> None:
    host, (number, digest, born, rollout) = talk.host, talk.words
    _ab(host)
    slot, running = other(str(host.booted)), host.disk.records.get(str(host.booted))
    record = host.disk.records.get(slot)
    if running is not None and (running.op, running.number) == (talk.op, int(number)):
        return
    if record is not None and record.state == "armed" and (record.op, record.digest, record.armed_boot) == (talk.op, digest, host.boot_id):
        return
    if record is None or (record.state, record.digest) != ("staged", digest) or host.trial:
        raise Fail("wrong-state", "the idle slot does not hold that image staged, or the booted one is on trial")
    _name_booted(host)
    record.state, record.number, record.born, record.rollout = "armed", int(number), born, rollout
    record.op, record.armed_boot = talk.op, host.boot_id
    host.disk.env.first(slot)


def _name_booted(host: Host) -> None:
    """What ran before the first rollout is incarnation 0, and is told from a blank slot by its record."""
    slot, content = str(host.booted), host.content
    if content is not None and slot not in host.disk.records:
        host.disk.records[slot] = Record("-", content.version, content.image_id, "blessed", "-", "-", number=0)


async def _activate(talk: Talk) -> None:
    running = talk.host.disk.records.get(str(talk.host.booted))
    if running is not None and running.number == int(talk.words[0]):
        return
    record = _idle(talk, int(talk.words[0]))
    if record.state not in ("kept", "blessed"):
        raise Fail("wrong-state", f"incarnation {record.number} is {record.state}, not kept")
    talk.host.disk.env.first(other(str(talk.host.booted)))


async def _reboot(talk: Talk) -> None:
    if talk.words[0] == talk.host.shown_boot_id():
        talk.host.reboot_soon()
    else:
        talk.say(f"boot_id {talk.host.shown_boot_id()}")


async def _bless(talk: Talk) -> None:
    host, number = talk.host, int(talk.words[0])
    _ab(host)
    slot = other(other(str(host.booted)))
    if not host.trial and number == 0:
        _name_booted(host)
    record = host.disk.records.get(slot)
    if record is None or record.number != number or record.state not in ("armed", "kept", "blessed"):
        raise Fail("wrong-state", f"the booted slot is not incarnation {number}")
    host.disk.env.order = [slot, other(slot)]
    host.disk.env.keep(slot)
    record.state = "blessed"
    host.disk.blessed.add(record.image_id)
    beside = host.disk.records.get(other(slot))
    if beside is not None and beside.state == "blessed":
        beside.state = "kept"
    host.bless()


async def _reject(talk: Talk) -> None:
    record = _idle(talk, int(talk.words[0]))
    record.state = "rejected"
    talk.host.disk.env.bad(other(str(talk.host.booted)))


async def _forget(talk: Talk) -> None:
    host, number = talk.host, int(talk.words[0])
    _ab(host)
    running = host.disk.records.get(str(host.booted))
    if running is not None and running.number == number:
        raise Fail("wrong-state", f"incarnation {number} runs")
    if other(str(host.booted)) in host.disk.records:
        record = _idle(talk, number)
        if record.state == "armed" and record.armed_boot == host.boot_id:
            host.disk.env.bad(other(str(host.booted)))
        del host.disk.records[other(str(host.booted))]


async def _repair(talk: Talk) -> None:
    host, env = talk.host, talk.host.disk.env
    if saying.backend(host) == "none" or host.booted is None:
        raise Fail("no-backend", "there is no boot environment here")
    if env.condition != "ok":
        env.condition = "ok"
        idle = other(host.booted)
        beside = host.disk.records.get(idle)
        env.good = {host.booted: True, idle: host.trial or (beside is not None and beside.state in ("kept", "blessed"))}
        env.tried = {host.booted: host.trial, idle: False}
        env.order = [idle, host.booted] if host.trial else [host.booted, idle]


async def _lock(talk: Talk) -> None:
    if not talk.host.plain:
        raise Fail("wrong-state", "an A/B host's root is read-only by itself")
    talk.host.disk.fstab = "ro" if talk.words[0] == "read-only" else "rw"


VERBS: Final[dict[str, Callable[[Talk], Awaitable[None]]]] = {
    "install": _install, "arm": _arm, "activate": _activate, "reboot": _reboot, "bless": _bless, "reject": _reject, "forget": _forget,
    "repair": _repair, "lock": _lock,
}
