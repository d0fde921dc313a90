"""What to do next with a machine, decided from what it shows and from nothing else: pure.

A birth or a revival looks, takes the one step named here, and looks again. So it can be cut off anywhere, by a crash, a power
cut or a second daemon, and goes on from wherever the machine stands.

    steady → (install) staged → (arm) armed → (reboot) trial → (commit) steady
                                     ↳ came back by itself → (reject) rejected

A step is returned; what waiting and asking again cannot mend is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from drivers.baremetal import sight
from drivers.baremetal.facts import HostFacts, Slot
from fleet.core.errors import Permanent, Refused, Transient
from fleet.core.observed import ImageRef

ROOM: Final = 1.1
"""A bundle is brought only where this many times its size is free."""
JUST_BOOTED: Final = 120.0
"""Seconds after a boot in which a good slot may not have its try back yet."""

Kind = Literal["done", "install", "arm", "repair", "activate", "reboot", "reject", "go-home"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `number`: whom it is about; `why`: a sentence for go-home and reject, said when it is over."""

    kind: Kind
    number: int = -1
    why: str = ""


DONE: Final = Step("done")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The file that holds an image for machines."""

    sha256: str
    size: int


def birth(facts: HostFacts, number: int, image: ImageRef, bundle: Bundle, where: str) -> Step:
    """The next step towards incarnation `number` of `image` booted, on trial or blessed."""
    running, idle = facts.running, facts.idle
    if running is not None and running.number == number:
        return _booted(facts, running, number, image, where)
    if idle is not None and idle.number == number:
        return _not_booted(facts, idle, number, image, where)
    if _staged(idle, image):
        return preflight(facts, bundle, where, staged=True) or Step("arm", number)
    return preflight(facts, bundle, where) or Step("install", number)


def stage(facts: HostFacts, image: ImageRef, bundle: Bundle, where: str) -> Step:
    """The next step towards the image in the idle slot."""
    running, idle = facts.running, facts.idle
    if facts.trial and running is not None and running.digest == image.digest:
        return DONE  # it is being tried already
    waits = idle is not None and idle.state == "armed" and idle.digest == image.digest and not sight.came_back(idle, facts)
    if waits or _staged(idle, image):
        return DONE
    return preflight(facts, bundle, where) or Step("install")


def revival(facts: HostFacts, number: int, where: str) -> Step:
    """The next step towards the incarnation `number`, which the machine still has, booted."""
    idle = facts.idle
    if facts.number == number:
        if idle is not None and idle.number >= 0 and idle.state == "armed":
            return Step("reject", idle.number)  # tried and come back, or never tried: then any boot to come would try it, and nobody expects it
        return DONE
    if idle is None and facts.trial and number == 0:
        return Step("reboot")  # the trial's only try is spent: the boot loader falls back to what ran before anew came
    if idle is None or idle.number != number:
        raise Refused(f"it has no incarnation {number} any more: {_what_is_there(facts)}. Roll out the image instead", where=where, code="gone")
    if idle.state == "rejected" or sight.came_back(idle, facts):
        raise Permanent(f"incarnation {number} was tried and came back by itself; it is not started again", where=where, code="rejected")
    if idle.state == "armed":
        raise Refused(f"incarnation {number} was never booted: it is to be born, not revived", where=where, code="wrong-state")
    return Step("reboot") if facts.reading.next == "idle" else Step("activate", number)


def preflight(facts: HostFacts, bundle: Bundle, where: str, *, staged: bool = False) -> Step | None:
    """Whether the machine can be rolled now. None if it can, a step that mends it, or raises. `staged`: nothing is brought any more."""
    if facts.reading.problem:
        raise Permanent(facts.reading.problem, where=where, code="no-backend")
    if not facts.booted or facts.reading.booted not in ("", facts.booted):
        raise Permanent(
            f"it is not clear which slot it booted: its helper says {facts.booted or 'none'}, its {facts.backend} "
            f"{facts.reading.booted or 'none'}; nothing is written before that is settled", where=where, code="unknown-slot")
    if facts.data != "writable":
        how = "there is no data partition" if facts.data == "absent" else "its data partition is read-only"
        raise Permanent(f"{how}; mount it writable at /data, and look at its disk", where=where, code="read-only-data")
    if facts.trial:
        raise Refused(f"it is on trial with incarnation {facts.number}; keep that one or go back before another is begun", where=where, code="trial")
    if facts.env in sight.ENV_WORDS:
        return Step("repair")
    if facts.reading.booted_good is False:
        if facts.uptime < JUST_BOOTED:
            raise Transient("it has just booted, and its boot loader has not got its try back yet", retry_after=5.0, where=where)
        raise Permanent("its boot loader does not hold the booted slot for good, so there would be no way back; bless it there first "
                        "(`anew-bless`)", where=where, code="not-good")
    wanted = ROOM * bundle.size - facts.parts.get(bundle.sha256, 0)  # what was brought before a cut takes no more room
    if not staged and bundle.sha256 not in facts.bundles and facts.data_free < wanted:
        raise Permanent(f"its data partition has {_mib(facts.data_free)} MiB free and the image needs {_mib(wanted)}; free some there",
                        where=where, code="no-space")
    return None


def _booted(facts: HostFacts, slot: Slot, number: int, image: ImageRef, where: str) -> Step:
    _same_image(slot, number, image, where)
    if facts.trial and facts.deadman == 0:
        return Step("go-home", number, f"image {image.version} boots without a dead-man, so a hang would never end; its initrd must arm "
                    "a watchdog (docs/host-protocol.md). It was sent back to the old image")
    if facts.trial and not sight.proved(slot, facts):
        return Step("go-home", number, f"what came up bears image id {facts.image_id or 'none'} and the slot was written with "
                    f"{slot.image_id or 'none'}. It was sent back to the old image")
    return DONE


def _not_booted(facts: HostFacts, slot: Slot, number: int, image: ImageRef, where: str) -> Step:
    _same_image(slot, number, image, where)
    if slot.state == "armed" and not sight.came_back(slot, facts):
        # The record is written before the boot loader is told: cut between the two it would boot the old slot, and be called rejected.
        return Step("arm" if facts.reading.next == "booted" else "reboot", number)
    if slot.state in ("armed", "rejected"):
        return Step("reject", number, f"tried image {image.version} and came back to {facts.number} by itself")
    raise Refused(f"incarnation {number} is retained there; it is revived, not born again", where=where, code="wrong-state")


def _same_image(slot: Slot, number: int, image: ImageRef, where: str) -> None:
    if slot.digest != image.digest:
        raise Refused(f"incarnation {number} was made from another image than {image}; a new image takes a new number", where=where, code="taken")


def _staged(slot: Slot | None, image: ImageRef) -> bool:
    return slot is not None and slot.state == "staged" and slot.digest == image.digest


def _what_is_there(facts: HostFacts) -> str:
    idle = facts.idle
    if idle is None:
        return "its other slot has no record"
    return f"its other slot holds incarnation {idle.number}" if idle.number >= 0 else "its other slot was written over"


def _mib(size: float) -> int:
    return int(size) // 2**20


__all__ = ["Bundle", "Step", "birth", "preflight", "revival", "stage"]
