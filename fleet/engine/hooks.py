"""A pool's drain and admit hooks: argv without a shell, a clean environment, a deadline that ends the whole process group."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping

from fleet.core.errors import Permanent, Transient

OUTPUT_CAP = 4096
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
    try:
        child = await asyncio.create_subprocess_exec(
            *command, cwd=folder or None, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env={"PATH": SAFE_PATH, **{f"ANEW_{key.upper()}": value for key, value in values.items()}},
            start_new_session=True)
    except OSError as error:
        raise Permanent(f"the hook {command[0]} could not be started: {error.strerror}", where=command[0]) from error
    try:
        async with asyncio.timeout(deadline):
            output = await _read_capped(child)
            code = await child.wait()
    except TimeoutError:
        raise Transient(f"the hook {command[0]} was not done within {deadline:g}s", where=command[0], code="deadline") from None
    finally:
        if child.returncode is None:
            _end(child.pid)
            await child.wait()
    if code != 0:
        raise Permanent(f"the hook {' '.join(command)} ended with {code}: {output or 'no output'}", where=command[0])


async def _read_capped(child: asyncio.subprocess.Process) -> str:
    assert child.stdout is not None
    kept = b""
    while chunk := await child.stdout.read(4096):
        kept = (kept + chunk)[-OUTPUT_CAP:]
    return kept.decode("utf-8", "replace").strip()[-300:]


def _end(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
