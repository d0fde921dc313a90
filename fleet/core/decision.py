"""What `plan` answers: plain data that the engine carries out and everybody reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.core.events import Draft
from fleet.core.state import Target


@dataclass(frozen=True, slots=True)
class Action:
    """One step of one server. `verb` "" begins a step that is only a gate. `op`: the intent to take up again after a crash.

    `number`: the incarnation the verb works on; `target`: for stage, birth and revive.
    """

    server: str
    step: str
    verb: str
    number: int
    path: str
    reason: str
    rollout: str = ""
    place: str = ""
    target: Target | None = None
    op: str = ""
    deadline: float = 60.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a server stands still. `deadline`: engine time at which `then` happens, if there is one."""

    reason: str
    deadline: float | None = None
    then: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Notes are written to the journal first, and the plan is made anew; actions are for a plan without notes.

    `look`: something must be observed before anything can be decided; `look_at`: the servers it is about, none for the whole pool. `wake_at`: engine time of the next look.
    """

    notes: tuple[Draft, ...] = ()
    actions: tuple[Action, ...] = ()
    waits: Mapping[str, Wait] = field(default_factory=dict)
    look: bool = False
    look_at: frozenset[str] = frozenset()
    wake_at: float | None = None
