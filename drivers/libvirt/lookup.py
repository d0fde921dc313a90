"""Finding an incarnation of ours among the hypervisors of a pool, and writing what we know of it back to its
domain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.libvirt import api, names
from drivers.libvirt import tag as tags
from drivers.libvirt.place import Place
from drivers.libvirt.snapshot import DomainSeen, Snapshot
from fleet.core.desired import Pool
from fleet.core.errors import AnewError, Invalid, Permanent, Transient


@dataclass(frozen=True, slots=True)
class Found:
    """An incarnation: where it is, as what domain, and with which tag."""

    place: Place
    domain: DomainSeen
    tag: tags.Tag


def place_of(places: Mapping[str, Place], name: str) -> Place:
    """The hypervisor of this name. Raises Invalid."""
    if name not in places:
        raise Invalid(
            f'no hypervisor is called "{name}"; the fleet file names {", ".join(sorted(places)) or "none"}'
        )
    return places[name]


async def look_all(
    places: Mapping[str, Place], pool: Pool, uuid: str = ""
) -> tuple[dict[str, Snapshot], dict[str, AnewError]]:
    """What each hypervisor of the pool has (`uuid`: of this domain), and why the others could not be asked."""
    wanted = [place_of(places, name) for name in pool.hypervisors]
    answers = await asyncio.gather(*(_try(place, uuid) for place in wanted))
    seen: dict[str, Snapshot] = {}
    away: dict[str, AnewError] = {}
    for place, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, Snapshot):
            seen[place.name] = answer
        else:
            away[place.name] = answer
    return seen, away


async def find(places: Mapping[str, Place], pool: Pool, server: str, number: int) -> Found | None:
    """The incarnation, None if no hypervisor has it. Transient if one that might have it cannot be asked."""
    fleets = {place.fleet for place in places.values()}
    # An adopted domain has a UUID of its own; those that we made are asked for by theirs.
    uuid = names.incarnation_uuid(fleets.pop(), server, number) if number and fleets else ""
    seen, away = await look_all(places, pool, uuid)
    for name, snapshot in seen.items():
        domain = snapshot.find(server, number)
        if domain is not None and domain.tag is not None:
            return Found(places[name], domain, domain.tag)
    if away:
        reason = next(iter(away.values()))
        raise Transient(
            f"it is not known whether {names.domain(server, number)} exists: {reason}", retry_after=2.0
        ) from reason
    return None


async def require(places: Mapping[str, Place], pool: Pool, server: str, number: int) -> Found:
    """The incarnation, or Permanent."""
    found = await find(places, pool, server, number)
    if found is None:
        raise Permanent(
            f"no hypervisor of the pool has {names.domain(server, number)}; it was removed by somebody",
            where=", ".join(pool.hypervisors),
        )
    return found


def write_tag(connection: api.Connection, tag: tags.Tag) -> None:
    """Put the tag into the domain, in what runs and in what is kept. On a worker thread."""
    domain = connection.lookupByUUIDString(tag.uuid)
    text = tags.write(tag)
    live = api.AFFECT_LIVE if domain.isActive() else 0
    try:
        domain.setMetadata(api.METADATA_ELEMENT, text, tags.KEY, tags.URI, api.AFFECT_CONFIG | live)
    except api.LibvirtError as err:
        if api.code_of(err) != api.OPERATION_INVALID or not live:
            raise
        # It stopped between the look and the act.
        domain.setMetadata(api.METADATA_ELEMENT, text, tags.KEY, tags.URI, api.AFFECT_CONFIG)


async def _try(place: Place, uuid: str) -> Snapshot | AnewError:
    try:
        return await (place.look_at(uuid) if uuid else place.look())
    except AnewError as err:
        return err
