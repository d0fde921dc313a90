"""`command = ["./check", "{name}", "{address}"]`: a program beside the daemon says whether the server is
well.

Rules: argv, never a shell; {name}, {address} and {version} are replaced in each argument as plain text; the
program sees PATH and ANEW_NAME, ANEW_ADDRESS, ANEW_VERSION, ANEW_POOL and nothing else of the daemon's
environment; it starts in the fleet file's folder; at the deadline its whole process group is killed, and
likewise whatever it left behind when it ended. Its output goes through a pipe of our own, since asyncio's
would wait for the last grandchild that holds it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from drivers.probes.words import OUTPUT_CAP, reason, took, words
from fleet.core.desired import HealthCheck, Pool
from fleet.core.observed import Seen
from fleet.ports import Surroundings


class CommandProbe:
    """Passes on exit code 0."""

    kind = "command"

    def __init__(self, around: Surroundings) -> None:
        self._clock = around.clock
        self._folder = os.path.dirname(around.desired.path) or "/"

    async def check(self, pool: Pool, check: HealthCheck, seen: Seen) -> tuple[bool, str]:
        about = {"name": seen.server, "address": seen.address, "version": seen.version}
        argv = [_filled(str(part), about) for part in check.options.get("argv") or ()]
        if not argv:
            return False, "command: there is none"
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "ANEW_POOL": pool.name,
            **{f"ANEW_{key.upper()}": value for key, value in about.items()},
        }
        begun = self._clock.now()
        try:
            code, output = await run(argv, env, self._folder, check.deadline)
        except TimeoutError:
            passed, said = False, "was killed: no answer"
        except (OSError, ValueError) as problem:
            passed, said = (
                False,
                f"cannot be run: {reason(problem) if isinstance(problem, OSError) else problem}",
            )
        else:
            line = output.decode("utf-8", "replace").strip().split("\n")[0][:120]
            ended = f"exit {code}" if code >= 0 else f"signal {-code}"
            passed, said = code == 0, f"{ended}: {line}" if line else ended
        return passed, words(f"{os.path.basename(argv[0])[:40]}: {said} in {took(self._clock.now() - begun)}")


def _filled(template: str, about: dict[str, str]) -> str:
    """Plain replacement in one pass: a value that looks like a template stays what it is."""
    parts = []
    rest = template
    while rest:
        at, key = min(((rest.find(f"{{{k}}}"), k) for k in about if f"{{{k}}}" in rest), default=(-1, ""))
        if at < 0:
            break
        parts += [rest[:at], about[key]]
        rest = rest[at + len(key) + 2 :]
    return "".join([*parts, rest])


async def run(argv: Sequence[str], env: dict[str, str], folder: str, deadline: float) -> tuple[int, bytes]:
    """(exit code or minus the signal, at most 64 KiB of stdout and stderr). Raises TimeoutError, OSError,
    ValueError.
    """
    inside, outside = os.pipe()
    reader = asyncio.StreamReader(limit=OUTPUT_CAP)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(inside, "rb", 0)
    )
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=DEVNULL,
                stdout=outside,
                stderr=outside,
                env=env,
                cwd=folder,
                start_new_session=True,
            )
        finally:
            os.close(outside)
        return await _finish(process, reader, deadline)
    finally:
        transport.close()


async def _finish(process: Process, reader: asyncio.StreamReader, deadline: float) -> tuple[int, bytes]:
    kept = bytearray()
    gatherer = asyncio.ensure_future(_gather(reader, kept))
    try:
        async with asyncio.timeout(deadline):
            code = await process.wait()
            _kill_group(process)
            await asyncio.wait([gatherer], timeout=0.1)
        return code, bytes(kept)
    finally:
        gatherer.cancel()
        if process.returncode is None:
            _kill_group(process)
            await process.wait()


async def _gather(reader: asyncio.StreamReader, kept: bytearray) -> None:
    """Keep the first 64 KiB; take the rest and forget it, so that a talkative program can end."""
    while more := await reader.read(OUTPUT_CAP):
        kept += more[: OUTPUT_CAP - len(kept)]


def _kill_group(process: Process) -> None:
    """The program leads its own process group, whose id is its pid; gone already is fine."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@asynccontextmanager
async def make(around: Surroundings) -> AsyncIterator[CommandProbe]:
    """The `anew.probes` entry point."""
    yield CommandProbe(around)
