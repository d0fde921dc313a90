"""What the server asks of the engine. The engine implements it; the server knows nothing else of the engine.

Rules:
- Every answer is plain JSON data in the shapes of wire.py; text in it is already free of control characters.
- Only `AnewError`s leave an office. The server turns them into an HTTP status and an ErrorBody: give unknown names
  the code `unknown` (or any code that starts with it), and a stale generation the type `Stale`.
- Readers are cheap and never wait for a hypervisor, except those that are `async`.
- A command's answer means that the journal has it, durably.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Role = Literal["observer", "operator", "approver", ""]
"""What a caller may do. A person on several lists of [access] has the strongest: operator, then approver, then observer.

Everybody with a role may look; only an operator may command, but an approver may approve a plan. "" may do nothing.
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: uid, gid and pid from the kernel at accept, names from the user database.

    `terminal` ("pts/3") is what the client said of itself: decoration for the journal, never a reason to allow anything. `observer`: it
    asked to be no more than that. A client can lower itself, and nothing it says raises it.
    """

    uid: int
    gid: int
    pid: int
    user: str
    groups: tuple[str, ...]
    terminal: str = ""
    observer: bool = False

    @property
    def actor(self) -> str:
        """The journal's word for this caller: `user@terminal`, or only the user."""
        return f"{self.user}@{self.terminal}" if self.terminal else self.user


class Office(Protocol):
    """The engine as the server sees it. `fleet.engine.office.EngineOffice` is the real one."""

    def role_of(self, caller: Caller) -> Role:
        """The caller's role by [access] as it is now; root and the daemon's own user are operators always. Who asked to be an observer is one at most."""

    def status(self, caller: Caller) -> Mapping[str, Any]:
        """StatusFrame."""

    def info(self, caller: Caller) -> Mapping[str, Any]:
        """{"paths": {"fleet", "state", "socket", "journal", "log"}, "settings", "versions", "pid", "started_at", "you"}."""

    def metrics(self) -> str:
        """Prometheus' text format 0.0.4, for /metrics."""

    def rollouts(self) -> list[dict[str, Any]]:
        """RolloutRows, newest first."""

    def rollout(self, rollout: str) -> Mapping[str, Any]:
        """One RolloutRow."""

    def server(self, name: str) -> Mapping[str, Any]:
        """A ServerRow with its past incarnations and its last replacement."""

    async def images(self) -> list[dict[str, Any]]:
        """ImageRows."""

    async def image(self, family: str, version: str) -> Mapping[str, Any]:
        """An ImageRow with "files" and "packages"; the bytes are hashed again, "problem" says what is wrong."""

    async def image_diff(self, family: str, a: str, b: str) -> Mapping[str, Any]:
        """ImageDiff: packages added, removed, changed; sizes."""

    async def foreign(self) -> list[dict[str, Any]]:
        """ForeignRows."""

    async def leftovers(self) -> list[dict[str, Any]]:
        """Findings."""

    async def machines(self) -> list[dict[str, Any]]:
        """MachineRows, as last seen."""

    async def machine_check(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """MachineChecks of these machines, of all if none is named: looks now."""

    async def roots(self, name: str) -> list[dict[str, Any]]:
        """RootRows of a server, or of a pool's servers: looks now, inside."""

    async def plan(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """PlanRequest -> PlanFrame."""

    def proposals(self) -> list[dict[str, Any]]:
        """ProposalRows of the plans that wait for approval, the oldest first."""

    async def command(self, caller: Caller, role: Role, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """CommandRequest -> CommandAnswer. The same request id twice has one effect and one answer."""

    async def journal(self, since: int, limit: int, whole: bool = False) -> Mapping[str, Any]:
        """{"events": [EventRow with seq > since, at most limit], "tip": SEQ}; with `whole` they carry all that a replay needs."""

    async def journal_verify(self) -> Mapping[str, Any]:
        """{"ok", "message", "rows", "tip"}."""

    def subscribe(self, since: int, caller: Caller, drives: str = "", *, here: bool = False) -> AbstractAsyncContextManager[AsyncIterator[Mapping[str, Any]]]:
        """Frames from sequence number `since` on. The queue is bounded: the iterator of a slow client ends.

        `drives`: the id of a rollout that this terminal drives for as long as the stream lasts. `here`: a person sits there, who is
        shown to everybody and may have the driver's seat.
        """

    def place(self, caller: Caller, place: Mapping[str, Any]) -> None:
        """Where a person who is here looks, for who follows them; Refused if they are not here."""

    def console(self, server: str) -> AsyncIterator[bytes]:
        """The serial console's past, then live bytes."""
