"""A pool's drain and admit hooks: argv without a shell, a clean environment, a deadline that ends the whole process group.

A hook has ended when its own process has: children that live on and hold its output open, or output without an end, delay
nobody. Only the last OUTPUT_CAP bytes are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping

from fleet.core.errors import Permanent, Transient
from fleet.core.printable import printable

OUTPUT_CAP = 4096
CHUNK = 65_536
SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def fill(argv: tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    """{name}, {address} and {version} replaced; nothing else is interpreted, so a value can never add an argument."""
    filled = []
    for part in argv:
        for key, value in values.items():
            part = part.replace("{" + key + "}", value)
        filled.append(part)
    return filled


async def run_hook(argv: tuple[str, ...], values: Mapping[str, str], folder: str, deadline: float) -> None:
    """Run to exit 0. Raises Transient (code `deadline`) when time is up, Permanent with its last output when it fails.

    `folder`: where relative commands are looked for (the fleet file's). `deadline` in seconds.
    """
    command = fill(argv, values)
    with _listening() as (sink, said):
        child = await _start(command, values, folder, sink)
        try:
            async with asyncio.timeout(deadline):
                code = await child.wait()
        except TimeoutError:
            raise Transient(f"the hook {command[0]} was not done within {deadline:g}s", where=command[0], code="deadline") from None
        finally:
            if child.returncode is None:
                _end(child.pid)
                await child.wait()
    if code != 0:
        words = printable(said.decode("utf-8", "replace"), 300)
        raise Permanent(f"the hook {' '.join(command)} ended with {code}: {words or 'no output'}", where=command[0])


async def _start(command: list[str], values: Mapping[str, str], folder: str, sink: int) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *command, cwd=folder or None, stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink,
            env={"PATH": SAFE_PATH, **{f"ANEW_{key.upper()}": value for key, value in values.items()}}, start_new_session=True)
    except OSError as error:
        raise Permanent(f"the hook {command[0]} could not be started: {error.strerror}", where=command[0]) from error


@contextlib.contextmanager
def _listening() -> Iterator[tuple[int, bytearray]]:
    """A pipe's writing end, and what came through it so far. On leaving it is closed, whoever still holds the other end."""
    loop = asyncio.get_running_loop()
    source, sink = os.pipe()
    os.set_blocking(source, False)
    said = bytearray()

    def take() -> None:
        try:
            chunk = os.read(source, CHUNK)
        except BlockingIOError:
            return
        said.extend(chunk)
        del said[:-OUTPUT_CAP]
        if not chunk:
            loop.remove_reader(source)

    loop.add_reader(source, take)
    try:
        yield sink, said
    finally:
        os.close(sink)
        take()
        loop.remove_reader(source)
        os.close(source)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
