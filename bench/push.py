"""Bringing an image to hosts: its throughput against `ssh cat`, and the bytes on the wire for an image of which little changed.

Four real OpenSSH servers on loopback are hosts, each with the real `anew-host` in a sandbox. 512 MiB of noise (nothing to compress) go to
all four at once, by anew and by four `ssh HOST 'cat >FILE'`, in turns. Two ratios of throughput:

- `to_ssh_cat`: until the last of four hosts has the last byte in its file, for both alike;
- `whole_to_ssh_cat_checked`: until anew is told that all four have it whole, against `ssh HOST 'cat >FILE; sync FILE; sha256sum FILE'`,
  which promises as much.

In each round they take turns, right after one another; the ratio is the median of the rounds' ratios, the MB/s are the best round's.

Controller and hosts share this machine's cores. So that a host that has its bytes early does not take, for hashing them, what the others'
bytes need, the hosts' sha256sum waits for the last byte of the last host; it counts in the second ratio, for both alike.
The files are in memory (/dev/shm) where there is room: four hosts have four disks, this machine has one.

The delta: 64 MiB of this machine's own programs (/usr/lib, in order), and a copy in which 5 % of the 64 KiB blocks are blocks of other
programs. Counted are the bytes that a proxy in front of the host passes on, SSH's own included.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drivers.baremetal import protocol
from drivers.baremetal.bulk import Bulk
from drivers.baremetal.protocol import Frame
from drivers.baremetal.words import Words
from drivers.identity import IdentityStore
from drivers.remotes import Remote
from drivers.ssh import SshSessions
from drivers.terms import CIPHERS
from fleet.engine.clock import SystemClock
from fleet.ports import Operation
from tests.metal.proxy import proxy
from tests.metal.sshd import Sshd, sshd

MIB = 1024 * 1024
SIZE = 512 * MIB
HOSTS = 4
ROUNDS = 5
BLOCK = 65536
OPERATION = Operation("0123456789abcdef", 1, "", 3600.0)


class Missing(RuntimeError):
    """What this machine lacks, as a sentence."""


class Controller:
    """anew's side: sessions and bulk bytes to hosts."""

    def __init__(self, folder: Path, store: IdentityStore) -> None:
        self.sessions = SshSessions(store)
        self.bulk = Bulk(str(folder / "state"), SystemClock(), self.sessions)

    async def bring(self, host: Sshd, image: Path, sha256: str, have: Sequence[str] = (), port: int = 0) -> None:
        def to(where: int) -> Remote:
            return Remote(host.folder.name, "127.0.0.1", where, host.user, pins=(host.host_key,))

        async def call(what: Words, deadline: float = 60.0) -> Frame:
            answer = await self.sessions.run(to(host.port), what.line, deadline, protocol.ANSWER_CAP)
            return protocol.require(protocol.parse(answer.output, host.folder.name), host.folder.name)

        size = image.stat().st_size
        await self.bulk.bring(to(port or host.port), str(image), sha256, size, call, OPERATION, have, lambda _: None)


def measure(rounds: int = ROUNDS) -> dict[str, object]:
    """Ratios of throughput, MB/s, and the share of the image that a delta is. Raises Missing."""
    for program in ("ssh", "ssh-keygen", "zstd"):
        if shutil.which(program) is None:
            raise Missing(f"there is no {program} here")
    if shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        raise Missing("there is no OpenSSH server here; install openssh-server")
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 3 * HOSTS * SIZE
    with tempfile.TemporaryDirectory(prefix="anew-push-", dir=memory if roomy else None) as name, contextlib.ExitStack() as running:
        folder = Path(name)
        store = IdentityStore(str(folder / "identities"))
        hosts = [running.enter_context(sshd(folder / f"rack{number}", store)) for number in range(1, HOSTS + 1)]
        return {"files": "in memory" if roomy else "on disk", **asyncio.run(_measured(folder, store, hosts, rounds))}


async def _measured(folder: Path, store: IdentityStore, hosts: list[Sshd], rounds: int) -> dict[str, object]:
    controller = Controller(folder, store)
    try:
        return {**await _throughput(controller, folder, store, hosts, rounds), "delta": await _delta(controller, folder, hosts[0])}
    finally:
        await controller.sessions.close()


async def _throughput(controller: Controller, folder: Path, store: IdentityStore, hosts: list[Sshd], rounds: int) -> dict[str, object]:
    image = folder / "image"
    for host in hosts:
        waiting = host.folder / "bin" / "sha256sum"
        waiting.write_text(f'#!/bin/sh\nuntil [ -e {folder}/all-there ]; do sleep 0.05; done\nexec {shutil.which("sha256sum")} "$@"\n')
        waiting.chmod(0o755)
    for host in hosts:  # a daemon has looked at its hosts before it brings them anything
        await controller.sessions.run(Remote(host.folder.name, "127.0.0.1", host.port, host.user, pins=(host.host_key,)), "true", 60.0)
    times: dict[str, list[float]] = {"ours": [], "ours_whole": [], "cat": [], "cat_checked": []}
    for turn in range(rounds):
        with image.open("wb") as file:  # another image in every round: the controller knows nothing of it yet
            draw = random.Random(turn)
            for _ in range(SIZE // MIB):
                file.write(draw.randbytes(MIB))
        sha = await asyncio.to_thread(lambda: hashlib.file_digest(image.open("rb"), "sha256").hexdigest())

        async def ours(sha: str = sha) -> None:
            await asyncio.gather(*(controller.bring(host, image, sha) for host in hosts))

        async def cat(after: str = "") -> None:
            await asyncio.gather(*(_cat(folder, store, host, image, after) for host in hosts))

        parts = [host.bundles / f"{sha}.part" for host in hosts]
        plain = [host.folder / "plain" for host in hosts]
        kinds: list[tuple[str, str, list[Path], Callable[[], Awaitable[None]]]] = [
            ("cat", "", plain, cat), ("ours", "ours_whole", parts, ours), ("", "cat_checked", plain, lambda: cat("; sync {0}; sha256sum {0}")),
        ]
        for first, whole, files, act in kinds if turn % 2 else reversed(kinds):
            there, done = await _timed(files, act, folder / "all-there")
            times.setdefault(first, []).append(there)
            times.setdefault(whole, []).append(done)
            for host in hosts:
                shutil.rmtree(host.bundles, ignore_errors=True)
                (host.folder / "plain").unlink(missing_ok=True)
    return {
        "to_ssh_cat": _ratio(times["cat"], times["ours"]),
        "whole_to_ssh_cat_checked": _ratio(times["cat_checked"], times["ours_whole"]),
        "megabytes_per_second": {name: round(HOSTS * SIZE / 1e6 / min(found), 1) for name, found in times.items() if name},
        "seconds": {name: [round(one, 2) for one in found] for name, found in times.items() if name},
    }


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """The median over the rounds: within one, both had about the same of the machine."""
    return round(statistics.median(one / other for one, other in zip(theirs, ours, strict=True)), 3)


async def _timed(files: Sequence[Path], act: Callable[[], Awaitable[None]], gate: Path) -> tuple[float, float]:
    """Seconds until all files have all their bytes, and until the work is done. `gate` is made when they have them."""
    gate.unlink(missing_ok=True)
    began = time.monotonic()
    work = asyncio.ensure_future(act())
    there = 0.0
    while not work.done() and not there:
        await asyncio.wait({work}, timeout=0.02)
        if all(_full(file) for file in files):
            there = time.monotonic() - began
            gate.touch()
    gate.touch()
    await work
    done = time.monotonic() - began
    return there or done, done


def _full(file: Path) -> bool:
    """A part gets another name when it is whole, so one that is not there any more counts too."""
    if file.suffix == ".part" and file.with_suffix(".bundle").exists():
        return True
    return file.exists() and file.stat().st_size >= SIZE


async def _cat(folder: Path, store: IdentityStore, host: Sshd, image: Path, after: str) -> None:
    known = folder / f"known-{host.port}"
    known.write_text(f"* {host.host_key}\n")
    target = str(host.folder / "plain")
    with image.open("rb") as file:
        child = await asyncio.create_subprocess_exec(
            "ssh", "-F", "none", "-T", "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", f"Ciphers={','.join(CIPHERS)}",
            "-i", store.client_private_path(), "-p", str(host.port), f"{host.user}@127.0.0.1", f"cat >{target}{after.format(target)}",
            stdin=file, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )
        _, said = await child.communicate()
    if child.returncode:
        raise Missing(f"ssh cat failed: {said[:200]!r}")


async def _delta(controller: Controller, folder: Path, host: Sshd) -> Mapping[str, Any]:
    size = 64 * MIB
    blocks = list(_programs(2 * size // BLOCK))
    if len(blocks) < 2 * size // BLOCK:
        raise Missing("/usr/lib has less than 128 MiB of files here")
    here, others = blocks[: size // BLOCK], blocks[size // BLOCK:]
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"".join(here))
    draw = random.Random(1)
    for number in draw.sample(range(len(here)), round(len(here) * 0.05)):
        here[number] = draw.choice(others)
    new.write_bytes(b"".join(here))
    shas = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (old, new)]
    await controller.bring(host, old, shas[0])
    async with proxy(host.port) as front:
        began = time.monotonic()
        await controller.bring(host, new, shas[1], [shas[0]], front.port)
        took = time.monotonic() - began
        return {"share": round(front.up / size, 5), "bytes_on_the_wire": front.up, "image_bytes": size, "seconds": round(took, 2),
                "data": "64 MiB of /usr/lib; 5 % of its 64 KiB blocks replaced by blocks of other files there"}


def _programs(count: int) -> Iterator[bytes]:
    """The first `count` blocks of this machine's programs and libraries, in the order of their names."""
    for place, folders, files in os.walk("/usr/lib"):
        folders.sort()
        for name in sorted(files):
            path = Path(place, name)
            if path.is_symlink() or not path.is_file() or path.stat().st_size < BLOCK:
                continue
            with contextlib.suppress(OSError), path.open("rb") as file:
                while count and len(block := file.read(BLOCK)) == BLOCK:
                    count -= 1
                    yield block
            if not count:
                return


if __name__ == "__main__":
    try:
        print(measure(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
    except Missing as wrong:
        sys.exit(str(wrong))
