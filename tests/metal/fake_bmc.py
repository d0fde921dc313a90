"""A BMC of the test's own on loopback: answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
SYSTEM = "/redfish/v1/Systems/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeBmc:
    """`answers` by "METHOD PATH"; anything else is a 404."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{SYSTEM}"

    def resets(self) -> list[str]:
        """The kinds of reset asked for, in order."""
        return [json.loads(one.body)["ResetType"] for one in self.asked if (one.method, one.path) == ("POST", RESET)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.asked.append(Asked(method, path, headers, body))
            answer = self.answers.get(f"{method} {path}", status(404))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        writer.close()


def good(*, resets: tuple[str, ...] = ("On", "ForceOff", "ForceRestart"), power: str = "On", **more: Any) -> dict[str, Answer]:
    """The answers of a well-behaved BMC; `more` goes into its system."""
    system = {
        "@odata.id": SYSTEM, "Id": "1", "Name": "one", "PowerState": power,
        "Boot": {"BootSourceOverrideTarget": "None", "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd"]},
        "Actions": {"#ComputerSystem.Reset": {"target": RESET, "ResetType@Redfish.AllowableValues": list(resets)}}, **more}
    return {"GET /redfish/v1/": ok({"@odata.id": "/redfish/v1/", "Id": "RootService", "Name": "root", "Systems": {"@odata.id": "/redfish/v1/Systems"}}),
            f"GET {SYSTEM}": ok(system), f"POST {RESET}": status(204), f"PATCH {SYSTEM}": status(204)}


def ok(value: Any) -> bytes:
    """200 with JSON."""
    return raw(json.dumps(value).encode())


def raw(body: bytes, head: str = "HTTP/1.1 200 OK\r\nContent-Type: application/json") -> bytes:
    """An answer with these bytes."""
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def status(code: int, more: str = "") -> bytes:
    """An empty answer."""
    return f"HTTP/1.1 {code} Words\r\nContent-Length: 0\r\n{more}\r\n".encode()


@asynccontextmanager
async def fake_bmc(answers: dict[str, Answer], tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeBmc]:
    """Serves until the block ends."""
    bmc = FakeBmc(answers)
    server = await asyncio.start_server(bmc.serve, "127.0.0.1", 0, ssl=tls)
    bmc.port, bmc.scheme = server.sockets[0].getsockname()[1], "https" if tls else "http"
    try:
        yield bmc
    finally:
        server.close()
