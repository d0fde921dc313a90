"""What the journal adds up to: frozen values, changed only by `fold`.

Times are engine time in seconds. Mappings are never changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.core.automatic import NOTHING_YET, Automatic
from fleet.core.budget import Budget
from fleet.core.desired import RolloutSettings
from fleet.core.lifecycle import BACKWARD, ENDED, SETTLED
from fleet.core.observed import ImageRef


@dataclass(frozen=True, slots=True)
class Target:
    """The incarnation that shall take the place. kind `birth` makes it from `image`; `revive` starts a retained one."""

    kind: str
    number: int
    image: ImageRef


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that is over. how: done | failed | left (the run was sent another way before it was over). `since`: as of the run's step."""

    step: str
    since: float
    until: float
    how: str


@dataclass(frozen=True, slots=True)
class Run:
    """What a rollout does to one server.

    action: replace | birth | skip | hold. `planned`: the path in the plan; `path`: the one walked now. `home`: the image it had
    when the rollout began. phase of the current step: idle (not begun), doing (intent written), unknown
    (intent of an earlier daemon), done, failed. `since`: when the step began; `changed_at`: its last event; `booted_at`: when the target began to boot.
    `begun_at`: when its first step began; of a path that takes the server down, the first beyond preparing.
    `flaps`: how often the target answered and then stopped answering. `attempts`: failures on the way back.
    `taken`: the steps of this try that are over, the oldest first; a resume that tries the server again begins anew.
    `again`: it failed, a person who knew that resumed, and it is tried once more as soon as it is back.
    """

    server: str
    action: str
    planned: str = ""
    path: str = ""
    place: str = ""
    canary: bool = False
    index: int = 0
    source: int | None = None
    target: Target | None = None
    home: ImageRef | None = None
    step: str = "waiting"
    phase: str = "idle"
    op: str = ""
    since: float = 0.0
    changed_at: float = 0.0
    booted_at: float = 0.0
    begun_at: float = 0.0
    reverting: bool = False
    reason: str = ""
    error: str = ""
    last_words: str = ""
    flaps: int = 0
    attempts: int = 0
    taken: tuple[Taken, ...] = ()
    again: bool = False

    @property
    def settled(self) -> bool:
        """Nothing more is done to this server in this rollout."""
        return self.step in SETTLED

    @property
    def active(self) -> bool:
        """Begun (a way back is begun when it is chosen) and not settled: it uses a place of the budget."""
        return self.step not in SETTLED and (self.step != "waiting" or self.path in BACKWARD)


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's yes to a plan. `by`: the journal's word for the person; `uid`: who it was, as the kernel said."""

    by: str
    uid: int
    at: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan that waits for other people's approval, with all that it would do. `request`: what it was drawn from; `summary`: it in words.

    `uid`: the author's, as the kernel said; -1 for the engine. `definition`: what the pool's servers were made from when it was proposed.
    """

    hash: str
    pool: str
    kind: str
    author: str
    uid: int
    at: float
    image_from: ImageRef | None
    image_to: ImageRef
    settings: RolloutSettings
    runs: tuple[Run, ...]
    definition: str
    request: Mapping[str, Any]
    summary: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout. kind: rollout | rollback | birth. `resume_to`: where `paused` came from; `ending`: "aborted" once told to.

    `moved_at`: when it came into its state. `passed`: percent of the last checkpoint it came to. `outside`: why a person let it go on
    outside the pool's windows, and `outside_by` who. `changed`: the last changes of its settings by people, in words.
    `driven_by`: whose terminal drives it, as far as the journal knows; since when, or since when nobody is known to: `driven_at`. `approvals`: the other people who approved its plan.
    `told_at`: when a person last decided about it.
    """

    id: str
    pool: str
    kind: str
    image_from: ImageRef | None
    image_to: ImageRef
    state: str
    settings: RolloutSettings
    budget: Budget
    plan_hash: str
    author: str
    started_at: float
    runs: Mapping[str, Run]
    whole: bool = True
    definition: str = ""
    reason: str = ""
    ended_at: float | None = None
    resume_to: str = ""
    ending: str = ""
    failures: int = 0
    progress_at: float = 0.0
    moved_at: float = 0.0
    passed: int = 0
    outside: str = ""
    outside_by: str = ""
    changed: str = ""
    driven_by: str = ""
    driven_at: float = 0.0
    approvals: tuple[Approval, ...] = ()
    told_at: float = 0.0

    @property
    def ended(self) -> bool:
        """True once it is done, rolled back, failed or aborted."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an image is not chosen for a pool."""

    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Glass:
    """Broken glass: the root of incarnation `number` may be writable until `until`, by whom and why; then the daemon locks it again."""

    number: int
    until: float
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Server:
    """What the journal knows of a server. `admitted`: the incarnation in service; `before`: those that were before it, the last one last;
    `retained`: number -> until.

    `failed`: incarnations that failed their proof (never offered for rollback). `last_number`: the highest number ever given.
    `admitted_at`: when the one in service was, 0.0 if it was not born for that. `restarted`: a rollout started the one in service again,
    and it was not admitted since: nothing beside it is removed. `untidy`: when tidying up beside it began to fail, and when it last
    did; () if the last time it went well. `tainted`: the incarnation in service was touched, and how; `stained`: what is known so of others
    that may come back, by number. `glass`: its root is unlocked for a while. `failed_at`: when a step of its failed last: nothing is begun
    there before it was looked at since.
    """

    held: str | None = None
    tainted: tuple[str, ...] = ()
    admitted: int | None = None
    last_number: int = 0
    retained: Mapping[int, float] = field(default_factory=dict)
    failed: frozenset[int] = frozenset()
    admitted_at: float = 0.0
    restarted: bool = False
    untidy: tuple[float, float] | tuple[()] = ()
    stained: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    glass: Glass | None = None
    before: tuple[int, ...] = ()
    failed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolState:
    """Pointers, rejections and learned step times of a pool. `durations`: step -> the last 20, in seconds, with its `driver`.

    `proposal`: the plan that waits for approval; whether its time is over is for core/approvals.py to say.
    """

    stable: ImageRef | None = None
    target: ImageRef | None = None
    previous: ImageRef | None = None
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    servers: Mapping[str, Server] = field(default_factory=dict)
    rollout: str | None = None
    generation: int = 0
    durations: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    driver: str = ""
    proposal: Proposal | None = None
    automatic: Automatic = NOTHING_YET

    def server(self, name: str) -> Server:
        """The server's state; a fresh one if the journal never spoke of it."""
        return self.servers.get(name, _FRESH)


@dataclass(frozen=True, slots=True)
class State:
    """The whole fold. `rollouts` keeps the active ones and the last 50 ended ones.

    `leapt_at`: when a daemon last started so long after the journal's last event that its clock may be wrong; 0.0 for never.
    """

    seq: int = 0
    epoch: int = 0
    generation: int = 0
    pools: Mapping[str, PoolState] = field(default_factory=dict)
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    leapt_at: float = 0.0

    def pool(self, name: str) -> PoolState:
        """The pool's state; a fresh one if the journal never spoke of it."""
        return self.pools.get(name, _FRESH_POOL)

    def active(self, pool: str) -> Rollout | None:
        """The pool's rollout that has not ended, if any."""
        rollout_id = self.pool(pool).rollout
        return self.rollouts.get(rollout_id) if rollout_id else None


_FRESH = Server()
_FRESH_POOL = PoolState()
