"""A line to one hypervisor: blocking libvirt calls on worker threads, each with its own deadline.

Rules: no libvirt call runs on the event loop; a lane (one thread, one connection) does one call at a time; a
call that outlives its deadline is left behind together with its lane, and a fresh lane with a fresh
connection takes over the queue; a connection that is no longer alive (libvirtd restarted) is opened anew
before the next call. A call that was given up before it began never runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from drivers.libvirt import api, faults
from fleet.core.errors import AnewError, Permanent, Transient

T = TypeVar("T")
Opener = Callable[[str], api.Connection]


class _Call:
    """One piece of work in the queue. `overdue`: loop time after which whoever runs it is taken to hang."""

    def __init__(self, work: Callable[[api.Connection], Any], overdue: float) -> None:
        self.work = work
        self.overdue = overdue
        self.future: Future[Any] = Future()


class _Lane:
    """One thread with one connection."""

    def __init__(self, uri: str, opener: Opener, calls: queue.SimpleQueue[_Call | None], name: str) -> None:
        self._uri = uri
        self._opener = opener
        self._calls = calls
        self._connection: api.Connection | None = None
        self.current: _Call | None = None
        self.abandoned = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.abandoned:
            call = self._calls.get()
            if call is None:
                break
            if call.future.set_running_or_notify_cancel():
                self.current = call
                self._serve(call)
                self.current = None
        self._drop()

    def _serve(self, call: _Call) -> None:
        try:
            value = call.work(self._open())
        except (api.LibvirtError, AnewError, OSError) as err:
            call.future.set_exception(err)
        else:
            call.future.set_result(value)
        finally:
            if not call.future.done():
                # A fault of ours: whoever waits gets it, and this thread ends with it; the next call makes a
                # new lane.
                call.future.set_exception(sys.exc_info()[1])

    def _open(self) -> api.Connection:
        if self._connection is not None and not _alive(self._connection):
            self._drop()
        if self._connection is None:
            self._connection = self._opener(self._uri)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(api.LibvirtError):
                self._connection.close()
        self._connection = None


class Link:
    """Lanes to one hypervisor that share a queue. `lanes` is how many calls may run at once."""

    def __init__(self, place: str, uri: str, lanes: int = 1, opener: Opener | None = None) -> None:
        self.place = place
        self.uri = uri
        self._opener = opener or api.open_connection
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._width = lanes
        self._lanes: list[_Lane] = []
        self._made = 0
        self._closed = False

    async def call(self, what: str, deadline: float, work: Callable[[api.Connection], T]) -> T:
        """Run `work(connection)` on a lane; `deadline` in seconds from now. `what` reads "starting web-1.2".

        Raises Transient if the deadline passes or the hypervisor is away, else what faults.translate makes of
        the error.
        """
        if self._closed:
            raise Permanent(
                f"{what} was asked for after the driver was closed", where=f"hypervisor {self.place}"
            )
        loop = asyncio.get_running_loop()
        self._replace_dead(loop.time())
        call = _Call(work, loop.time() + deadline)
        self._calls.put(call)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(call.future), deadline)
        except TimeoutError:
            self._replace_dead(loop.time() + 0.001)
            raise Transient(
                f"{what} took longer than {deadline:.0f} s; the connection is given up and opened anew",
                retry_after=2.0,
                where=f"hypervisor {self.place}",
            ) from None
        except api.LibvirtError as err:
            raise faults.translate(err, what, self.place) from err
        except OSError as err:
            raise Transient(f"{what} did not work: {err}", where=f"hypervisor {self.place}") from err

    def close(self) -> None:
        """Ends every lane after its current call; does not wait for one that hangs."""
        self._closed = True
        for lane in self._lanes:
            lane.abandoned = True
        for _ in self._lanes:
            self._calls.put(None)
        for lane in self._lanes:
            lane.thread.join(0.2)

    def _replace_dead(self, now: float) -> None:
        for lane in self._lanes:
            current = lane.current
            if current is not None and current.overdue <= now:
                lane.abandoned = True
        self._lanes = [lane for lane in self._lanes if not lane.abandoned and lane.thread.is_alive()]
        while len(self._lanes) < self._width:
            self._made += 1
            name = f"libvirt-{self.place}-{self._made}"
            self._lanes.append(_Lane(self.uri, self._opener, self._calls, name))


def _alive(connection: api.Connection) -> bool:
    try:
        return connection.isAlive() == 1
    except api.LibvirtError:
        return False
