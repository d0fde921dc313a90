"""Connections: who they are, how many there may be, and what garbage on them is told.

Rules:
- At most MAX_OPEN connections, and at most MAX_EACH of one process. When all are taken, one makes room: of the process that has its
  MAX_EACH, else of the user who holds most of them, and of that user's greediest process, so that a crowd crowds out itself and nobody
  else. The oldest one that is not being answered; if every one of them is (streams are, for as long as they last), the oldest if the
  newcomer's user, or its process, has fewer than they, so that somebody else's pause comes through; else the newcomer is closed.
- A connection that has not sent a whole request head within HEAD_SECONDS is closed (aiohttp's keep-alive timer runs
  from accept, and trickled bytes do not reset it).
- What is not HTTP gets one error and is closed. A fault of anew is logged with an id; the client is told only the id.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from collections import Counter
from typing import Any

from aiohttp import web

from fleet.api.peers import Peer, read_peer
from fleet.api.turns import Key, Turns, process
from fleet.api.wire import ErrorBody
from fleet.core.errors import AnewError, Refused

MAX_OPEN = 256
MAX_EACH = 32
HEAD_SECONDS = 15.0
LINGER_SECONDS = 2.0
MAX_LINE = 4096
MAX_FIELDS = 32

log = logging.getLogger("anew.api")
_faults = itertools.count(1)


def error_body(error: AnewError) -> ErrorBody:
    """The wire's form of an error."""
    body: ErrorBody = {"code": error.code, "message": error.message, "where": error.where, "exit_code": error.exit_code}
    difference = getattr(error, "difference", ())
    if difference:
        body["difference"] = list(difference)
    return body


def error_answer(error: AnewError, status: int) -> web.Response:
    """The response for an error."""
    return web.Response(
        status=status, body=json.dumps({"error": error_body(error)}).encode(), content_type="application/json"
    )


class Connection(web.RequestHandler):
    """One accepted connection. `peer` is None if the kernel did not say who it is; `gone` is done once it is closed."""

    __slots__ = ("busy", "door", "gone", "peer")

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop, **limits: Any) -> None:
        super().__init__(door, loop=loop, **limits)
        self.door = door
        self.peer: Peer | None = None
        self.busy = False
        self.gone: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Read the peer's credentials, once."""
        try:
            self.peer = read_peer(transport.get_extra_info("socket"))
        except Refused:
            self.peer = None
        super().connection_made(transport)
        self.door.admit(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Wake whoever streams to this client."""
        self.door.forget(self)
        if not self.gone.done():
            self.gone.set_result(None)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close at once, dropping what was not sent."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What garbage (400) and faults of anew (500) are told; the connection is closed after it."""
        if status < 500:
            error = AnewError("this is not an HTTP request that can be read", code="bad-request")
            error.exit_code = 2
        else:
            fault = f"{os.getpid():x}-{next(_faults)}"
            log.error("fault %s while answering %s", fault, request.path, exc_info=exc)
            error = AnewError(f"anew itself failed; the daemon's log has the details under the id {fault}", code="fault")
        if request.writer is not None and request.writer.output_size > 0:
            raise ConnectionError("the answer had begun already")
        answer = error_answer(error, status)
        answer.force_close()
        return answer


class Door(web.Server):
    """Makes connections and keeps their number down. `closing` is done when the daemon ends."""

    def __init__(self, handler: Any) -> None:
        super().__init__(handler)
        self.loop = asyncio.get_running_loop()
        self.turns = Turns()
        self.open: dict[Connection, None] = {}
        self.closing: asyncio.Future[None] = self.loop.create_future()

    def __call__(self) -> Connection:
        """A protocol for a connection about to be accepted."""
        return Connection(
            self, self.loop, keepalive_timeout=HEAD_SECONDS, tcp_keepalive=False, access_log=None, max_line_size=MAX_LINE,
            max_field_size=MAX_LINE, max_headers=MAX_FIELDS, lingering_time=LINGER_SECONDS, auto_decompress=False, logger=log,
        )

    def admit(self, connection: Connection) -> None:
        """Count a connection in, and make room if there are too many."""
        own = [one for one in self.open if process(one.peer) == process(connection.peer)]
        if len(own) >= MAX_EACH or len(self.open) >= MAX_OPEN:
            victim = self._victim(own) if len(own) >= MAX_EACH else self._greediest(process(connection.peer))
            if victim is None:
                connection.abort()
                return
            self.forget(victim)
            victim.abort()
        self.open[connection] = None

    def forget(self, connection: Connection) -> None:
        """Count a connection out."""
        self.open.pop(connection, None)

    def _victim(self, own: list[Connection]) -> Connection | None:
        return next((one for one in own if not one.busy), None)

    def _greediest(self, new: Key) -> Connection | None:
        """Who makes room for a newcomer of that process, if anybody does."""
        users, processes = Counter(process(one.peer)[0] for one in self.open), Counter(process(one.peer) for one in self.open)
        # max() keeps the first of equals, and the dict is in order of arrival: the oldest of the greediest.
        found = max(self.open, key=lambda one: (users[process(one.peer)[0]], processes[process(one.peer)], not one.busy))
        theirs = process(found.peer)
        fewer = processes[new] + 1 < processes[theirs] if new[0] == theirs[0] else users[new[0]] + 1 < users[theirs[0]]
        return found if fewer or not found.busy else None
