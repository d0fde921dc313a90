"""Events in words: one line each, for the event tail, `journal show` and the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from fleet.core.events import Event
from fleet.core.printable import printable
from fleet.core.steering import told

Data = Mapping[str, Any]


def event_row(event: Event) -> dict[str, Any]:
    """An EventRow of wire.py."""
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"seq": event.seq, "at": at, "type": event.type, "actor": event.actor, "pool": event.pool, "server": event.server,
            "rollout": event.rollout, "data": slim(event), "text": words(event), "chain": event.chain}


def whole_row(event: Event) -> dict[str, Any]:
    """An EventRow with all that a replay needs: the data as it was written, engine time to the digit, the request behind it."""
    return {**event_row(event), "data": dict(event.data), "time": event.at, "request": event.request}


def whole_page(events: Iterable[Event], runs: int) -> list[dict[str, Any]]:
    """Whole rows, as long as the plans pinned in them are of so many `runs`; the first one in any case."""
    rows: list[dict[str, Any]] = []
    for event in events:
        runs -= len(event.data.get("runs", ()))
        if rows and runs < 0:
            break
        rows.append(whole_row(event))
    return rows


def slim(event: Event) -> dict[str, Any]:
    """The data, without what only replay needs (the runs of a large rollout would be sent to every screen)."""
    return {key: value for key, value in event.data.items() if key not in ("runs", "settings")}


def words(event: Event) -> str:
    """One line, at most 300 characters, free of control characters."""
    tell = _TELL.get(event.type)
    return printable(tell(event.data) if tell else event.type, 300)


def _image(value: Any) -> str:
    return f"{value['version']}" if isinstance(value, Mapping) else "nothing"


def _started(data: Data) -> str:
    if data["kind"] == "birth":
        return f"birth of the pool on {_image(data['to'])}, plan {data['plan_hash']}"
    return f"{data['kind']} {_image(data['from'])}→{_image(data['to'])}, plan {data['plan_hash']}{_outside(data)}"


def _begun(data: Data) -> str:
    return str(data["reason"]) or str(data["step"])


def _done(data: Data) -> str:
    facts = data["facts"]
    detail = ""
    if data["step"] == "proving":
        detail = f": {facts.get('words', 'healthy')}; root {facts.get('root', 'unknown')} inside"
    elif facts.get("address"):
        detail = f": running at {facts['address']}"
    return f"{data['step']} done{detail}"


def _moved(data: Data) -> str:
    state, reason = str(data["state"]), str(data["reason"])
    if reason.startswith(f"{state} by "):
        return f"{reason}{_outside(data)}"
    return f"{state} ({data['cause']}){': ' if reason else ''}{reason}{_outside(data)}"


def _set(data: Data) -> str:
    said = told(data["changed"])
    return f"set: {said}{_outside(data)}" if said else _outside(data).removeprefix("; ")


def _outside(data: Data) -> str:
    return f"; outside the windows: {data['outside']}" if data.get("outside") else ""


def _redirected(data: Data) -> str:
    """Where a run goes now, in a person's words."""
    if data["path"] in ("put-back", "keep-old", "clear"):
        how = {"put-back": "put back on the old incarnation", "keep-old": "the old incarnation stays", "clear": "removed again"}[data["path"]]
        return f"{how}: {data['reason']}"
    return str(data["reason"])


_TELL: Mapping[str, Callable[[Data], str]] = {
    "daemon-started": lambda data: f"daemon {data['epoch']} started, anew {data['version']}",
    "daemon-blind": lambda data: f"the daemon did not run for {data['seconds']:.0f} s; that time does not count",
    "daemon-stopped": lambda data: f"daemon {data['epoch']} stopped",
    "settings-loaded": lambda data: f"settings loaded from {data['path']}",
    "plan-proposed": lambda data: f"plan {data['hash'][:12]} waits for approval: {_started({**data, 'plan_hash': data['hash'][:12]}).rpartition(',')[0]}",
    "plan-approved": lambda data: f"plan {data['hash'][:12]} approved",
    "plan-withdrawn": lambda data: f"plan {data['hash'][:12]} waits no more: {data['reason']}",
    "rollout-started": _started,
    "rollout-moved": _moved,
    "rollout-set": _set,
    "rollout-driven": lambda data: "drives it: it pauses if this terminal goes away",
    "rollout-ended": lambda data: f"{data['state']}: {data['reason']}" if data["reason"] else str(data["state"]),
    "step-begun": _begun,
    "step-done": _done,
    "step-failed": lambda data: f"{data['step']} failed: {data['error']}",
    "server-settled": lambda data: f"{data['state']}: {data['reason']}",
    "server-redirected": _redirected,
    "server-healthy": lambda data: f"incarnation {data['number']} is healthy: {data['words']}",
    "server-unhealthy": lambda data: f"incarnation {data['number']} stopped answering: {data['words']}",
    "incarnation-retained": lambda data: f"incarnation {data['number']} ({data['version']}) retained until "
                                         f"{datetime.fromtimestamp(data['until'], UTC):%Y-%m-%d %H:%M}Z",
    "incarnation-buried": lambda data: f"incarnation {data['number']} removed{': ' + str(data['why']) if data.get('why') else ''}",
    "server-held": lambda data: f"held: {data['why']}",
    "server-released": lambda data: "released",
    "server-adopted": lambda data: f"adopted {data['name']} on {data['place']} as incarnation {data['number']}",
    "server-tainted": lambda data: f"tainted: {data['why']}",
    "shell-ended": lambda data: str(data["words"]),
    "image-rejected": lambda data: f"image {data['version']} rejected: {data['reason']}",
    "image-unrejected": lambda data: f"image {data['version']} may be chosen again",
    "machine-ordered": lambda data: f"{data['what']} ordered",
    "machine-installed": lambda data: str(data["text"]),
    "machine-recovered": lambda data: str(data["text"]),
    "machine-failed": lambda data: f"{data['what']} failed: {data['error']}",
    "breaker-opened": lambda data: f"mode auto is stopped by {data['reason']}",
    "breaker-closed": lambda data: f"mode auto goes on: {data['reason']}",
    "root-unlocked": lambda data: f"root unlocked until {datetime.fromtimestamp(data['until'], UTC):%Y-%m-%d %H:%M}Z: {data['why']}",
    "root-locked": lambda data: f"root locked again: {data['why']}",
    "root-set": lambda data: f"root mode {data['mode']}: {data['why']}",
    "seat-asked": lambda data: f"asks {data['driver']} for the driver's seat",
    "seat-taken": lambda data: f"{data['driver']} has the driver's seat: {data['how']}",
    "seat-kept": lambda data: f"keeps the driver's seat; {data['asked']} asked for it",
    "seat-left": lambda data: f"the driver's seat is empty: {data['why']}",
    "remark": lambda data: f"\u201c{data['text']}\u201d",
    "command-refused": lambda data: f"{data['command']} refused: {data['reason']}",
    "warning": lambda data: str(data["text"]),
}
