"""The bare-metal driver: the verbs of the port on machines that are only reached over SSH.

A pool lists machines; a server's name is its machine's, and so is its place. Two A/B slots are the two incarnations. What is
true lies on the machine (docs/host-protocol.md); the driver remembers the last look and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Final, Literal, TypeVar

from drivers.baremetal import births, bmc, console, sight, upload, words
from drivers.baremetal import install as first
from drivers.baremetal.births import Births, bundle_of, path_of
from drivers.baremetal.bulk import Bulk
from drivers.baremetal.facts import HostFacts
from drivers.baremetal.host import SPACING, Host, Spawn
from drivers.remotes import Remote
from drivers.ssh import SshSessions
from fleet.core.desired import Pool
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.core.observed import Facts, Image, Observed, Seen
from fleet.core.printable import printable
from fleet.ports import Birth, Operation, Surroundings, Way

GLANCE: Final = 3.0
"""Seconds that an observation waits for slow machines; what they answer later is in the next one."""
PROBE: Final = 12.0
CHECK: Final = 60.0

T = TypeVar("T")


class BaremetalDriver:
    """Driver, Console, Login, Machines, Power and RootLocker for all machines of a fleet."""

    name = "baremetal"
    surge = False

    def __init__(self, around: Surroundings, sessions: SshSessions, spawn: Spawn) -> None:
        self._clock = around.clock
        self._glance = float(around.options.get("baremetal.glance", GLANCE))
        spacing = float(around.options.get("baremetal.spacing", SPACING))
        self.hosts: Mapping[str, Host] = {
            name: Host(machine, around.desired, sessions, around.clock, spawn, spacing) for name, machine in around.desired.machines.items()
        }
        self._desired = around.desired
        self._sessions, self._state_dir = sessions, around.state_dir
        self._small = int(around.options.get("baremetal.small", upload.SMALL))
        self._bulk = Bulk(around.state_dir, around.clock, sessions)
        self._power: births.Cycle = around.options.get("baremetal.cycle", bmc.cycle)
        self._births = Births(around.clock, self._bring, self._power, spacing)

    async def observe(self, pool: Pool) -> Observed:
        """See Driver. A machine that has not answered within three seconds is unreachable this time, and goes on being asked,

        unless what it told before is young enough to stand.
        """
        now = self._clock.now()
        asked = {name: self._host(name).begin(fresh=False) for name in pool.places if self._usable(name)}
        waiting = {task for task in asked.values() if task is not None}
        if waiting:
            await asyncio.wait(waiting, timeout=self._glance)
        found: list[Seen] = []
        unreachable: dict[str, str] = {}
        for name in pool.places:
            task = asked.get(name)
            try:
                if task is not None and not task.done() and not self._host(name).stands:
                    raise Transient(self._why_silent(name), where=name)
                found.extend(sight.incarnations(self._host(name).machine, self._host(name).answer(), now))
            except AnewError as problem:
                unreachable[name] = problem.beside(name)
        return Observed(pool.name, 0.0, tuple(found), unreachable=unreachable)

    async def stage(self, pool: Pool, image: Image, place: str, op: Operation) -> None:
        """See Driver. The idle slot is written, and does not boot yet; the machine serves on."""
        await self._within(op.deadline, f"staging {image.ref} on {place}", self._births.stage(self._of(pool, place), image, op))

    async def birth(self, pool: Pool, order: Birth, op: Operation) -> Seen:
        """See Driver. It runs on trial when this returns: without `commit` the machine goes back by itself."""
        host = self._of(pool, order.server)
        return await self._within(op.deadline, f"booting {order.image.ref} on {order.server}", self._births.birth(host, order, op))

    async def probe(self, pool: Pool, server: str, number: int) -> Facts:
        """See Driver. Never raises for a silent machine: the note says what was wrong."""
        try:
            host = self._of(pool, server)
            facts = host.answer() if host.stands else await self._within(PROBE, f"asking {server}", host.look())
        except AnewError as problem:
            return Facts(note=problem.beside(server))
        if facts.number != number:
            return Facts(note="it is not running")
        return Facts(facts.root, facts.version, facts.boot_id, printable(facts.os, 128), sight.note_of(facts, self._clock.now()))

    async def commit(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """See Driver. Its dead-man stops; the other slot becomes the retained one."""
        host = self._of(pool, server)
        await self._within(op.deadline, f"blessing incarnation {number} of {server}", self._commit(host, number, op))

    async def retire(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """See Driver. What runs on a machine is stopped by the reboot into the other slot; an idle slot is stopped already."""
        host = self._of(pool, server)
        await self._within(op.deadline, f"looking at {server}", host.look())

    async def revive(self, pool: Pool, server: str, number: int, op: Operation) -> Seen:
        """See Driver. One command and a reboot; if the machine is there already, nothing."""
        host = self._of(pool, server)
        return await self._within(op.deadline, f"going back to incarnation {number} of {server}", self._births.revive(host, number, op))

    async def bury(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """See Driver. The record goes; the slot's bytes stay what the boot loader falls back to."""
        host = self._of(pool, server)
        await self._within(op.deadline, f"forgetting incarnation {number} of {server}", self._bury(host, number, op))

    async def console(self, pool: Pool, server: str, number: int) -> AsyncIterator[bytes]:
        """See Console. The machine's, whichever incarnation writes to it."""
        machine = self._of(pool, server).machine
        if not machine.console:
            raise Refused("it has no console file; let something write its serial console to a file and name it as `console`", where=server)
        async for data in console.follow(machine.console, self._clock):
            yield data

    async def last_words(self, pool: Pool, server: str, number: int) -> str:
        """See Console."""
        return await console.last_words(self._of(pool, server))

    async def check(self, name: str) -> Mapping[str, str]:
        """See Machines."""
        try:
            facts = await self._within(CHECK, f"looking at {name}", self._host(name).look())
        except AnewError as problem:
            return {"reach": problem.beside(name)}
        return _told(facts, sight.note_of(facts, self._clock.now()))

    def told(self, name: str) -> Mapping[str, str]:
        """See Machines."""
        host = self.hosts.get(name)
        return _told(host.facts, "") if host is not None and host.facts is not None else {}

    async def install(self, name: str, pool: Pool, image: Image, disk: str, op: Operation) -> str:
        """See Machines. The host runs a live system, and is reached with the key that this one shows."""
        host, jumps = self._of(pool, name), first.reached_through(self._desired.machines, name)
        work = first.install(self._sessions, self._state_dir, host.remote, host.machine, pool, image, disk, jumps, self._clock.now(), op)
        return await self._within(op.deadline, f"the first install of {name}", work)

    async def recover(self, pool: Pool, server: str, how: Literal["cycle", "pxe"], op: Operation) -> str:
        """See Power."""
        return await self._power(self._of(pool, server).machine, how == "pxe", op.deadline)

    async def root_fixed(self, pool: Pool, server: str) -> str:
        """See RootLocker."""
        told = await self.check(server)
        if told["reach"] != "ok":
            return told["reach"]
        if told["backend"] != "none":
            return f"it has A/B slots ({told['backend']}): its root is the image itself, read-only by construction"
        return ""

    async def writers(self, pool: Pool, server: str) -> tuple[str, ...]:
        """See RootLocker."""
        frame = await self._of(pool, server).ask(words.writers())
        lines = frame.section("writers")[: 64 * 1024].decode("utf-8", "replace").splitlines()
        return tuple(line for line in (printable(raw) for raw in lines[:1000]) if line)

    async def lock_root(self, pool: Pool, server: str, mode: Literal["read-only", "writable"], op: Operation) -> str:
        """See RootLocker."""
        host = self._of(pool, server)
        await host.ask(words.lock(op, mode), min(op.deadline, 2 * words.SHORT))
        return f"the root of {server} is {mode} now, and after a reboot; its old /etc/fstab is kept beside anew's records there"

    def way_in(self, pool: Pool, server: str, seen: Seen | None) -> Way:
        """See Login. Its address and host key are the fleet file's, whatever runs there."""
        return self._way(self._of(pool, server).remote)

    def _way(self, remote: Remote) -> Way:
        jump = self._way(remote.jump) if remote.jump is not None else None
        return Way(remote.host, remote.port, remote.user, remote.pins, remote.authorities, self._sessions.key_of(remote), jump=jump)

    async def _commit(self, host: Host, number: int, op: Operation) -> None:
        facts = await host.look()
        if facts.number != number:
            raise Refused(f"incarnation {number} is not the one that runs; {facts.number} is", where=host.name, code="wrong-state")
        if facts.running is None:
            return  # incarnation 0 was never made by anew: there is nothing to keep that is not kept
        if number and not sight.proved(facts.running, facts):
            if facts.running.state == "blessed" and not facts.trial:
                return  # it never left what it ran: that is not known, and a blessing would call it known
            raise Permanent(f"it runs image id {facts.image_id or 'none'}, and incarnation {number} was made with "
                            f"{facts.running.image_id or 'none'}: somebody wrote its slot, and what it runs is not kept; roll out an image to it",
                            where=host.name, code="not-proved")
        await host.ask(words.bless(op, number), op.deadline)
        kept = (await host.look()).running
        if kept is None or kept.state != "blessed":
            raise Transient("it says that it blessed what runs, and its record does not show it", retry_after=3.0, where=host.name)

    async def _bury(self, host: Host, number: int, op: Operation) -> None:
        facts = await host.look()
        if facts.number == number:
            raise Refused(f"incarnation {number} runs; only the idle slot's can be forgotten", where=host.name, code="wrong-state")
        idle = facts.idle
        if idle is None or idle.number != number:
            return
        if idle.state == "armed":
            await host.ask(words.reject(op, number), op.deadline)  # else the next boot would try it
        await host.ask(words.forget(op, number), op.deadline)

    async def _bring(self, host: Host, image: Image, op: Operation) -> None:
        bundle = bundle_of(image)
        if bundle.size <= self._small:
            await upload.upload(host, path_of(image), bundle.sha256, bundle.size, op)
            return
        have = host.facts.bundles if host.facts else ()
        await self._bulk.bring(host.remote, path_of(image), bundle.sha256, bundle.size, host.ask, op, have, op.tell, self._mirror(image))

    def _mirror(self, image: Image) -> str:
        """Where the host finds the same file by itself, "" if nowhere."""
        source = self._desired.images.get(image.ref.family)
        return f"{source.mirror.rstrip('/')}/{image.ref.version}/{image.root}" if source is not None and source.mirror else ""

    def _of(self, pool: Pool, server: str) -> Host:
        if server not in pool.machines:
            raise Refused(f"pool {pool.name} has no machine {server}; its machines are {', '.join(pool.machines) or 'none'}", where=pool.name)
        return self._host(server)

    def _host(self, name: str) -> Host:
        host = self.hosts.get(name)
        if host is None:
            raise Refused(f"machine {name} is not in the fleet file; add it with `anew machine add {name}`", where=name, code="unknown-machine")
        return host

    def _usable(self, name: str) -> bool:
        return name in self.hosts

    def _why_silent(self, name: str) -> str:
        host = self.hosts[name]
        if host.told_to_reboot:
            return "it is booting, and does not answer yet"
        return f"it has not answered within {self._glance:g} s; it goes on being asked"

    async def _within(self, seconds: float, what: str, work: Awaitable[T]) -> T:
        """Transient if the work takes longer; what it had done by then is found by looking."""
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise Transient(f"{what} took longer than {seconds:.0f} s", retry_after=1.0) from None


def _told(facts: HostFacts, note: str) -> Mapping[str, str]:
    """What `anew machine check` shows of a machine, in its order."""
    slots = {f"slot {name}": f"{slot.state} {slot.number if slot.number >= 0 else ''} {slot.version}".strip() for name, slot in facts.slots.items()}
    told = {
        "reach": "ok", "backend": facts.backend, "booted": facts.booted or "-", "version": facts.version or "-", "image": facts.image_id or "-",
        "os": facts.os, "root": facts.root, "data": facts.data, "free": f"{facts.data_free // 2**20} MiB", "trial": "yes" if facts.trial else "no",
        "env": "-" if facts.env == "none" else facts.env, "epoch": str(facts.epoch), "server": facts.server or "-", **slots, "note": note,
    }
    return {key: printable(value) for key, value in told.items() if value}


__all__ = ["BaremetalDriver"]
