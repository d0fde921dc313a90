"""Whom anew speaks SSH with, and what comes back: values, with nothing of a connection in them.

Rules
- A machine without a pinned host key and without a host CA is never spoken to: `remote_of` refuses it.
- Guests that anew made itself have neither: their host key is the one of `drivers.identity`, chosen by their name.
- A jump host is a machine like any other: its own pinned key, its own user and key. A way that leads through a
  machine twice is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.core.desired import Desired, Machine
from fleet.core.errors import Refused

MOST_JUMPS = 4


@dataclass(frozen=True, slots=True)
class Remote:
    """Whom to speak to and what proves it.

    `key`: path of a private key, "" for anew's own client key; `agent`: the keys of the SSH agent instead. `pins`: public host
    keys "TYPE BASE64"; `authorities`: CAs of host certificates in the same form. With neither the host key of `server` in the
    identities counts. `jump`: through whom it is reached.
    """

    server: str
    host: str
    port: int
    user: str = "root"
    key: str = ""
    agent: bool = False
    pins: tuple[str, ...] = ()
    authorities: tuple[str, ...] = ()
    jump: Remote | None = None

    def __str__(self) -> str:
        return f"{self.server} ({self.user}@{self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Answer:
    """`status`: the exit code, None if a signal, the cap or a closed channel ended it. `output`: standard output as it came;
    `errors`: the first 4 KiB of standard error. `cut`: one of both had more than the cap.
    """

    status: int | None
    output: bytes
    cut: bool = False
    errors: bytes = b""


def remote_of(name: str, desired: Desired) -> Remote:
    """The machine `name` of the fleet file. Refused if it is not there, has no pinned host key, or its jump hosts go round."""
    way = [_machine(name, desired.machines)]
    while way[-1].jump:
        following = _machine(way[-1].jump, desired.machines, way[-1].name)
        if following in way or len(way) > MOST_JUMPS:
            names = " → ".join(machine.name for machine in [*way, following])
            raise Refused(f"its way over jump hosts does not end: {names}; change `jump` of one of them", where=name, code="jump")
        way.append(following)
    remote: Remote | None = None
    for machine in reversed(way):
        remote = _remote(machine, remote)
    assert remote is not None
    return remote


def _machine(name: str, machines: Mapping[str, Machine], behind: str = "") -> Machine:
    machine = machines.get(name)
    if machine is None:
        of = f"the jump host of {behind}, {name}," if behind else f"machine {name}"
        raise Refused(f"{of} is not in the fleet file; add it with `anew machine add {name}`", where=name, code="unknown-machine")
    if not machine.host_key and not machine.host_ca:
        raise Refused(f"machine {name} has no pinned host key; run `anew machine pin {name}`", where=name, code="not-pinned")
    return machine


def _remote(machine: Machine, jump: Remote | None) -> Remote:
    return Remote(
        machine.name, machine.address, machine.port, machine.user, machine.key, machine.agent,
        (machine.host_key,) if machine.host_key else (), (machine.host_ca,) if machine.host_ca else (), jump,
    )


__all__ = ["Answer", "Remote", "remote_of"]
