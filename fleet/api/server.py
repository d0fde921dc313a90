"""The daemon's API: HTTP/1.1 on a Unix socket, dispatched by the table in routes.py and by nothing else.

Every request goes the same way: peer from the kernel -> row of the table -> role -> body within its cap -> office. Each
step can refuse with a sentence; what is refused changes nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from fleet.api.door import Connection, Door, error_answer, log
from fleet.api.office import Caller, Office
from fleet.api.peers import Names
from fleet.api.routes import ROUTES, Answer, Ask, Route, as_json, lacks, may
from fleet.api.sockets import BACKLOG, listening
from fleet.api.turns import process
from fleet.core.errors import AnewError, Invalid, Refused, Stale, Transient

BODY_SECONDS = 10.0
WRITE_SECONDS = 30.0
END_SECONDS = 2.0
AT_ONCE = 8
"""Connections accepted in one turn of the loop, however many wait."""
TERMINAL_HEADER = "Anew-Terminal"
OBSERVER_HEADER = "Anew-Observer"
"""With it, whatever it says, the request is an observer's at most: how `anew web` gives up what its user may do."""

OnRefused = Callable[[Caller, str, str], None]

_NAME = r"([A-Za-z0-9][A-Za-z0-9._+~:-]{0,127})"
_STATUS = {"role": 403, "unknown-path": 404, "not-found": 404, "too-slow": 408, "too-large": 413}


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("/".join(_NAME if part.isupper() else re.escape(part) for part in path.split("/")))


_TABLE = tuple((route, _pattern(route.path)) for route in ROUTES)


def status_of(error: AnewError) -> int:
    """The HTTP status of an error (see wire.py)."""
    if error.code in _STATUS:
        return _STATUS[error.code]
    if error.code.startswith("unknown"):
        return 404
    if isinstance(error, Stale):
        return 409
    if isinstance(error, Invalid):
        return 422
    if isinstance(error, Refused):
        return 409
    return 503 if isinstance(error, Transient) else 500


def find_route(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """The row of the table for a request and the names in its path; Invalid if there is none."""
    others = []
    for route, pattern in _TABLE:
        if found := pattern.fullmatch(path):
            if route.method == method:
                return route, found.groups()
            others.append(route.method)
    if others:
        raise Invalid(f"{method} is not possible here, only {', '.join(others)}", where=path[:128], code="unknown-path")
    raise Invalid("there is no such thing to ask for; docs/api.md lists what there is", where=path[:128], code="unknown-path")


async def read_body(request: web.BaseRequest, cap: int) -> bytes:
    """The whole body, at most `cap` bytes, within BODY_SECONDS."""
    body = bytearray()
    too_large = Invalid(f"the body has more than the {cap} bytes allowed here", where="body", code="too-large")
    if (request.content_length or 0) > cap:
        raise too_large
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > cap:
                    raise too_large
    except TimeoutError as error:
        raise Refused(f"the body did not arrive within {BODY_SECONDS:.0f} s", where="body", code="too-slow") from error
    return bytes(body)


class Reception:
    """Takes each request from the door to the office and back."""

    def __init__(self, office: Office, on_refused: OnRefused | None, socket_path: str) -> None:
        self._office = office
        self._socket = socket_path
        self._names = Names()
        self._on_refused = on_refused

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; AnewErrors become error answers."""
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.busy = True
        try:
            try:
                turns = connection.door.turns
                await turns.take(process(connection.peer))
                found = await turns.measured(process(connection.peer), self._answer(request, connection))
                answer = found if isinstance(found, web.StreamResponse) else as_json(found)
            except AnewError as error:
                answer = error_answer(error, status_of(error))
            except ConnectionError:
                if not connection.gone.done():
                    raise
                return web.Response(status=400)  # the client went away in the middle of its request: nobody reads this
            await self._send(request, connection, answer)
            return answer
        finally:
            connection.busy = False

    async def _answer(self, request: web.BaseRequest, connection: Connection) -> Answer:
        if connection.peer is None:
            raise Refused("the kernel does not say who is calling, so nothing is answered", code="role")
        caller = await self._names.caller(connection.peer, request.headers.get(TERMINAL_HEADER, ""), observer=OBSERVER_HEADER in request.headers)
        role = self._office.role_of(caller)
        try:
            route, names = find_route(request.method, request.rel_url.raw_path)
            if not may(role, route.least):
                raise lacks(caller, role, route.least, f"{route.method} {route.path}")
        except Refused as error:
            self._report(caller, f"{request.method} {request.rel_url.raw_path[:128]}", error)
            raise
        query = dict(request.rel_url.query)
        for key in query.keys() - route.query:
            raise Invalid("is not a known parameter here", where=key[:64])
        body = await read_body(request, route.cap)
        try:
            return await route.respond(Ask(self._office, caller, role, names, query, body, request, connection, self._socket))
        except Refused as error:
            if error.code == "role":
                self._report(caller, f"{request.method} {request.rel_url.raw_path[:128]} {error.where[:64]}", error)
            raise

    async def _send(self, request: web.BaseRequest, connection: Connection, answer: web.StreamResponse) -> None:
        """Send here and not in aiohttp, which would wait for a client that does not read for ever."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await answer.prepare(request)
                await answer.write_eof()
        except TimeoutError:
            log.info("dropped a client that does not read its answer")
            connection.abort()
        except ConnectionError:
            pass  # the client went away, as clients do

    def _report(self, caller: Caller, what: str, error: Refused) -> None:
        log.warning("refused %s (uid %d, pid %d) %r: %s", caller.actor, caller.uid, caller.pid, what, error.message)
        if self._on_refused is not None:
            self._on_refused(caller, what, error.message)


@asynccontextmanager
async def serve(
    office: Office, socket_path: str, *, group: str | None = None, on_refused: OnRefused | None = None
) -> AsyncIterator[Door]:
    """Serve the office on a Unix socket while the context lasts; on leaving, streams end and the socket is removed.

    `group` makes it system mode (0660). `on_refused(caller, what, why)` hears of every request refused for its path or
    role, for the journal. Refused or Invalid if the path cannot be had.
    """
    with listening(socket_path, group=group) as sock:
        door = Door(Reception(office, on_refused, socket_path))
        server = await asyncio.get_running_loop().create_unix_server(door, sock=sock, backlog=AT_ONCE)
        sock.listen(BACKLOG)  # asyncio takes so many at once as it is told may wait
        try:
            yield door
        finally:
            server.close()
            door.closing.set_result(None)
            door.pre_shutdown()
            await door.shutdown(END_SECONDS)
