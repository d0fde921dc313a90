"""The machines of a server's run and of a rollout, as tables. Everything that affects them stands in this file.

A *run* is what a rollout does to one server. It follows a path; a path is a row of steps; each step has at most one verb.
Rule 1: a step that is not on the path is a BrokenMachine. Rule 2: a run changes path only by `server-redirected`.
Rule 3: a rollout moves only along ROLLOUT_TRANSITIONS. Rule 4: an ended rollout never moves.

`source` is the incarnation that gives up its place, `target` the one that takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fleet.core.errors import BrokenMachine

FORWARD: Final = frozenset({"birth", "create-first", "delete-first", "in-place"})
BACKWARD: Final = frozenset({"put-back", "keep-old", "clear", "fall-back"})
TAKES_DOWN: Final = frozenset({"delete-first", "in-place"})
"""Paths on which the server is away from the moment its old incarnation goes until the new one is admitted."""

PATHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "birth": ("preparing", "booting", "proving", "admitting"),
    "create-first": ("preparing", "booting", "proving", "admitting", "draining", "retiring"),
    "delete-first": ("preparing", "draining", "stopping", "booting", "proving", "admitting"),
    "in-place": ("preparing", "draining", "booting", "proving", "admitting"),
    "put-back": ("stopping", "preparing", "booting", "proving", "admitting"),
    "fall-back": ("preparing", "booting", "proving", "admitting"),
    "keep-old": ("admitting", "stopping"),
    "clear": ("stopping",),
})
"""in-place: one machine, two slots; preparing writes the idle one while the server serves, so it may run ahead; booting ends the
old incarnation and tries the new one. put-back: the failed one is stopped, the old one comes back (only a re-birth has something
to prepare). fall-back: the machine boots the old slot again, or did so by itself. keep-old: the old one never stopped; it is
admitted again before the new one goes. clear: there is nothing to go back to."""

ENDS: Final[Mapping[str, str]] = MappingProxyType({
    "birth": "serving", "create-first": "serving", "delete-first": "serving", "in-place": "serving",
    "put-back": "put-back", "fall-back": "put-back", "keep-old": "put-back", "clear": "failed",
})
"""The server's state once the path is walked."""

VERBS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({
    # step: (verb, which incarnation it works on)
    "preparing": ("stage", "target"),
    "draining": ("drain", "source"),
    "stopping": ("retire", "source"),
    "booting": ("birth", "target"),
    "proving": ("", "target"),
    "admitting": ("commit", "target"),
    "retiring": ("retire", "source"),
})
"""`birth` is `revive` for a target that is retained; `stage` is nothing for it. `drain` is the pool's hook, as is the end of `commit`."""

STEP_DEADLINES: Final[Mapping[str, float]] = MappingProxyType({
    "preparing": 3600.0, "draining": 120.0, "stopping": 120.0, "booting": 180.0, "admitting": 120.0, "retiring": 120.0,
})
"""Seconds a verb may take, retries included; `draining` is replaced by the pool's drain_deadline."""

CELLS: Final[Mapping[str, str]] = MappingProxyType({
    "waiting": ".", "draining": "d", "stopping": "s", "retiring": "s", "preparing": "b", "booting": "b", "proving": "h",
    "admitting": "h", "serving": "+", "failed": "!", "quarantined": "!", "put-back": "<", "skipped": "=", "held": "=",
})
"""terminal.md's one-letter cells."""

SETTLED: Final = frozenset({"serving", "put-back", "failed", "quarantined", "skipped"})
"""A run here is over; nothing more is done to its server in this rollout."""

ROLLOUT_STATES: Final = (
    "planned", "canary", "awaiting-promotion", "rolling", "checkpoint", "paused", "rolling-back", "done", "rolled-back", "failed", "aborted",
)
ENDED: Final = frozenset({"done", "rolled-back", "failed", "aborted"})

ROLLOUT_TRANSITIONS: Final[Mapping[tuple[str, str], str]] = MappingProxyType({
    ("planned", "begin-canary"): "canary",
    ("planned", "begin"): "rolling",
    ("planned", "begin-rollback"): "rolling-back",
    ("canary", "canaries-proved"): "awaiting-promotion",
    ("canary", "promoted"): "rolling",
    ("awaiting-promotion", "promoted"): "rolling",
    ("rolling", "checkpoint-reached"): "checkpoint",
    ("checkpoint", "checkpoint-passed"): "rolling",
    ("checkpoint", "promoted"): "rolling",
    ("canary", "pause"): "paused",
    ("checkpoint", "pause"): "paused",
    ("rolling", "pause"): "paused",
    ("awaiting-promotion", "pause"): "paused",
    ("rolling-back", "pause"): "paused",
    ("paused", "pause"): "paused",
    ("paused", "resume-canary"): "canary",
    ("paused", "resume-awaiting-promotion"): "awaiting-promotion",
    ("paused", "resume-rolling"): "rolling",
    ("paused", "resume-checkpoint"): "checkpoint",
    ("paused", "resume-rolling-back"): "rolling-back",
    ("canary", "rollback"): "rolling-back",
    ("awaiting-promotion", "rollback"): "rolling-back",
    ("rolling", "rollback"): "rolling-back",
    ("checkpoint", "rollback"): "rolling-back",
    ("paused", "rollback"): "rolling-back",
    ("canary", "abort"): "paused",
    ("awaiting-promotion", "abort"): "paused",
    ("rolling", "abort"): "paused",
    ("checkpoint", "abort"): "paused",
    ("rolling-back", "abort"): "paused",
    ("paused", "abort"): "paused",
    ("paused", "aborted"): "aborted",
    ("rolling", "finished"): "done",
    ("rolling-back", "finished"): "rolled-back",
    ("rolling-back", "stuck"): "failed",
})
"""(state, cause) -> state. `abort` pauses what is in flight until it is whole; then `aborted` ends the rollout."""


def next_step(path: str, step: str) -> str:
    """The step after `step`, or the end state of the path. `waiting` precedes the first step."""
    try:
        steps = PATHS[path]
        if step == "waiting":
            return steps[0]
        position = steps.index(step) + 1
    except (KeyError, ValueError):
        raise BrokenMachine(f"no step {step!r} on path {path!r}") from None
    return steps[position] if position < len(steps) else ENDS[path]


def move(state: str, cause: str) -> str:
    """The rollout's next state. Raises BrokenMachine for a transition that is not in the table."""
    try:
        return ROLLOUT_TRANSITIONS[state, cause]
    except KeyError:
        raise BrokenMachine(f"a rollout that is {state!r} has no transition {cause!r}") from None


def may(state: str, cause: str) -> bool:
    """True if the table allows it."""
    return (state, cause) in ROLLOUT_TRANSITIONS


def diagrams() -> str:
    """Both machines as Mermaid state diagrams, for docs/lifecycle.md (a stale page fails `make check`)."""
    lines = ["# Lifecycles", "", "Generated from `fleet/core/lifecycle.py`; do not edit.", "", "## A rollout", "", "```mermaid",
             "stateDiagram-v2", "    [*] --> planned"]
    for (state, cause), after in ROLLOUT_TRANSITIONS.items():
        lines.append(f"    {state} --> {after}: {cause}")
    lines += [f"    {state} --> [*]" for state in ROLLOUT_STATES if state in ENDED]
    lines += ["```", "", "## A server's run, by path", ""]
    for path, steps in PATHS.items():
        walk = " → ".join(("waiting", *steps, f"**{ENDS[path]}**"))
        lines.append(f"- `{path}`: {walk}")
    lines += ["", "| step | verb | on |", "| --- | --- | --- |"]
    lines += [f"| {step} | {verb or 'none: the health gate'} | {whom} |" for step, (verb, whom) in VERBS.items()]
    return "\n".join(lines) + "\n"
