"""What the fleet file asks for, once it is valid: frozen values that settings.py makes and the planner reads.

Durations are seconds (float), sizes are bytes (int). `None` means "not set".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

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
    """`[pools.NAME.rollout]`; the defaults are rollout.md's."""

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
    """The seeded world of a sim pool. faults: version -> "never-healthy" | "never-boots" | "dies-after 3s" | "writable-root"."""

    seed: int = 0
    boot: float = 2.0
    jitter: float = 0.3
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pool:
    """Interchangeable servers that run one image at a time. Server names are `{name}-1 … {name}-{servers}`."""

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

    @property
    def server_names(self) -> tuple[str, ...]:
        """The lasting names, in order."""
        return _names(self.name, self.servers)


@lru_cache(maxsize=256)
def _names(pool: str, servers: int) -> tuple[str, ...]:
    return tuple(f"{pool}-{n}" for n in range(1, servers + 1))


def definition(pool: Pool) -> str:
    """A word for what a pool's servers are made from; it changes with every setting but the mode and what only shows."""
    essence = replace(pool, mode="manual", max_age=None, rollout=RolloutSettings())
    return hashlib.sha256(repr(essence).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """A libvirt connection. `uri` as libvirt takes it; acceleration `auto` is proved by a boot."""

    name: str
    uri: str
    acceleration: Literal["auto", "kvm", "tcg"] = "auto"


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where a family's versions come from: a folder (absolute path), or names that exist only in the simulated world."""

    family: str
    path: str = ""
    simulated: tuple[str, ...] = ()


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
