"""Tells the service manager how the daemon is: ready, stopping, alive. systemd's protocol, sd_notify(3), in a few lines of our own.

Rules:
- The variables are taken out of the environment at once: what the daemon starts (ssh, hooks, checks) must not speak in its name.
- Nothing here ever waits or fails: a service manager that does not listen harms nobody. What cannot be sent is logged once.
- Life is told only from the engine's own beat, and only while the engine gets on (`Engine.stuck`): a daemon whose loop stands still, or whose
  planner or journal hangs, falls silent, and WatchdogSec of the unit ends it. The next one takes up what was under way.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping

from fleet.core.printable import printable

log = logging.getLogger("anew.notify")
SOCKET = "NOTIFY_SOCKET"
EVERY = "WATCHDOG_USEC"
WHOM = "WATCHDOG_PID"
SHARE = 4
"""So many signs of life are told within the service manager's patience: one or two that are lost end nobody."""


class Notifier:
    """One for a daemon's life. `beat` is called about once a second. Without a service manager all of it does nothing."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        said = {name: environment.pop(name, "") for name in (SOCKET, EVERY, WHOM)}
        self._address = _address(said[SOCKET])
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) if self._address else None
        self._beats = _patience(said[EVERY], said[WHOM]) // SHARE if self._address else -1
        self._since = 0
        self._stuck = ""
        self._headline = ""
        self._failed = False

    def ready(self, headline: str) -> None:
        """The daemon answers on its socket. `headline`: what `systemctl status` shows."""
        self._headline = printable(headline)
        self._send("READY=1", f"STATUS={self._headline}")

    def stopping(self) -> None:
        """The daemon ends, in order."""
        self._send("STOPPING=1", "STATUS=ending in order; servers are not touched")

    def beat(self, stuck: str) -> None:
        """The engine's pulse. `stuck`: what of the engine does not get on, "" if all does."""
        if stuck != self._stuck:
            self._turned(stuck)
        self._since += 1
        if self._beats >= 0 and not stuck and self._since >= self._beats:
            self._since = 0
            self._send("WATCHDOG=1")

    def _turned(self, stuck: str) -> None:
        if stuck and not self._stuck:
            heard = "; until it gets on, the service manager hears no sign of life and may end this daemon" if self._beats >= 0 else ""
            log.error("the engine is stuck: %s%s", stuck, heard)
        elif not stuck:
            log.warning("the engine gets on again")
        self._stuck = stuck
        self._send(f"STATUS={printable(f'stuck: {stuck}') if stuck else self._headline}")

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("the service manager cannot be told %s: %s", lines[0], error.strerror or error)
            self._failed = True
        else:
            self._failed = False


def _address(told: str) -> bytes:
    """Where to send: a path, or a name of the abstract kind (@NAME). b"" for anything else."""
    if not told.startswith(("/", "@")) or len(told) < 2:
        if told:
            log.warning("%s names no socket that anew can speak to (%s); the service manager is told nothing", SOCKET, printable(told, 80))
        return b""
    name = os.fsencode(told)
    return b"\0" + name[1:] if told.startswith("@") else name


def _patience(microseconds: str, pid: str) -> int:
    """Whole seconds without a sign of life after which the service manager ends the daemon; below 0 if it asked this process for none."""
    if not (microseconds.isascii() and microseconds.isdigit() and len(microseconds) < 16) or (pid and pid != str(os.getpid())):
        return -SHARE
    return int(microseconds) // 1_000_000


__all__ = ["Notifier"]
