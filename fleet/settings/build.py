"""From valid models to the frozen `Desired` that everything else reads. Relative paths are made absolute here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.core import desired as d
from fleet.core.windows import Window
from fleet.settings import models as m
from fleet.settings import values as v
from fleet.settings.case import rollout_time, server_count, surge_default


def build(
    fleet: m.FleetTable,
    hypervisors: Mapping[str, m.HypervisorTable],
    images: Mapping[str, m.ImageTable],
    pools: Mapping[str, m.PoolTable],
    access: m.AccessTable,
    machines: Mapping[str, m.MachineTable],
    *,
    folder: str,
    path: str,
    digest: str,
) -> d.Desired:
    """`folder` is what relative paths start from; `path` and `digest` tell where the settings came from."""
    return d.Desired(
        fleet=fleet.name,
        hypervisors={
            name: d.Hypervisor(name, table.uri, table.acceleration) for name, table in hypervisors.items()},
        images={name: _source(name, table, folder) for name, table in images.items()},
        pools={
            name: _pool(name, table, fleet.authorized_keys, folder) for name, table in pools.items()},
        access=d.Access(tuple(access.observers), tuple(access.operators), tuple(access.approvers)),
        path=path,
        digest=digest,
        machines={name: _machine(name, table, folder) for name, table in machines.items()},
    )


def _source(family: str, table: m.ImageTable, folder: str) -> d.ImageSource:
    path = os.path.abspath(os.path.join(folder, table.path)) if table.path is not None else ""
    return d.ImageSource(family, path, tuple(table.simulated or ()), table.mirror or "")


def _machine(name: str, table: m.MachineTable, folder: str) -> d.Machine:
    return d.Machine(
        name, table.address, table.port, table.user, table.jump or "", _file(table.key, folder), table.agent, table.host_key or "",
        table.host_ca or "", table.disk or "", _file(table.console, folder), _bmc(table.bmc, folder))


def _bmc(table: m.BmcTable | None, folder: str) -> d.Bmc | None:
    if table is None:
        return None
    return d.Bmc(table.url, table.user or "", _file(table.password_file, folder), _file(table.ca, folder))


def _file(path: str | None, folder: str) -> str:
    return os.path.abspath(os.path.join(folder, path)) if path is not None else ""


def _pool(name: str, table: m.PoolTable, fleet_keys: Sequence[str], folder: str) -> d.Pool:
    return d.Pool(
        name=name,
        driver=table.driver,
        servers=server_count(table),
        image=table.image,
        channel=table.channel,
        root=table.root,
        mode=table.mode,
        hypervisors=tuple(table.hypervisors),
        memory=table.memory,
        vcpus=table.vcpus,
        network=_network(table.network),
        data=tuple(d.DataDisk(disk.name, disk.size) for disk in table.data),
        health=_health(table, folder),
        hooks=d.Hooks(_argv(table.hooks.drain, folder), _argv(table.hooks.admit, folder)),
        rollout=_rollout(table),
        sim=_sim(table),
        authorized_keys=tuple(dict.fromkeys((*fleet_keys, *table.authorized_keys))),
        ssh_user=table.ssh_user,
        approvals=table.approvals,
        approval_expiry=table.approval_expiry,
        max_age=table.max_age,
        machines=tuple(table.machines),
        windows=tuple(
            Window(tuple(sorted({v.WEEKDAYS.index(day) for day in one.days})), one.start, one.length, one.time_zone) for one in table.windows),
        breaker=table.breaker,
        after=tuple(table.after),
    )


def _argv(words: Sequence[str], folder: str) -> tuple[str, ...]:
    """A program with a slash in its name is a path; it is relative to the fleet file, not to where the daemon runs."""
    if not words or "/" not in words[0]:
        return tuple(words)
    return (os.path.abspath(os.path.join(folder, words[0])), *words[1:])


def _network(table: m.NetworkTable | None) -> d.Network:
    if table is None:
        return d.Network()
    if table.user is not None:
        user = table.user
        return d.Network("user", address=user.address, first_port=user.first_port, guest_port=user.guest_port)
    if table.network is not None:
        return d.Network("network", table.network)
    return d.Network("bridge", table.bridge or "")


def _health(table: m.PoolTable, folder: str) -> tuple[d.HealthCheck, ...]:
    if table.driver == "sim":
        return (d.HealthCheck("sim"),)
    return tuple(_check(check, table.ssh_user, folder) for check in table.health)


def _check(check: m.HealthTable, ssh_user: str, folder: str) -> d.HealthCheck:
    kind, options = "agent", dict[str, Any]()
    if check.tcp is not None:
        kind, options = "tcp", {"port": check.tcp.port, "expect": check.tcp.expect or ""}
    elif check.http is not None:
        kind, options = "http", {"port": check.http.port, "path": check.http.path, "status": check.http.status}
    elif check.ssh is not None:
        kind, options = "ssh", {"command": check.ssh.command, "user": check.ssh.user or ssh_user}
    elif check.command is not None:
        kind, options = "command", {"argv": _argv(check.command, folder)}
    return d.HealthCheck(kind, options, check.deadline, check.interval)


def _rollout(table: m.PoolTable) -> d.RolloutSettings:
    rollout = table.rollout
    surge = rollout.max_surge
    return d.RolloutSettings(
        max_unavailable=rollout.max_unavailable,
        max_surge=surge if surge is not None else surge_default(table.driver, bool(table.data)),
        canaries=rollout.canaries,
        promotion=rollout.promotion,
        min_healthy_time=rollout.min_healthy_time,
        healthy_deadline=rollout_time(table, "healthy_deadline"),
        progress_deadline=rollout_time(table, "progress_deadline"),
        drain_deadline=rollout.drain_deadline,
        max_failures=rollout.max_failures,
        on_failure=rollout.on_failure,
        retain=rollout_time(table, "retain"),
        order=rollout.order,
        checkpoints=tuple(rollout.checkpoints),
        checkpoint_pause=rollout.checkpoint_pause,
        on_disconnect=rollout.on_disconnect,
    )


def _sim(table: m.PoolTable) -> d.SimSettings | None:
    if table.driver != "sim":
        return None
    sim = table.sim if table.sim is not None else m.SimTable()
    return d.SimSettings(sim.seed, sim.boot, sim.jitter, dict(sim.faults), sim.in_place, sim.places)
