"""What must hold between machines, and between machines and the pools that they are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fleet.core.grammar import describe
from fleet.settings.case import Case
from fleet.settings.models import MachineTable
from fleet.settings.problems import did_you_mean
from fleet.settings.validate import Report

NOT_ON_METAL: Mapping[str, tuple[str, str]] = {
    "hypervisors": ("hypervisors", "Its servers are its machines; take the key out"),
    "network": ("network", "A machine has its own address, in [machines.NAME]; take the key out"),
    "data": ("data disks", "The data partition is the machine's own and no rollout touches it; take the key out"),
    "memory": ("memory", "A machine has what it has; take the key out"),
    "vcpus": ("vcpus", "A machine has what it has; take the key out"),
    "sim": ("simulated world", "Take the key out"),
}


def check_machines(machines: Mapping[str, MachineTable | None], report: Report) -> None:
    """Ways that exist and end, one name for one machine, one way to log in."""
    first: dict[tuple[str, int, str], str] = {}
    for name, machine in machines.items():
        if machine is None:
            continue
        sure = not any(report.touched(("machines", name, part)) for part in ("address", "port", "jump"))
        _check_login(name, machine, report)
        if machine.jump is not None:
            _check_jump(name, machine.jump, machines, report)
        place = (machine.address, machine.port, machine.jump or "")
        if sure and place in first:
            report.add(("machines", name, "address"), f"the address and port of {first[place]}", "each machine under one name")
        if sure:
            first.setdefault(place, name)


def _check_login(name: str, machine: MachineTable, report: Report) -> None:
    if machine.agent and machine.key is not None:
        report.add(("machines", name, "agent"), "both key and agent", "one of the two",
                   "A key is a file; with agent = true the keys of the daemon's SSH agent are used")
    bmc = machine.bmc
    if bmc is not None and (bmc.user is None) != (bmc.password_file is None):
        missing = "user" if bmc.user is None else "password_file"
        report.add(("machines", name, "bmc"), f"no {missing}", "user and password_file, or neither")


def _check_jump(name: str, jump: str, machines: Mapping[str, MachineTable | None], report: Report) -> None:
    key = ("machines", name, "jump")
    if jump not in machines:
        hint = did_you_mean(jump, list(machines)) or f"Describe it in [machines.{jump}]"
        report.add(key, describe(jump), "a machine of this file", hint)
        return
    way = [name]
    here: str | None = jump
    while here is not None and here not in way:
        way.append(here)
        machine = machines.get(here)
        here = machine.jump if machine is not None else None
    # A machine that only leads into the loop is not told: the loop is, once for each machine on it.
    if here == name:
        report.add(key, " through ".join([*way, name]), "a way that does not come back to where it began")


def check_metal(case: Case) -> None:
    """A pool of machines: it names them, and nothing that only a virtual machine has."""
    if case.pool.driver != "baremetal":
        if case.wrote("machines"):
            case.add(("machines",), "machines", 'none for driver = ' + describe(case.pool.driver), 'They are for driver = "baremetal"')
        if case.pool.servers is None and not case.report.touched(case.key("servers")):
            case.add(("servers",), "nothing", "an integer from 1 to 10000")
        return
    for name, (what, hint) in NOT_ON_METAL.items():
        if case.wrote(name) and not case.report.touched(case.key(name)):
            case.add((name,), "a value", f'no {what} for driver = "baremetal"', hint)
    for index, check in enumerate(case.pool.health):
        if "agent" in check.model_fields_set:
            case.add(("health", index, "agent"), "the guest agent", 'tcp, http, ssh or command for driver = "baremetal"')


def check_machine_list(case: Case) -> None:
    """The machines of a pool are described, each once, and as many as `servers` says, if it says."""
    pool, known = case.pool, case.around.machines
    if pool.driver != "baremetal":
        return
    if not pool.machines and case.whole("machines"):
        case.add(("machines",), "none", 'at least one for driver = "baremetal", such as ["rack1"]')
    for index, name in enumerate(pool.machines):
        if name not in known:
            names = ", ".join(sorted(known)[:10]) or "there is none"
            case.add(("machines", index), describe(name), f"a machine of this file ({names})",
                     did_you_mean(name, list(known)) or f"Describe it in [machines.{name}]")
        elif name in pool.machines[:index]:
            case.add(("machines", index), f"{describe(name)} twice", "each machine once")
    if pool.servers is not None and pool.machines and pool.servers != len(pool.machines) \
            and case.whole("machines") and not case.report.touched(case.key("servers")):
        case.add(("servers",), str(pool.servers), f"{len(pool.machines)}, the number of its machines",
                 "It may be left out")


def check_metal_surge(case: Case) -> None:
    """Two slots of one machine never run side by side."""
    surge = case.pool.rollout.max_surge
    if case.pool.driver == "baremetal" and surge is not None and surge.value:
        case.add(("rollout", "max_surge"), str(surge), '0 for driver = "baremetal"',
                 "The two slots of a machine never run side by side, so no server can be created first")


def check_names(cases: Sequence[Case]) -> None:
    """A machine is in one pool, and no numbered server of another pool bears its name."""
    taken: dict[str, str] = {}
    numbered = {case.name: case.size for case in cases if case.pool.driver != "baremetal"
                and not case.report.touched(case.key("servers")) and not case.report.touched(case.key("driver"))}
    for case in cases:
        if case.pool.driver != "baremetal" or case.report.touched(case.key("driver")):
            continue
        for index, name in enumerate(case.pool.machines):
            if case.report.touched(case.key("machines", index)):
                continue
            if taken.setdefault(name, case.name) != case.name:
                case.add(("machines", index), f"{describe(name)}, which pool {taken[name]} has", "a machine that is in no other pool")
                continue
            pool, _, number = name.rpartition("-")
            if number.isdecimal() and not number.startswith("0") and int(number) <= numbered.get(pool, 0):
                case.add(("machines", index), f"{describe(name)}, which is also a server of pool {pool}",
                         "a name that no other server has", "Give the machine another name, in [machines.NAME]")


METAL_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Case], None]], ...] = (
    (("driver",), check_metal),
    (("driver", "machines[]"), check_machine_list),
    (("driver", "rollout.max_surge"), check_metal_surge),
)
