"""The libvirt driver: the verbs of the port, each within its deadline; the work is done in the modules beside
this one.

A create-first driver: the new incarnation is a second domain (`web-1.2`) beside the old (`web-1.1`). What it
knows lies in the domains' metadata (tag.py); it keeps no memory of its own but hashes and the proof of KVM.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from drivers.identity import IdentityStore
from drivers.libvirt import adoption, console, facts, lookup, names, observing
from drivers.libvirt import place as places
from drivers.libvirt.births import Births
from drivers.libvirt.endings import GRACE, Endings
from drivers.probes.words import Unreachable, host_port
from fleet.core.desired import Pool
from fleet.core.errors import AnewError, Refused, Transient
from fleet.core.observed import Facts, Foreign, Image, Leftover, Observed, Seen
from fleet.ports import Birth, Operation, Surroundings, Way

PROBE_SECONDS = 12.0
OBSERVE_SECONDS = 45.0


class LibvirtDriver:
    """Driver, Console, Login and Adopter for all hypervisors of a fleet.

    Connections are opened when first needed.
    """

    name = "libvirt"
    surge = True

    def __init__(self, around: Surroundings) -> None:
        self._clock = around.clock
        self._fleet = names.checked(around.desired.fleet, "a fleet's name")
        self.places = {name: places.make(around, one) for name, one in around.desired.hypervisors.items()}
        self._identity = IdentityStore(around.state_dir + "/identities")
        self._births = Births(self._fleet, self.places, self._identity)
        self._endings = Endings(self.places, around.clock, float(around.options.get("libvirt.grace", GRACE)))

    async def close(self) -> None:
        """Ends all connections."""
        await asyncio.gather(*(asyncio.to_thread(place.close) for place in self.places.values()))

    async def observe(self, pool: Pool) -> Observed:
        """See Driver. An unreachable hypervisor is named in `unreachable`, also if it is the only one."""
        async with _within(OBSERVE_SECONDS, f"observing {pool.name}"):
            return await observing.observe(self.places, pool)

    async def stage(self, pool: Pool, image: Image, place: str, op: Operation) -> None:
        """See Driver. Permanent names the file whose bytes are not the manifest's."""
        async with _within(op.deadline, f"staging {image.ref}"):
            await self._births.stage(image, lookup.place_of(self.places, place), op.deadline)

    async def birth(self, pool: Pool, order: Birth, op: Operation) -> Seen:
        """See Driver. Refused if a domain that is not ours has the incarnation's name."""
        async with _within(op.deadline, f"making {names.domain(order.server, order.number)}"):
            await self._births.birth(pool, order, op)
            return await self._seen(pool, order.server, order.number)

    async def probe(self, pool: Pool, server: str, number: int) -> Facts:
        """See Driver. Never raises for a silent or lying agent: the note says what was wrong."""
        async with _within(PROBE_SECONDS, f"asking {names.domain(server, number)}"):
            found = await lookup.find(self.places, pool, server, number)
            if found is None or not found.domain.active:
                return Facts(note="it is not running")
            uuid = found.tag.uuid
            try:
                return await found.place.agent.call(
                    f"asking the agent of {names.domain(server, number)}",
                    PROBE_SECONDS - 2,
                    lambda c: facts.learn(c.lookupByUUIDString(uuid)),
                )
            except AnewError as err:
                return Facts(note=str(err))

    async def commit(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """See Driver. It starts with the machine from now on."""
        async with _within(op.deadline, f"committing {names.domain(server, number)}"):
            await self._endings.commit(await lookup.require(self.places, pool, server, number), op)

    async def retire(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """See Driver. One that is not there is stopped already."""
        async with _within(op.deadline, f"retiring {names.domain(server, number)}"):
            found = await lookup.find(self.places, pool, server, number)
            if found is not None:
                await self._endings.retire(found, op)

    async def revive(self, pool: Pool, server: str, number: int, op: Operation) -> Seen:
        """See Driver.

        Its staged files are verified again, its seed is made again, its port may be another.
        """
        async with _within(op.deadline, f"reviving {names.domain(server, number)}"):
            found = await lookup.require(self.places, pool, server, number)
            await self._births.revive(found, pool, op)
            return await self._seen(pool, server, number)

    async def bury(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """See Driver. Of an adopted incarnation only the definition is removed, never a disk."""
        async with _within(op.deadline, f"removing {names.domain(server, number)}"):
            await self._endings.bury(pool, server, number, op)

    async def adopt(self, pool: Pool, server: str, foreign: Foreign, op: Operation) -> Seen:
        """See Adopter."""
        async with _within(op.deadline, f"adopting {foreign.name}"):
            other = await lookup.find(self.places, pool, server, 0)
            if other is not None and other.tag.uuid != foreign.uuid:
                raise Refused(
                    f"{server} has adopted the domain {other.domain.name} already", where=foreign.name
                )
            await adoption.adopt(self.places, self._fleet, pool, server, foreign, op, self._clock.now())
            return await self._seen(pool, server, 0)

    async def sweep(self, pool: Pool, leftover: Leftover, op: Operation) -> None:
        """See Adopter."""
        async with _within(op.deadline, f"sweeping {leftover.key}"):
            await adoption.sweep(self.places, pool, leftover, self._endings)

    async def console(self, pool: Pool, server: str, number: int) -> AsyncIterator[bytes]:
        """See Console."""
        found = await lookup.require(self.places, pool, server, number)
        async for data in console.follow(found.place.store, self._clock, server, number):
            yield data

    def way_in(self, pool: Pool, server: str, seen: Seen | None) -> Way:
        """See Login. The host key is the one that anew gave the server; an adopted incarnation has one of its own."""
        if seen is None:
            raise Refused(f"{server} has no incarnation in service, so there is nothing to log in to", where=server, code="not-running")
        if not seen.number:
            raise Refused(
                f"{server} is still the domain that was adopted: anew did not make it, so no host key of it is pinned; "
                "roll out an image to it, or log in by hand", where=server, code="not-pinned",
            )
        try:
            host, port = host_port(seen.address)
        except Unreachable as problem:
            raise Refused(f"{problem}; try again when it has booted", where=server, code="no-address") from None
        return Way(
            host, port, pool.ssh_user, (self._identity.host_public(server),), key=self._identity.client_private_path(), sole=True
        )

    async def last_words(self, pool: Pool, server: str, number: int) -> str:
        """See Console."""
        async with _within(PROBE_SECONDS, f"reading the console of {names.domain(server, number)}"):
            found = await lookup.find(self.places, pool, server, number)
            return "" if found is None else await console.last_words(found.place.store, server, number)

    async def _seen(self, pool: Pool, server: str, number: int) -> Seen:
        found = await lookup.require(self.places, pool, server, number)
        directory = await found.place.store.directory()
        address = await observing.address(found.place, pool, found.domain, found.tag)
        return observing.seen_of(found.domain, found.tag, pool, directory, address)


@contextlib.asynccontextmanager
async def _within(seconds: float, what: str) -> AsyncIterator[None]:
    """Transient if the body takes longer; what it had done by then is found by `observe`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Transient(f"{what} took longer than {seconds:.0f} s", retry_after=1.0) from None


__all__ = ["LibvirtDriver"]
