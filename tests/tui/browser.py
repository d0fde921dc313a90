"""A headless Chromium, driven over its DevTools protocol: opens a page of `anew web`, presses keys, reads what its terminal shows.

It speaks to loopback and to nobody else: every other name is unknown to it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import aiohttp

CHROMIUM = shutil.which("chromium") or ""
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--password-store=basic", "--mute-audio",
         "--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", "--window-size=1000,640")
FIND = """
Object.defineProperty(Object.prototype, "websocket_url", {configurable: true, set(value) {
  Object.defineProperty(this, "websocket_url", {value, writable: true});
  window.found = this;
}});
"""
"""textual-serve's page keeps its terminal to itself; this takes hold of it while it is made."""
READ = """
(() => { const shown = window.found && window.found.terminal && window.found.terminal.buffer.active;
  if (!shown) return "";
  const rows = [];
  for (let row = 0; row < window.found.terminal.rows; row++) rows.push(shown.getLine(shown.viewportY + row)?.translateToString(true) ?? "");
  return rows.join("\\n"); })()
"""
DEADLINE = 120.0


class Browser:
    """One page. `text` is the rows of its terminal, as xterm.js has them; `refused` what the page was kept from loading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refused: list[str] = []
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.child = subprocess.Popen([CHROMIUM, *FLAGS, f"--user-data-dir={self.folder}", "about:blank"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, start_new_session=True, env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8"})
        try:
            await self._take_hold()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _take_hold(self) -> None:
        """Of its page, once it listens."""
        told = self.folder / "DevToolsActivePort"
        await self._soon(lambda: told.exists() and told.read_text().count("\n"), "Chromium listens")
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{told.read_text().split()[0]}/json/list") as answer:
            page = next(one for one in await answer.json(content_type=None) if one["type"] == "page")
        self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=1 << 26)
        self._reader = asyncio.create_task(self._read())
        for domain in ("Page", "Runtime", "Network"):
            await self.ask(f"{domain}.enable")
        await self.ask("Page.addScriptToEvaluateOnNewDocument", source=FIND)

    async def __aexit__(self, *_: Any) -> None:
        """All that was begun ends, its processes first: they are its own group, for Chromium is a dozen."""
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        if self._reader is not None:
            self._reader.cancel()
        if self._session is not None:
            await self._session.close()
        await asyncio.to_thread(self.child.wait, DEADLINE)

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if (future := self._answers.pop(said.get("id", 0), None)) is not None:
                future.set_result(said)
            elif said.get("method") == "Network.loadingFailed":
                self.refused.append(str(said["params"].get("blockedReason") or said["params"]["errorText"]))

    async def ask(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        said = await asyncio.wait_for(self._answers[number], DEADLINE)
        assert "error" not in said, f"{method}: {said}"
        return said["result"]

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        return (await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True))["result"].get("value")

    async def open(self, url: str) -> None:
        await self.ask("Page.navigate", url=url)

    async def click(self) -> None:
        """Click into the middle of the page, for the keys to go there."""
        for what in ("mousePressed", "mouseReleased"):
            await self.ask("Input.dispatchMouseEvent", type=what, x=500, y=320, button="left", clickCount=1)

    async def text(self) -> str:
        return str(await self.evaluate(READ) or "")

    async def type(self, keys: str) -> None:
        """Press the keys of these characters, one after the other."""
        for char in keys:
            named = {"\r": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}, "\x1b": {"key": "Escape", "code": "Escape", "windowsVirtualKeyCode": 27}}.get(char, {"key": char})
            await self.ask("Input.dispatchKeyEvent", type="keyDown", **named, **({} if char == "\x1b" else {"text": char}))
            await self.ask("Input.dispatchKeyEvent", type="keyUp", **named)

    async def see(self, *words: str) -> str:
        """Wait until all these words are on the screen, wherever a line ends; the screen."""
        return await self._shows(lambda shown: all(one in shown for one in words), f"never on the screen: {words}")

    async def gone(self, words: str) -> None:
        """Wait until these words are not on the screen any more."""
        await self._shows(lambda shown: words not in shown, f"still on the screen: {words}")

    async def _shows(self, right: Callable[[str], bool], else_: str) -> str:
        end = time.monotonic() + DEADLINE
        while not right(" ".join((shown := await self.text()).split())):
            assert time.monotonic() < end, f"{else_}\n{shown}"
            await asyncio.sleep(0.02)
        return shown

    async def _soon(self, true: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + DEADLINE
        while not true():
            assert self.child.poll() is None, f"Chromium ended with {self.child.returncode}"
            assert time.monotonic() < end, f"never came true: {what}"
            await asyncio.sleep(0.02)

    async def picture(self) -> bytes:
        """What a person would see, as PNG."""
        return base64.b64decode((await self.ask("Page.captureScreenshot", format="png"))["data"])
