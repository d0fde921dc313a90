"""What a machine says on its serial console, and the last words of a boot that failed.

Something else (conserver, ser2net, QEMU) writes the console to the file that the fleet file names; it is only read here. A
machine without one tells its last words itself, after it is back: pstore, the journal of the boot before, the trail.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from typing import Final

from drivers.baremetal import words
from drivers.baremetal.host import Host
from fleet.core.errors import AnewError, Permanent
from fleet.core.printable import PANIC
from fleet.core.printable import last_words as fit
from fleet.ports import Clock

DEAD_MAN: Final = "Initiating system reboot"
"""What Linux's software watchdog says when it fires; what comes after it on a console is the next boot."""
PAST: Final = 64 * 1024
LAST: Final = 4 * 1024
POLL: Final = 0.5
ASKED: Final = 4.0
"""Seconds that a machine may take to say its last words to somebody who looks at a screen."""


async def last_words(host: Host, seconds: float = ASKED) -> str:
    """At most 4 KiB, decoded with replacement; "" if there are none. Never raises."""
    if host.machine.console:
        try:
            data, _ = await asyncio.to_thread(_read, host.machine.console, -LAST, LAST)
        except AnewError:
            data = b""
        if data:
            return data.decode("utf-8", "replace")
    try:
        frame = await host.ask(words.last_words(), seconds)
    except AnewError:
        return ""
    return frame.section("words")[-LAST:].decode("utf-8", "replace")


def telling_line(text: str) -> str:
    """The one line that tells most: the kernel's panic, else the dead-man's word, else the last."""
    lines = fit(text).splitlines()
    told = [line for mark in (PANIC, DEAD_MAN) for line in lines if mark in line]
    return (told or lines[-1:] or [""])[0]


async def follow(path: str, clock: Clock) -> AsyncIterator[bytes]:
    """The last 64 KiB of the file, then what comes; ends only when its reader stops reading."""
    data, offset = await asyncio.to_thread(_read, path, -PAST, PAST)
    while True:
        if data:
            yield data
        if len(data) < PAST:
            await clock.sleep(POLL)
        data, end = await asyncio.to_thread(_read, path, offset, PAST)
        if not data and end < offset:
            end = 0  # begun anew
        offset = end


def _read(path: str, offset: int, size: int) -> tuple[bytes, int]:
    """At most `size` bytes from an offset (negative: from the end), and where they end. A file that is shorter gives b"", its length."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe or a serial line would be waited for, with a thread of the daemon's
        with os.fdopen(handle, "rb", buffering=0) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise Permanent("its console is no file; let something (conserver, ser2net) write it to one, and name that as `console`", where=path)
            length = about.st_size
            start = max(0, length + offset) if offset < 0 else offset
            data = os.pread(file.fileno(), size, start) if start < length else b""
            return data, start + len(data) if data else min(start, length)
    except OSError as problem:
        raise Permanent(f"its console's file cannot be read ({problem.strerror}); see `console` in the fleet file", where=path) from None


__all__ = ["follow", "last_words", "telling_line"]
