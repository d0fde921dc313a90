"""Eyes that never blink: threads that look at a pool from outside, from before a rollout until after it.

`Availability` connects to every port of a pool all along. Connected is not up: QEMU accepts before the guest listens, so
only a banner counts. `Writers` asks libvirt who has which disk attached for writing.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.lab.hypervisor import Libvirt

PACE = 0.15
"""Seconds between two looks at one port."""
PATIENCE = 10.0
"""Seconds a busy guest may take for its banner."""
NEXT = 1.0
"""Seconds after which a look that hangs does not hold up the next one."""


Door = int | tuple[str, int]
"""Where somebody answers: a port of 127.0.0.1, or an address and a port."""


def banner(port: int, patience: float = PATIENCE) -> bytes:
    """What answers on a loopback port says first; empty if nobody is behind it."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
            return connection.recv(64)
    except OSError:
        return b""


@dataclass(frozen=True)
class Look:
    """One connection: when it began and what came of it. `why` is "" if it answered."""

    port: Door
    began: float
    ended: float
    why: str


class Availability:
    """Counts the distinct servers that answer, at every moment. `ports`: port (on 127.0.0.1), or address and port -> the server.

    A look that hangs (begun while its guest had no network yet) holds up no other: after a second the next one begins, and
    a port is what its latest begun look says that has an outcome.
    """

    def __init__(self, ports: Mapping[int, str] | Mapping[tuple[str, int], str], pace: float = PACE, ask: bytes = b"", expect: bytes = b"SSH-") -> None:
        """`ask` is sent once connected, `expect` is how the answer of somebody who is up begins."""
        self._ports: dict[Door, str] = dict(ports.items())
        self._pace = pace
        self._ask = ask
        self._expect = expect
        self._selector = selectors.DefaultSelector()
        self._under_way: dict[Door, list[tuple[float, socket.socket]]] = {port: [] for port in self._ports}
        self._due = dict.fromkeys(self._ports, 0.0)
        self._last: dict[Door, Look] = {}
        self._ended = threading.Event()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.looks = 0
        self.fewest = len(set(ports.values()))
        self.story: list[tuple[float, tuple[str, ...], Look]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._begun.wait(2 * PATIENCE), "the first look at every port did not end"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive()

    def _watch(self) -> None:
        with self._selector:
            while not self._ended.is_set():
                for port in self._ports:
                    self._begin(port)
                for key, ready in self._selector.select(0.02):
                    self._talk(*key.data) if ready & selectors.EVENT_WRITE else self._read(*key.data)
                for port, looks in self._under_way.items():
                    for began, one in looks[:]:
                        if time.monotonic() - began > PATIENCE:
                            self._end(port, began, one, f"silent for {PATIENCE:g} s")
            for looks in self._under_way.values():
                for _, one in looks:
                    one.close()

    def _begin(self, port: Door) -> None:
        now, looks = time.monotonic(), self._under_way[port]
        if now < self._due[port] or (looks and now - looks[-1][0] < NEXT):
            return
        self._due[port] = now + self._pace
        one = socket.socket()
        one.setblocking(False)
        looks.append((now, one))
        if one.connect_ex(("127.0.0.1", port) if isinstance(port, int) else port) not in (0, errno.EINPROGRESS):
            self._end(port, now, one, "cannot connect")
            return
        self._selector.register(one, selectors.EVENT_WRITE if self._ask else selectors.EVENT_READ, (port, now, one))

    def _talk(self, port: Door, began: float, one: socket.socket) -> None:
        try:
            one.send(self._ask)
        except OSError as error:
            self._end(port, began, one, error.strerror or "reset")
            return
        self._selector.modify(one, selectors.EVENT_READ, (port, began, one))

    def _read(self, port: Door, began: float, one: socket.socket) -> None:
        try:
            said = one.recv(64)
        except OSError as error:
            self._end(port, began, one, error.strerror or "reset")
            return
        self._end(port, began, one, "" if said.startswith(self._expect) else f"accepted, then said {said!r}")

    def _end(self, port: Door, began: float, one: socket.socket, why: str) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(one)
        one.close()
        self._under_way[port].remove((began, one))
        if port not in self._last or self._last[port].began < began:
            self._note(Look(port, began, time.monotonic(), why))

    def _note(self, look: Look) -> None:
        self._last[look.port] = look
        if len(self._last) < len(self._ports):
            return
        self.looks += 1
        up = tuple(sorted({self._ports[port] for port, last in self._last.items() if not last.why}))
        if not self.story or self.story[-1][1] != up:
            self.story.append((look.ended, up, look))
        self.fewest = min(self.fewest, len(up))
        self._begun.set()

    def told(self) -> str:
        """Who answered, from when on, and the look that changed it: for the message of a failed test."""
        first = self.story[0][0] if self.story else 0.0
        return "; ".join(f"{at - first:.1f}s {', '.join(up) or 'nobody'} (port {look.port}, begun {look.began - first:.1f}s: {look.why or 'answers'})"
                         for at, up, look in self.story)


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
