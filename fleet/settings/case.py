"""One pool under examination, and the defaults that depend on its driver: what `checks.py` and `metal.py` both look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from fleet.core.desired import Amount
from fleet.settings.models import AccessTable, HypervisorTable, ImageTable, MachineTable, PoolTable
from fleet.settings.problems import Key
from fleet.settings.validate import Report

METAL_TIMES: Mapping[str, float] = MappingProxyType(
    {"healthy_deadline": 900.0, "progress_deadline": 2400.0, "retain": 365 * 86_400.0})
"""Seconds. Firmware takes minutes before a kernel starts, and a trial may boot twice (forth, and back by itself); the
idle slot is on the disk anyway, so that keeping what it holds costs nothing."""


@dataclass(frozen=True, slots=True)
class Around:
    """The tables beside a pool. None: the name is there but its table is wrong."""

    images: Mapping[str, ImageTable | None]
    hypervisors: Mapping[str, HypervisorTable | None]
    machines: Mapping[str, MachineTable | None] = field(default_factory=dict)
    access: AccessTable | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One pool under examination."""

    name: str
    pool: PoolTable
    around: Around
    report: Report

    def key(self, *parts: str | int) -> Key:
        """A key of this pool, in full and as the file has it."""
        return self.report.original(("pools", self.name, *parts))

    def add(self, parts: tuple[str | int, ...], found: str, allowed: str, hint: str = "") -> None:
        """Report a problem at a key of this pool."""
        self.report.add(self.key(*parts), found, allowed, hint)

    def touched(self, *parts: str | int) -> bool:
        """Is there a problem at this key of the pool, or below or above it?"""
        return self.report.touched(self.key(*parts))

    def whole(self, *parts: str | int) -> bool:
        """Has this list of the pool all the entries that the file has?"""
        return self.report.whole(self.key(*parts))

    def wrote(self, name: str) -> bool:
        """Does the file have this key of the pool?"""
        return name in self.pool.model_fields_set

    @property
    def size(self) -> int:
        """How many servers it has."""
        return server_count(self.pool)


def server_count(pool: PoolTable) -> int:
    """The servers of a pool: as many as it has machines, else as written."""
    return len(pool.machines) if pool.driver == "baremetal" else pool.servers or 1


def surge_default(driver: str, has_data: bool) -> Amount:
    """1 where old and new can live side by side without sharing a disk (libvirt pools without data), else 0."""
    return Amount(1 if driver == "libvirt" and not has_data else 0)


def rollout_time(pool: PoolTable, name: str) -> float:
    """A duration of the pool's rollout in seconds: as written, else its driver's default."""
    written: float = getattr(pool.rollout, name)
    if pool.driver != "baremetal" or name in pool.rollout.model_fields_set:
        return written
    return METAL_TIMES.get(name, written)
