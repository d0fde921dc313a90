"""One SSH channel of a pretended host: which program the line asks for, and what an evil host makes of it.

A line is the helper's (`anew-host VERB …`), or a shell's that gets the helper on standard input (`sh -s -- VERB …`, with
`sudo -n` before it), or something else, which is noted in `Host.strange`: the driver has no business saying it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import asyncssh

from tests.metal.host import Call
from tests.metal.saying import HUGE
from tests.metal.verbs import answer

if TYPE_CHECKING:
    from tests.metal.host import Host

SCRIPT_CAP = 1024 * 1024
BLOCK = 64 * 1024
CARRIED = ("observe", "have", "lastwords", "writers", "lock")


class Channel:
    """bundles.Stream on a channel. `hold` keeps the answer back."""

    def __init__(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        self._process = process
        self.hold: list[bytes] | None = None

    def write(self, data: bytes) -> None:
        if self.hold is not None:
            self.hold.append(data)
        else:
            self._process.stdout.write(data)

    async def read(self, most: int) -> bytes:
        return await self._process.stdin.read(most)

    async def rest(self, most: int) -> bytes:
        """All that is still sent, at most so much."""
        taken = b""
        while len(taken) < most and (more := await self.read(most - len(taken))):
            taken += more
        return taken


async def program(host: Host, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Whatever was asked for, until it ends or the channel does."""
    with contextlib.suppress(asyncssh.Error, OSError, asyncio.IncompleteReadError):
        status = await _run(host, process)
        process.exit(status)
        return
    process.close()


async def _run(host: Host, process: asyncssh.SSHServerProcess[bytes]) -> int:
    words = (process.command or "").split(" ")
    sudo = words[:2] == ["sudo", "-n"]
    words = words[2:] if sudo else words
    channel = Channel(process)
    if words[:3] == ["sh", "-s", "--"] and host.access != "forced":
        words = words[3:]
        if not sudo and host.user != "root":
            host.strange.append(process.command or "")
        if sudo and host.evil.sudo_password:
            process.stderr.write(b"sudo: a password is required\n")
            return 1
        if not (await channel.rest(SCRIPT_CAP)).startswith(b"#!"):
            return 0  # a shell that is given nothing does nothing, and says it went well
        if words[0] not in CARRIED:
            channel.write(f"anew-host 1\nerror no-helper {words[0]} needs /usr/bin/anew-host on the host itself\n".encode())
            return 3
    elif words[0] == "anew-host":
        words = words[1:]
        if host.evil.no_helper:
            process.stderr.write(b"bash: line 1: anew-host: command not found\n")
            return 127
        if host.access == "sudo" and host.evil.sudo_password:
            channel.write(b"anew-host 1\nerror failed anew is not root and sudo does not run /usr/bin/anew-host for it without a "
                          b"password; add it to sudoers with NOPASSWD\n")
            return 5
    elif host.access == "forced":
        words = ["", *words]
    else:
        return _strange(host, process)
    verb = words[0] if words else ""
    host.calls.append(Call(verb, tuple(words[1:]), host.boot_id))
    return await _wicked(host, verb, words, channel, process)


def _strange(host: Host, process: asyncssh.SSHServerProcess[bytes]) -> int:
    line = process.command or ""
    if line == "true":
        return 0
    host.strange.append(line)
    process.stderr.write(b"bash: line 1: command not found\n")
    return 127


async def _wicked(host: Host, verb: str, words: list[str], channel: Channel, process: asyncssh.SSHServerProcess[bytes]) -> int:
    """The answer, or what an evil host gives instead of it."""
    evil = host.evil
    if evil.answers is not None:
        channel.write(evil.answers)
        return 0
    if evil.lie == "claims-done" and verb not in ("observe", "have", "lastwords", "writers") and evil.on(verb):
        channel.write(b"anew-host 1\nok\n")
        return 0
    if evil.flood and evil.on(verb):
        await _flood(evil.flood, process)
        return 0
    if evil.stall == "no-answer" and evil.on(verb):
        await process.channel.wait_closed()
    if evil.stall == "half-answer" and evil.on(verb):
        channel.hold = []
        await answer(host, words, channel)
        whole = b"".join(channel.hold)
        process.stdout.write(whole[: max(1, len(whole) // 2)])
        await process.channel.wait_closed()
    return await answer(host, words, channel)


async def _flood(kind: str, process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Never more than the channel's window in memory. Each kind ends somewhere, but after more than anybody should read."""
    if kind == "huge-json":
        process.stdout.write(b"anew-host 1\nbackend rauc\n--- rauc %d\n" % HUGE)
        blocks, block = HUGE // BLOCK, b'{"slots":[' + b"[" * (BLOCK - 10)
    elif kind == "million-lines":
        process.stdout.write(b"anew-host 1\n")
        blocks, block = 1_000_000 * 12 // BLOCK, b"slot.A x=yz\n" * (BLOCK // 12)
    else:
        blocks, block = 2**20, b"\x07endless\n" * (BLOCK // 9)
    for _ in range(blocks):
        process.stdout.write(block)
        await process.stdout.drain()
