"""One case of the simulator: a pool, its settings, its image's fault, what goes wrong, and who presses what. Plain values.

A case is drawn from one integer (menu.py), but it can also be written down: `repr` of it, evaluated, is the same case. A shrunk
case is only that: it has no seed of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

from drivers.sim.faults import Outcome
from fleet.core.desired import Amount, DataDisk, Desired, ImageSource, Pool, RolloutSettings, SimSettings

Mode = Literal["safety", "liveness"]
Kind = Literal["", "data", "in-place"]
FAMILY = "web"
VERSIONS = ("1", "2", "3")


@dataclass(frozen=True, slots=True)
class VerbFault:
    """The nth call of a verb, and the `times - 1` after it, end with `outcome`. `percent`: so many of all calls do, whichever they are."""

    verb: str
    outcome: Outcome
    nth: int = 1
    times: int = 1
    percent: int = 0


@dataclass(frozen=True, slots=True)
class Blow:
    """`at` seconds after the start something happens to the world or to the daemon.

    what: `dies` (the server `whom`) · `flaps` (its health, for `lasts` seconds) · `deaf` (every probe fails) · `away` (the place
    number `whom` does not answer) · `kill` (the daemon, at once) · `crash` (the daemon, at its `whom`th append to the journal from
    now on: before the rows are written if `lasts` is 0, else after it) · `stop` (the daemon, as SIGSTOP does, for `lasts` seconds).
    """

    at: float
    what: str
    whom: int = 0
    lasts: float = 0.0


@dataclass(frozen=True, slots=True)
class Order:
    """`who` gives a command. `seen`: the generation he names: none, the one of now, or the one of his last look (`stale`).

    `twice`: he presses the key twice, with the same request id.
    """

    at: float
    who: int
    what: str
    seen: Literal["", "now", "stale"] = ""
    twice: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Case:
    """See menu.py for what each may be. `span`: virtual seconds of a safety case; a liveness case has as many as it needs."""

    seed: int = 0
    mode: Mode = "safety"
    servers: int = 3
    surge: str = "1"
    unavailable: str = "0"
    canaries: str = "1"
    promotion: Literal["manual", "auto"] = "auto"
    order: Literal["oldest", "name", "newest"] = "oldest"
    max_failures: int = 0
    on_failure: Literal["pause", "rollback"] = "pause"
    kind: Kind = ""
    places: int = 1
    image: str = ""
    boot: float = 1.0
    jitter: float = 0.3
    min_healthy: float = 1.0
    healthy_deadline: float = 8.0
    progress_deadline: float = 30.0
    retain: float = 300.0
    checkpoints: tuple[int, ...] = ()
    checkpoint_pause: float | None = None
    late_by: float = 5.0
    span: float = 25.0
    cure: Literal["rollback", "resume", "abort"] = "rollback"
    approvals: int = 0
    expiry: float = 60.0
    faults: tuple[VerbFault, ...] = ()
    blows: tuple[Blow, ...] = ()
    orders: tuple[Order, ...] = ()

    def __repr__(self) -> str:
        """Only what is not as usual, so that a shrunk case is short."""
        said = [f"{field.name}={value!r}" for field in fields(self) if (value := getattr(self, field.name)) != field.default]
        return f"Case({', '.join(said)})"

    @property
    def shape(self) -> tuple[int, Kind, int]:
        """What its world is like before anything happens."""
        return self.servers, self.kind, self.places

    @property
    def calm(self) -> bool:
        """Nothing goes wrong in it but what people do."""
        return not (self.faults or self.blows)

    @property
    def settings(self) -> RolloutSettings:
        """The pool's rollout settings."""
        return RolloutSettings(
            max_unavailable=_amount(self.unavailable), max_surge=_amount(self.surge), canaries=_amount(self.canaries), promotion=self.promotion,
            min_healthy_time=self.min_healthy, healthy_deadline=self.healthy_deadline, progress_deadline=self.progress_deadline,
            max_failures=self.max_failures, on_failure=self.on_failure, retain=self.retain, order=self.order, checkpoints=self.checkpoints,
            checkpoint_pause=self.checkpoint_pause)

    @property
    def desired(self) -> Desired:
        """The fleet, as a fleet file would give it."""
        world = SimSettings(self.seed, self.boot, self.jitter, {"2": self.image} if self.image else {}, self.kind == "in-place")
        return fleet(replace(pool(self.shape, self.settings, world), approvals=self.approvals, approval_expiry=self.expiry))


def pool(shape: tuple[int, Kind, int], settings: RolloutSettings, world: SimSettings) -> Pool:
    """The one pool of a case."""
    servers, kind, places = shape
    return Pool(FAMILY, "sim", servers, FAMILY, mode="manual", data=(DataDisk("state", 1 << 30),) if kind == "data" else (), rollout=settings,
                hypervisors=tuple(f"rack{number}" for number in range(1, places + 1)) if places > 1 else (), sim=world)


def fleet(one: Pool) -> Desired:
    """A fleet of one pool, whose images exist only in the simulated world."""
    return Desired("sim", {}, {FAMILY: ImageSource(FAMILY, simulated=VERSIONS)}, {one.name: one})


@lru_cache(maxsize=64)
def _amount(text: str) -> Amount:
    return Amount(int(text.rstrip("%")), text.endswith("%"))


def read(text: str) -> Case:
    """A case from its repr. For our own files only: it is evaluated."""
    words: dict[str, Any] = {"__builtins__": {}, "Case": Case, "VerbFault": VerbFault, "Blow": Blow, "Order": Order}
    found = eval(text, words)
    assert isinstance(found, Case)
    return found
