"""Eyes that never blink: threads that look at a pool from outside, from before a rollout until after it.

`Availability` connects to every port of a pool all along. Connected is not up: QEMU accepts before the guest listens, so
only a banner counts. `Writers` asks libvirt who has which disk attached for writing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tests.lab.hypervisor import Libvirt

PACE = 0.15
"""Seconds between two looks at one port."""
PATIENCE = 10.0
"""Seconds a busy guest may take for its banner."""


def banner(port: int, patience: float = PATIENCE) -> bytes:
    """What answers on a loopback port says first; empty if nobody is behind it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
            return connection.recv(64)
    except OSError:
        return b""


class Availability:
    """Counts the distinct servers that answer, at every moment. `ports`: port -> the server it belongs to."""

    def __init__(self, ports: Mapping[int, str]) -> None:
        self._ports = ports
        self._answers: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._begun = threading.Event()
        self._threads = [threading.Thread(target=self._watch, args=(port,), daemon=True) for port in ports]
        self.looks = 0
        self.fewest = len(set(ports.values()))
        self.story: list[tuple[float, tuple[str, ...]]] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        assert self._begun.wait(2 * PATIENCE), "the first look at every port did not end"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)

    def _watch(self, port: int) -> None:
        while not self._ended.is_set():
            answered = banner(port).startswith(b"SSH-")
            with self._lock:
                self._note(port, answered)
            self._ended.wait(PACE)

    def _note(self, port: int, answered: bool) -> None:
        self._answers[port] = answered
        if len(self._answers) < len(self._ports) or self._ended.is_set():
            return
        self.looks += 1
        up = tuple(sorted({self._ports[one] for one, yes in self._answers.items() if yes}))
        if not self.story or self.story[-1][1] != up:
            self.story.append((time.monotonic(), up))
        self.fewest = min(self.fewest, len(up))
        self._begun.set()

    def told(self) -> str:
        """Who answered, from when on: for the message of a failed test."""
        first = self.story[0][0] if self.story else 0.0
        return "; ".join(f"{at - first:.1f}s {', '.join(up) or 'nobody'}" for at, up in self.story)


class Writers:
    """The most domains that ever had one file attached for writing at the same moment, by file."""

    def __init__(self, fleet: str) -> None:
        self._fleet = fleet
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.looks = 0
        self.most: dict[str, int] = {}
        self.seen: dict[str, set[str]] = {}
        self.fault = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(30.0)

    def _watch(self) -> None:
        eyes = Libvirt()
        with contextlib.closing(eyes):
            while not self._ended.is_set():
                self._look(eyes)
                self._ended.wait(0.02)

    def _look(self, eyes: Libvirt) -> None:
        now: dict[str, set[str]] = {}
        for domain in eyes.of_fleet(self._fleet):
            for path in domain.writes:
                now.setdefault(path, set()).add(domain.name)
        for path, names in now.items():
            self.most[path] = max(self.most.get(path, 0), len(names))
            self.seen.setdefault(path, set()).update(names)
        self.looks += 1
