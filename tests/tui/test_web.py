"""`anew web` as it is: a real daemon on simulated servers, the real command, a real browser; and who comes without being asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from tests.cli.running import PROGRAM, call
from tests.engine.daemons import FLEET, ROOT, Home, until
from tests.tui.browser import CHROMIUM, DEADLINE, Browser

web = pytest.importorskip("tui.web", reason="textual-serve is not installed here, so there is no `anew web`; `make setup` installs it")
TWO_POOLS = FLEET.replace('promotion = "auto"', 'promotion = "manual"') + """
[pools.db]
driver = "sim"
servers = 1
image = "web"
mode = "manual"
"""
ONLY_LOOKS = "This is a view in a browser: it only looks on, and the daemon takes nothing from it."


class Page:
    """A running `anew web`."""

    def __init__(self, home: Home, folder: Path, *more: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--socket", str(home.folder / "s"), "--json", "web", "--port", "0", *more], cwd=folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT)})
        assert self.process.stdout is not None
        try:
            told = json.loads(self.process.stdout.readline())
            self.url, self.port = str(told["url"]), int(told["port"])
        except BaseException:
            self.close()
            raise
        self.origin, self.path = f"http://127.0.0.1:{self.port}", urlsplit(self.url).path

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=DEADLINE)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """A rollout is under way, so that every key has something to do, and waits for a person."""
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        made = Home(Path(folder), TWO_POOLS)
        try:
            made.start()
            made.roll("1")
            until(lambda: made.ended() == "done", "the pool is born")
            made.roll("2")
            until(lambda: (made.rollout() or {}).get("state") == "awaiting-promotion", "the canary is proved")
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def page(home: Home) -> Iterator[Page]:
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        made = Page(home, Path(folder))
        try:
            yield made
        finally:
            made.close()


def people(home: Home) -> list[tuple[str, str]]:
    return [(row["terminal"], row["role"]) for row in home.client.get("/v1/status")["people"]]


async def soon(true: Any, what: str) -> None:
    await asyncio.to_thread(until, true, what)


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here; `make setup` installs Debian's")
async def test_a_browser_shows_the_fleet_and_whatever_is_pressed_changes_nothing(home: Home, page: Page, tmp_path: Path) -> None:
    before = home.events()
    async with Browser(tmp_path) as browser:
        await browser.open(page.url)
        shown = await browser.see("real · observer", "web", "3 ok", "promote")
        assert "1→2" in shown
        await soon(lambda: people(home), "the visitor is here")
        (terminal, role), = people(home)
        assert terminal.startswith("web/") and role == "observer"

        await browser.click()
        for keys in ("A", "P", "X", "u", "c", "T", ":pause web\r", ":abort\r", ":rollback web\r", ":set web max_surge=3\r", ":remark it was me\r", ":hold web-1 why\r"):
            await browser.type(keys)
            await browser.see(ONLY_LOOKS)
            await browser.type("j")
            await browser.gone(ONLY_LOOKS)
        await browser.type(":plan db 1\r")
        await browser.see("nothing has happened yet")
        await browser.type("\r")
        await browser.see(ONLY_LOOKS)
        await browser.type("1:export csv\r")
        await browser.see("it writes no file and starts no program")
        await browser.type("y")
        await browser.see("Copied to the clipboard.")
        await browser.type("2")
        await browser.see("web-1", "web-2", "web-3", "servers")
        assert set(browser.refused) <= {"csp"}, "the font from elsewhere that the page asks for, and nothing else"

        assert home.events() == before, "not even a refusal: what the daemon would refuse is not sent"
        assert (home.rollout() or {})["state"] == "awaiting-promotion"
        assert not list(page.folder.rglob("*.csv")) + list(page.folder.rglob("copied.txt"))

        await browser.open("about:blank")
        await soon(lambda: not people(home), "a visitor who goes away is gone")
        await browser.open(page.url)
        await browser.see("real · observer", "web")
        await browser.click()
        await browser.type("q")
        await soon(lambda: not people(home), "who leaves is gone")


async def get(page: Page, path: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(page.origin + path, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_nothing_is_answered_without_the_secret_and_no_file_but_the_pages_own(page: Page) -> None:
    for path in ("/", "/ws", "/static/js/textual.js", "/x/", "/x/ws", page.path[:-2] + "/", page.path.upper(), f"//{page.path}", "/download/1"):
        status, words = await get(page, path)
        assert (status, words.split(":")[0]) == (403, "This is not the whole address"), path
    status, shown = await get(page, page.path)
    assert status == 200 and f'ws://127.0.0.1:{page.port}{page.path}ws"' in shown
    assert (await get(page, f"{page.path}static/js/textual.js"))[0] == 200
    for path in ("static/", "static/js/", "static/../server.py", "static/%2e%2e/server.py", "static//etc/passwd", "static/..%2f..%2f..%2fetc/passwd", "download/1", "etc/passwd"):
        assert (await get(page, page.path + path))[0] in (403, 404), path


async def test_a_request_for_no_path_at_all_is_refused_like_any(page: Page) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
    writer.write(b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert b" 403 " in await reader.readline()
    writer.close()


async def test_a_name_that_was_rebound_to_loopback_is_no_name_of_it(page: Page) -> None:
    for host in ("evil.example", f"evil.example:{page.port}", f"127.0.0.1.evil.example:{page.port}", f"10.0.0.1:{page.port}", '127.0.0.1"><script>:1', "localhost@evil.example"):
        status, words = await get(page, page.path, Host=host)
        assert status in (400, 421) and "textual" not in words, host
    for host in (f"localhost:{page.port}", "127.0.0.1:9000", "[::1]:9000"):
        status, shown = await get(page, page.path, Host=host)
        assert status == 200 and f'"ws://{host}{page.path}ws"' in shown, "through a tunnel a browser comes by another port"


@asynccontextmanager
async def connected(page: Page, path: str = "", **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, session.ws_connect(page.origin + (path or f"{page.path}ws"), headers=headers, max_msg_size=1 << 26) as found:
        yield found


async def test_a_websocket_needs_the_secret_and_the_pages_own_origin(home: Home, page: Page) -> None:
    strange: list[dict[str, str]] = [{}, *({"Origin": origin} for origin in (
        "http://evil.example", "null", f"http://127.0.0.1:{page.port + 1}", f"https://127.0.0.1:{page.port}", f"http://localhost:{page.port}", "http://127.0.0.1"))]
    for headers in strange:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with connected(page, **headers):
                pass
        assert refused.value.status == 403, headers
    for path in ("/ws", "/x/ws", f"{page.path[:-2]}/ws"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with connected(page, path, Origin=page.origin):
                pass
        assert refused.value.status == 403, path
    assert not people(home), "nobody was let in"


@pytest.mark.parametrize("message", ["{", "{}", "[]", "7", '["stdin", 7]', '["resize", {"width": "wide", "height": 1}]', "[" * 5000, "x" * (web.LARGEST_SAID + 1),
                                     '["deliver_chunk_request", {"key": "x", "size": 9}]'], ids=lambda message: message[:20])
async def test_a_visitor_who_talks_nonsense_is_shown_out(home: Home, page: Page, message: str) -> None:
    async with connected(page, Origin=page.origin) as visitor:
        assert (await visitor.receive()).type == aiohttp.WSMsgType.BINARY, "the screen begins"
        await visitor.send_str(message)
        async with asyncio.timeout(DEADLINE):
            async for _ in visitor:
                pass
    await soon(lambda: not people(home), "gone")


async def test_the_ninth_visitor_waits_and_a_server_that_is_killed_takes_its_visitors_along(home: Home, tmp_path: Path) -> None:
    made = Page(home, tmp_path)
    sockets = []
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(web.VISITORS):
                sockets.append(await session.ws_connect(f"{made.origin}{made.path}ws?width=1&height=1", headers={"Origin": made.origin}))
            status, words = await get(made, made.path)
            assert (status, words) == (503, web.FULL)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{made.origin}{made.path}ws", headers={"Origin": made.origin})
            assert refused.value.status == 503
            await soon(lambda: len(people(home)) == web.VISITORS, "all are here")
            assert {role for _, role in people(home)} == {"observer"}
            await sockets.pop().close()
            await soon(lambda: len(people(home)) == web.VISITORS - 1, "one left")
            await soon(lambda: bool(asyncio.run(get(made, made.path))[0] == 200), "there is room again")
            made.process.send_signal(signal.SIGKILL)
            await soon(lambda: not people(home), "nobody is left behind")
    finally:
        made.close()


def test_it_ends_with_ctrl_c_and_a_proxy_is_called_by_its_name(home: Home, tmp_path: Path) -> None:
    made = Page(home, tmp_path, "--public-url", "https://fleet.example/")
    try:
        assert made.url.startswith("https://fleet.example/")
        status, shown = asyncio.run(get(made, made.path, Host="fleet.example"))
        assert status == 200 and f'"wss://fleet.example{made.path}ws"' in shown
        made.process.send_signal(signal.SIGINT)
        assert made.process.wait(DEADLINE) == 0
    finally:
        made.close()


@pytest.mark.parametrize(("words", "code", "said"), [
    (("--address", "0.0.0.0"), 5, "listens on loopback only, for it has no passwords and no TLS; put an SSH tunnel (ssh -L) or a reverse proxy with both before it"),
    (("--address", "::"), 5, "listens on loopback only"),
    (("--address", "example.org"), 2, "this is no IP address; 127.0.0.1 is the usual one"),
    (("--port", "70000"), 2, "70000 is no port"),
    (("--public-url", "fleet.example"), 2, "this is no address of a proxy: https://NAME"),
])
def test_what_cannot_be_served_is_a_sentence(words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("web", "--socket", "/nonexistent", "--no-start", *words) == code
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_a_sentence(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert call("--socket", str(home.folder / "s"), "web", "--port", str(taken.getsockname()[1])) == 5
    assert "something else listens there; choose another port with --port" in capsys.readouterr().err


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve", None)
    monkeypatch.delitem(sys.modules, "tui.web")
    assert call("web", "--socket", "/nonexistent", "--no-start") == 1
    assert "install anew with its extra: pip install 'anew[web]'" in capsys.readouterr().err


@pytest.mark.parametrize(("message", "what"), [
    ('["stdin", "q"]', ("D", "q")),
    ('["resize", {"width": 100000000, "height": -5}]', ("M", '{"type": "resize", "width": 500, "height": 1}')),
    ('["focus", null]', ("M", '{"type": "focus"}')),
    ('["ping", "' + "7" * 100 + '"]', ("ping", "7" * 64)),
])
def test_what_a_browser_says_is_keys_and_bounded_sizes_only(message: str, what: tuple[str, str]) -> None:
    assert web.said(message) == what


async def test_a_visitor_who_pressed_more_than_the_ui_takes_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "HEARTBEAT", 0.5)
    monkeypatch.setattr(web, "GLANCE", 0.1)
    deaf = ("/bin/sh", "-c", f"printf '__GANGLION__\\n'; echo $$ > {tmp_path}/told; mv {tmp_path}/told {tmp_path}/pid; exec sleep 1000")
    gallery = web.Gallery(deaf, "")
    async with TestServer(gallery.app(), host="127.0.0.1") as server, aiohttp.ClientSession() as session:
        visitor = await session.ws_connect(f"http://127.0.0.1:{server.port}/{gallery.secret}/ws", origin=f"http://127.0.0.1:{server.port}")
        await soon((tmp_path / "pid").exists, "the deaf one runs")
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(2.0):
                while True:
                    await visitor.send_json(["stdin", "x" * 30_000])
        await session.close()
        child = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}")
        await soon(lambda: not child.exists(), "its process ends with it")
        await soon(lambda: not gallery.visits, "nobody is counted any more")


async def test_the_screen_is_all_that_a_browser_is_sent() -> None:
    """Whatever else the UI's process says: an address to open, a file, what is packed."""
    def packet(kind: bytes, data: bytes) -> bytes:
        return kind + len(data).to_bytes(4, "big") + data

    class Ear:
        def __init__(self) -> None:
            self.heard: list[bytes] = []

        async def send_bytes(self, data: bytes) -> None:
            self.heard.append(data)

        async def close(self) -> None:
            self.heard.append(b"closed")

    stdout, ear = asyncio.StreamReader(), Ear()
    meta = [b'{"type": "open_url", "url": "http://x", "new_tab": true}', b'{"type": "deliver_file_start", "key": "k", "path": "/etc/passwd"}']
    stdout.feed_data(web.PROMPT + packet(b"D", b"one") + b"".join(packet(b"M", one) for one in meta) + packet(b"P", b"l1:xe") + packet(b"D", b"two"))
    stdout.feed_data(packet(b"M", b'{"type": "exit"}') + packet(b"D", b"three"))
    await web.show(stdout, ear)
    assert ear.heard == [b"one", b"two", b"closed"]
