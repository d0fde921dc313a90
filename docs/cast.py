"""Records a walk through the real product and renders it: docs/walk.cast (asciinema, version 2) and docs/walk.svg for README.

    make cast       (or: python -m docs.cast, in the project's folder)

A shell in a real pseudo-terminal of 80x24, `anew demo` typed into it, real keys; the servers are simulated, nothing else is. Each key is pressed when
the screen shows what it is about, so that a slow machine records the same walk; only times of day, ids and ages differ.
"""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from docs.film import Screen, film

ROOT = Path(__file__).resolve().parents[1]
CAST, SVG = ROOT / "docs" / "walk.cast", ROOT / "docs" / "walk.svg"
TITLE = "anew demo: a rollout is planned, started, paused, watched, undone and replayed in a terminal of 80x24"
POSTER = "a cell for each server, the budget, the eta, the journal"
LARGEST = 300_000
POOLS = ("web", "api", "db", "edge")
ANSWERS = {"\x1b[?2026$p": b"\x1b[?2026;2$y", "\x1b[?2048$p": b"\x1b[?2048;0$y"}
"""What a modern terminal says to the two questions that Textual asks."""


class Recorder:
    """A command in a pseudo-terminal; `events` are those of a cast: output, keys and captions, with their seconds."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], size: tuple[int, int] = (80, 24)) -> None:
        self.command, self.environment, self.size = list(command), dict(environment), size
        self.screen = Screen(*size)
        self.events: list[tuple[float, str, str]] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._master = -1
        self._started = 0.0
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", self.size[1], self.size[0], 0, 0))
        self._started = time.monotonic()
        self.child = subprocess.Popen(
            self.command, stdin=slave, stdout=slave, stderr=slave, env=self.environment, cwd=ROOT, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))  # noqa: PLW1509 - it becomes /dev/tty, and no thread is about yet
        os.close(slave)
        return self

    def __exit__(self, *_: Any) -> None:
        assert self.child is not None
        if self.child.poll() is None:
            self.child.terminate()
        os.close(self._master)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(10)

    def _take(self, kind: str, data: str) -> None:
        self.events.append((round(time.monotonic() - self._started, 3), kind, data))

    def _pump(self, seconds: float) -> bool:
        """Take what comes within so many seconds; False when there is nobody any more."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            text = self._decoder.decode(os.read(self._master, 1 << 16))
        except OSError:
            return False
        self._take("o", text)
        self.screen.feed(text)
        for question, answer in ANSWERS.items():
            if question in text:
                os.write(self._master, answer)
        return bool(text)

    def until(self, true: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not true():
            if not self._pump(0.1) or time.monotonic() > end:
                raise RuntimeError(f"the walk stands still: {what} was never seen. The screen:\n{self.screen.text}")

    def see(self, *words: str, seconds: float = 60.0) -> None:
        """Wait until all of the words are on the screen."""
        self.until(lambda: all(word in self.screen.text for word in words), " and ".join(words), seconds)

    def gone(self, words: str) -> None:
        self.until(lambda: words not in self.screen.text, f"the end of {words}")

    def rest(self, seconds: float) -> None:
        """Time for the one who watches."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self._pump(left):
            pass

    def caption(self, text: str) -> None:
        """What the film says below the screen: `key  words`, or words only."""
        self._take("m", text)

    def press(self, keys: str, caption: str = "") -> None:
        if caption:
            self.caption(caption)
            self.rest(0.7)
        for key in keys:
            self._take("i", key)
            os.write(self._master, key.encode())
            self.rest(0.09)

    def number(self) -> None:
        """Answer a question that asks for the number of servers; it does not take keys in its first moment."""
        self.see("type ", "enter alone cancels")
        self.rest(1.2)
        asked = re.search(r"type (\d+):", self.screen.text)
        self.press(asked[1] if asked else "")
        self.rest(0.4)
        self.press("\r")
        self.gone("enter alone cancels")

    def cast(self, title: str = TITLE) -> str:
        """The recording, a line for each event."""
        head = {"version": 2, "width": self.size[0], "height": self.size[1], "idle_time_limit": 2, "title": title, "env": {"TERM": self.environment.get("TERM", "")}}
        return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in (head, *map(list, self.events)))


def environment(folder: str) -> dict[str, str]:
    """A person's, with a home of its own."""
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": folder, "XDG_STATE_HOME": folder, "LANG": "C.UTF-8", "TZ": "UTC",
            "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT), "PS1": "$ ", "USER": "maria"}


def walk(tape: Recorder) -> None:
    """Fleet, plan, arm, start, watch, pause, resume, a server's steps, rollback, replay."""
    tape.see("$")
    tape.caption("60 simulated servers in four pools, no hypervisor needed")
    tape.rest(1.0)
    tape.press("anew demo\r")
    tape.see("web", "edge", "oldest")
    tape.rest(2.5)
    tape.press("p", "p  plan a rollout to the newest image: nothing happens yet")
    tape.see("nothing has happened yet")
    tape.rest(3.5)
    tape.press("A", "A  it starts read-only: arm it for ten minutes")
    tape.see("ARMED")
    tape.rest(0.8)
    tape.press("\r", "enter  start: type how many servers it replaces")
    tape.number()
    tape.caption("canaries first; every wait has its reason (3 times as fast)")
    tape.see("waits for you")
    tape.caption("the canaries are well, and wait for you")
    tape.rest(1.5)
    tape.press("c", "c  promote: let the others follow")
    tape.rest(1.0)
    tape.press("y")
    tape.see("h proving")
    tape.caption(POSTER)
    tape.rest(2.5)
    tape.press("P", "P  pause: any operator may, at once")
    tape.see("paused")
    tape.rest(2.0)
    tape.press("P", "P  resume")
    tape.rest(0.8)
    tape.press("y")
    tape.see("b booting")
    tape.rest(1.0)
    tape.press("\r", "enter  one server: how long each step took, beside the median")
    tape.see("median", "took")
    tape.rest(4.5)
    tape.press("q")
    tape.see("budget")
    tape.press("u", "u  roll back: what was retained starts again, in seconds")
    tape.number()
    tape.see("rolling back")
    tape.caption("the way back, under the same budget (4 times as fast)")
    tape.see("ended", "rolled back")
    tape.caption("undone: every server runs image 1 again, and 3 is rejected")
    tape.rest(2.0)
    tape.press("R", "R  replay: any rollout of the past, from the journal")
    tape.see("REPLAY")
    tape.rest(3.0)
    tape.press(" ", "space  stop; . and , go event by event")
    for key in ".,":
        tape.rest(0.5)
        tape.press(key)
    tape.press(" +", "+  faster, to the end")
    tape.see("ended ")
    tape.rest(1.5)
    tape.press("q", "q  back; the daemon goes on without a terminal")
    tape.rest(0.5)
    for _ in range(3):
        tape.press("q")
        tape.rest(0.3)
    tape.see("The daemon goes on")
    tape.rest(2.0)


def anew(folder: str, *words: str) -> None:
    """A command of the demo, without a terminal."""
    subprocess.run([str(Path(sys.executable).with_name("anew")), "--socket", f"{folder}/anew/demo/anew.sock", *words], cwd=ROOT, check=True,
                   env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        try:
            anew(folder, "demo")
            for pool in POOLS:
                anew(folder, "rollout", "wait", pool)
            with Recorder(["/bin/sh"], environment(folder)) as tape:
                walk(tape)
        finally:
            anew(folder, "daemon", "stop")
        cast = tape.cast()
    drawn = film(cast, POSTER)
    if len(drawn.encode()) > LARGEST:
        raise RuntimeError(f"the film has {len(drawn.encode()):,} bytes, and README may load {LARGEST:,}: shorten the walk")
    CAST.write_text(cast, encoding="utf-8")
    SVG.write_text(drawn, encoding="utf-8")
    print(f"{CAST.relative_to(ROOT)} {CAST.stat().st_size // 1024} KiB, {SVG.relative_to(ROOT)} {SVG.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
