"""The serial console of an incarnation: its log file, where the guest's past is, followed as it grows.

Reading the log needs no console of libvirt's, so several may look on, and it works for an incarnation that is
off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from drivers.libvirt import names
from drivers.libvirt.store import Store
from fleet.core.errors import Transient
from fleet.ports import Clock

PAST: Final = 64 * 1024
LAST_WORDS: Final = 4 * 1024
CHUNK: Final = 64 * 1024
POLL: Final = 0.5


async def follow(store: Store, clock: Clock, server: str, number: int) -> AsyncIterator[bytes]:
    """The last 64 KiB, then what comes; ends only when its reader stops reading."""
    name = names.console(server, number)
    data, offset = await store.read(name, -PAST, PAST)
    if len(data) < PAST:
        older, _ = await store.read(name + ".0", -PAST, PAST)  # virtlogd has just begun a new file
        data = (older + data)[-PAST:]
    while True:
        if data:
            yield data
        if len(data) < CHUNK:
            await clock.sleep(POLL)
        try:
            data, at = await store.read(name, offset, CHUNK)
        except Transient:
            data = b""
            continue
        if not data and at < offset:
            at = 0  # begun anew
        offset = at


async def last_words(store: Store, server: str, number: int) -> str:
    """The last 4 KiB, decoded with replacement; "" if there is no log."""
    data, _ = await store.read(names.console(server, number), -LAST_WORDS, LAST_WORDS)
    return data.decode("utf-8", "replace")
