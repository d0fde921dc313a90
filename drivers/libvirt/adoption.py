"""Taking over domains that anew did not make, and sweeping exactly one leftover of a crashed run."""

from __future__ import annotations

import hashlib
import ipaddress
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace

from drivers.libvirt import api, domain_xml, endings, lookup, observing
from drivers.libvirt import tag as tags
from drivers.libvirt.place import Place
from fleet.core.desired import Pool
from fleet.core.errors import Refused
from fleet.core.observed import Foreign, Leftover
from fleet.ports import Operation


def adopted_digest(uuid: str) -> str:
    """What stands for an image where there is none: no catalogued image ever has it, so the next rollout
    replaces it.
    """
    return "sha256:" + hashlib.sha256(f"foreign/{uuid}".encode()).hexdigest()


async def adopt(
    places: Mapping[str, Place],
    fleet: str,
    pool: Pool,
    server: str,
    foreign: Foreign,
    op: Operation,
    now: float,
) -> None:
    """Add our tag to a domain, as incarnation 0 of `server`.

    Its disks, its definition and its run stay as they are.
    """
    place = lookup.place_of(places, foreign.place)
    if server not in pool.server_names:
        raise Refused(
            f"pool {pool.name} has no server {server}; it has {', '.join(pool.server_names)}", where=server
        )
    tag = tags.Tag(
        fleet=fleet,
        pool=pool.name,
        server=server,
        number=0,
        uuid=foreign.uuid,
        digest=adopted_digest(foreign.uuid),
        version="adopted",
        born_at=now,
        mark="live",
        operation=op.id,
        rollout=op.rollout,
        epoch=op.epoch,
        root="writable",
        place=place.name,
    )
    async with place.turn:
        await place.main.call(f"adopting {foreign.name}", 30.0, lambda c: _tag(c, fleet, tag))


async def sweep(places: Mapping[str, Place], pool: Pool, leftover: Leftover, ends: endings.Endings) -> None:
    """Remove this leftover if it still is one. Refused for everything else, data disks above all."""
    place = lookup.place_of(places, leftover.place)
    look = await place.look()
    still = observing.leftovers(place, pool, look, await place.store.list())
    if (leftover.kind, leftover.key) not in {(one.kind, one.key) for one in still}:
        raise Refused(
            "this is not a leftover (any more): it is in use, gone, or not anew's; run the check again",
            where=f"hypervisor {leftover.place}, {leftover.key}",
        )
    if leftover.kind != "domain":
        await place.store.remove(leftover.key)
        return
    domain = look.by_uuid(leftover.key)
    if domain is not None and domain.tag is not None:
        await ends.remove(lookup.Found(place, domain, domain.tag))


def _tag(connection: api.Connection, fleet: str, tag: tags.Tag) -> None:
    domain = connection.lookupByUUIDString(tag.uuid)
    xml = ET.fromstring(domain.XMLDesc(0))
    where = domain.name()
    try:
        old = tags.read(xml)
    except ValueError as err:
        raise Refused(
            f"it bears a tag of anew that cannot be read ({err}); remove it with virsh metadata", where=where
        ) from err
    if old is not None and old.uuid == tag.uuid:
        if (old.fleet, old.server, old.number) != (fleet, tag.server, 0):
            raise Refused(f"it is {old.server}.{old.number} of fleet {old.fleet} already", where=where)
        return
    if not domain.isPersistent():
        raise Refused(
            "it is transient: it would vanish when it stops; make it lasting with virsh define first",
            where=where,
        )
    forward = next(iter(domain_xml.forwards(xml)), None)
    address = f"{_reachable(forward[0])}:{forward[1]}" if forward else ""
    lookup.write_tag(connection, replace(tag, address=address))


def _reachable(address: str) -> str:
    """A forward on every address is reached on this one, at least from the hypervisor itself."""
    everywhere = address == "" or ipaddress.IPv4Address(address).is_unspecified
    return "127.0.0.1" if everywhere else address
