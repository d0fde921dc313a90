"""Making a machine boot what it should: staging, birth, revival, one step of `steps.py` after the other.

Rules
- Before every step the machine is looked at anew; nothing is remembered but that it was told to reboot.
- It is told to reboot by the id of the boot that was seen, so a late second word does nothing.
- While it boots it is asked at most every 5 s, by one attempt at a time.
- A machine that was told to reboot, and has not answered for most of the deadline, is power-cycled once if it has a BMC; one
  that was not told is left alone: it may serve, and only the way to it be cut.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from drivers.baremetal import console, sight, steps, words
from drivers.baremetal.facts import HostFacts
from drivers.baremetal.host import Host
from drivers.baremetal.steps import Bundle, Step
from fleet.core.desired import Machine
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.core.observed import Image, Seen
from fleet.ports import Birth, Clock, Operation

MOST_STEPS: Final = 16
"""A birth takes six steps; more means that the machine does not do what it answers."""
PATIENCE: Final = 0.6
"""Part of the deadline after which a machine that does not come back is power-cycled."""
MARGIN: Final = 0.03
"""Part of the deadline that is left for saying what went wrong."""
SAY_AGAIN: Final = 30.0
CYCLE: Final = 60.0
"""Seconds."""

Bring = Callable[[Host, Image, Operation], Awaitable[None]]
Cycle = Callable[[Machine, bool, float], Awaitable[str]]


def bundle_of(image: Image) -> Bundle:
    """The file of an image that machines are given. Refused for an image of another kind."""
    file = image.files.get(image.root)
    if file is None or image.kind != "rauc":
        raise Refused(f"image {image.ref} is of kind {image.kind}, and machines take signed bundles (kind rauc); see docs/images.md", where=str(image.ref))
    return Bundle(file.sha256, file.size)


@dataclass(slots=True)
class _Errand:
    """One verb under way. `ends`: engine time. `noted`: what a person should read of it afterwards. `cycled`: its patience is over."""

    host: Host
    op: Operation
    ends: float
    noted: str = ""
    cycled: bool = False


class Births:
    """Stages, births and revivals of machines. `spacing` in seconds between two looks at one that boots."""

    def __init__(self, clock: Clock, bring: Bring, cycle: Cycle, spacing: float) -> None:
        self._clock = clock
        self._bring = bring
        self._cycle = cycle
        self._spacing = spacing

    async def stage(self, host: Host, image: Image, op: Operation) -> None:
        """See Driver.stage."""
        bundle, errand = bundle_of(image), self._errand(host, op)
        for _ in range(MOST_STEPS):
            step = steps.stage(await host.look(), image.ref, bundle, host.name)
            if step.kind == "done":
                return
            await self._prepare(errand, step, image)
        raise _stuck(host)

    async def birth(self, host: Host, order: Birth, op: Operation) -> Seen:
        """See Driver.birth."""
        bundle, errand = bundle_of(order.image), self._errand(host, op)
        facts = await self._first_look(errand)
        for _ in range(MOST_STEPS):
            step = steps.birth(facts, order.number, order.image.ref, bundle, host.name)
            if step.kind == "done":
                return _seen(errand, facts, order.number)
            if step.kind == "arm":
                await host.ask(words.arm(op, order.number, order.image.ref.digest, order.born_at, op.rollout), self._left(errand))
            elif step.kind == "reboot":
                facts = await self._reboot(errand, facts, f"image {order.image.ref.version}")
                continue
            elif step.kind in ("reject", "go-home"):
                raise await self._gone_wrong(errand, facts, step)
            else:
                await self._prepare(errand, step, order.image)
            facts = await host.look()
        raise _stuck(host)

    async def revive(self, host: Host, number: int, op: Operation) -> Seen:
        """See Driver.revive."""
        errand = self._errand(host, op)
        facts = await self._first_look(errand)
        rebooted = activated = False
        for _ in range(MOST_STEPS):
            step = steps.revival(facts, number, host.name)
            if step.kind == "done":
                return _seen(errand, facts, number)
            if step.kind == "reject":
                await host.ask(words.reject(op, step.number), self._left(errand))
                facts = await host.look()
            elif step.kind == "activate" and not activated:
                await host.ask(words.activate(op, number), self._left(errand))
                facts, activated = await host.look(), True
            elif rebooted:
                raise Permanent(f"told to boot incarnation {number}, it booted {facts.number} again; its boot loader does not follow", where=host.name)
            else:
                facts, rebooted = await self._reboot(errand, facts, f"incarnation {number}"), True
        raise _stuck(host)

    async def _prepare(self, errand: _Errand, step: Step, image: Image) -> None:
        host, op = errand.host, errand.op
        if step.kind == "repair":
            if errand.noted:
                raise Permanent("its boot environment is bad again right after it was repaired; look at its disk", where=host.name, code="env")
            await host.ask(words.repair(op), self._left(errand))
            errand.noted = "its boot environment was empty or torn and has been made anew"
            op.tell(errand.noted)
            return
        bundle = bundle_of(image)
        op.tell(f"bringing image {image.ref.version}")
        await self._bring(host, image, op)
        op.tell(f"writing image {image.ref.version} to the idle slot")
        await host.ask(words.install(op, bundle.sha256, image.ref.digest, image.ref.version), self._left(errand))

    async def _first_look(self, errand: _Errand) -> HostFacts:
        """What it shows. One that this very operation told to reboot is waited for; any other silence is Transient."""
        if errand.host.told_to_reboot == errand.op.id:
            before = errand.host.facts
            return await self._back(errand, before.boot_id if before else "", "what it was told to")
        return await errand.host.look()

    async def _reboot(self, errand: _Errand, facts: HostFacts, what: str) -> HostFacts:
        host, op = errand.host, errand.op
        op.tell(f"rebooting into {what}")
        unheard = await host.reboot(op, facts.boot_id)
        return await self._back(errand, facts.boot_id, what, unheard)

    async def _back(self, errand: _Errand, boot_id: str, what: str, unheard: str = "it may not have heard it") -> HostFacts:
        """Wait until it runs another boot than `boot_id`. `unheard`: why it may not know yet that it is to reboot, "" if it does."""
        host, op, begun = errand.host, errand.op, self._clock.now()
        again, patience = begun + (0.0 if unheard else SAY_AGAIN), begun + PATIENCE * (errand.ends - begun)
        refused, answered = "", 0.0
        while True:
            try:
                async with asyncio.timeout(max(0.01, (errand.ends if errand.cycled else patience) - self._clock.now())):
                    facts = await host.look()
                if facts.boot_id != boot_id:
                    return facts
                if self._clock.now() >= again:
                    again = self._clock.now() + SAY_AGAIN
                    said = await host.reboot(op, boot_id)
                    unheard = unheard and ("" if op.id in said else said)  # a host that goes down holds its lock for us
                refused, answered = unheard, self._clock.now()
                silence = "it answers, and has not rebooted"
            except (Transient, TimeoutError) as problem:
                if isinstance(problem, Transient) or self._clock.now() - answered > SAY_AGAIN:  # else our own time ended a look at one that answers
                    refused = ""
                silence = problem.message if isinstance(problem, Transient) else "no answer"
            now = self._clock.now()
            if now >= errand.ends and refused:
                raise Permanent(f"it answers, and could not be told to boot {what} in {now - begun:.0f} s: {refused}", where=host.name, code="not-told")
            if now >= errand.ends:
                raise Permanent(f"it was told to boot {what} and has not come back in {now - begun:.0f} s ({silence}); "
                                "look at its console, or have `anew machine recover` cycle its power", where=host.name, code="silent")
            if now >= patience and not errand.cycled:
                errand.cycled = True
                if not refused:
                    await self._power_cycle(errand)
            op.tell(f"booting {what} for {now - begun:.0f} s")
            await self._clock.sleep(min(self._spacing, max(0.01, errand.ends - now)))

    async def _power_cycle(self, errand: _Errand) -> None:
        if errand.host.machine.bmc is None:
            return
        try:
            said = await self._cycle(errand.host.machine, False, min(CYCLE, self._left(errand)))
        except AnewError as problem:
            said = f"its BMC could not help: {problem.message}"
        errand.noted = said
        errand.op.tell(said)

    async def _gone_wrong(self, errand: _Errand, facts: HostFacts, step: Step) -> Permanent:
        """See that the bad slot will not boot again; the error that says what happened, with its last words."""
        host, op = errand.host, errand.op
        if step.kind == "go-home":
            facts = await self._reboot(errand, facts, "the old image again")
            if facts.number == step.number:
                return Permanent(f"{step.why}, and booted the same again: it needs a person", where=host.name, code="trial")
            await host.ask(words.reject(op, step.number), self._left(errand))
            return Permanent(step.why, where=host.name, code="rejected")
        await host.ask(words.reject(op, step.number), self._left(errand))
        said = console.telling_line(await console.last_words(host, words.SHORT))
        return Permanent(f"{step.why}{': ' + said if said else ''}", where=host.name, code="rejected")

    def _errand(self, host: Host, op: Operation) -> _Errand:
        return _Errand(host, op, self._clock.now() + op.deadline * (1 - MARGIN))

    def _left(self, errand: _Errand) -> float:
        return max(1.0, errand.ends - self._clock.now())


def _seen(errand: _Errand, facts: HostFacts, number: int) -> Seen:
    seen = sight.find(errand.host.machine, facts, number)
    assert seen is not None
    return replace(seen, note="; ".join(filter(None, (seen.note, errand.noted))))


def _stuck(host: Host) -> Permanent:
    return Permanent("it answers every step with ok and shows no change; its helper and its boot loader do not agree", where=host.name, code="stuck")


def path_of(image: Image) -> str:
    """Where the image's bundle lies here."""
    return os.path.join(image.folder, image.root)


__all__ = ["Births", "bundle_of", "path_of"]
