"""The journal's events: what may be recorded, with the fields each type must carry.

An event is a plain value: a type, who caused it, the pool / server / rollout it is about, and `data` of JSON scalars,
lists and dicts. State changes only by `fold(state, event)`; an unknown type is kept and ignored (an older reader
survives a newer journal).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

EVENT_TYPES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType({
    # type: (what it means, required data fields)
    "daemon-started": ("a daemon took the journal; open steps are looked at anew", ("epoch", "version")),
    "daemon-blind": ("the daemon did not run for a while (suspended, starved); that time does not count", ("seconds",)),
    "daemon-stopped": ("a daemon ended in order", ("epoch",)),
    "settings-loaded": ("the fleet file was read and is valid", ("digest", "path")),
    "plan-proposed": ("a plan waits for other people's approval; what it would do, and who proposed it by the kernel's word, is pinned here",
                      ("hash", "uid", "kind", "from", "to", "settings", "runs", "request")),
    "plan-approved": ("a person approved the plan of this hash; counts for no other, and for its author never", ("hash", "uid")),
    "plan-withdrawn": ("a plan waits no more: taken back by a person, or its time was over", ("hash", "reason")),
    "rollout-started": ("an operator started a rollout; everything it will do is pinned here",
                        ("kind", "from", "to", "plan_hash", "settings", "runs")),
    "rollout-moved": ("the rollout took a transition of its table", ("cause", "state", "reason")),
    "rollout-set": ("an operator changed settings of a rollout under way, or let it go on outside the windows; counts from the next decision on",
                    ("changed", "settings", "budget")),
    "rollout-driven": ("a terminal drives the rollout; if it goes away, the rollout pauses (on_disconnect)", ()),
    "rollout-ended": ("the rollout reached its end; pointers move here", ("state", "reason")),
    "step-begun": ("intent: durable before the first byte of the action leaves",
                   ("op", "step", "verb", "number", "path", "reason")),
    "step-done": ("outcome of an intent", ("op", "step", "facts")),
    "step-failed": ("outcome of an intent, or a gate that closed for good", ("op", "step", "error", "last_words")),
    "server-redirected": ("the server's run takes another path: put-back or revert", ("path", "target", "reason")),
    "server-settled": ("the server's run is over without a step: skipped, already there, or a person is needed", ("state", "reason")),
    "server-healthy": ("the first healthy answer of an incarnation", ("number", "words")),
    "server-unhealthy": ("an admitted incarnation stopped answering", ("number", "words")),
    "incarnation-retained": ("stopped but whole, until the given time", ("number", "digest", "version", "until")),
    "incarnation-buried": ("removed after its retention ended, or as a failed one", ("number",)),
    "server-held": ("skipped by everything but an explicit command", ("why",)),
    "server-released": ("no longer held", ()),
    "server-adopted": ("a foreign machine became incarnation 0", ("number", "digest", "place", "name")),
    "server-tainted": ("touched out of band", ("why",)),
    "shell-ended": ("a person's shell on a server ended, as their client said; server-tainted told of its beginning", ("words",)),
    "image-rejected": ("not chosen for this pool until un-rejected", ("digest", "version", "reason")),
    "image-unrejected": ("may be chosen again", ("digest", "version")),
    "machine-ordered": ("a first install or a power cycle was ordered; written before the first byte leaves", ("op", "what")),
    "machine-installed": ("the machine's disk holds the layout and an image now", ("op", "text")),
    "machine-recovered": ("the machine's management controller was told to cycle its power", ("op", "text")),
    "machine-failed": ("what was ordered for a machine did not come about", ("op", "what", "error")),
    "breaker-opened": ("too many servers of a pool were unwell: mode auto begins nothing there any more", ("servers", "reason")),
    "breaker-closed": ("every server was well for the breaker's time: mode auto goes on", ("reason",)),
    "root-set": ("an operator changed the root mode wanted", ("mode", "why")),
    "root-unlocked": ("the glass was broken: the root of this incarnation may be writable until the given time, and the server is tainted",
                      ("number", "until", "why")),
    "root-locked": ("the root of a server whose glass was broken is read-only again, as seen inside", ("number", "why")),
    "seat-asked": ("an operator asked the driver for the seat; the driver or 30 s of silence grants it", ("driver",)),
    "seat-taken": ("an operator has the driver's seat now; a daemon begins with an empty one", ("driver", "how")),
    "seat-kept": ("the driver said no to who asked for the seat", ("asked",)),
    "seat-left": ("the driver's seat is empty", ("why",)),
    "remark": ("somebody's words", ("text",)),
    "command-refused": ("a command was refused, and why", ("command", "reason")),
    "warning": ("something an operator should know; nothing was changed", ("text",)),
})


@dataclass(frozen=True, slots=True)
class Draft:
    """An event not yet written. `actor` is `user@terminal`, or `engine`."""

    type: str
    actor: str = "engine"
    pool: str = ""
    server: str = ""
    rollout: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    request: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the journal. `at` is engine time in seconds; `chain` is sha256 over the previous chain and this row."""

    seq: int
    at: float
    type: str
    actor: str
    pool: str
    server: str
    rollout: str
    data: Mapping[str, Any]
    request: str
    chain: str


def check_draft(draft: Draft) -> None:
    """Raise KeyError if a draft is of no known type or lacks a field its type requires."""
    _, required = EVENT_TYPES[draft.type]
    missing = [name for name in required if name not in draft.data]
    if missing:
        raise KeyError(f"{draft.type} lacks {', '.join(missing)}")
