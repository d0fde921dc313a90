"""The line to the daemon: status once, then the stream of events, for as long as the terminal lives.

Rules of this border:
  * It never gives up: back-off from a quarter of a second to five, then a new status, then the stream from the last
    event seen. A daemon that says nothing for 25 s (it signs every 10) is lost.
  * Everything that comes in is cleaned (tui/untrusted.py) and bounded before anybody else sees it.
  * A command has a name made by this client. If the line breaks before the answer came it is sent once more under the
    same name: the daemon gives one effect and one answer.
  * The only broad `except` of the terminal is here: whatever goes wrong in a session ends that session, not the app.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from tui.errors import LinkError
from tui.fields import Raw, mapping, rows, text, whole, words
from tui.untrusted import clean_json, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import ClientSession

BACK_OFF = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts; the last one repeats."""
SILENCE = 25.0
"""Seconds without a byte after which the daemon counts as lost."""
ANSWER = 30.0
"""Seconds of silence before and within an answer: a plan of a large fleet takes a while, and so does a status over a slow link."""
LONGEST_LINE = 32 * 1024 * 1024
LARGEST_BODY = 64 * 1024 * 1024
BACKLOG = 500
"""Events fetched at the first connection, so that tails are not empty."""


class Sink(Protocol):
    """Who hears what the line brings."""

    def came_status(self, frame: Raw) -> None: ...
    def came_frame(self, frame: Raw) -> None: ...
    def came_events(self, rows: Sequence[Raw]) -> None: ...
    def came_life(self) -> None: ...
    def lost(self, why: str) -> None: ...

    @property
    def resume_from(self) -> int: ...


class Link:
    """One socket, one session at a time."""

    def __init__(self, socket: str, back_off: Sequence[float] = BACK_OFF, silence: float = SILENCE, terminal: str = "", *, observer: bool = False,
                 name: str = "", trouble: Callable[[], str] = str) -> None:
        """`observer`: the daemon is told to take this line for an observer's, whoever's it is, and must say that it does. `name`: where the daemon
        is, if not at the socket; `trouble`: why the way to it is cut, "" if it is not.
        """
        self.socket, self.observer = socket, observer
        self.name, self._trouble = name or socket, trouble
        self.headers = {**({"Anew-Terminal": terminal} if terminal else {}), **({"Anew-Observer": "yes"} if observer else {})}
        self.back_off = tuple(back_off)
        self.silence = silence
        self._session: ClientSession | None = None

    async def run(self, sink: Sink) -> None:
        """Stay connected until cancelled."""
        await asyncio.to_thread(importlib.import_module, "aiohttp")
        attempt = 0
        while True:
            heard = False
            try:
                async for _ in self._listen(sink):
                    heard = True
                sink.lost("the daemon ended the stream")
            except Exception as error:
                sink.lost(self._why(error))
            finally:
                await self.close()
            attempt = 0 if heard else attempt + 1
            await asyncio.sleep(self.back_off[min(attempt, len(self.back_off) - 1)])

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _why(self, error: BaseException) -> str:
        """What went wrong: with the way, or with the line. The daemon's own words come before both."""
        return (not isinstance(error, LinkError) and one_line(self._trouble(), 300)) or sentence(error, self.name)

    def _open(self) -> ClientSession:
        """The session of this connection; made again after it was lost."""
        import aiohttp

        if self._session is None or self._session.closed:
            connector = aiohttp.UnixConnector(path=self.socket, limit=16)
            self._session = aiohttp.ClientSession("http://anew", connector=connector, auto_decompress=False, headers=self.headers)
        return self._session

    async def _listen(self, sink: Sink) -> AsyncIterator[None]:
        """Status, backlog, stream. Yields after the status and at each sign of life."""
        import aiohttp

        status = await self.get("/v1/status")
        if self.observer and text(mapping(status, "you"), "role") != "observer":
            raise LinkError(f"the daemon at {self.name} is older than this and would take this line for an operator's: restart it")
        sink.came_status(status)
        yield
        seen = sink.resume_from
        since = seen or whole(status, "seq")
        if not seen:
            past = await self.get("/v1/journal", since=str(max(0, since - BACKLOG)), limit=str(BACKLOG))
            sink.came_events(rows(past, "events"))
        patience = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=self.silence)
        async with self._open().get("/v1/events", params={"since": str(since), "here": "1"}, timeout=patience) as answer:
            if answer.status != 200:
                raise LinkError(refusal(clean_json(await answer.content.read(65536)), answer.status).sentence)
            async for line in _lines(answer.content):
                if line.strip():
                    frame = clean_json(line)
                    if isinstance(frame, dict):
                        sink.came_frame(frame)
                    if isinstance(frame, dict) and frame.get("frame") == "bye":
                        return
                else:
                    sink.came_life()
                yield

    # requests

    async def get(self, path: str, **query: str) -> Raw:
        """A JSON document. Raises LinkError with a sentence."""
        return await self._ask("GET", path, params=query)

    async def plan(self, request: Raw) -> Raw:
        return await self._ask("POST", "/v1/plan", json=dict(request))

    async def command(self, request: Raw) -> Raw:
        """Send a command; once more under the same name when the line broke before an answer came."""
        import aiohttp

        try:
            return await self._request("POST", "/v1/commands", json=dict(request))
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            await asyncio.sleep(self.back_off[0])
        try:
            return await self._request("POST", "/v1/commands", json=dict(request))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise LinkError(
                f"{request.get('command')} had no answer ({self._why(error)}). It may have been taken: "
                "look at the events before you try again."
            ) from error

    async def here(self, place: Raw) -> None:
        """Tell what this terminal looks at, for who follows it."""
        await self._ask("POST", "/v1/here", json=dict(place))

    async def drive(self, rollout: str, since: int, go_on: Callable[[], bool]) -> None:
        """Tell the daemon that this terminal drives a rollout, for as long as this stream lasts. What comes on it came already."""
        import aiohttp

        patience = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=self.silence)
        try:
            async with self._open().get("/v1/events", params={"since": str(since), "drives": rollout}, timeout=patience) as answer:
                if answer.status != 200:
                    raise refusal(_body(await answer.content.read(65536)), answer.status)
                async for _ in answer.content.iter_any():
                    if not go_on():
                        return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LinkError(f"The line by which {rollout} is driven was lost: {self._why(error)}.") from error

    async def console(self, server: str, sink: Callable[[bytes], bool]) -> None:
        """Give console bytes to `sink` until it says False or the other side ends."""
        import aiohttp

        patience = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=None)
        try:
            async with self._open().get(f"/v1/servers/{quote(server, safe='')}/console", timeout=patience) as answer:
                if answer.status != 200:
                    raise refusal(_body(await answer.content.read(65536)), answer.status)
                async for data in answer.content.iter_any():
                    if not sink(data):
                        return
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LinkError(f"The console of {server} was lost: {self._why(error)}.") from error

    async def _ask(self, method: str, path: str, **more: Any) -> Raw:
        import aiohttp

        try:
            return await self._request(method, path, **more)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise LinkError(f"The daemon gave no answer: {self._why(error)}.") from error

    async def _request(self, method: str, path: str, **more: Any) -> Raw:
        import aiohttp

        patience = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=ANSWER)
        async with self._open().request(method, path, timeout=patience, **more) as answer:
            chunks: list[bytes] = []
            size = 0
            async for chunk in answer.content.iter_any():
                size += len(chunk)
                if size > LARGEST_BODY:
                    raise ValueError(f"the answer to {path} is larger than {LARGEST_BODY >> 20} MiB")
                chunks.append(chunk)
            body = _body(b"".join(chunks))
            if answer.status >= 400:
                raise refusal(body, answer.status)
            return body


def _body(data: bytes) -> Raw:
    value = clean_json(data)
    return value if isinstance(value, dict) else {}


async def _lines(content: Any) -> AsyncIterator[bytes]:
    """Lines of a stream, however its chunks fall. Raises ValueError for one that is too long."""
    held = bytearray()
    async for chunk in content.iter_any():
        held += chunk
        if b"\n" not in chunk:
            if len(held) > LONGEST_LINE:
                raise ValueError("a frame is longer than 32 MiB")
            continue
        *whole_lines, rest = held.split(b"\n")
        held = bytearray(rest)
        for item in whole_lines:
            yield bytes(item)


def refusal(body: Raw, status: int) -> LinkError:
    """The daemon's own words for what it did not do."""
    error = mapping(body, "error")
    message = one_line(text(error, "message")) or f"The daemon answered {status} without a reason."
    if where := one_line(text(error, "where")):
        message += f" ({where})"
    return LinkError(message, words(error, "difference"))


def sentence(error: BaseException, socket: str) -> str:
    """What went wrong with the line, in words."""
    if isinstance(error, LinkError):
        return error.sentence
    if isinstance(error, FileNotFoundError) or "No such file" in str(error):
        return f"no daemon listens at {socket}"
    if isinstance(error, PermissionError) or "Permission denied" in str(error):
        return f"{socket} may not be opened by you: ask to be in its group"
    if isinstance(error, ConnectionRefusedError) or "refused" in str(error):
        return f"nobody answers at {socket}"
    if isinstance(error, TimeoutError):
        return "it took too long"
    return one_line(str(error), 200) or type(error).__name__
