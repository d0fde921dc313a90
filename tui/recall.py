"""Lines that were typed after `:`, `/` and the like: up brings them back, in the next session too.

Kept in one file of the user's own, a line each: what asked, a tab, what was answered. It is read as anybody's file is: only a plain file of this user,
at most LARGEST bytes from its end, each line cleaned and cut, HISTORY for each question. Terminals that are open at once append beside each other.
An observer's terminal neither reads nor writes it, for somebody else may look at it (a web view).
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from tui.untrusted import one_line

HISTORY = 200
"""Lines for each question."""
LARGEST = 64 * 1024
LONGEST = 400
_ASKS = re.compile(r"[a-z:][a-z -]{0,39}")


class Recall:
    """`path` "" keeps lines for this session only. `problem`: a sentence why the file is not used, once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: dict[str, list[str]] = {}
        self._read = False
        self.problem = ""

    def of(self, asks: str, kept: bool) -> list[str]:
        """Earlier answers to what `asks`, the newest last. `kept`: in the file too."""
        if kept and self._path and not self._read:
            self._read = True
            self._load()
        return self._lines.setdefault(asks, [])

    def add(self, asks: str, line: str, kept: bool) -> None:
        """Remember an answer."""
        self._remember(asks, line)
        if kept and self._path and "\n" not in line:
            with suppress(OSError):  # what could not be opened was told at the first question
                self._append(f"{asks}\t{line}\n")

    def _remember(self, asks: str, line: str) -> None:
        past = self._lines.setdefault(asks, [])
        past[:] = [*(other for other in past if other != line), line][-HISTORY:]

    def _load(self) -> None:
        try:
            with open(self._open(), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LARGEST))
                text = file.read(LARGEST).decode("utf-8", "replace")
        except OSError as error:
            self.problem = f"Lines typed here are not kept: {self._path}: {error.strerror or error}."
            self._path = ""
            return
        own, self._lines = self._lines, {}
        rows = text.split("\n")[1 if size > LARGEST else 0 :]
        for row in rows:
            asks, tab, line = row.partition("\t")
            line = one_line(line, LONGEST).strip()
            if tab and line and _ASKS.fullmatch(asks):
                self._remember(asks, line)
        for asks, lines in own.items():
            for line in lines:
                self._remember(asks, line)
        if size > LARGEST:
            with suppress(OSError):
                self._rewrite()

    def _open(self) -> int:
        """The file, made if there is none. OSError for what is not a plain file of this user."""
        Path(self._path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            os.close(number)
            raise OSError("it is not a file of yours; move it away")
        os.fchmod(number, 0o600)
        return number

    def _append(self, row: str) -> None:
        with open(self._open(), "ab") as file:
            file.write(row.encode("utf-8", "replace"))

    def _rewrite(self) -> None:
        """What is remembered, in place of a file that grew beyond what is read."""
        rows = "".join(f"{asks}\t{line}\n" for asks, lines in self._lines.items() for line in lines)
        fresh = f"{self._path}.{os.getpid()}"
        number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(number, "wb") as file:
            file.write(rows.encode("utf-8", "replace")[-LARGEST // 2 :])
        os.replace(fresh, self._path)
