"""Bundles on their way to a host: a controller's half, a real sshd with the real anew-host in a sandbox, and files to bring."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drivers.baremetal import protocol
from drivers.baremetal.bulk import Bulk
from drivers.baremetal.protocol import Frame
from drivers.baremetal.words import Words
from drivers.identity import IdentityStore
from drivers.remotes import Remote
from drivers.ssh import SshSessions
from fleet.ports import Operation
from tests.metal.sshd import Sshd, sshd

MIB = 1024 * 1024


class QuickClock:
    """Real time, but a pause is noted and lasts only until the host has seen that the connection is gone."""

    def __init__(self, host: Sshd | None = None) -> None:
        self.pauses: list[float] = []
        self.host = host

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        with contextlib.suppress(TimeoutError):  # behind a black hole it never sees it
            async with asyncio.timeout(min(seconds, 2.0)):
                while self.host is not None and receiving(self.host):
                    await asyncio.sleep(0.02)


def receiving(host: Sshd) -> bool:
    """Whether a process of the host still reads a bundle, as its helper noted."""
    for note in (host.root / "run/anew").glob("bundle.*"):
        try:
            if (Path("/proc") / note.read_text().strip() / "comm").read_text() == "head\n":
                return True
        except OSError:
            continue
    return False


@dataclass
class Bench:
    """One controller and one host."""

    host: Sshd
    sessions: SshSessions
    bulk: Bulk
    clock: QuickClock
    state: Path
    told: list[str] = field(default_factory=list)
    epoch: int = 7

    def remote(self, port: int = 0, **more: object) -> Remote:
        given: dict[str, object] = {"pins": (self.host.host_key,), **more}
        return Remote("rack1", "127.0.0.1", port or self.host.port, self.host.user, **given)  # type: ignore[arg-type]

    async def call(self, what: Words, deadline: float = 30.0) -> Frame:
        """As `Host.ask` does it, past the proxy: what is measured and spoiled are the bulk bytes."""
        answer = await self.sessions.run(self.remote(), what.line, deadline, protocol.ANSWER_CAP)
        return protocol.require(protocol.parse(answer.output, "rack1", words=answer.errors.decode()), "rack1")

    async def bring(self, path: Path, port: int = 0, have: tuple[str, ...] = (), mirror: str = "", sha256: str = "", **more: object) -> str:
        sha = sha256 or digest(path)
        op = Operation("0123456789abcdef", self.epoch, "", 600.0)
        await self.bulk.bring(self.remote(port, **more), str(path), sha, path.stat().st_size, self.call, op, have, self.told.append, mirror)
        return sha

    def has(self, path: Path) -> bool:
        found = self.host.bundles / f"{digest(path)}.bundle"
        return found.is_file() and found.read_bytes() == path.read_bytes()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def noise(path: Path, size: int, seed: int = 1) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def text(path: Path, size: int) -> Path:
    """Bytes that compress to about a third."""
    draw = random.Random(3)
    words = [draw.randbytes(6).hex() for _ in range(500)]
    path.write_bytes((" ".join(draw.choice(words) for _ in range(size // 13 + 1))).encode()[:size])
    return path


def changed(old: Path, new: Path, share: float) -> Path:
    """A copy in which a share of the 64 KiB blocks is other noise that compresses to half: hex digits."""
    data, draw = bytearray(old.read_bytes()), random.Random(5)
    blocks = range(len(data) // 65536)
    for number in draw.sample(blocks, round(len(blocks) * share)):
        data[number * 65536:(number + 1) * 65536] = draw.randbytes(32768).hex().encode()
    new.write_bytes(data)
    return new


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store = IdentityStore(str(tmp_path / "identities"))
    sessions = SshSessions(store)
    with sshd(tmp_path / "rack1", store) as host:
        clock = QuickClock(host)
        yield Bench(host, sessions, Bulk(str(tmp_path / "state"), clock, sessions), clock, tmp_path / "state/baremetal/bulk")
    await sessions.close()
