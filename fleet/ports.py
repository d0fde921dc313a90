"""What the engine needs from outside, as Protocols of at most eight verbs each.

A driver decides nothing: the engine plans, the driver does one verb at a time and says what it sees. Only `Transient`,
`Permanent` and `Refused` leave a driver. Every call gets a deadline; one that was done but timed out is found by `observe`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from fleet.core.desired import Desired, HealthCheck, Pool
from fleet.core.events import Draft, Event
from fleet.core.observed import Facts, Foreign, Health, Image, ImageRef, Leftover, Observed, Seen


def _unheard(words: str) -> None:
    """Nobody listens to how a verb gets on."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Who acts and why. `id` names the intent in the journal; `epoch` counts daemons; `deadline` in seconds from the call.

    `tell` takes a sentence on how far a long verb has come ("41 of 160 MiB, 12 MB/s, 10 s left"); it is shown, never journalled.
    """

    id: str
    epoch: int
    rollout: str
    deadline: float
    tell: Callable[[str], None] = field(default=_unheard, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Birth:
    """What to make: incarnation `number` of `server` from `image`, at `place`, with the pool's data disks if `data`."""

    server: str
    number: int
    image: Image
    place: str
    born_at: float


class Driver(Protocol):
    """Makes incarnations live on one kind of machine. All verbs are idempotent and may be cancelled."""

    name: str
    surge: bool
    """True if old and new incarnation of one server can run side by side (a pool with data disks never does)."""

    async def observe(self, pool: Pool) -> Observed:
        """Everything of ours that exists for this pool, and what is foreign. Partial answers are marked, never invented.

        `Observed.at` may be 0.0: the engine stamps it. Never raises for one unreachable place; Transient if all fail otherwise.
        """

    async def stage(self, pool: Pool, image: Image, place: str, op: Operation) -> None:
        """Bring the image's bytes to where they will be booted and verify them there. Shared by all servers of the place."""

    async def birth(self, pool: Pool, order: Birth, op: Operation) -> Seen:
        """Make and boot an incarnation. Called again with the same operation it adopts what it made before.

        Data disks are created blank on first use and attached only when the hypervisor confirms nobody else holds them
        (else Transient). Raises Permanent if the staged bytes do not match the manifest.
        """

    async def probe(self, pool: Pool, server: str, number: int) -> Facts:
        """Facts from inside the running incarnation, capped and parsed as hostile. Has its own short deadline."""

    async def commit(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """This incarnation is the one to keep, also after power loss; its seed is removed."""

    async def retire(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """Stop it and keep it startable. Returns only when it is confirmed stopped and its data disks are free."""

    async def revive(self, pool: Pool, server: str, number: int, op: Operation) -> Seen:
        """Start a retained incarnation again, without the image store. Already running: no effect."""

    async def bury(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """Remove a stopped incarnation and its overlay and seed. Refuses a running one, data disks, and what is not ours."""


class Console(Protocol):
    """Optional: a driver whose incarnations have a serial console."""

    def console(self, pool: Pool, server: str, number: int) -> AsyncIterator[bytes]:
        """The console's past (at most the last 64 KiB), then live bytes. Raw: the reader must treat them as hostile."""

    async def last_words(self, pool: Pool, server: str, number: int) -> str:
        """The end of the console's log, at most 4 KiB, decoded with replacement; "" if there is none."""


class Adopter(Protocol):
    """Optional: a driver that can take over machines it did not make, and sweep leftovers of a crashed run."""

    async def adopt(self, pool: Pool, server: str, foreign: Foreign, op: Operation) -> Seen:
        """Make a foreign machine incarnation 0 of `server` by adding metadata; neither its disks nor its run are touched."""

    async def sweep(self, pool: Pool, leftover: Leftover, op: Operation) -> None:
        """Remove exactly this leftover. Refuses anything without our tag, and data volumes always."""


class Power(Protocol):
    """Optional: a driver that can switch a machine off and on from outside (a BMC)."""

    async def recover(self, pool: Pool, server: str, how: Literal["cycle", "pxe"], op: Operation) -> str:
        """Power-cycle the server's machine, with `pxe` booting once from the network. Returns a sentence of what was done.

        Refused where no BMC is configured. Returns when the machine was told; whether it comes back is seen by `observe`.
        """


class RootLocker(Protocol):
    """Optional: a driver that can make the root of a running server read-only, or writable again, in place."""

    async def root_fixed(self, pool: Pool, server: str) -> str:
        """Why the root of this server cannot be remounted where it runs, as looked at now; "" if it can. A sentence without a full stop."""

    async def writers(self, pool: Pool, server: str) -> tuple[str, ...]:
        """What still writes to its root file system: one printable line each ("sshd 812 /var/log/wtmp")."""

    async def lock_root(self, pool: Pool, server: str, mode: Literal["read-only", "writable"], op: Operation) -> str:
        """Remount, and make it last over a reboot. Returns a sentence of what was done; the state itself is observed from inside."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a person logs in to a server by SSH, and what proves that it is that server.

    `pins`: public host keys "TYPE BASE64"; `authorities`: CAs of host certificates in the same form. `key`: path of the private key that
    anew itself logs in with, "" for none; `sole`: anew put it there, so a person who can read it needs no other. `jump`: through whom.
    """

    host: str
    port: int
    user: str
    pins: tuple[str, ...]
    authorities: tuple[str, ...] = ()
    key: str = ""
    sole: bool = False
    jump: Way | None = None


class Login(Protocol):
    """Optional: a driver whose servers a person may log in to."""

    def way_in(self, pool: Pool, server: str, seen: Seen | None) -> Way:
        """The way to the incarnation in service (None if none is seen). Refused with what to do if there is none, or no host key is known."""


class Machines(Protocol):
    """Optional: a driver whose places are machines named in the fleet file."""

    async def check(self, name: str) -> Mapping[str, str]:
        """One machine, looked at now: `reach` ("ok" or a sentence), and what it told (backend, booted, version, root, …), printable."""

    def told(self, name: str) -> Mapping[str, str]:
        """What `check` would say, from the last look at the machine, without looking; {} if there was none."""

    async def install(self, name: str, pool: Pool, image: Image, disk: str, op: Operation) -> str:
        """First install: write the layout and the image to the blank disk with that serial number, of a host booted from a live system.

        Refused if the serial is not the fleet file's, or the disk is not blank. Returns a sentence of what was done.
        """


class Probe(Protocol):
    """One kind of outside health check."""

    kind: str

    async def check(self, pool: Pool, check: HealthCheck, seen: Seen) -> tuple[bool, str]:
        """(passed, the probe's own words). Never raises for an unhealthy server; keeps to check.deadline by itself."""


class Clock(Protocol):
    """The only source of time and sleep."""

    def now(self) -> float:
        """Engine time: seconds since the epoch, never running backwards, unaffected by wall clock jumps while running."""

    async def sleep(self, seconds: float) -> None:
        """Sleep in engine time."""


class Rng(Protocol):
    """The only source of chance."""

    def random(self) -> float:
        """A float in [0, 1)."""

    def token(self) -> str:
        """16 lower-case hex digits, for operation and rollout ids."""


class Journal(Protocol):
    """The only memory: append-only, hash-chained, durable before `append` returns."""

    async def append(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Write the drafts in order in one commit (group-committed with other callers); they are fsync-durable on return."""

    def read(self, since: int = 0, limit: int | None = None) -> Iterable[Event]:
        """Events with seq > since, in order."""

    async def fetch(self, since: int, limit: int) -> tuple[Event, ...]:
        """Like `read`, without holding up the event loop."""

    def find_request(self, request: str) -> tuple[Event, ...]:
        """The events written for a client's request id, () if it is new."""

    def tip(self) -> tuple[int, str]:
        """(seq, chain hash) of the last event; (0, "") if empty."""

    def verify(self) -> str:
        """"" if the whole chain holds, else a sentence naming the first bad row."""


class Catalogue(Protocol):
    """The images by family."""

    def get(self, family: str, version: str) -> Image:
        """Raises Invalid for an unknown family or version, naming what there is."""

    def newest(self, family: str) -> Image:
        """The version that a channel without pointer follows: latest built_at, then highest version."""

    def list(self) -> tuple[Image, ...]:
        """All images, sorted by family and version (numbers as numbers)."""

    def by_digest(self, digest: str) -> Image | None:
        """The image with this digest, if it is catalogued."""

    def verify(self, ref: ImageRef) -> None:
        """Hash every file again. Raises Invalid naming the first file that is changed or missing."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a driver or probe factory gets: nothing else of anew is visible to it.

    `state_dir`: absolute path of the daemon's state (0700); a driver keeps its files below `state_dir/NAME`.
    `authorized_keys`: OpenSSH public keys that every server trusts (anew's own among them, once made).
    """

    desired: Desired
    state_dir: str
    clock: Clock
    rng: Rng
    drivers: Mapping[str, Driver] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


class DriverFactory(Protocol):
    """An `anew.drivers` entry point: `make(surroundings)` -> async context manager that yields the driver."""

    def __call__(self, around: Surroundings) -> AbstractAsyncContextManager[Driver]: ...


class ProbeFactory(Protocol):
    """An `anew.probes` entry point: `make(surroundings)` -> async context manager that yields the probe."""

    def __call__(self, around: Surroundings) -> AbstractAsyncContextManager[Probe]: ...


__all__ = [
    "Adopter", "Birth", "Catalogue", "Clock", "Console", "Driver", "DriverFactory", "Health", "Journal", "Login", "Machines", "Operation",
    "Power", "Probe", "ProbeFactory", "Rng", "RootLocker", "Surroundings", "Way",
]
