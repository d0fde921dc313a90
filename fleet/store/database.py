"""The one SQLite connection of a journal, used by the thread that opened it and by no other.

Rules
- one connection: SQLite 3.7.0 to 3.51.2 can damage a WAL database that two connections write. `locking_mode=EXCLUSIVE`
  makes every other program's attempt fail, and needs no shared-memory file.
- WAL and synchronous=FULL are set and read back; another answer and the journal is not opened.
- no automatic checkpoint: SQLite swallows its errors, and a failed fsync must end the daemon. `checkpoint` says them.
- append-only is held by triggers; the schema is compared word for word at each start, so no trigger can be missing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from fleet.core.errors import AnewError, Refused
from fleet.store.chain import Row, row_of
from fleet.store.faults import JournalCorrupt

APPLICATION_ID: Final = 0x616E6577
"""`anew` in ASCII; `file` and `sqlite3` show it."""

SCHEMA_VERSION: Final = 1

_COLUMNS: Final = "seq, at, type, actor, pool, server, rollout, data, request, chain"

SCHEMA: Final = (
    ("CREATE TABLE event(seq INTEGER PRIMARY KEY, at REAL NOT NULL, type TEXT NOT NULL, actor TEXT NOT NULL, "
     "pool TEXT NOT NULL, server TEXT NOT NULL, rollout TEXT NOT NULL, data TEXT NOT NULL, request TEXT NOT NULL, "
     "chain TEXT NOT NULL) STRICT"),
    "CREATE INDEX event_request ON event(request) WHERE request <> ''",
    ("CREATE TRIGGER event_keep BEFORE DELETE ON event BEGIN "
     "SELECT RAISE(ABORT, 'the journal is append-only: a row cannot be removed'); END"),
    ("CREATE TRIGGER event_same BEFORE UPDATE ON event BEGIN "
     "SELECT RAISE(ABORT, 'the journal is append-only: a row cannot be changed'); END"),
    # INSERT OR REPLACE removes rows without the first trigger; this one lets a row in only at the end.
    ("CREATE TRIGGER event_next BEFORE INSERT ON event "
     "WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM event) BEGIN "
     "SELECT RAISE(ABORT, 'the journal is append-only: a row must follow the last one'); END"),
)


class Database:
    """Raises sqlite3.Error and OSError as they are; only what is damaged becomes JournalCorrupt here."""

    def __init__(self, path: str) -> None:
        """Open or make the journal at an absolute path. Raises Refused and JournalCorrupt with what to do."""
        self._path = path
        self._file = _identity(path)
        # timeout 0: nobody else may hold the file, so waiting for its lock would only hide that somebody does.
        self._sql = sqlite3.connect(Path(path).as_uri() + "?mode=rw", uri=True, timeout=0, isolation_level=None)
        # Undecodable text must not stop the reader: it becomes text whose chain does not fit, and the row is named.
        self._sql.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            self._set_up()
        except sqlite3.Error as error:
            self._sql.close()
            raise opening_fault(error, path) from error
        except AnewError:
            self._sql.close()
            raise

    def _set_up(self) -> None:
        self._pragma("locking_mode", "EXCLUSIVE", "exclusive")
        new = self._check_kind()
        self._pragma("journal_mode", "WAL", "wal")
        self._pragma("synchronous", "FULL", 2)
        self._pragma("wal_autocheckpoint", "0", 0)
        self._pragma("trusted_schema", "OFF", 0)
        self._pragma("cell_size_check", "ON", 1)
        if new:
            self._make_schema()
        found = {sql for (sql,) in self._sql.execute("SELECT sql FROM sqlite_schema")}
        if found != set(SCHEMA):
            raise JournalCorrupt("the tables of the journal are not those that anew makes: "
                                 "somebody changed them, or the file is damaged", where=self._path, opens=False)

    def _check_kind(self) -> bool:
        """True if the file is still empty. Raises Refused for another program's file and for a newer journal."""
        if not self._sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            return True
        kind, version = self._ask("application_id"), self._ask("user_version")
        if kind != APPLICATION_ID:
            raise Refused("this is a database of another program, not a journal: name another file", where=self._path)
        if version > SCHEMA_VERSION:
            raise Refused(f"the journal was written by a newer anew (format {version}; this one reads up to "
                          f"{SCHEMA_VERSION}): start the newer anew, or restore the backup made before the upgrade",
                          where=self._path, code="journal-newer")
        if version < 1:
            raise JournalCorrupt(f"the journal says it is of format {version}, which there never was", where=self._path, opens=False)
        return False

    def _make_schema(self) -> None:
        self._sql.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA:
            self._sql.execute(statement)
        self._sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._sql.execute("COMMIT")

    def _ask(self, name: str) -> Any:
        row = self._sql.execute(f"PRAGMA {name}").fetchone()
        return row[0] if row else None

    def _pragma(self, name: str, value: str, expected: str | int) -> None:
        self._sql.execute(f"PRAGMA {name} = {value}").fetchall()
        found = self._ask(name)
        if found != expected:
            raise Refused(f"SQLite did not accept {name}={value} (it says {found}), so the journal would not be "
                          "durable: put it on a local disk", where=self._path)

    def settings(self) -> dict[str, Any]:
        """The settings durability rests on, as SQLite says them now."""
        return {name: self._ask(name) for name in ("journal_mode", "synchronous", "locking_mode", "wal_autocheckpoint")}

    def last(self) -> Row | None:
        """The last row, if there is one."""
        found = self._sql.execute(f"SELECT {_COLUMNS} FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        return row_of(found, self._path) if found else None

    def page(self, since: int, count: int) -> list[Row]:
        """At most `count` rows with seq > since, in order. Raises JournalCorrupt if the order is broken."""
        query = f"SELECT {_COLUMNS} FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
        rows = [row_of(found, self._path) for found in self._sql.execute(query, (since, count))]
        last = since
        for row in rows:
            if row.seq <= last:
                raise JournalCorrupt(f"row {row.seq} of the journal stands after row {last}", seq=row.seq,
                                     where=self._path)
            last = row.seq
        return rows

    def by_request(self, request: str) -> list[Row]:
        """The rows of one request, in order. Raises JournalCorrupt if the index names others."""
        query = f"SELECT {_COLUMNS} FROM event WHERE request = ? AND request <> '' ORDER BY seq"
        rows = [row_of(found, self._path) for found in self._sql.execute(query, (request,))]
        for row in rows:
            if row.request != request:
                raise JournalCorrupt("the index of requests is damaged", seq=row.seq, where=self._path)
        return rows

    def write(self, rows: Iterable[Row]) -> None:
        """All rows in one durable commit, or none."""
        marks = ",".join("?" * len(Row._fields))
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            self._sql.executemany(f"INSERT INTO event({_COLUMNS}) VALUES ({marks})", rows)
            self._sql.execute("COMMIT")
        except sqlite3.Error:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise

    def in_place(self) -> bool:
        """False once the file was removed or another one was put in its place: what is written then is written to nobody."""
        return _identity(self._path) == self._file

    def checkpoint(self, mode: str = "PASSIVE") -> None:
        """Move the log into the database file, so that the log starts again at its beginning."""
        self._sql.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

    def structure_fault(self) -> str:
        """"" if SQLite finds pages and index whole, else its words. Takes time in proportion to the journal."""
        words = str(self._sql.execute("PRAGMA integrity_check(1)").fetchone()[0])
        return "" if words == "ok" else words

    def close(self) -> None:
        """Give the file up."""
        self._sql.close()


def is_full(error: Exception) -> bool:
    """The disk, or the quota, has no room left; SQLite took the commit back."""
    return _code(error) == sqlite3.SQLITE_FULL


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_damage(error: Exception) -> bool:
    """The file is not what SQLite wrote, as against a disk that fails."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def opening_fault(error: sqlite3.Error, path: str) -> AnewError:
    """The sentence for an error of SQLite while a journal is opened."""
    if is_damage(error):
        return JournalCorrupt(f"the journal cannot be read ({error})", where=path, opens=False)
    if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Refused("another program has the journal open: close it; a journal is read through `anew journal`",
                       where=path, code="journal-locked")
    if is_full(error):
        return Refused("the disk is full, so no journal can be kept: make room", where=path)
    return Refused(f"the journal cannot be opened: {error}", where=path)


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 if the error is Python's own."""
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
