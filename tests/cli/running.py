"""Runs commands against a canned office, in this process or in one of their own (with or without a terminal)."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import dataclass

from fleet.cli.main import main
from tests.wire.running import Served

DEADLINE = 180.0
PROGRAM = "import sys; from fleet.cli.main import main; sys.exit(main())"


def environment(served: Served | None = None, **more: str) -> dict[str, str]:
    """An environment of its own, pointing to the canned daemon."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANEW_", "XDG_", "NO_COLOR"))}
    home = os.path.dirname(served.socket) if served else "/nonexistent"
    where = {"ANEW_SOCKET": served.socket} if served else {}
    return kept | {"TZ": "UTC", "TERM": "xterm", "HOME": home, "COLUMNS": "80"} | where | more


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def run(served: Served | None, *arguments: str, **more: str) -> Ended:
    """A command in a process of its own, without a terminal."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment(served, **more), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def call(*arguments: str) -> int:
    """A command in this process; --help ends as a command does."""
    try:
        return main(arguments)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1


def at_terminal(served: Served | None, typed: str, *arguments: str, prompt: str = "type ", **more: str) -> tuple[int, str]:
    """A command at a terminal: waits for the prompt, types, returns (exit code, everything that was shown)."""
    pid, master = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", PROGRAM, *arguments], environment(served, **more))
    shown = b""
    limit = time.monotonic() + DEADLINE
    waiting, heard = prompt.encode(), select.poll()
    heard.register(master, select.POLLIN)
    while time.monotonic() < limit:
        if not heard.poll(100):
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if waiting and waiting in shown:
            os.write(master, typed.encode())
            waiting = b""
    os.close(master)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode("utf-8", "replace")
