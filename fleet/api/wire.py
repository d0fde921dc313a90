"""The shapes that cross the socket. Version 1: fields are only ever added.

Importing this module costs nothing but `typing`, so one-shot commands may.

Paths (method, path, least role):
  GET  /v1/status                          observer   StatusFrame
  GET  /v1/rollouts                        observer   {"rollouts": [RolloutRow, ...]} newest first
  GET  /v1/rollouts/ID                     observer   RolloutRow
  GET  /v1/images                          observer   {"images": [ImageRow, ...]}
  GET  /v1/images/FAMILY/VERSION           observer   ImageRow + "files", "packages"
  GET  /v1/images/FAMILY/A/diff/B          observer   ImageDiff
  GET  /v1/servers/NAME                    observer   ServerRow + "facts", "incarnations", "run", "replacement": ReplacementRow (wire_steps.py)
  GET  /v1/servers/NAME/console            observer   raw bytes: the past (<= 64 KiB), then live
  GET  /v1/foreign                         observer   {"foreign": [ForeignRow, ...]} (wire_machines.py, as the four that follow)
  GET  /v1/leftovers                       observer   {"findings": [Finding, ...]}
  GET  /v1/roots/NAME                      observer   {"roots": [RootRow, ...]} of a server or a pool; looks now
  GET  /v1/machines                        observer   {"machines": [MachineRow, ...]} as last seen
  GET  /v1/journal?since=SEQ&limit=N       observer   {"events": [EventRow, ...], "tip": SEQ}
                                                      With &whole=1 each row has its whole data, "time" and "request", and a page may be shorter
  GET  /v1/journal/verify                  observer   {"ok": bool, "message": str, "rows": int, "tip": str}
  GET  /v1/events?since=SEQ                observer   NDJSON stream of Frame (below); a blank line every 10 s as a sign of life.
                                                      With &drives=ID, for operators: this terminal drives that rollout.
                                                      With &here=1: a person sits there; shown to everybody, may have the driver's seat
  GET  /v1/info                            observer   {"paths", "settings", "versions", "pid", "started_at", "you"}
  POST /v1/plan                            observer   PlanRequest -> PlanFrame
  POST /v1/machines/check                  observer   MachineCheckRequest -> {"checks": [MachineCheck, ...]}; looks now
  GET  /v1/proposals                       observer   {"proposals": [ProposalRow, ...]} plans that wait for approval, oldest first
  POST /v1/here                            observer   PlaceRequest -> {"ok": true}; where a person who is here looks
  POST /v1/commands                        approver   CommandRequest -> CommandAnswer; all but plan.approve need an operator

Errors: HTTP 4xx/5xx with {"error": ErrorBody}; status 403 for a role, 409 for a stale plan or generation, 404 for an
unknown name, 422 for bad input, 503 when a hypervisor is needed and unreachable.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

SCHEMA_VERSION = 1
MAX_REQUEST = 256 * 1024


class ErrorBody(TypedDict):
    code: str
    message: str
    where: str
    exit_code: int
    difference: NotRequired[list[str]]


class Retained(TypedDict):
    incarnation: int
    version: str
    until: str


class Unlocked(TypedDict):
    until: str
    by: str
    why: str


class ServerRow(TypedDict):
    """A row of `status --json`. Times are RFC 3339 UTC. `health_words` is what the probe said last.

    `unlocked`: its root may be written until then (broken glass); null where it is not.
    """

    name: str
    pool: str
    uuid: str
    incarnation: int | None
    version: str | None
    digest: str | None
    born_at: str | None
    age_seconds: float | None
    state: str
    healthy: bool
    health_words: str
    root: str
    address: str
    hypervisor: str
    held: str | None
    tainted: list[str]
    unlocked: NotRequired[Unlocked | None]
    retained: list[Retained]
    reason: str | None


class PoolImage(TypedDict):
    family: str
    stable: str | None
    target: str | None
    previous: str | None
    newest: str | None
    rejected: list[dict[str, str]]


class GivenApproval(TypedDict):
    by: str
    at: str
    expires_at: str


class ProposalRow(TypedDict):
    """A plan that waits for other people's approval. `left`: how many more are needed; `approvals`: those that count now.

    Only from /v1/proposals: `request`, what it was asked with; `difference`, what changed since, [] if it could still be started.
    """

    hash: str
    pool: str
    kind: str
    to: str
    author: str
    at: str
    expires_at: str
    servers: int
    needed: int
    left: int
    approvals: list[GivenApproval]
    request: NotRequired[dict[str, Any]]
    summary: NotRequired[list[str]]
    difference: NotRequired[list[str]]
    # also "from": str | None


class PoolRow(TypedDict):
    """A pool without its servers' rows in stream frames; with them in a StatusFrame. `unreachable`: place -> why.

    `surplus`: servers that still exist although the fleet file has no place for them any more; doctor offers to remove them.
    `due`: what mode auto would begin, in words, whatever mode the pool is in; `auto`: why mode auto does not begin it; `after`: pools that come first.
    """

    name: str
    driver: str
    mode: str
    size: int
    healthy: int
    available: int
    image: PoolImage
    versions: dict[str, int]
    root: str
    data: list[str]
    oldest_age_seconds: float | None
    max_age_seconds: float | None
    rollout: str | None
    generation: int
    unreachable: dict[str, str]
    surplus: NotRequired[list[str]]
    due: NotRequired[str]
    auto: NotRequired[str]
    after: NotRequired[list[str]]
    proposal: NotRequired[ProposalRow | None]
    servers: NotRequired[list[ServerRow]]


class Budget(TypedDict):
    """`surge_used`: extra incarnations now; `missing`: servers of the pool not serving now."""

    max_surge: int
    max_unavailable: int
    in_flight: int
    surge_used: int
    missing: int


class RunRow(TypedDict):
    """One server in a rollout. `step` is a server state of cli.md; `cell` the one-letter glyph of terminal.md."""

    name: str
    step: str
    cell: str
    path: str
    canary: bool
    since: str | None
    reason: str
    error: str
    last_words: str
    deadline: str | None


class NextCheckpoint(TypedDict):
    """How many servers follow until the next checkpoint."""

    percent: int
    servers: int


class RolloutRow(TypedDict):
    id: str
    pool: str
    kind: str
    image: str
    to: str | None
    state: str
    reason: str
    author: str
    plan_hash: str
    started_at: str
    ended_at: str | None
    eta_seconds: float | None
    eta_low_seconds: float | None
    eta_high_seconds: float | None
    typical_seconds: dict[str, float]
    budget: Budget
    counts: dict[str, int]
    failures: int
    max_failures: int
    rollback_cost: str
    waits: NotRequired[str]
    checkpoint: NotRequired[NextCheckpoint | None]
    opens_at: NotRequired[str | None]
    outside: NotRequired[str]
    outside_by: NotRequired[str]
    changed: NotRequired[str]
    on_disconnect: NotRequired[str]
    driven_by: NotRequired[str]
    servers: list[RunRow]
    approvals: list[str]
    # "from" is a keyword in class syntax: RolloutRow also carries "from": str | None


class PlanServer(TypedDict):
    name: str
    action: Literal["replace", "birth", "skip", "hold"]
    reason: str
    to: str | None
    order: str
    canary: bool
    data_kept: list[str]
    rollback: str
    estimate_seconds: float
    # also "from": str | None


class Blast(TypedDict):
    servers: int
    domains: int
    worst_loss: int


class PlanFrame(TypedDict):
    """`needs`: approvals (how many other people must approve), approvals_left, approved_by, proposed_by ("" if it was not), typed_number; closed, why nobody
    can come and approve it here.
    `difference`: what changed since the plan that the request says was looked at; left out if nothing did."""

    pool: str
    to: str
    digest: str
    hash: str
    generation: int
    kind: str
    budget: dict[str, int]
    servers: list[PlanServer]
    blast: Blast
    needs: dict[str, Any]
    estimate_seconds: float
    summary: list[str]
    diff: NotRequired[dict[str, Any]]
    difference: NotRequired[list[str]]
    # also "from": str | None


class PlanRequest(TypedDict, total=False):
    """kind: rollout (default) or rollback. `overrides` uses the names and grammar of the settings (strings). `looked_at`, of POST /v1/plan
    only: how the hash begins of a plan shown before."""

    pool: str
    kind: str
    to: str
    servers: list[str]
    older_than: str
    overrides: dict[str, str]
    looked_at: str


class CommandRequest(TypedDict, total=False):
    """`command` is one of COMMANDS; `request` a client-made id: the same id twice has one effect and one answer.

    `generation`: the pool's generation the operator saw; a stale one is refused for starts, never for pause and abort.
    `outside`: why a start, a set or a resume does not keep the pool's windows. `overrides`: what rollout.set changes, as in PlanRequest.
    `driven`: the client will open a stream of events that drives the rollout (on_disconnect).
    """

    command: str
    request: str
    generation: int
    pool: str
    server: str
    rollout: str
    plan_hash: str
    plan: PlanRequest
    overrides: dict[str, str]
    outside: str
    driven: bool
    why: str
    lasts: str
    text: str
    mode: str
    version: str
    family: str
    path: str
    domain: str
    place: str
    key: str
    kind: str
    terminal: str


COMMANDS = (
    "rollout.start", "plan.approve", "plan.withdraw", "rollout.pause", "rollout.resume", "rollout.set", "rollout.promote", "rollout.abort", "rollback.start",
    "server.hold", "server.release", "server.adopt", "root.set", "image.add", "image.reject", "image.unreject",
    "remark", "settings.reload", "doctor.fix", "machine.install", "machine.recover", "shell.open", "shell.ended", "seat.take", "seat.give", "seat.keep",
)
"""rollback.start with `rollout` turns that rollout around, and no other: one that has ended is refused; with `pool` (and `server`) it starts one."""


class ShellWay(TypedDict):
    """How to log in to a server. `pins`, `authorities`: what proves it, "TYPE BASE64" each; no other host key will do.

    `key`: path of a private key at the daemon's, "" for none; `sole`: it opens that server, so nothing else need be offered.
    """

    host: str
    port: int
    user: str
    pins: list[str]
    authorities: list[str]
    key: str
    sole: bool
    jump: ShellWay | None


class CommandAnswer(TypedDict, total=False):
    """`op`: of what goes on after the answer; the event that ends it carries the same in its data.

    `proposed`: the hash of the plan that now waits for approval; nothing was started. `shell`: of shell.open, the journal has it that
    the server is tainted; not of a request that was answered by an earlier daemon.
    """

    ok: bool
    seq: int
    message: str
    rollout: str
    op: str
    proposed: str
    shell: ShellWay


class EventRow(TypedDict):
    """`at` RFC 3339 UTC with milliseconds; `text` one line for people, already free of control characters.

    Only of whole rows: `time`, engine time as the journal has it, and `request`, the id of the command behind it.
    """

    seq: int
    at: str
    type: str
    actor: str
    pool: str
    server: str
    rollout: str
    data: dict[str, Any]
    text: str
    chain: str
    time: NotRequired[float]
    request: NotRequired[str]


class ImageRow(TypedDict):
    family: str
    version: str
    digest: str
    kind: str
    built_at: str
    size: int
    packages: int | None
    source: str
    used_by: list[str]
    rejected: list[dict[str, str]]
    problem: str


class PlaceRequest(TypedDict, total=False):
    """What a person looks at: the screen, and what its cursor is on; `plan`: what the plan on it was asked with."""

    screen: str
    pool: str
    server: str
    rollout: str
    plan: PlanRequest


class PersonRow(TypedDict):
    """Somebody who is here. `role`: driver, co-driver, approver or observer. `asks_until`: when the seat is theirs if the driver keeps silent."""

    id: int
    user: str
    terminal: str
    role: str
    since: str
    asks_until: str | None
    place: PlaceRequest


class Frame(TypedDict, total=False):
    """A line of the event stream. `frame`: hello | event | server | pool | rollout | people | gone | bye.

    hello: {"frame": "hello", "seq": N, "fleet": name}. server/pool/rollout: {"row": ...} whenever a row changed.
    A rollout row with "partial": true carries only the servers that may have changed: merge them by name (counts are
    always of all). event: {"row": EventRow}. gone: {"kind": "server"|"pool", "name"}. bye: the daemon ends.
    people: {"people": [PersonRow, ...]}: somebody came, went or looks elsewhere, or the seat changed. With here=1, hello has `you`: the id of one's own row.
    """

    frame: str
    seq: int
    fleet: str
    row: dict[str, Any]
    kind: str
    name: str
    you: int
    people: list[PersonRow]


class StatusFrame(TypedDict):
    schema_version: int
    fleet: str
    generation: int
    seq: int
    now: str
    read_only: str
    failpoints: NotRequired[list[str]]
    you: dict[str, str]
    people: NotRequired[list[PersonRow]]
    pools: list[PoolRow]
    rollouts: list[RolloutRow]
