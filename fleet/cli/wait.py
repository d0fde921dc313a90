"""Waiting for a rollout's end: a progress line on a terminal, and the exit codes of rollout.md rule 18.

The rollout lives in the daemon: ending this command, or losing the daemon for a while, changes nothing about it.
"""

from __future__ import annotations

import sys
import time

from fleet.api.client import DaemonUnreachable
from fleet.cli.status import phrase
from fleet.cli.text import columns, fit, printable

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fleet.cli.context import Context

INTERRUPTED = 130
NEEDS_PERSON = 4
LOST_SECONDS = 60.0
RETRY_SECONDS = 0.5

EXIT_BY_STATE = {
    "done": 0, "failed": 1, "aborted": 1, "rolled-back": 3, "paused": 4, "awaiting-promotion": 4, "awaiting-approval": 4,
    "checkpoint": 4,
}
"""States that end a wait. `aborted` counts as failed: what was asked for did not happen. A checkpoint that opens by itself needs nobody."""

_NEXT = {
    "paused": "a person is needed: `anew rollout resume {id} --wait`, `anew rollback {pool}` or `anew rollout abort {id}`",
    "awaiting-promotion": "the canaries are healthy: `anew rollout promote {id} --wait`, or `anew rollback {pool}`",
    "checkpoint": "a checkpoint: `anew rollout promote {id} --wait`, or `anew rollback {pool}`",
}


def wait_for(context: Context, rollout: str, *, drive: bool = False) -> int:
    """Wait for the rollout's end or for its need of a person; the exit code. Ctrl-C ends the wait, not the rollout.

    `drive`: this terminal drives it; with on_disconnect = "pause" it pauses some seconds after this terminal is gone, by Ctrl-C too.
    """
    line = ProgressLine()
    row: dict[str, Any] = {}
    try:
        for row in _changes(context, rollout, drive):
            line.show(row)
            if row["state"] in EXIT_BY_STATE and not row.get("opens_at"):
                break
    except KeyboardInterrupt:
        line.end()
        if drive and row.get("on_disconnect") == "pause":
            context.note(f"the rollout {rollout} pauses in some seconds, for on_disconnect is \"pause\"; `anew rollout wait {rollout} --drive` "
                         f"before that, or `anew rollout resume {rollout}`, lets it go on")
        else:
            context.note(f"the rollout {rollout} goes on; `anew rollout wait {rollout}` waits again, `anew rollout pause {rollout}` stops it")
        return INTERRUPTED
    line.end()
    return _ended(context, row)


def _ended(context: Context, row: dict[str, Any]) -> int:
    if context.as_json:
        context.data(row)
    else:
        context.say(f"{row['pool']} {row.get('from') or 'nothing'} → {row['to']}: {row['state']}"
                    + (f": {printable(row['reason'])}" if row["reason"] else ""))
        for run in row["servers"]:
            if run["error"]:
                context.say(f"! {run['name']}: {run['error']}")
    if row["state"] in _NEXT:
        context.note(_NEXT[row["state"]].format(id=row["id"], pool=row["pool"]))
    return EXIT_BY_STATE[row["state"]]


def _changes(context: Context, rollout: str, drive: bool) -> Iterator[dict[str, Any]]:
    """The rollout's row now and whenever it changes, across restarts of the daemon that end within LOST_SECONDS."""
    lost_at: float | None = None
    row: dict[str, Any] = {}
    while True:
        try:
            tip = int(context.client.get("/v1/status")["seq"])
            yield (row := context.client.get(f"/v1/rollouts/{rollout}"))
            lost_at = None
            for frame in context.client.lines("/v1/events", since=tip, **({"drives": rollout} if drive else {})):
                if frame.get("frame") == "rollout" and frame["row"]["id"] == rollout:
                    yield (row := merged(row, frame["row"]))
                elif frame.get("frame") == "hello" or not frame:
                    # What changed between the two questions above is not in the stream.
                    yield (row := context.client.get(f"/v1/rollouts/{rollout}"))
        except DaemonUnreachable:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > LOST_SECONDS:
                raise
        time.sleep(RETRY_SECONDS)


def merged(before: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """A rollout's row from the stream, which may carry only the servers that changed, completed by what was known."""
    if not row.get("partial"):
        return row
    runs = {run["name"]: run for run in before.get("servers", ())}
    runs.update((run["name"], run) for run in row["servers"])
    return {**row, "partial": False, "servers": list(runs.values())}


class ProgressLine:
    """One line on stderr: redrawn in place on a terminal, else a new one for each new phrase."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = ""

    def show(self, row: dict[str, Any]) -> None:
        """Show where the rollout is, and the reason for its wait."""
        text = printable(f"{row['pool']} {row.get('from') or 'nothing'}→{row['to']} {phrase(row)}")
        if row["reason"]:
            text += f" · {printable(row['reason'])}"
        if text == self._last:
            return
        self._last = text
        if self._live:
            print("\r" + fit(text, (columns() or 80) - 1) + "\x1b[K", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._live and self._last:
            print(file=sys.stderr, flush=True)
