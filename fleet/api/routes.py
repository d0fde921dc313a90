"""The explicit table of what may be asked: method, path, least role, size cap. What is not in it is refused."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from fleet.api import schema
from fleet.api.closed import closed_words, with_words
from fleet.api.door import Connection
from fleet.api.office import Caller, Office, Role
from fleet.api.stream import Pump, as_lines
from fleet.api.wire import MAX_REQUEST
from fleet.core.errors import Refused

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PAGE = 200
MAX_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that passed the door: known path, sufficient role, body within its cap."""

    office: Office
    caller: Caller
    role: Role
    names: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes
    request: web.BaseRequest
    connection: Connection
    socket: str


Answer = Mapping[str, Any] | web.StreamResponse
Responder = Callable[[Ask], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """A row of the table. In `path` an upper-case part stands for a name. `cap`: bytes of body allowed."""

    method: str
    path: str
    least: Literal["observer", "approver", "operator"]
    cap: int
    respond: Responder
    query: frozenset[str] = frozenset()


async def _status(ask: Ask) -> Answer:
    return ask.office.status(ask.caller)


async def _info(ask: Ask) -> Answer:
    return ask.office.info(ask.caller)


async def _metrics(ask: Ask) -> Answer:
    return web.Response(body=ask.office.metrics().encode(), headers={"Content-Type": METRICS_TYPE})


async def _rollouts(ask: Ask) -> Answer:
    return {"rollouts": ask.office.rollouts()}


async def _rollout(ask: Ask) -> Answer:
    return ask.office.rollout(ask.names[0])


async def _server(ask: Ask) -> Answer:
    return ask.office.server(ask.names[0])


async def _console(ask: Ask) -> Answer:
    source = ask.office.console(ask.names[0])
    return await Pump(ask.request, ask.connection, source).run("application/octet-stream")


async def _images(ask: Ask) -> Answer:
    return {"images": await ask.office.images()}


async def _image(ask: Ask) -> Answer:
    return await ask.office.image(*ask.names)


async def _diff(ask: Ask) -> Answer:
    return await ask.office.image_diff(*ask.names)


async def _foreign(ask: Ask) -> Answer:
    return {"foreign": await ask.office.foreign()}


async def _leftovers(ask: Ask) -> Answer:
    return {"findings": await ask.office.leftovers()}


async def _roots(ask: Ask) -> Answer:
    return {"roots": await ask.office.roots(ask.names[0])}


async def _machines(ask: Ask) -> Answer:
    return {"machines": await ask.office.machines()}


async def _machine_check(ask: Ask) -> Answer:
    return {"checks": await ask.office.machine_check(schema.check_request(ask.body).get("machines", []))}


async def _journal(ask: Ask) -> Answer:
    since = schema.whole_query(ask.query, "since", 0)
    whole = schema.whole_query(ask.query, "whole", 0, 1) == 1
    return await ask.office.journal(since, schema.whole_query(ask.query, "limit", PAGE, MAX_PAGE), whole)


async def _verify(ask: Ask) -> Answer:
    return await ask.office.journal_verify()


async def _events(ask: Ask) -> Answer:
    since, drives = schema.whole_query(ask.query, "since", 0), ask.query.get("drives", "")
    if drives and ask.role != "operator":
        raise Refused(f"{ask.caller.user} may watch, not drive a rollout; that needs an operator: see [access] in the fleet file", where="drives", code="role")
    here = schema.whole_query(ask.query, "here", 0, 1) == 1
    async with ask.office.subscribe(since, ask.caller, drives, here=here) as frames:
        return await Pump(ask.request, ask.connection, as_lines(frames)).run("application/x-ndjson", life=b"\n")


async def _plan(ask: Ask) -> Answer:
    return with_words(dict(await ask.office.plan(schema.plan_request(ask.body))), ask.socket)


async def _proposals(ask: Ask) -> Answer:
    return {"proposals": ask.office.proposals()}


async def _here(ask: Ask) -> Answer:
    ask.office.place(ask.caller, schema.place_request(ask.body))
    return {"ok": True}


async def _command(ask: Ask) -> Answer:
    request = schema.command_request(ask.body)
    least = COMMAND_LEAST.get(request["command"], "operator")
    if not may(ask.role, least):
        raise lacks(ask.caller, ask.role, least, request["command"])
    answer = await ask.office.command(ask.caller, ask.role, request)
    return _proposed(ask, answer) if answer.get("proposed") else answer


def _proposed(ask: Ask, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer to a proposal, which says so if nobody else can come and approve it."""
    needed = next((row["needed"] for row in ask.office.proposals() if row["hash"] == answer["proposed"]), 0)
    words = closed_words(ask.socket, needed)
    return {**answer, "message": f"{answer['message']}\nBut {words}"} if words else answer


ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/status", "observer", 0, _status),
    Route("GET", "/v1/rollouts", "observer", 0, _rollouts),
    Route("GET", "/v1/rollouts/ID", "observer", 0, _rollout),
    Route("GET", "/v1/images", "observer", 0, _images),
    Route("GET", "/v1/images/FAMILY/VERSION", "observer", 0, _image),
    Route("GET", "/v1/images/FAMILY/A/diff/B", "observer", 0, _diff),
    Route("GET", "/v1/servers/NAME", "observer", 0, _server),
    Route("GET", "/v1/servers/NAME/console", "observer", 0, _console),
    Route("GET", "/v1/foreign", "observer", 0, _foreign),
    Route("GET", "/v1/leftovers", "observer", 0, _leftovers),
    Route("GET", "/v1/roots/NAME", "observer", 0, _roots),
    Route("GET", "/v1/machines", "observer", 0, _machines),
    Route("GET", "/v1/journal", "observer", 0, _journal, frozenset({"since", "limit", "whole"})),
    Route("GET", "/v1/journal/verify", "observer", 0, _verify),
    Route("GET", "/v1/events", "observer", 0, _events, frozenset({"since", "drives", "here"})),
    Route("GET", "/v1/info", "observer", 0, _info),
    Route("GET", "/metrics", "observer", 0, _metrics),
    Route("POST", "/v1/plan", "observer", MAX_REQUEST, _plan),
    Route("POST", "/v1/machines/check", "observer", MAX_REQUEST, _machine_check),
    Route("GET", "/v1/proposals", "observer", 0, _proposals),
    Route("POST", "/v1/here", "observer", 1024, _here),
    Route("POST", "/v1/commands", "approver", MAX_REQUEST, _command),
)
COMMAND_LEAST: Mapping[str, str] = {"plan.approve": "approver"}
"""Commands that another role than operator may give."""
_RANKS = ("", "observer", "approver", "operator")


def may(role: Role, least: str) -> bool:
    """Whether a role suffices: every role looks, an approver approves, only operators command."""
    return _RANKS.index(role) >= _RANKS.index(least)


def lacks(caller: Caller, role: str, least: str, what: str) -> Refused:
    """The refusal of a caller whose role does not suffice."""
    who = f"{caller.user} is {_article(role)}" if role else f"{caller.user} has no role in this fleet"
    if caller.observer and role:
        return Refused(f"this connection asked to be an observer's and stays one, whatever {caller.user} may do elsewhere; this needs {_article(least)}", where=what, code="role")
    return Refused(f"{who}; this needs {_article(least)}: see [access] in the fleet file", where=what, code="role")


def _article(role: str) -> str:
    return f"an {role}" if role[0] in "aeo" else f"a {role}"


def as_json(answer: Mapping[str, Any]) -> web.Response:
    """A plain answer as a response; JSON escapes every control character."""
    return web.Response(body=json.dumps(answer, separators=(",", ":")).encode(), content_type="application/json")
