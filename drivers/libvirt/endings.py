"""Keeping, stopping and removing incarnations: commit, retire, bury, and sweeping what a crash left behind.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from drivers.libvirt import api, domain_xml, lookup, names
from drivers.libvirt import tag as tags
from drivers.libvirt.place import Place, fence
from fleet.core.desired import Pool
from fleet.core.errors import Permanent, Refused, Transient
from fleet.ports import Clock, Operation

GRACE: Final = 10.0
"""Seconds a guest gets to unmount its disks before it is switched off."""

ROTATED: Final = ("", ".0", ".1", ".2")
"""virtlogd keeps that many older pieces of a console log beside it (virtlogd.conf: max_backups)."""


@dataclass(frozen=True, slots=True)
class Endings:
    """The verbs, for all hypervisors of a fleet."""

    places: Mapping[str, Place]
    clock: Clock
    grace: float = GRACE

    async def commit(self, found: lookup.Found, op: Operation) -> None:
        """From now on it comes back by itself after power loss. Its seed is taken out of the definition, then
        deleted.

        A guest whose root keeps nothing therefore comes back from a power loss without its identity, serving
        but with a host key that no probe accepts; anew's next start of it (revive) gives it a seed again.
        """
        fence(found.tag, op)
        where = names.domain(found.tag.server, found.tag.number)
        if not found.domain.active:
            raise Permanent(
                "only a running incarnation can be the one to keep; this one has stopped", where=where
            )
        tag = replace(found.tag, mark="committed", epoch=op.epoch)
        await found.place.main.call(f"committing {where}", 30.0, lambda c: _keep(c, tag, autostart=True))
        await _drop_seed(found)

    async def retire(self, found: lookup.Found, op: Operation) -> None:
        """Stop it for good measure gently, then surely; returns when the hypervisor says that it is off."""
        fence(found.tag, op)
        where = names.domain(found.tag.server, found.tag.number)
        making = found.tag.mark == "making" and not found.domain.active
        if not making:
            # Marked first: whatever stops it from here on was our doing.
            tag = replace(found.tag, mark="retired", epoch=op.epoch)
            await found.place.main.call(f"retiring {where}", 30.0, lambda c: _keep(c, tag, autostart=False))
        if found.domain.active:
            await self._stop(found, where, min(self.grace, op.deadline / 2))
        await _drop_seed(found)
        look = await found.place.look()
        domain = look.by_uuid(found.tag.uuid)
        if domain is not None and domain.active:
            raise Transient("it is still running after it was switched off", where=where)
        look.require_free(domain_xml.disk_files(found.domain.xml, writable=True), found.tag.uuid)

    async def bury(self, pool: Pool, server: str, number: int, op: Operation) -> None:
        """Remove a stopped incarnation and its own files; done before: no effect.

        Data disks and images stay.
        """
        found = await lookup.find(self.places, pool, server, number)
        if found is None:
            for name in pool.hypervisors:
                await _remove_files(lookup.place_of(self.places, name), server, number)
            return
        fence(found.tag, op)
        await self.remove(found)

    async def remove(self, found: lookup.Found) -> None:
        """Undefine a stopped domain of ours and delete its overlay, seed and console log."""
        where = names.domain(found.tag.server, found.tag.number)
        if found.domain.active:
            raise Refused("a running incarnation is not removed; retire it first", where=where)
        flags = api.UNDEFINE_OURS if found.tag.number else api.UNDEFINE_ADOPTED
        await found.place.main.call(f"removing {where}", 30.0, lambda c: _undefine(c, found.tag, flags))
        await _remove_files(found.place, found.tag.server, found.tag.number)

    async def _stop(self, found: lookup.Found, where: str, grace: float) -> None:
        link, uuid = found.place.main, found.tag.uuid
        await link.call(f"asking {where} to shut down", 30.0, lambda c: _ask_shutdown(c, uuid))
        end = self.clock.now() + grace
        while self.clock.now() < end:
            if not await link.call(
                f"watching {where}", 20.0, lambda c: c.lookupByUUIDString(uuid).isActive()
            ):
                return
            await self.clock.sleep(0.25)
        await link.call(f"switching off {where}", 60.0, lambda c: _switch_off(c, uuid))


def _keep(connection: api.Connection, tag: tags.Tag, *, autostart: bool) -> None:
    """Write the tag, take the seed out of what is kept, and say whether it starts with the machine."""
    domain = connection.lookupByUUIDString(tag.uuid)
    if not autostart:
        domain.setAutostart(0)
    if tag.seed:
        kept = ET.fromstring(domain.XMLDesc(api.XML_INACTIVE | api.XML_SECURE))
        domain_xml.drop_seed(kept)
        connection.defineXML(ET.tostring(kept, encoding="unicode"))
    lookup.write_tag(connection, tag)
    if autostart:
        domain.setAutostart(1)


def _ask_shutdown(connection: api.Connection, uuid: str) -> None:
    domain = connection.lookupByUUIDString(uuid)
    try:
        domain.shutdown()
    except api.LibvirtError:
        if not domain.isActive():
            return
        # A guest that cannot be asked (no agent, no ACPI, not booted yet) is switched off after its grace.


def _switch_off(connection: api.Connection, uuid: str) -> None:
    domain = connection.lookupByUUIDString(uuid)
    try:
        domain.destroy()
    except api.LibvirtError:
        if domain.isActive():
            raise


def _undefine(connection: api.Connection, tag: tags.Tag, flags: int) -> None:
    domain = connection.lookupByUUIDString(tag.uuid)
    if domain.isActive():
        raise Refused("it was started meanwhile; a running incarnation is not removed", where=domain.name())
    try:
        domain.undefineFlags(flags)
    except api.LibvirtError as err:
        if api.code_of(err) != api.INVALID_ARG:
            raise
        domain.undefineFlags(0)     # a hypervisor that knows no such flags has nothing that they are about


async def _drop_seed(found: lookup.Found) -> None:
    if found.tag.seed:
        await found.place.store.remove(names.seed(found.tag.server, found.tag.number, found.tag.seed))


async def _remove_files(place: Place, server: str, number: int) -> None:
    wanted = {
        names.overlay(server, number),
        names.seed(server, number, "fwcfg"),
        names.seed(server, number, "iso"),
    }
    wanted |= {names.console(server, number) + suffix for suffix in ROTATED}
    for name in wanted.intersection(await place.store.list()):
        await place.store.remove(name)
