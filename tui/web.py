"""The terminal UI in a browser (`anew web`): the page and its terminal are textual-serve's, a process of the UI stands behind each visitor.

Every user of a machine may connect to its loopback, and so may every page in a browser that runs there. Rules of this border:
  * The address has a secret in its path. Without it nothing is answered but a sentence; it is never a cookie, for a browser sends those to
    every port of the machine, whoever listens there.
  * Host must name this machine's loopback (or the proxy that was named at the start), which a name that was rebound to it does not; a
    WebSocket's Origin must be this page. What the page may load is said to the browser, and it is nothing from elsewhere.
  * What is served is textual-serve's page and its static files, and the screen. Of what the UI's process says only screen contents go out: no
    file, no address to open; of what a browser says only keys and sizes go in, sizes bounded.
  * At most VISITORS at once. A visitor's process ends with the visitor, and with this server however it ends (tui/hangup.py).
  * That nothing can be changed from here is not decided here: the UI's process asks the daemon to take it for an observer (tui/link.py).
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import os
import re
import secrets
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp_jinja2
import jinja2
import textual_serve
from aiohttp import WSMsgType, web
from textual_serve.server import Server

VISITORS = 8
HEARTBEAT = 15.0
"""Seconds after which a visitor who does not answer is gone."""
LAST_WORDS = 1.0
GLANCE = 1.0
LARGEST_SAID = 64 * 1024
"""Bytes of one message of a browser."""
LARGEST_SHOWN = 16 * 1024 * 1024
WIDEST, TALLEST = 500, 200
PROMPT = b"__GANGLION__\n"
"""What Textual's driver for browsers begins with."""
ENVIRONMENT = {"TEXTUAL_DRIVER": "tui.page:PageDriver", "TEXTUAL_COLOR_SYSTEM": "truecolor", "COLORTERM": "truecolor",
               "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
NOT_INHERITED = ("TMUX", "NO_COLOR", "COLORFGBG")
LOCAL = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.ASCII)
NO_SECRET = "This is not the whole address: take it as `anew web` printed it, with the secret at its end.\n"
STRANGE_HOST = "anew answers here by the names of this machine's own loopback only; a reverse proxy is named with --public-url.\n"
STRANGE_ORIGIN = "Only the page that anew serves may open this.\n"
FULL = f"{VISITORS} people look on already, and that is the most: wait until one of them closes the page.\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gallery:
    """Where people look on. `command` is what stands behind each of them; the name of their terminal is put at its end."""

    def __init__(self, command: Sequence[str], public: str) -> None:
        self.command, self.public = tuple(command), public
        self.secret = secrets.token_urlsafe(32)
        self.visits: set[web.WebSocketResponse] = set()
        self._numbers = itertools.count(1)
        self._here = 0

    def app(self) -> web.Application:
        """What is answered, and nothing else is."""
        folder = Path(textual_serve.__file__).parent
        app = web.Application(middlewares=[self._gate], client_max_size=1024)
        aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(folder / "templates"))
        app.router.add_get(f"/{self.secret}/", self._page)
        app.router.add_get(f"/{self.secret}/ws", self._visit, name="websocket")
        app.router.add_static(f"/{self.secret}/static", folder / "static", name="static")
        app.on_response_prepare.append(self._head)
        app.on_shutdown.append(self._close)
        return app

    def _origin(self, request: web.Request) -> str:
        """What the browser calls this server, "" if it is a name that nobody gave it."""
        if self.public and request.host == self.public.partition("://")[2]:
            return self.public
        return f"http://{request.host}" if LOCAL.fullmatch(request.host) else ""

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = self._origin(request)
        if not origin:
            return web.Response(status=421, text=STRANGE_HOST)
        if not hmac.compare_digest(request.path.partition("/")[2].partition("/")[0].encode("utf-8", "replace"), self.secret.encode()):
            return web.Response(status=403, text=NO_SECRET)
        if request.path.endswith("/ws") and request.headers.get("Origin") != origin:
            return web.Response(status=403, text=STRANGE_ORIGIN)
        return await handler(request)

    async def _head(self, request: web.Request, response: web.StreamResponse) -> None:
        socket = self._origin(request).replace("http", "ws", 1)
        response.headers.update({
            "Content-Security-Policy": f"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
                                       f"img-src 'self' data:; connect-src 'self' {socket}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin"})

    async def _page(self, request: web.Request) -> web.StreamResponse:
        """textual-serve's page, with the addresses by which this browser came."""
        if self._here >= VISITORS:
            return web.Response(status=503, text=FULL)
        page: web.StreamResponse = await Server("anew", title="anew", public_url=self._origin(request)).handle_index(request)
        return page

    async def _visit(self, request: web.Request) -> web.StreamResponse:
        """One visitor, from the first byte to the last."""
        if self._here >= VISITORS:
            return web.Response(status=503, text=FULL)
        self._here += 1
        process = None
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, timeout=LAST_WORDS, max_msg_size=LARGEST_SAID)
        try:
            await socket.prepare(request)
            self.visits.add(socket)
            process = await self._begin(bounded(request.query.get("width"), 80, WIDEST), bounded(request.query.get("height"), 24, TALLEST))
            assert process.stdout is not None and process.stdin is not None
            async with asyncio.TaskGroup() as group:
                shown = group.create_task(show(process.stdout, socket))
                heard = group.create_task(hear(socket, process.stdin))
                await gone(heard, request)
                for task in (heard, shown):
                    task.cancel()
        finally:
            self._here -= 1
            self.visits.discard(socket)
            if process is not None and process.returncode is None:
                process.kill()  # nothing of worth lives in it
                await process.wait()
        return socket

    async def _begin(self, width: int, height: int) -> Process:
        """The UI's process. What it says on stderr is data of the fleet, too, and has no business on this terminal."""
        kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED and not name.startswith("TEXTUAL")}
        return await asyncio.create_subprocess_exec(
            *self.command, f"web/{next(self._numbers)}", stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True,
            env={**kept, **ENVIRONMENT, "COLUMNS": str(width), "ROWS": str(height)})

    async def _close(self, _: web.Application) -> None:
        await asyncio.gather(*(socket.close() for socket in self.visits))


async def show(stdout: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    """Screen contents to the browser, until the UI leaves or the browser is gone; then nothing more is heard of it, either."""
    try:
        if await stdout.readline() != PROMPT:
            return
        while True:
            head = await stdout.readexactly(5)
            size = int.from_bytes(head[1:], "big")
            if size > LARGEST_SHOWN:
                return
            said = await stdout.readexactly(size)
            if head[:1] == b"D":
                await socket.send_bytes(said)
            elif head[:1] == b"M" and json.loads(said).get("type") == "exit":
                return
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        pass
    finally:
        await socket.close()


async def gone(heard: asyncio.Task[None], request: web.Request) -> None:
    """Until the browser is gone. Who hears it does not always notice: while the UI has keys enough, nobody hears."""
    while not heard.done() and request.transport is not None and not request.transport.is_closing():
        await asyncio.wait({heard}, timeout=GLANCE)


async def hear(socket: web.WebSocketResponse, stdin: asyncio.StreamWriter) -> None:
    """Keys and sizes to the UI, until the browser is gone or says what no browser says."""
    try:
        async for message in socket:
            kind, what = said(message.data if message.type == WSMsgType.TEXT else "null")
            if kind == "ping":
                await socket.send_json(["pong", what])
            else:
                packet = what.encode("utf-8", "replace")
                stdin.write(kind.encode() + len(packet).to_bytes(4, "big") + packet)
                await stdin.drain()
    except (ConnectionError, ValueError, RecursionError):
        pass


def said(message: str) -> tuple[str, str]:
    """A message of textual-serve's page: ("D", keys), ("M", what the driver is told), ("ping", its mark). ValueError for what that page never says."""
    match json.loads(message):
        case ["stdin", str(keys)]:
            return "D", keys
        case ["resize", {"width": int(width), "height": int(height)}]:
            return "M", json.dumps({"type": "resize", "width": bounded(width, 80, WIDEST), "height": bounded(height, 24, TALLEST)})
        case [("focus" | "blur") as kind, *_]:
            return "M", json.dumps({"type": kind})
        case ["ping", str(mark)]:
            return "ping", mark[:64]
    raise ValueError("not a message of the page")


def bounded(value: int | str | None, usual: int, most: int) -> int:
    """A size within what a screen has."""
    try:
        return max(1, min(int(usual if value is None else value), most))
    except ValueError:
        return usual


async def _serve(command: Sequence[str], address: str, port: int, public: str, told: Callable[[str, int], None]) -> None:
    gallery, ended = Gallery(command, public), asyncio.Event()
    runner = web.AppRunner(gallery.app(), access_log=None, shutdown_timeout=LAST_WORDS)  # a log of requests would hold the secret
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
        bound = int(runner.addresses[0][1])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        host = f"[{address}]" if ":" in address else address
        told(f"{public or f'http://{host}:{bound}'}/{gallery.secret}/", bound)
        await ended.wait()
    finally:
        await runner.cleanup()


def serve(command: Sequence[str], address: str, port: int, public: str, told: Callable[[str, int], None]) -> int:
    """Serve the UI on a loopback address until a signal ends it. `command`: the UI's process; `public`: how a reverse proxy is called
    ("https://NAME"), or ""; `told` hears the whole address and the port once browsers may come. OSError if the port cannot be had.
    """
    asyncio.run(_serve(command, address, port, public, told))
    return 0


__all__ = ["VISITORS", "Gallery", "bounded", "said", "serve"]
