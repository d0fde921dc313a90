"""What the journal's tests share: a clock that is told the time, and a journal with hooks that remember."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fleet.core.events import Draft
from fleet.store.database import SCHEMA
from fleet.store.journal import SqliteJournal, open_journal

DEADLINE = 300.0
"""Seconds after which something hangs: a disk that others use too may take one for each commit."""


@dataclass
class ToldClock:
    """Engine time is what the test says."""

    at: float = 1000.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Heard:
    """What the hooks were told."""

    fatal: list[str] = field(default_factory=list)
    low: list[str] = field(default_factory=list)
    tips: list[tuple[int, str]] = field(default_factory=list)


def journal_at(folder: Path, clock: ToldClock | None = None, heard: Heard | None = None,
               tip_seconds: float = 60.0) -> SqliteJournal:
    """The journal of a test's folder."""
    heard = heard or Heard()
    return open_journal(str(folder / "journal.db"), clock or ToldClock(), on_fatal=heard.fatal.append,
                        on_low_space=heard.low.append, log_tip=lambda seq, chain: heard.tips.append((seq, chain)),
                        tip_seconds=tip_seconds)


def remark(text: str, request: str = "") -> Draft:
    """Somebody's words."""
    return Draft("remark", actor="ann@tty1", data={"text": text}, request=request)


async def fill(folder: Path, texts: Iterable[str]) -> tuple[int, str]:
    """A closed journal with a remark for each text; its tip."""
    async with journal_at(folder) as journal:
        for text in texts:
            await journal.append((remark(text, request=f"ask-{text[:20]}"),))
        return journal.tip()


def meddle(folder: Path, *statements: str) -> None:
    """Change a closed journal as somebody with the file in hand would: triggers off, change, triggers back."""
    sql = sqlite3.connect(folder / "journal.db", isolation_level=None)
    triggers = [statement for statement in SCHEMA if "TRIGGER" in statement]
    for name in ("event_keep", "event_same", "event_next"):
        sql.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        sql.execute(statement)
    for statement in triggers:
        sql.execute(statement)
    sql.close()
