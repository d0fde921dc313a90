"""A real pseudo-terminal with the app in a child process: what a user's terminal receives, byte for byte.

It answers the two questions Textual asks of a terminal, so synchronised output is measured as modern terminals get it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

DEADLINE = 120.0
ROOT = Path(__file__).resolve().parents[2]
CHILD = "import json, sys; from tui.app import run; sys.exit(run(sys.argv[1], {'state_dir': sys.argv[2], **json.loads(sys.argv[3])}))"
SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC
    r"|\x1bP[^\x1b]*\x1b\\"  # DCS
)


class Terminal:
    """`output` is every byte the child wrote, `started` when it was started, `typed` when a key was last pressed (monotonic seconds)."""

    def __init__(self, socket: Path, folder: Path, size: tuple[int, int] = (80, 24), options: Mapping[str, str] | None = None,
                 command: Sequence[str] = (), by: Sequence[str] = (), **environment: str) -> None:
        """`by`: words before the command, to make it another user's."""
        self.options = json.dumps(dict(options or {}))
        self.socket, self.folder, self.size = socket, folder, size
        self.command = (*by, *(command or (sys.executable, "-c", CHILD, str(socket), str(folder), self.options)))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "TZ": "UTC",
                            "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
        self.output = bytearray()
        self.started = 0.0
        self.last_byte = self.typed = 0.0
        self._master = -1
        self.child: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        self._master, slave = pty.openpty()
        self._set_size(*self.size)
        self.started = time.monotonic()
        self.child = subprocess.Popen(
            self.command, stdin=slave, stdout=slave, stderr=slave, env=self.environment, cwd=ROOT, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))  # noqa: PLW1509 - it becomes /dev/tty, and no thread is about yet
        os.close(slave)
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: Any) -> None:
        assert self.child is not None
        if self.child.poll() is None:
            self.child.terminate()
        try:
            await asyncio.to_thread(self.child.wait, 20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            await asyncio.to_thread(self.child.wait, DEADLINE)
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:
            asyncio.get_running_loop().remove_reader(self._master)
            return
        self.last_byte = time.monotonic()
        self.output += data
        if b"\x1b[?2026$p" in data:
            self.type(b"\x1b[?2026;2$y")
        if b"\x1b[?2048$p" in data:
            self.type(b"\x1b[?2048;0$y")

    def type(self, keys: bytes) -> None:
        self.typed = time.monotonic()
        os.write(self._master, keys)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        assert self.child is not None
        self._set_size(columns, rows)
        self.child.send_signal(signal.SIGWINCH)

    @property
    def text(self) -> str:
        """All that was written, without the sequences that a terminal application may write."""
        return SEQUENCES.sub("", self.output.decode("utf-8", "surrogateescape"))

    def since(self, start: int) -> str:
        return SEQUENCES.sub("", self.output[start:].decode("utf-8", "replace"))

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.child is not None and self.child.poll() is None, f"the app ended: {self.text[-2000:]}"
            assert time.monotonic() < end, f"never came true: {what}: {self.text[-2000:]}"
            await asyncio.sleep(0.005)

    async def rest(self, until: float) -> None:
        """Let time pass until that moment (monotonic seconds): bytes a second need seconds."""
        while time.monotonic() < until:
            await asyncio.sleep(0.01)

    async def quiet(self, seconds: float = 0.8) -> None:
        """Wait until nothing was written, nor typed, while the app had nothing to do for so long: one that waits for a processor is not quiet, and
        what it has not come to yet is still to be answered. Time in which this process waited for one counts as a moment.
        """
        idle, heard, before = 0.0, (0.0, 0.0), time.monotonic()

        def still() -> bool:
            nonlocal idle, heard, before
            now, latest = time.monotonic(), (self.last_byte, self.typed)
            idle = 0.0 if latest != heard else idle if self._works() else idle + min(now - before, 0.05)
            heard, before = latest, now
            return bool(self.output) and idle > seconds

        await self.until(still, "quiet")

    def _works(self) -> bool:
        """Whether a thread of the app runs, waits for a processor or for a disk."""
        assert self.child is not None
        with suppress(OSError):
            for thread in os.scandir(f"/proc/{self.child.pid}/task"):
                if Path(thread.path, "stat").read_text().rpartition(") ")[2][0] in "RD":
                    return True
        return False

    def memory(self) -> int:
        """Resident bytes of the child."""
        assert self.child is not None
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def cpu(self) -> float:
        """Seconds of CPU that the child has had, all its threads together."""
        assert self.child is not None
        threads = Path(f"/proc/{self.child.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
