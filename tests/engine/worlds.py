"""The simulated world's own file as a witness: what was true at each of its changes, whatever any daemon believed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Lives = dict[tuple[str, int], Mapping[str, Any]]


class Judge:
    """Judges each change that one daemon made, once that daemon has ended: the next one begins by rewriting the file."""

    def __init__(self, path: Path, servers: int, surge: int, unavailable: int) -> None:
        self._path = path
        self._servers = servers
        self._surge = surge
        self._unavailable = unavailable
        self._judging = False
        self._seen = ""
        self.changes = 0

    def begin(self) -> None:
        """From here on the pool has all its servers."""
        self._judging = True

    def rest(self) -> None:
        """Servers are about to die: their number proves nothing for a while."""
        self._judging = False

    def look(self) -> None:
        """Judge the state that the daemon found, and every change after it. A daemon that died before it opened its world left the old file."""
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        known, self._seen = len(list(_states(self._seen))) if text.startswith(self._seen) else 0, text
        for lives, change in list(_states(text))[known:]:
            self.changes += change
            running = [life for life in lives.values() if life["state"] == "running"]
            for server in {life["server"] for life in running}:
                holders = [life["number"] for life in running if life["server"] == server and life["disks"]]
                assert len(holders) < 2, f"two incarnations of {server} hold its data disk: {holders}"
            if not self._judging:
                continue
            well = {life["server"] for life in running if life["committed"]}
            assert len(well) >= self._servers - self._unavailable, f"only {sorted(well)} serve; {_told(lives)}"
            assert len(running) <= self._servers + self._surge, f"too many run; {_told(lives)}"

    def serving(self, version: str) -> None:
        """In the end every server has one admitted incarnation that runs, of this version."""
        lives = [lives for lives, _ in _states(self._path.read_text(encoding="utf-8"))][-1]
        serving = sorted((life["server"], life["version"]) for life in lives.values() if life["state"] == "running")
        assert [version] * self._servers == [serves for _, serves in serving], _told(lives)
        assert all(life["committed"] for life in lives.values() if life["state"] == "running"), _told(lives)


def _states(text: str) -> Iterator[tuple[Lives, bool]]:
    """All incarnations: as the file was rewritten when it was opened, then after each change."""
    lives: Lives = {}
    opening = True
    for written in text.split("\n")[:-1]:  # a line cut short by kill -9 was not written
        line = json.loads(written)
        assert "breach" not in line, line
        life = line.get("life")
        if opening and lives and (life is None or (life["server"], life["number"]) in lives):
            opening = False
            yield dict(lives), False
        if life is not None:
            lives[life["server"], life["number"]] = life
        elif "gone" in line:
            del lives[line["gone"][0], line["gone"][1]]
        if not opening and (life is not None or "gone" in line):
            yield dict(lives), True
    if opening:
        yield dict(lives), False


def _told(lives: Lives) -> str:
    return "; ".join(f"{life['server']}.{life['number']} {life['version']} {life['state']}{'' if life['committed'] else ' uncommitted'}"
                     for life in lives.values())
