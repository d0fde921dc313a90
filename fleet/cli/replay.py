"""`anew replay`: a rollout of the past on the screen, or line by line where there is none. It never speaks to a server, and gives no command.

From this fleet's journal, or (`-`) from what `anew journal export` wrote here or elsewhere. That is a stranger's file: its size is
bounded, each line is parsed and checked, and what cannot be used is left out and counted.
"""

from __future__ import annotations

import json
import os
import sys

from fleet.cli.text import columns, fit, local, printable
from fleet.core.errors import Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, BinaryIO

    from fleet.cli.context import Context
    from fleet.engine.replay import Film, Reel

PAGE = 500
MAX_LINE = 16 * 1024 * 1024
MAX_BYTES = 256 * 1024 * 1024
ENDLESS = f"is larger than {MAX_BYTES >> 20} MiB: export one rollout (`anew journal export ID`), or leave out the oldest lines"


def replay(context: Context) -> None:
    """On the screen if there is a terminal, else a line for each event."""
    options = context.options
    if options.rollout == "-":
        film = _film(from_lines(sys.stdin.buffer, options.of_rollout or ""), "stdin")
    else:
        film = _film(from_daemon(context, options.rollout), options.rollout)
    if context.as_json or not _at_terminal():
        _strip(context, film)
    else:
        from fleet.cli.terminal import open_replay

        open_replay(film)
    for note in film.notes:
        context.note(note)


def _film(reel: Reel, where: str) -> Film:
    if reel.fault:
        raise Invalid(reel.fault.rstrip("."), where=where, code="no-replay")
    return reel.film()


def from_daemon(context: Context, word: str) -> Reel:
    """From the journal: a rollout's id, the beginning of one, or a pool, whose latest it is."""
    from fleet.engine.replay import Reel

    rows = context.client.get("/v1/rollouts")["rollouts"]
    known = [row["id"] for row in rows if row["pool"] == word][:1] or [row["id"] for row in rows if row["id"].startswith(word)]
    reel = Reel(known[0] if len(known) == 1 else word)
    for row in whole_rows(context):
        reel.take(row)
        if reel.done:
            break
    return reel


def whole_rows(context: Context) -> Iterator[dict[str, Any]]:
    """All events with all that they hold, as far as the tip is when the reading begins."""
    since, tip = 0, 1
    while since < tip:
        page = context.client.get("/v1/journal", since=since, limit=PAGE, whole=1)
        if not page["events"]:
            return
        tip = page["tip"] if not since else tip
        yield from page["events"]
        since = page["events"][-1]["seq"]


def from_lines(stream: BinaryIO, wanted: str) -> Reel:
    """From exported lines. Invalid for a terminal, and for what has no end."""
    from fleet.engine.replay import Reel

    if stream.isatty():
        raise Invalid("nothing is piped in: `anew journal export ID | anew replay -`, or `anew replay - < FILE`", code="usage")
    reel, size = Reel(wanted, checked=True), 0
    for line in _lines(stream):
        size += len(line)
        if size > MAX_BYTES:
            raise Invalid(ENDLESS, where="stdin", code="no-replay")
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE:
                raise ValueError
            row = json.loads(line.decode("utf-8"), parse_constant=_no_number)
        except (ValueError, RecursionError):
            if len(line) > MAX_LINE:
                reel.reject(f"is longer than {MAX_LINE >> 20} MiB, which no row is")
            else:
                reel.reject("is not JSON", torn=not line.endswith(b"\n"))
            continue
        reel.take(row)
        if reel.done:
            break
    return reel


def _lines(stream: BinaryIO) -> Iterable[bytes]:
    """Lines, one that is too long in one piece that is just too long; the rest of it is read and dropped."""
    while line := stream.readline(MAX_LINE + 1):
        yield line
        while len(line) > MAX_LINE and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE + 1)


def _no_number(word: str) -> float:
    raise ValueError(word)


def _at_terminal() -> bool:
    """Is there a screen, and a keyboard? The keyboard is the terminal's own, since stdin may be the record."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    if sys.stdin.isatty():
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return False
    os.dup2(terminal, 0)
    os.close(terminal)
    return True


def _strip(context: Context, film: Film) -> None:
    """A line for each event: when, the servers by cell, the rollout's state, what happened. Failures are marked."""
    failures, began, wide = set(film.failures), film.times[0], columns()
    for n, at in enumerate(film.times, 1):
        row, rollout, tally = film.rows(n, 1)[0], film.rollout(n), film.tally(n)
        if context.as_json:
            context.data({"n": n, "of": len(film), "rollout": film.id, "state": rollout.state, "counts": tally, "failure": n in failures,
                          "event": row}, one_line=True)
            continue
        cells = " ".join(f"{cell}{tally[cell]}" for cell in "+hbsd.!<=" if cell in tally)
        about = row["server"] or row["pool"] or row["actor"]
        line = (f"{'!' if n in failures else ' '} {n:>5}  {local(row['at'])}  +{_since(at - began):>8}  {cells:<16} {rollout.state:<18} "
                f"{printable(about, 24)}: {printable(row['text'])}")
        print(line if wide is None else fit(line, wide))


def _since(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
