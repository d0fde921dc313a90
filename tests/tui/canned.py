"""A daemon that says what it is told to: aiohttp on a Unix socket with the paths of fleet/api/wire.py.

Scriptable: `push` sends a frame to every stream, `commands` holds what came in, `refuse` answers the next command or
plan with an error, `drop` ends all streams, `close`/`open` take the socket away and bring it back.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from tests.tui import story

Row = dict[str, Any]


class CannedDaemon:
    """State is plain frames; tests change it in place."""

    def __init__(self, socket: Path, status: Row | None = None) -> None:
        self.socket = socket
        self.status = status if status is not None else story.status()
        self.events: list[Row] = story.events()
        self.past: list[Row] = []
        self.journal_asked: list[dict[str, str]] = []
        self.images = story.images()
        self.image_diff = story.image_diff()
        self.compared: list[str] = []
        self.plan: Row = story.plan()
        self.commands: list[Row] = []
        self.plans: list[Row] = []
        self.since: list[int] = []
        self.console_bytes: list[bytes] = [b"[    0.000000] Linux version 6.1.0\r\n", b"web login: "]
        self.refuse: tuple[int, Row] | None = None
        self.answer: Row = {}
        self.root: Row = {}
        self.roots: dict[str, Row] = {}
        self.proposals: list[Row] = []
        self.swallow = 0
        self.plan_waits: asyncio.Event | None = None
        self.rollouts: dict[str, Row] = {}
        self.replacements = story.replacements()
        self.servers_asked: list[str] = []
        self.driving: list[str] = []
        self.places: list[Row] = []
        self.you = 0
        self._streams: set[asyncio.Queue[bytes | None]] = set()
        self._runner: web.AppRunner | None = None

    async def open(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/status", self._status)
        app.router.add_get("/v1/events", self._events)
        app.router.add_get("/v1/journal", self._journal)
        app.router.add_get("/v1/images", self._images)
        app.router.add_get("/v1/images/{family}/{a}/diff/{b}", self._diff)
        app.router.add_get("/v1/proposals", self._proposals)
        app.router.add_get("/v1/servers/{name}", self._server)
        app.router.add_get("/v1/roots/{name}", self._roots)
        app.router.add_get("/v1/rollouts/{id}", self._rollout)
        app.router.add_get("/v1/servers/{name}/console", self._console)
        app.router.add_post("/v1/plan", self._plan)
        app.router.add_post("/v1/here", self._here)
        app.router.add_post("/v1/commands", self._command)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        with suppress(FileNotFoundError):
            self.socket.unlink()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def close(self) -> None:
        self.drop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        with suppress(FileNotFoundError):
            self.socket.unlink()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # script

    def push(self, frame: Row) -> None:
        """Send a frame to all streams."""
        if frame.get("frame") == "event":
            self.events.append(frame["row"])
            self.status["seq"] = max(self.status["seq"], frame["row"].get("seq", 0))
        self.push_bytes(json.dumps(frame).encode() + b"\n")

    def push_bytes(self, data: bytes) -> None:
        for stream in self._streams:
            stream.put_nowait(data)

    def drop(self) -> None:
        """End all streams, as a daemon that stops does."""
        for stream in self._streams:
            stream.put_nowait(None)

    @property
    def listeners(self) -> int:
        return len(self._streams)

    # paths

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(self.status)

    async def _journal(self, request: web.Request) -> web.Response:
        since = int(request.query.get("since", "0"))
        limit = min(int(request.query.get("limit", "200")), 1000)
        rows, tip = self.events, self.status["seq"]
        if request.query.get("whole") and self.past:
            rows, tip = self.past, self.past[-1]["seq"]
        self.journal_asked.append(dict(request.query))
        return web.json_response({"events": [row for row in rows if row["seq"] > since][:limit], "tip": tip})

    async def _proposals(self, _: web.Request) -> web.Response:
        return web.json_response({"proposals": self.proposals})

    async def _images(self, _: web.Request) -> web.Response:
        return web.json_response({"images": self.images})

    async def _diff(self, request: web.Request) -> web.Response:
        self.compared.append("{family} {a} {b}".format(**request.match_info))
        return web.json_response(self.image_diff)

    async def _server(self, request: web.Request) -> web.Response:
        for pool in self.status["pools"]:
            for row in pool["servers"]:
                if row["name"] == request.match_info["name"]:
                    self.servers_asked.append(row["name"])
                    return web.json_response({**row, "replacement": self.replacements.get(row["name"])})
        error = {"code": "unknown", "message": "There is no such server.", "where": "", "exit_code": 2}
        return web.json_response({"error": error}, status=404)

    async def _roots(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        pool = next((pool for pool in self.status["pools"] if pool["name"] == name), None)
        named = [server["name"] for server in pool["servers"]] if pool else [name]
        rows = [{"name": one, "pool": pool["name"] if pool else "web", "wished": "read-only", "observed": "read-only", "why_not": "", "writers": [],
                 "takes": "nothing", "unlocked_until": None, **self.root, **self.roots.get(one, {})} for one in named]
        return web.json_response({"roots": rows})

    async def _rollout(self, request: web.Request) -> web.Response:
        return web.json_response(self.rollouts.get(request.match_info["id"], {}))

    async def _console(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for data in self.console_bytes:
            await response.write(data)
        with suppress(ConnectionError, asyncio.TimeoutError):
            await asyncio.sleep(3600)
        return response

    async def _here(self, request: web.Request) -> web.Response:
        self.places.append(await request.json())
        return web.json_response({"ok": True})

    async def _plan(self, request: web.Request) -> web.Response:
        self.plans.append(await request.json())
        if self.plan_waits is not None:
            await self.plan_waits.wait()
        return self._refused() or web.json_response(self.plan)

    async def _command(self, request: web.Request) -> web.Response:
        self.commands.append(await request.json())
        if self.swallow:
            self.swallow -= 1
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        answer = {"ok": True, "seq": 200, "message": f"{self.commands[-1]['command']} was taken.", **self.answer}
        return self._refused() or web.json_response(answer)

    def _refused(self) -> web.Response | None:
        if self.refuse is None:
            return None
        status, error = self.refuse
        self.refuse = None
        return web.json_response({"error": error}, status=status)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query.get("since", "0"))
        self.since.append(since)
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        drives = request.query.get("drives")
        self.driving += [drives] if drives else []
        self._streams.add(queue)
        try:
            hello = {"frame": "hello", "seq": self.status["seq"], "fleet": self.status["fleet"], **({"you": self.you} if self.you and "here" in request.query else {})}
            await response.write(json.dumps(hello).encode() + b"\n")
            for row in self.events:
                if row["seq"] > since:
                    await response.write(json.dumps({"frame": "event", "seq": row["seq"], "row": row}).encode() + b"\n")
            while (data := await queue.get()) is not None:
                await response.write(data)
        except ConnectionError:
            pass
        finally:
            self._streams.discard(queue)
            if drives:
                self.driving.remove(drives)
        return response
