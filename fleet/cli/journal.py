"""`anew journal …`: read, follow, verify and export the record."""

from __future__ import annotations

import json
import os
import re
import sys

from fleet.cli.replay import whole_rows
from fleet.cli.text import local, printable
from fleet.core.errors import Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fleet.cli.context import Context

PAGE = 1000
RECENT = 10
ROLLOUT = re.compile("[0-9a-f]{4,16}")
"""What a rollout's id, or the beginning of one, looks like; a file of such a name is written as ./NAME."""


def _wanted(row: dict[str, Any], options: Any) -> bool:
    filters = (("pool", options.of_pool), ("server", options.of_server), ("rollout", options.of_rollout))
    return all(value is None or row[key] == value for key, value in filters)


def _line(context: Context, row: dict[str, Any]) -> None:
    if context.as_json:
        context.data(row, one_line=True)
        return
    about = row["server"] or row["pool"] or "-"
    print(f"{row['seq']:>6}  {local(row['at'])}  {printable(about, 24):<10} {printable(row['actor'], 32):<14} "
          f"{printable(row['text'])}", flush=True)


def _pages(context: Context, since: int) -> Iterator[dict[str, Any]]:
    """All events with a higher number, up to the tip as it is when the reading ends."""
    while True:
        events = context.client.get("/v1/journal", since=since, limit=PAGE)["events"]
        if not events:
            return
        yield from events
        since = events[-1]["seq"]


def show(context: Context) -> None:
    """The last events, or those after a number."""
    options = context.options
    if options.limit < 1 or (options.since or 0) < 0:
        raise Invalid("--limit counts from 1, --since from 0", code="usage")
    filtered = any((options.of_pool, options.of_server, options.of_rollout))
    if options.since is not None:
        found = [row for _, row in zip(range(options.limit), _matching(context, options.since), strict=False)]
    elif filtered:
        found = list(_matching(context, 0))[-options.limit:]
    else:
        tip = context.client.get("/v1/journal", since=0, limit=1)["tip"]
        found = list(_matching(context, max(0, tip - options.limit)))
    for row in found:
        _line(context, row)


def _matching(context: Context, since: int) -> Iterator[dict[str, Any]]:
    return (row for row in _pages(context, since) if _wanted(row, context.options))


def follow(context: Context) -> None:
    """Events as they happen, until Ctrl-C or the daemon's end."""
    since = context.options.since
    if since is None:
        since = max(0, context.client.get("/v1/journal", since=0, limit=1)["tip"] - RECENT)
    ended = False
    while not ended:  # a stream that ends without a word was cut by a reload of the settings
        for frame in context.client.lines("/v1/events", since=since):
            if frame.get("frame") == "event":
                since = int(frame["row"]["seq"])
                if _wanted(frame["row"], context.options):
                    _line(context, frame["row"])
            elif frame.get("frame") == "bye":
                ended = True
                break
    context.note("the daemon ended")


def verify(context: Context) -> int:
    """Check the hash chain; 1 if it does not hold."""
    found = context.client.get("/v1/journal/verify")
    if context.as_json:
        context.data(found)
    elif found["ok"]:
        context.say(f"the journal holds: {found['rows']} rows, tip {found['tip'][:16]}")
    else:
        context.say(f"the journal does NOT hold: {found['message']}", "red")
    return 0 if found["ok"] else 1


def export(context: Context) -> None:
    """All events, or with the id of a rollout what its replay needs, as JSON lines: to stdout or a new file (0600: they name people)."""
    word, path = context.options.what, context.options.file
    rollout = word if word is not None and ROLLOUT.fullmatch(word) else ""
    if word is not None and not rollout:
        if path is not None:
            raise Invalid("this is no rollout's id; give an id and a file, or only a file", where=word, code="usage")
        path = word
    rows = _of_rollout(context, *_begun(context, rollout)) if rollout else whole_rows(context)
    if path is None:
        for row in rows:
            sys.stdout.write(json.dumps(row) + "\n")
        return
    count = 0
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            for row in rows:
                file.write(json.dumps(row) + "\n")
                count += 1
    except FileExistsError as error:
        raise Invalid("there is such a file already; nothing was written", where=path) from error
    except OSError as error:
        raise Invalid(f"cannot be written: {error.strerror}", where=path) from error
    context.note(f"{count} events written to {path}")


def _begun(context: Context, word: str) -> tuple[str, str]:
    """(pool, id) of the rollout, however long ago it was."""
    begun = {row["rollout"]: row["pool"] for row in _pages(context, 0) if row["type"] == "rollout-started" and row["rollout"].startswith(word)}
    if not begun:
        raise Invalid("the journal has no rollout of this id", where=word, code="unknown-rollout")
    if len(begun) > 1 and word not in begun:
        raise Invalid(f"this is the beginning of {len(begun)} rollouts; give more of it", where=word, code="unknown-rollout")
    found = word if word in begun else next(iter(begun))
    return begun[found], found


def _of_rollout(context: Context, pool: str, rollout: str) -> Iterator[dict[str, Any]]:
    """All of the pool and of the daemon, from the first event to the rollout's end: what came before says how long steps take."""
    for row in whole_rows(context):
        if row["pool"] in ("", pool):
            yield row
        if row["type"] == "rollout-ended" and row["rollout"] == rollout:
            return
