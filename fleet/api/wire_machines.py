"""What is asked of machines and roots outside of rollouts: more shapes that cross the socket, by the rules of wire.py."""

from __future__ import annotations

from typing import TypedDict


class ForeignRow(TypedDict):
    place: str
    name: str
    uuid: str
    state: str
    note: str


class Finding(TypedDict):
    """What `doctor` lists. `fix` is a sentence of what `--fix` would do, "" if only a person can."""

    place: str
    kind: str
    key: str
    note: str
    fix: str
    pool: str


class RootRow(TypedDict):
    """The root of a server, looked at now. `observed`: read-only, overlay, writable or unknown, as seen inside.

    `why_not`: why it cannot be locked or unlocked in place, "" if it can. `writers`: what is open for writing there, a line each.
    `takes`: what it takes to be as `wished`: nothing, remount, replacement or unknown. `unlocked_until`: when broken glass is locked again.
    """

    name: str
    pool: str
    wished: str
    observed: str
    why_not: str
    writers: list[str]
    takes: str
    unlocked_until: str | None


class MachineRow(TypedDict):
    """A machine of the fleet file, as last seen. `pin` and `authority`: SHA256 fingerprints, "" for none. `reach`: "ok" or a sentence.

    `state` is a server state of cli.md, "" for a machine that is in no pool. `bmc`: whether a management controller is configured.
    `doing`: what was ordered for it and how far that has come, "" for nothing.
    """

    name: str
    address: str
    port: int
    user: str
    jump: str
    pool: str
    pin: str
    authority: str
    disk: str
    bmc: bool
    console: bool
    reach: str
    backend: str
    version: str
    root: str
    state: str
    doing: str


class MachineCheckRequest(TypedDict, total=False):
    """Which machines to look at; left out or empty: all."""

    machines: list[str]


class MachineCheck(TypedDict):
    """What a look just found. `ok`: reachable, and ready for a rollout if it is in a pool. `told`: what the machine said of itself."""

    name: str
    ok: bool
    sentence: str
    told: dict[str, str]
