"""Bringing an image's bundle to a host: what is there already, what would be shorter, and how to go on after a cut.

In this order: nothing, if the host has it · `pull`, if the family has a mirror: the host fetches it over http and checks the digest ·
the rest of a part that it has · a delta from a bundle it has, if that is below 60 % · the bundle compressed once for all hosts, below
90 % · the plain bytes. A way that the host cannot go (no zstd there, the mirror does not answer) is told, and the next one is taken.

Rules
- Bytes go through a child process of OpenSSH (`child`). Each part's hash is compared with ours over the same prefix before it is
  gone on with; one that differs is discarded.
- The image's file is hashed here too, once for all hosts, when the first has been fed: if it is not what its manifest says, that is
  what the error says, and nothing counts as brought.
- Two more attempts after a broken connection, each from where the host is. A refused key is not tried again here: `drivers.refusals`.
- At most `at_once` hosts are sent to at a time; the others say that they wait. A host that takes next to nothing for a while, or has
  all and checks it, costs us nothing more and keeps nobody waiting: it goes on without its place. So does one that stalls over the mirror.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from typing import Final, Protocol

from drivers.baremetal import protocol, words
from drivers.baremetal.child import Credentials, OpenSsh
from drivers.baremetal.pace import Pace
from drivers.baremetal.packs import Pack, Packs
from drivers.baremetal.protocol import Frame
from drivers.baremetal.words import Words
from drivers.refusals import obstacle
from drivers.remotes import Remote
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.ports import Clock, Operation

ATTEMPTS: Final = 3
PAUSE: Final = 5.0
"""Seconds before an attempt after a cut: each one costs the host a fork and a key exchange."""
CHECKING: Final = 60.0
LONG: Final = 3600.0
"""Seconds for a verb that makes or fetches the whole bundle; the operation's own deadline ends it before."""
PULLS: Final = 4
"""As many times more hosts may fetch by themselves than are sent to."""
SLOW: Final = 256 * 1024
SLOW_FOR: Final = 20.0
"""A host that takes fewer bytes a second than SLOW, for so many seconds, gives its place to the next."""
FETCHED: Final = 1024 * 1024
"""Bytes a second that a host must fetch by itself to keep its place: how far it is, it does not tell, so its time is counted."""


class Call(Protocol):
    """One verb, answered with ok; `deadline` in seconds. `Host.ask` is one."""

    async def __call__(self, what: Words, deadline: float = ...) -> Frame: ...


class Bulk:
    """One for all hosts of a daemon. `state_dir`: the daemon's; ours is `baremetal/bulk` below it."""

    def __init__(self, state_dir: str, clock: Clock, sessions: Credentials, at_once: int = 4) -> None:
        folder = os.path.join(state_dir, "baremetal", "bulk")
        self._clock = clock
        self._packs = Packs(folder)
        self._ssh = OpenSsh(folder, sessions)
        self._sending = asyncio.Semaphore(at_once)
        self._pulling = asyncio.Semaphore(PULLS * at_once)

    async def bring(
        self, remote: Remote, image_file: str, sha256: str, size: int, call: Call, op: Operation,
        have: Collection[str], tell: Callable[[str], None], mirror: str = "",
    ) -> None:
        """On return the host has the bundle, whole and checked by it. `have`: SHAs of the bundles it is known to have whole;
        `mirror`: the http address of this very file, "" for none. Cancelled, it leaves a part that the next call goes on with.

        Raises Permanent if the file here is not the manifest's, or the host key not the pinned one; else what the host said.
        """
        bringing = _Bringing(self, remote, image_file, sha256, size, call, op, tell)
        if sha256 in have or (offset := await bringing.there()) == size:
            return
        if mirror:
            if await self._pulled(bringing, mirror, size):
                return
            offset = await bringing.there()
        await bringing.send(have, offset)

    async def _pulled(self, bringing: _Bringing, url: str, size: int) -> bool:
        await self._pulling.acquire()
        place = _Place(self._pulling, self._clock.now(), 0)
        patience = asyncio.create_task(self._patience(place, size))
        try:
            return await bringing.pull(url)
        finally:
            patience.cancel()
            place.give_back()

    async def _patience(self, place: _Place, size: int) -> None:
        """A host that stalls over the mirror goes on without its place."""
        await self._clock.sleep(max(SLOW_FOR, size / FETCHED))
        place.give_back()


class _Place:
    """A place among the hosts that are sent to, or fetch. Given back once, and early by a host that is slow or has all its bytes."""

    def __init__(self, sending: asyncio.Semaphore, now: float, offset: int) -> None:
        self._sending, self._since, self._from = sending, now, offset
        self._held = True

    def at(self, now: float, reached: int, size: int) -> None:
        """So many bytes are there."""
        if reached >= size or (now - self._since >= SLOW_FOR and reached - self._from < SLOW * (now - self._since)):
            self.give_back()
        elif now - self._since >= SLOW_FOR:
            self._since, self._from = now, reached

    def give_back(self) -> None:
        if self._held:
            self._held = False
            self._sending.release()


class _Bringing:
    """One bundle on its way to one host."""

    def __init__(self, bulk: Bulk, remote: Remote, path: str, sha256: str, size: int, call: Call, op: Operation, tell: Callable[[str], None]) -> None:
        self._packs, self._ssh, self._clock, self._sending = bulk._packs, bulk._ssh, bulk._clock, bulk._sending
        self._remote, self._path, self._sha256, self._size = remote, path, sha256, size
        self._call, self._op, self._tell = call, op, tell
        self._fed = asyncio.Event()

    async def there(self) -> int:
        """How many right bytes of the bundle the host has; `size` only if it is complete."""
        return await self._offset(self._path, self._sha256, self._size)

    async def pull(self, url: str) -> bool:
        try:
            what = words.pull(self._op, self._sha256, self._size, url)
            self._tell("fetches it from the mirror by itself")
            await self._call(what, deadline=LONG)
        except AnewError as problem:
            if problem.code == "stale-epoch":
                raise
            self._tell(f"the mirror was no help ({problem.message[:120]}); it is sent from here")
            return False
        return True

    async def send(self, have: Collection[str], offset: int) -> None:
        """By the shortest way that the host goes along with, which has the first `offset` bytes."""
        if (found := await asyncio.to_thread(_size_of, self._path)) != self._size:
            raise Permanent(f"the image's file has {found} bytes and its manifest says {self._size}; put its folder back as it was catalogued",
                            where=self._path, code="bad-bytes")
        checking = asyncio.create_task(self._check())
        try:
            try:
                await self._shortest(have, offset)
            except Permanent as problem:
                if problem.code == "bad-bytes":
                    self._fed.set()
                    await checking  # it says why, if the file here is the reason
                raise
            self._fed.set()
            await checking
        finally:
            checking.cancel()
            await asyncio.gather(checking, return_exceptions=True)

    async def _check(self) -> None:
        """Hash the file while the host hashes what it got: before, the child needs the processor."""
        await self._fed.wait()
        await self._packs.check(self._path, self._sha256, self._size)

    def _at(self, pace: Pace, place: _Place, size: int, reached: int) -> None:
        pace.at(reached)
        place.at(self._clock.now(), reached, size)
        if reached >= size:
            self._fed.set()

    async def _shortest(self, have: Collection[str], offset: int) -> None:
        if have:
            self._tell("compares it with what the host has")
        pack = await self._packs.delta(have, self._path, self._sha256, self._size) or (
            await self._packs.compressed(self._path, self._sha256, self._size))
        if pack is not None and pack.size < self._size - offset:
            if await self._packed(pack):
                return
            offset = await self.there()
        await self._deliver(self._path, self._sha256, self._size, offset, "")

    async def _packed(self, pack: Pack) -> bool:
        """Send the pack and have the bundle made from it. False if that did not work there, so that it is sent plain."""
        what = "delta" if pack.old else "compressed"
        try:
            offset = await self._offset(pack.path, pack.sha256, pack.size)
            await self._deliver(pack.path, pack.sha256, pack.size, offset, what)
            self._tell(f"makes the image from the {what} form of {100 * pack.size / self._size:.1f} % of its size")
            await self._call(words.patch(self._op, pack.old, self._sha256, self._size, pack.sha256), deadline=LONG)
        except (Permanent, Refused) as problem:
            if problem.code in ("stale-epoch", "host-key", "read-only-data"):
                raise
            self._tell(f"the {what} form was no help ({problem.message[:120]}); it is sent whole")
            return False
        return True

    async def _deliver(self, path: str, sha256: str, size: int, offset: int, what: str) -> None:
        """The bytes of one file from `offset` on, with as many attempts as they may take, each from where the host is then."""
        pace = Pace(size, self._clock.now, self._tell, what)
        for attempt in range(1, ATTEMPTS + 1):
            if offset == size:
                return
            try:
                await self._once(path, sha256, size, offset, pace)
                return
            except Transient as problem:
                if attempt == ATTEMPTS or problem.code == "auth":
                    raise
                pause = max(PAUSE, problem.retry_after)
                self._tell(f"{problem.message}; goes on in {pause:.0f} s")
                await self._clock.sleep(pause)
            offset = await self._offset(path, sha256, size)

    async def _once(self, path: str, sha256: str, size: int, offset: int, pace: Pace) -> None:
        line = words.upload(self._op, sha256, size, offset).line
        if self._sending.locked():
            self._tell("waits until other hosts have theirs")
        await self._sending.acquire()
        place = _Place(self._sending, self._clock.now(), offset)
        try:
            ended = await self._ssh.send(self._remote, line, path, offset, size, lambda reached: self._at(pace, place, size, reached))
        finally:
            place.give_back()
        try:
            frame = protocol.parse(ended.output, str(self._remote), words=ended.errors[:512].decode("utf-8", "replace"))
        except protocol.Unanswered:
            known = obstacle(self._remote, ended.status, ended.output, ended.errors)
            if known is not None:
                raise known from None
            raise
        protocol.require(frame, str(self._remote))

    async def _offset(self, path: str, sha256: str, size: int) -> int:
        """How far the host is with this file. What it has otherwise than the file is discarded there."""
        frame = await self._call(words.have(sha256), deadline=CHECKING + size / (16 * 1024 * 1024))
        said, state = frame.value("size"), frame.value("state")
        offset = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else 0
        if state == "complete":
            return size
        if state != "part" or offset == 0:
            return 0
        if offset <= size and await self._packs.prefix(path, offset) == frame.value("sha_so_far"):
            return offset if offset < size else await self._finish(sha256, size)
        await self._discard(sha256, offset, size)
        return 0

    async def _finish(self, sha256: str, size: int) -> int:
        """All its bytes are there and not checked yet: a session that was cut in the last moment."""
        await self._call(words.upload(self._op, sha256, size, size), deadline=CHECKING + size / (4 * 1024 * 1024))
        return size

    async def _discard(self, sha256: str, offset: int, size: int) -> None:
        """Said to be all there is, a wrong part is hashed, found wrong and removed by the host itself.

        `offset` is the host's word: how long it may take comes from `size`, which is ours.
        """
        self._tell("what it has of the image is not of this image; it begins anew")
        try:
            await self._call(words.upload(self._op, sha256, offset, offset), deadline=CHECKING + min(offset, size) / (4 * 1024 * 1024))
        except Permanent as problem:
            if problem.code != "bad-bytes":
                raise


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as problem:
        raise Permanent(f"the image's file cannot be read ({problem.strerror}); put its folder back", where=path) from None


__all__ = ["Bulk", "Call"]
