"""From what a host told to what the engine sees: pure.

Rules
- The booted slot runs, whatever its record says; it is believed to be an image only if the running system bears the id that
  the record has. Else its digest is "": unknown, and due for replacement.
- An idle slot that is `kept`, or `blessed` while the other is on trial, is stopped and startable. One that is `armed` is
  half-made until the machine has rebooted; after that it was tried and came back by itself: crashed, as is `rejected`.
- `writing` and `staged` are bytes in a slot, no incarnations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from drivers.baremetal.facts import HostFacts, Slot
from fleet.core.desired import Machine
from fleet.core.observed import Running, Seen

CLOCK_OFF: Final = 86_400.0
"""Seconds by which a host's clock may differ before a person should know."""

ENV_WORDS: Final = {
    "empty": "its boot environment is empty, so it has no fallback until `repair`",
    "torn": "its boot environment is torn, so it has no fallback until `repair`",
    "missing": "its boot environment is missing, so it has no fallback until `repair`",
}


def incarnations(machine: Machine, facts: HostFacts, now: float) -> tuple[Seen, ...]:
    """The one that runs, then the one in the idle slot if there is one. `now`: engine time, 0.0 if it does not matter."""
    found = [_running(machine, facts, now)]
    idle = facts.idle
    if idle is None and facts.trial and facts.number:
        before = Slot("", "blessed", 0)  # what ran before anew knew the machine, and what it falls back to
        found.append(_seen(machine, facts, before, "stopped", "", "", ""))
    if idle is not None and idle.number >= 0 and idle.number != facts.number:
        state, note = idle_state(idle, facts)
        found.append(_seen(machine, facts, idle, state, idle.digest, idle.version, note))
    return tuple(found)


def find(machine: Machine, facts: HostFacts, number: int) -> Seen | None:
    """One incarnation of a machine."""
    return next((seen for seen in incarnations(machine, facts, 0.0) if seen.number == number), None)


def came_back(slot: Slot, facts: HostFacts) -> bool:
    """True for an idle slot that was to be tried, and another boot runs the other one: the machine came back by itself."""
    return slot.state == "armed" and slot.armed_boot != facts.boot_id


def idle_state(slot: Slot, facts: HostFacts) -> tuple[Running, str]:
    """State and note of an incarnation in the idle slot."""
    if slot.state == "rejected":
        return "crashed", "rejected: it was tried, did not prove itself, and will not boot again"
    if came_back(slot, facts):
        return "crashed", f"it was tried, and the machine came back to {facts.number} by itself"
    if slot.state == "armed":
        return "half-made", "it is tried at the next boot"
    if facts.trial:
        return "stopped", ""
    return "stopped", "it boots next" if facts.reading.next == "idle" else ""


def proved(slot: Slot, facts: HostFacts) -> bool:
    """True if the running system is the image that the booted slot's record names."""
    return bool(facts.image_id) and slot.image_id == facts.image_id


def _running(machine: Machine, facts: HostFacts, now: float) -> Seen:
    return replace(_booted(machine, facts, now), unfit=facts.reading.problem if facts.backend == "none" else "")


def _booted(machine: Machine, facts: HostFacts, now: float) -> Seen:
    slot = facts.running
    if slot is None or slot.number < 0:
        return _seen(machine, facts, Slot(facts.booted, "blessed", 0), "running", "", facts.version, note_of(facts, now))
    digest, version = (slot.digest, slot.version) if proved(slot, facts) else ("", facts.version)
    return _seen(machine, facts, slot, "running", digest, version, note_of(facts, now))


def note_of(facts: HostFacts, now: float) -> str:
    """What a person must know of a running machine, "" if all is well."""
    said = []
    slot = facts.running
    if facts.trial:
        said.append(f"on trial, its dead-man fires after {facts.deadman} s" if facts.deadman else "on trial WITHOUT a dead-man")
    if slot is not None and slot.number >= 0 and not proved(slot, facts):
        said.append(f"it runs image id {facts.image_id or 'none'}, its record says {slot.image_id or 'none'}: what it runs is not known")
    said.extend(f"the record of slot {name} is torn" for name in facts.torn)
    if facts.env in ENV_WORDS:
        said.append(ENV_WORDS[facts.env])
    if facts.data != "writable" and facts.backend != "none":
        said.append("its data partition is read-only" if facts.data == "read-only" else "its data partition is absent")
    if facts.reading.problem:
        said.append(facts.reading.problem)
    if now and facts.clock and abs(facts.clock - now) > CLOCK_OFF:
        said.append(f"its clock is {_span(abs(facts.clock - now))} {'ahead' if facts.clock > now else 'behind'}")
    return "; ".join(said)


def _address(machine: Machine) -> str:
    host = f"[{machine.address}]" if ":" in machine.address else machine.address
    return f"{host}:{machine.port}"


def _span(seconds: float) -> str:
    days = int(seconds // 86_400)
    return f"{days // 365} years" if days >= 730 else "a year" if days >= 360 else f"{days} days"


def _seen(machine: Machine, facts: HostFacts, slot: Slot, state: Running, digest: str, version: str, note: str) -> Seen:
    return Seen(
        server=machine.name,
        number=max(slot.number, 0),
        digest=digest,
        version=version,
        state=state,
        born_at=slot.born,
        place=machine.name,
        address=_address(machine),
        operation=slot.op,
        rollout=slot.rollout,
        uuid=facts.server,
        note=note,
        console=machine.console,
    )


__all__ = ["came_back", "find", "idle_state", "incarnations", "note_of", "proved"]
