"""What the fleet file asks for, once it is valid: frozen values that settings.py makes and the planner reads.

Durations are seconds (float), sizes are bytes (int). `None` means "not set".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, Literal

from fleet.core.windows import Window

RootMode = Literal["read-only", "ephemeral"]
Mode = Literal["observe", "manual", "auto"]


@dataclass(frozen=True, slots=True)
class Amount:
    """An integer or a whole percent, as written. Rounding is `budget.py`'s business."""

    value: int
    percent: bool = False

    def __str__(self) -> str:
        return f"{self.value}%" if self.percent else str(self.value)


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """`[pools.NAME.rollout]`; the defaults are rollout.md's. `checkpoints`: whole percents, ascending; `checkpoint_pause`: seconds, None
    waits for a person.
    """

    max_unavailable: Amount = Amount(1)
    max_surge: Amount = Amount(0)
    canaries: Amount = Amount(1)
    promotion: Literal["manual", "auto"] = "manual"
    min_healthy_time: float = 10.0
    healthy_deadline: float = 300.0
    progress_deadline: float = 600.0
    drain_deadline: float = 120.0
    max_failures: int = 0
    on_failure: Literal["pause", "rollback"] = "pause"
    retain: float = 86_400.0
    order: Literal["oldest", "name", "newest"] = "oldest"
    checkpoints: tuple[int, ...] = ()
    checkpoint_pause: float | None = None
    on_disconnect: Literal["continue", "pause"] = "continue"


@dataclass(frozen=True, slots=True)
class Breaker:
    """So many `percent` of a pool (of `at_least` so many servers) unwell within `seconds`: mode auto stops. See core/breaker.py."""

    percent: int = 20
    at_least: int = 5
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class DataDisk:
    """A volume that outlives every incarnation. `size` in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Network:
    """How servers are reached. kind `user`: loopback ports of the hypervisor are forwarded; `network`/`bridge`: `name` is libvirt's.

    user: the pool owns the ports first_port .. first_port + 2 * servers - 1 (old and new may live side by side).
    """

    kind: Literal["user", "network", "bridge", "none"] = "none"
    name: str = ""
    address: str = "127.0.0.1"
    first_port: int = 0
    guest_port: int = 22


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One outside probe. `kind` is the probe's entry-point name: tcp, http, ssh, agent, command (or sim, always implied for sim pools).

    options by kind: tcp {port, expect}; http {port, path, status}; ssh {command, user}; agent {}; command {argv}.
    `deadline` and `interval` in seconds.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    deadline: float = 5.0
    interval: float = 2.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """argv templates with {name} {address} {version}; run without a shell."""

    drain: tuple[str, ...] = ()
    admit: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SimSettings:
    """The seeded world of a sim pool; `in_place`: its servers are machines with two slots; `places`: so many hypervisors.

    faults: version -> "never-healthy" | "never-boots" | "dies-after 3s" | "writable-root".
    """

    seed: int = 0
    boot: float = 2.0
    jitter: float = 0.3
    faults: Mapping[str, str] = field(default_factory=dict)
    in_place: bool = False
    places: int = 1


@dataclass(frozen=True)
class Pool:
    """Interchangeable servers that run one image at a time. Server names are `{name}-1 … {name}-{servers}`, or on bare metal
    those of the machines. Not slotted: it caches what every decision asks it for.
    """

    name: str
    driver: str
    servers: int
    image: str
    channel: str = "stable"
    root: RootMode = "read-only"
    mode: Mode = "observe"
    hypervisors: tuple[str, ...] = ()
    memory: int = 256 * 1024 * 1024
    vcpus: int = 1
    network: Network = Network()
    data: tuple[DataDisk, ...] = ()
    health: tuple[HealthCheck, ...] = ()
    hooks: Hooks = Hooks()
    rollout: RolloutSettings = RolloutSettings()
    sim: SimSettings | None = None
    authorized_keys: tuple[str, ...] = ()
    ssh_user: str = "root"
    max_age: float | None = None
    machines: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()
    approvals: int = 0
    approval_expiry: float = 86_400.0
    breaker: Breaker | None = Breaker()
    after: tuple[str, ...] = ()

    @cached_property
    def server_names(self) -> tuple[str, ...]:
        """The lasting names, in order: those of the pool's machines, else numbered."""
        return self.machines or tuple(f"{self.name}-{n}" for n in range(1, self.servers + 1))

    @cached_property
    def in_place(self) -> bool:
        """True if a server is replaced on its own machine, by a boot into the other slot: old and new never run side by side."""
        return bool(self.machines) or (self.sim is not None and self.sim.in_place)

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Where its servers live. A machine is a place of its own, so that one silent machine hides no other."""
        if self.in_place:
            return self.server_names
        if self.sim is not None and self.sim.places > 1:
            return tuple(f"{self.driver}-{number}" for number in range(1, self.sim.places + 1))
        return self.hypervisors or (self.driver,)

    @cached_property
    def slowest_probe(self) -> float:
        """Seconds from one look of its slowest check to the end of the next."""
        return max((check.interval + check.deadline for check in self.health), default=7.0)

    @cached_property
    def definition(self) -> str:
        """A word for what its servers are made from; it changes with every setting but the mode and what only shows."""
        essence = replace(self, mode="manual", max_age=None, rollout=RolloutSettings(), windows=(), approvals=0, approval_expiry=0.0, breaker=None, after=())
        return KIND + hashlib.sha256(repr(_named(essence)).encode()).hexdigest()[:16]


KIND = "set:"
"""How definitions begin that name only what is set: those of another kind, in older journals, cannot be compared with them."""


def redefined(before: str, pool: Pool) -> bool:
    """True if the pool's servers are made from something else than when the journal had `before`."""
    return before.startswith(KIND) and before != pool.definition


def _named(value: Any) -> Any:
    """A value in which no setting at its default is named: one that a later anew brings redefines no pool of today."""
    if isinstance(value, tuple):
        return [_named(item) for item in value]
    if not is_dataclass(value):
        return sorted(value.items()) if isinstance(value, Mapping) else value
    return [(item.name, _named(here)) for item in fields(value) if (here := getattr(value, item.name)) != _usual(item)]


def _usual(item: Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """A libvirt connection. `uri` as libvirt takes it; acceleration `auto` is proved by a boot."""

    name: str
    uri: str
    acceleration: Literal["auto", "kvm", "tcg"] = "auto"


@dataclass(frozen=True, slots=True)
class Bmc:
    """A machine's management controller: `url` is a Redfish system (`https://10.0.0.9/redfish/v1/Systems/1`).

    `password_file`: absolute path of a file that holds the password and nothing else. `ca`: absolute path of the
    certificate authority it must answer with, "" for the system's own.
    """

    url: str
    user: str = ""
    password_file: str = ""
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """A host that is reached by SSH. `host_key` and `host_ca` are "TYPE BASE64"; with neither, nothing is ever sent to it.

    `jump`: the name of another machine through which it is reached. `key`: absolute path of a private key, "" for anew's own;
    `agent`: the keys of the daemon's SSH agent instead. `disk`: serial number of the disk a first install may write.
    `console`: absolute path of a file to which something else (conserver, ser2net, QEMU) writes its serial console.
    """

    name: str
    address: str
    port: int = 22
    user: str = "root"
    jump: str = ""
    key: str = ""
    agent: bool = False
    host_key: str = ""
    host_ca: str = ""
    disk: str = ""
    console: str = ""
    bmc: Bmc | None = None


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where a family's versions come from: a folder (absolute path), or names that exist only in the simulated world.

    `mirror`: an http URL below which hosts find the same files (`MIRROR/VERSION/FILE`); what they fetch there is checked by digest.
    """

    family: str
    path: str = ""
    simulated: tuple[str, ...] = ()
    mirror: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """`user:NAME` and `group:NAME` entries by role. root and the daemon's own user are operators always."""

    observers: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Desired:
    """The whole fleet file. `path` is where it was read, `digest` the sha256 of its bytes."""

    fleet: str
    hypervisors: Mapping[str, Hypervisor]
    images: Mapping[str, ImageSource]
    pools: Mapping[str, Pool]
    access: Access = Access()
    path: str = ""
    digest: str = ""
    machines: Mapping[str, Machine] = field(default_factory=dict)
