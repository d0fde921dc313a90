"""What must hold between settings: names that exist, budgets that move, ports that do not collide.

A check names the keys it believes; where one of them is already reported as wrong the check is left out, so that one
mistake is told once. `key[]` is a list or a mapping that is judged entry by entry: it is looked at without its faulty entries. Sources: rollout.md rule 1 and its table, cli.md "A fleet file".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence

from fleet.core.grammar import describe, format_duration
from fleet.settings.case import Case, rollout_time, surge_default
from fleet.settings.metal import METAL_CHECKS
from fleet.settings.models import (
    HealthTable,
    HypervisorTable,
    ImageTable,
    UserNetwork,
)
from fleet.settings.problems import did_you_mean
from fleet.settings.validate import Report

HEALTH_KINDS = ("tcp", "http", "ssh", "agent", "command")
NETWORK_KINDS = ("user", "network", "bridge")


def check_pool(case: Case) -> None:
    """Run every check whose keys are right so far."""
    for needs, check in (*METAL_CHECKS, *CHECKS):
        if not any(_doubtful(case, need) for need in needs):
            check(case)


def _doubtful(case: Case, need: str) -> bool:
    key = case.key(*need.removesuffix("[]").split("."))
    return case.report.lost(key) if need.endswith("[]") else case.report.touched(key)


def _image(case: Case) -> None:
    name, families = case.pool.image, case.around.images
    if name not in families:
        hint = did_you_mean(name, list(families)) or f"Describe it in [images.{name}]"
        case.add(("image",), describe(name), _one_of("an image family", families), hint)
        return
    family = families[name]
    if family is not None and family.simulated and family.path is None and case.pool.driver != "sim":
        case.add(("image",), f"the simulated family {describe(name)}", f'a family with a "path" for driver = "{case.pool.driver}"')


def _one_of(what: str, names: Mapping[str, object]) -> str:
    return f"{what} of this file ({', '.join(sorted(names)[:10]) or 'there is none'})"


def _hypervisors(case: Case) -> None:
    known = case.around.hypervisors
    for index, name in enumerate(case.pool.hypervisors):
        if name not in known:
            hint = did_you_mean(name, list(known)) or f"Describe it in [hypervisors.{name}]"
            case.add(("hypervisors", index), describe(name), _one_of("a hypervisor", known), hint)
        elif name in case.pool.hypervisors[:index]:
            case.add(("hypervisors", index), f"{describe(name)} twice", "each hypervisor once")


def _libvirt_needs(case: Case) -> None:
    if case.pool.driver != "libvirt":
        return
    if not case.pool.hypervisors and case.whole("hypervisors"):
        case.add(("hypervisors",), "none", 'at least one for driver = "libvirt", such as ["hv1"]')
    if case.pool.network is None and not case.touched("network"):
        case.add(("network",), "nothing", 'user = { first_port = 2201 }, network = "default" or bridge = "br0"')
    if case.wrote("sim") and not case.touched("sim"):
        case.add(("sim",), "a table", 'no simulated world for driver = "libvirt"')


def _sim_has_none(case: Case) -> None:
    if case.pool.driver != "sim":
        return
    for name in ("hypervisors", "network"):
        if case.wrote(name) and not case.touched(name):
            case.add((name,), "a value", f'no {name} for driver = "sim"', "Take the key out")
    if case.wrote("health") and not case.touched("health"):
        case.add(("health",), "checks", 'none for driver = "sim"', "Its health is simulated; take the checks out")


def _network(case: Case) -> None:
    if case.pool.network is not None:
        _exactly_one(case, ("network",), NETWORK_KINDS, sorted(case.pool.network.model_fields_set))


def _health(case: Case) -> None:
    outside, doubtful = False, case.touched("health")
    for index, check in enumerate(case.pool.health):
        kinds = [kind for kind in HEALTH_KINDS if kind in check.model_fields_set]
        _exactly_one(case, ("health", index), HEALTH_KINDS, kinds)
        outside = outside or kinds != ["agent"]
    if case.pool.driver != "sim" and not outside and not doubtful:
        found = "only the guest agent" if case.pool.health else "no checks"
        hint = "A server passes only by a look from outside: an image that never answers would pass otherwise"
        case.add(("health",), found, 'at least one of tcp, http, ssh, command, such as tcp = { port = 22, expect = "SSH-" }', hint)


def _exactly_one(case: Case, key: tuple[str | int, ...], kinds: Sequence[str], found: Sequence[str]) -> None:
    if len(found) != 1:
        case.add(key, " and ".join(found) or "none of them", f"exactly one of {', '.join(kinds)}")


def _forwarded_ports(case: Case) -> None:
    """User networking forwards one port of the guest; a check of another would never be answered."""
    user = case.pool.network.user if case.pool.network is not None else None
    for index, check in enumerate(case.pool.health if user is not None else ()):
        kind, port = _port_of(check)
        if user is not None and port and port != user.guest_port:
            hint = "User networking forwards only that port of a server"
            case.add(("health", index, kind, "port"), str(port), f"network.user.guest_port, which is {user.guest_port}", hint)


def _port_of(check: HealthTable) -> tuple[str, int]:
    if check.tcp is not None:
        return "tcp", check.tcp.port
    return ("http", check.http.port) if check.http is not None else ("", 0)


def _port_range(case: Case) -> None:
    user = case.pool.network.user if case.pool.network is not None else None
    if user is not None and user.first_port + 2 * case.size - 1 > 65535:
        case.add(("network", "user", "first_port"), str(user.first_port), f"at most {65536 - 2 * case.size}",
                 f"The pool needs {2 * case.size} ports from there, 2 for each server")


def _budgets(case: Case) -> None:
    rollout, has_data = case.pool.rollout, bool(case.pool.data) or not case.whole("data")
    surge = rollout.max_surge if rollout.max_surge is not None else surge_default(case.pool.driver, has_data)
    if has_data and surge.value:
        case.add(("rollout", "max_surge"), str(surge), "0 for a pool with data",
                 "A data disk is attached to one incarnation at a time, so no server can be created first")
    elif not surge.value and not rollout.max_unavailable.value:
        written = "0" if rollout.max_surge is not None else "0, and max_surge is 0 where it is left out"
        case.add(("rollout", "max_unavailable"), written, "at least one of max_unavailable and max_surge above 0",
                 "With both at 0 no server could ever be replaced")


def _canaries(case: Case) -> None:
    canaries = case.pool.rollout.canaries
    if not canaries.percent and canaries.value > case.size:
        case.add(("rollout", "canaries"), str(canaries), f"at most {case.size}, the number of servers")


def _checkpoints(case: Case) -> None:
    points = case.pool.rollout.checkpoints  # one that is none in itself is told already, and the others are in order beside it
    for index in range(1, len(points)):
        if points[index] <= points[index - 1]:
            case.add(("rollout", "checkpoints", index), str(points[index]), f"more than {points[index - 1]}, the checkpoint before it")


def _healthy_time(case: Case) -> None:
    least, healthy = case.pool.rollout.min_healthy_time, rollout_time(case.pool, "healthy_deadline")
    if least >= healthy:
        case.add(("rollout", "min_healthy_time"), format_duration(least),
                 f"less than healthy_deadline, which is {format_duration(healthy)}")


def _progress_time(case: Case) -> None:
    least, progress = case.pool.rollout.min_healthy_time, rollout_time(case.pool, "progress_deadline")
    if least >= progress:
        case.add(("rollout", "progress_deadline"), format_duration(progress),
                 f"more than min_healthy_time, which is {format_duration(least)}")


def _data(case: Case) -> None:
    names = [disk.name for disk in case.pool.data]
    for index, name in enumerate(names):
        if name in names[:index]:
            case.add(("data", index, "name"), f"{describe(name)} twice", "each disk name once in a pool")


def _faults(case: Case) -> None:
    family = case.around.images.get(case.pool.image)
    if case.pool.sim is None or family is None:
        return
    versions = family.simulated or []
    for version in case.pool.sim.faults:
        if version not in versions:
            allowed = f"a simulated version of {describe(case.pool.image)} ({', '.join(versions[:10]) or 'it has none'})"
            case.add(("sim", "faults", version), describe(version), allowed, did_you_mean(version, versions))


def _approvals(case: Case) -> None:
    """Enough people are named, beside the author. A group counts as enough: who is in it is not known here."""
    access, wanted = case.around.access, case.pool.approvals
    if access is None or not wanted or any(case.report.touched(("access", who)) for who in ("approvers", "operators")):
        return
    named = {*access.approvers, *access.operators}
    if any(entry.startswith("group:") for entry in named) or len(named) > wanted:
        return
    people = {0: "nobody", 1: "one person"}.get(len(named), f"{len(named)} people")
    case.add(("approvals",), str(wanted), f"at most {max(0, len(named) - 1)}" if named else "0",
             f"[access] names {people} as approver or operator, and the author of a plan does not count: name {wanted + 1} or more, or a group")


CHECKS: tuple[tuple[tuple[str, ...], Callable[[Case], None]], ...] = (
    (("image", "driver"), _image),
    (("driver", "hypervisors[]"), _libvirt_needs),
    (("driver",), _sim_has_none),
    (("hypervisors[]",), _hypervisors),
    (("network",), _network),
    (("driver", "health[]"), _health),
    (("network", "health[]"), _forwarded_ports),
    (("network", "servers"), _port_range),
    (("driver", "data[]", "rollout.max_surge", "rollout.max_unavailable"), _budgets),
    (("servers", "machines", "rollout.canaries"), _canaries),
    (("rollout.min_healthy_time", "rollout.healthy_deadline"), _healthy_time),
    (("rollout.min_healthy_time", "rollout.progress_deadline"), _progress_time),
    (("rollout.checkpoints[]",), _checkpoints),
    (("data[]",), _data),
    (("approvals",), _approvals),
    (("image", "sim.faults[]"), _faults),
)


def check_images(images: Mapping[str, ImageTable | None], report: Report) -> None:
    """A family has a folder or a list of simulated versions, and each version once."""
    for name, family in images.items():
        if family is None:
            continue
        doubtful = any(report.touched(("images", name, part)) for part in ("path", "simulated"))
        if (family.path is None) == (family.simulated is None) and not doubtful:
            found = "both" if family.path is not None else "neither"
            report.add(("images", name), found, "exactly one of path, simulated")
        elif family.mirror is not None and family.path is None and not doubtful:
            report.add(("images", name, "mirror"), "a mirror of a simulated family", 'a mirror beside a "path"')
        versions = family.simulated or []
        for index, version in enumerate(versions):
            if version in versions[:index]:
                report.add(report.original(("images", name, "simulated", index)), f"{describe(version)} twice", "each version once")


def check_hypervisors(hypervisors: Mapping[str, HypervisorTable | None], report: Report) -> None:
    """Two names for one machine would count its servers twice. libvirt's in-memory fake is a new one each time."""
    first: dict[str, str] = {}
    for name, hypervisor in hypervisors.items():
        if hypervisor is None or hypervisor.uri.startswith("test:"):
            continue
        if hypervisor.uri in first:
            report.add(("hypervisors", name, "uri"), f"the URI of {first[hypervisor.uri]}", "each machine under one name")
        first.setdefault(hypervisor.uri, name)


def check_ports(cases: Sequence[Case]) -> None:
    """User ports of two pools on one hypervisor must not overlap."""
    taken: list[tuple[str, UserNetwork, int, frozenset[str]]] = []
    for case in cases:
        user = case.pool.network.user if case.pool.network is not None else None
        if user is None or case.touched("network") or case.touched("servers") or case.report.lost(case.key("hypervisors")):
            continue
        last = user.first_port + 2 * case.size - 1
        places = frozenset(_place(case, name) for name in case.pool.hypervisors)
        for other, theirs, their_last, their_places in taken:
            if places & their_places and _same_address(user.address, theirs.address) \
                    and user.first_port <= their_last and theirs.first_port <= last:
                case.add(("network", "user", "first_port"), f"ports {user.first_port} to {last}",
                         f"none of ports {theirs.first_port} to {their_last}, which pool {other} has on the same hypervisor",
                         "A pool has 2 ports for each server")
                break
        taken.append((case.name, user, last, places))


def _place(case: Case, name: str) -> str:
    hypervisor = case.around.hypervisors.get(name)
    return hypervisor.uri if hypervisor is not None else name


def _same_address(one: str, other: str) -> bool:
    """Do two listening addresses meet? The unspecified address meets all."""
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    return first == second or first.is_unspecified or second.is_unspecified
