"""Where a simulated world lives: `state_dir/sim/POOL.jsonl`, one JSON object a line, the newest line about a
thing wins.

Lines are appended and handed to the kernel at once, so a daemon killed with -9 finds its world again (a power
cut may cost the last lines: a simulated world is not worth an fsync a verb). A last line cut short is
dropped; any other line that cannot be read is an error that names it. The file is rewritten, atomically, when
it is opened and when it has grown to several times what it says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from typing import Any

from fleet.core.errors import Permanent

_LINE_CAP = 64 * 1024
_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Record:
    """The file of one world. `lines` counts what was written since the last rewrite."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines = 0
        self._file: TextIOWrapper | None = None

    def load(self) -> Iterator[dict[str, Any]]:
        """Every line in order; nothing if there is no file. Raises Permanent for a line that is not one of
        ours.
        """
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except FileNotFoundError:
            return
        except OSError as problem:
            raise Permanent(
                f"the simulated world cannot be read: {problem.strerror}", where=self.path
            ) from problem
        *whole, _cut_short = text.split("\n")
        for number, line in enumerate(whole, start=1):
            try:
                value = json.loads(line[:_LINE_CAP])
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise self.broken(number)
            yield value

    def broken(self, number: int) -> Permanent:
        """The error for a line that cannot be understood."""
        return Permanent(
            f"line {number} of the simulated world is not readable; move the file away to begin with an "
            "empty world",
            where=self.path,
        )

    def rewrite(self, lines: Iterable[dict[str, Any]]) -> None:
        """Replace the file by these lines: written beside it, then renamed."""
        self.close()
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        beside = f"{self.path}.new"
        with open(beside, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(_dump(line))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the world
        self.lines = 0

    def append(self, *lines: dict[str, Any]) -> None:
        """Add lines; they survive this process when append returns."""
        if self._file is None:
            return
        self._file.write("".join(_dump(line) for line in lines))
        self._file.flush()
        self.lines += len(lines)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _dump(line: dict[str, Any]) -> str:
    return _ENCODE(line) + "\n"
