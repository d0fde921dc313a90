"""A journal that is not what was written: each fault is named, with the row and what to do, and nothing is added."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from fleet.core.errors import AnewError, Refused
from fleet.core.events import Event
from fleet.store.journal import JournalCorrupt, verify_lines
from tests.store.journal_kit import fill, journal_at, meddle, remark

TEXTS = [f"remark {number} of ann, long enough to fill a few pages of the file {'.' * 200}" for number in range(40)]


@pytest.mark.parametrize(("statement", "row", "words"), [
    ("UPDATE event SET actor = 'bob@tty9' WHERE seq = 17", 17, "row 17 was changed"),
    ("UPDATE event SET at = at + 0.001 WHERE seq = 1", 1, "row 1 was changed"),
    ("UPDATE event SET data = replace(data, '\"text\"', ' \"text\"') WHERE seq = 40", 40, "row 40 was changed"),
    ("UPDATE event SET chain = replace(chain, 'a', 'b') WHERE seq = 20", 20, "row 20 was changed"),
    ("DELETE FROM event WHERE seq = 20", 21, "row 20 is missing"),
    ("DELETE FROM event WHERE seq BETWEEN 5 AND 9", 10, "rows 5 to 9 are missing"),
    ("DELETE FROM event WHERE seq = 1", 2, "row 1 is missing"),
    ("UPDATE event SET seq = seq + 100 WHERE seq > 38", 139, "rows 39 to 138 are missing"),
])
async def test_a_changed_or_missing_row_is_named(tmp_path: Path, statement: str, row: int, words: str) -> None:
    await fill(tmp_path, TEXTS)
    meddle(tmp_path, statement)
    async with journal_at(tmp_path) as journal:
        good: list[Event] = []
        with pytest.raises(JournalCorrupt, match=words) as caught:
            good.extend(journal.replay())
        assert caught.value.seq == row
        assert "read-only mode" in str(caught.value) and "anew journal export" in str(caught.value)
        assert words in journal.verify()
        with pytest.raises(JournalCorrupt, match=words):
            await journal.append((remark("on top of a lie"),))
        assert len(list(journal.export())) >= 35, "what can be read must still be given out"
        if "replace(data" not in statement:  # exporting writes canonical JSON, so a blank cannot be seen there
            assert words in verify_lines(journal.export())


async def test_a_whole_chain_made_anew_is_found_by_the_tip_in_the_system_log(tmp_path: Path) -> None:
    seq, chain = await fill(tmp_path / "true", TEXTS)
    await fill(tmp_path / "forged", [text.replace("ann", "bob") for text in TEXTS])
    async with journal_at(tmp_path / "forged") as journal:
        assert journal.verify() == ""
        assert "row 40 is not the one whose chain value the system log recorded" in journal.verify([(seq, chain)])


async def test_a_cut_off_tail_is_found_by_the_tip_in_the_system_log(tmp_path: Path) -> None:
    seq, chain = await fill(tmp_path, TEXTS)
    meddle(tmp_path, "DELETE FROM event WHERE seq > 30")
    async with journal_at(tmp_path) as journal:
        assert journal.verify() == "", "a chain alone cannot know"
        lines = list(journal.export())
        assert journal.verify([(20, lines[19].split('"chain":"')[1][:64])]) == ""
        words = "The end is cut off: the system log recorded row 40, and the last row here is 30."
        assert verify_lines(lines, [(seq, chain)]) == words
        assert journal.verify([(seq, chain)]) == words
        with pytest.raises(JournalCorrupt, match="cut off"):
            await journal.append((remark("on top"),))


async def test_rows_that_vanish_under_a_running_daemon_are_missed(tmp_path: Path) -> None:
    async with journal_at(tmp_path) as journal:
        await journal.append([remark(text) for text in TEXTS])
        journal._writer.call(lambda db: db._sql.execute("DROP TRIGGER event_keep")).result()
        journal._writer.call(lambda db: db._sql.execute("DELETE FROM event WHERE seq > 38")).result()
        assert "rows after 38 are missing" in journal.verify()


async def test_any_flipped_bit_of_the_file_is_found_or_changes_nothing(tmp_path: Path) -> None:
    await fill(tmp_path / "good", TEXTS)
    async with journal_at(tmp_path / "good") as journal:
        good = tuple(journal.replay())
    raw = (tmp_path / "good" / "journal.db").read_bytes()
    rng = random.Random(20260714)
    found = 0
    for round_ in range(120):
        folder = tmp_path / str(round_)
        folder.mkdir(mode=0o700)
        bad = bytearray(raw)
        reach = 100 if round_ < 30 else len(bad)  # the header is small: look at it closely
        bit = rng.randrange(reach * 8)
        bad[bit // 8] ^= 1 << bit % 8
        (folder / "journal.db").write_bytes(bad)
        try:
            async with journal_at(folder) as journal:
                events = tuple(journal.replay())
                assert events == good, f"bit {bit} changed the journal and nobody noticed"
                for event in good[::5]:
                    assert journal.find_request(event.request) == (event,), f"bit {bit} lost a request"
        except AnewError as error:
            assert str(error).startswith(str(folder / "journal.db")), "no sentence that names the file"
            found += 1
        shutil.rmtree(folder)
    assert found > 40, "hardly any flip was found: the test flips the wrong bytes"


@pytest.mark.parametrize(("content", "kind", "words"), [
    (b"\x00" * 4096, JournalCorrupt, "not a journal, or its beginning was overwritten"),
    (b"{}\n", JournalCorrupt, "not a journal"),
    (b"SQLite format 3\x00" + random.Random(5).randbytes(5000), JournalCorrupt, "cannot be read"),
    (b"SQLite format 3\x00", JournalCorrupt, "cannot be read"),
])
async def test_a_file_that_is_no_journal_gets_a_sentence_and_is_left_as_it_is(
        tmp_path: Path, content: bytes, kind: type[AnewError], words: str) -> None:
    (tmp_path / "journal.db").write_bytes(content)
    with pytest.raises(kind, match=words):
        journal_at(tmp_path)
    assert (tmp_path / "journal.db").read_bytes() == content


async def test_a_truncated_file_gets_a_sentence(tmp_path: Path) -> None:
    await fill(tmp_path, TEXTS)
    os.truncate(tmp_path / "journal.db", 8192)
    with pytest.raises(JournalCorrupt):
        async with journal_at(tmp_path) as journal:
            list(journal.replay())


async def test_an_emptied_file_does_not_make_sqlite_throw_its_log_away(tmp_path: Path) -> None:
    (tmp_path / "journal.db-wal").write_bytes(b"rows")
    with pytest.raises(JournalCorrupt, match="write-ahead log"):
        journal_at(tmp_path)
    assert (tmp_path / "journal.db-wal").read_bytes() == b"rows"


async def test_a_newer_journal_and_another_programs_database_are_refused(tmp_path: Path) -> None:
    await fill(tmp_path, TEXTS)
    for statement, words in (
        ("PRAGMA user_version = 2", r"newer anew \(format 2; this one reads up to 1\): start the newer anew"),
        ("PRAGMA user_version = 0", "format 0, which there never was"),
        ("PRAGMA application_id = 7", "database of another program"),
    ):
        meddle(tmp_path, statement)
        with pytest.raises((Refused, JournalCorrupt), match=words):
            journal_at(tmp_path)


@pytest.mark.parametrize("statement", [
    "DROP TRIGGER event_keep",
    "DROP INDEX event_request",
    "CREATE TRIGGER quiet BEFORE INSERT ON event BEGIN SELECT 1; END",
    "CREATE TABLE notes(words)",
])
async def test_a_changed_schema_is_seen(tmp_path: Path, statement: str) -> None:
    await fill(tmp_path, TEXTS[:1])
    sql = sqlite3.connect(tmp_path / "journal.db")
    sql.execute(statement)
    sql.close()
    with pytest.raises(JournalCorrupt, match="tables of the journal are not those that anew makes"):
        journal_at(tmp_path)


async def test_rights_of_others_are_refused_or_taken_away(tmp_path: Path) -> None:
    await fill(tmp_path, TEXTS[:1])
    (tmp_path / "journal.db").chmod(0o644)
    async with journal_at(tmp_path):
        assert (tmp_path / "journal.db").stat().st_mode & 0o777 == 0o600
    tmp_path.chmod(0o755)
    with pytest.raises(Refused, match=f"run `chmod 700 {tmp_path}`"):
        journal_at(tmp_path)
    tmp_path.chmod(0o700)
    (tmp_path / "journal.db").rename(tmp_path / "elsewhere")
    (tmp_path / "journal.db").symlink_to("elsewhere")
    with pytest.raises(Refused, match="symbolic link"):
        journal_at(tmp_path)


async def test_another_program_that_has_the_file_open_is_named_as_the_reason(tmp_path: Path) -> None:
    await fill(tmp_path, TEXTS[:1])
    other = sqlite3.connect(tmp_path / "journal.db")
    other.execute("SELECT count(*) FROM event").fetchall()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Refused, match="another program has the journal open"):
        journal_at(tmp_path)
    other.close()


async def test_exported_lines_stand_on_their_own_on_another_machine(tmp_path: Path) -> None:
    tip = await fill(tmp_path, TEXTS)
    async with journal_at(tmp_path) as journal:
        lines, part = list(journal.export()), list(journal.export(since=35))
    assert verify_lines(lines, [tip]) == "" and verify_lines(f"{line}\n" for line in lines) == ""
    assert part == lines[35:] and verify_lines(part, [tip]) == ""
    assert json.loads(part[0])["seq"] == 36
    bad = {
        "Line 3: row 3 was changed": [*lines[:2], lines[2].replace("ann", "bob"), *lines[3:]],
        "Line 1: row 36 was changed": [part[0].replace("ann", "bob"), *part[1:]],
        "Line 5: row 5 is missing": lines[:4] + lines[5:],
        "Line 2: row 1 stands where row 2 belongs": [lines[0], *lines],
        "Line 40 is not JSON: the file is cut off": [*lines[:39], lines[39][:100]],
        "Line 1 is not JSON": ["[" * 100_000],
        "Line 1 is not a row of a journal: it has other fields": ['{"seq":1}'],
        "Line 1 is not a row of a journal: a field is of the wrong type": [lines[0].replace('"seq":1,', '"seq":"1",')],
        "There is no row in it": ["\n", ""],
        "Line 1: row 1 names another row before it": [lines[0].replace('"previous":""', '"previous":"ab"')],
        "is longer than": ["x" * (17 * 1024 * 1024)],
    }
    for words, case in bad.items():
        assert words in verify_lines(case)
