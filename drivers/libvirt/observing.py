"""What is there: incarnations by their tags, strangers, and leftovers that nothing refers to."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import os
import re
from collections.abc import Mapping

from drivers.libvirt import api, domain_xml, lookup, names
from drivers.libvirt import tag as tags
from drivers.libvirt.place import Place
from drivers.libvirt.snapshot import DomainSeen, Snapshot
from fleet.core.desired import Pool
from fleet.core.errors import AnewError
from fleet.core.observed import Foreign, Leftover, Observed, Running, Seen

ADDRESS_PATIENCE = 6.0


async def observe(places: Mapping[str, Place], pool: Pool) -> Observed:
    """The pool on all its hypervisors; one that cannot be asked is in `unreachable` with the reason."""
    seen, away = await lookup.look_all(places, pool)
    unreachable = {name: str(error) for name, error in away.items()}
    incarnations: list[Seen] = []
    foreign: list[Foreign] = []
    left: list[Leftover] = []
    for name, look in seen.items():
        place = places[name]
        incarnations += await _incarnations(place, pool, look)
        foreign += _foreign(place, pool, look)
        with contextlib.suppress(AnewError):
            # Servers are known from the domains alone; a storage that cannot be listed stops stage and birth, not this.
            left += leftovers(place, pool, look, await place.store.list())
    return Observed(pool.name, 0.0, tuple(incarnations), tuple(foreign), tuple(left), unreachable)


def seen_of(domain: DomainSeen, tag: tags.Tag, pool: Pool, directory: str, address: str = "") -> Seen:
    """The incarnation as the engine knows it."""
    files = {os.path.basename(path) for path in domain_xml.disk_files(domain.xml, writable=True)}
    held = tuple(disk.name for disk in pool.data if f"{disk.name}.{tag.server}" in files and domain.active)
    return Seen(
        server=tag.server,
        number=tag.number,
        digest=tag.digest,
        version=tag.version,
        state=domain.running,
        born_at=tag.born_at,
        place=tag.place,
        address=tag.address or address,
        operation=tag.operation,
        rollout=tag.rollout,
        data_held=held,
        uuid=domain.uuid,
        note=domain.note,
        console=f"{directory}/{names.console(tag.server, tag.number)}" if tag.number else "",
    )


def leftovers(place: Place, pool: Pool, look: Snapshot, files: tuple[str, ...]) -> tuple[Leftover, ...]:
    """What bears our name or tag and belongs to nobody. What is just being made does not count."""
    ours = [domain.tag for domain in look.domains if domain.tag is not None]
    used = {os.path.basename(path) for path in look.files()}
    used |= {name for tag in ours for name in tag.files} | place.store.wanted()
    found = [
        Leftover(place.name, "domain", domain.uuid, f"{domain.name} was defined and never started")
        for domain in look.domains
        if domain.tag is not None
        and domain.running == "half-made"
        and domain.tag.pool == pool.name
        and (domain.tag.server, domain.tag.number) not in place.busy
    ]
    alive = {(tag.server, tag.number) for tag in ours} | place.busy
    for name in files:
        leftover = None if name in used else _left(place.name, pool, name, alive)
        if leftover is not None:
            found.append(leftover)
    return tuple(found)


def _left(place: str, pool: Pool, name: str, alive: set[tuple[str, int]]) -> Leftover | None:
    image = names.image_parts(name)
    if image is not None:
        if image[0] != pool.image:
            return None
        half = name.endswith(names.PART)
        return Leftover(
            place, "volume", name, "an unfinished upload" if half else "a staged image that no server uses"
        )
    owner = names.owned_by(name)
    if owner is None or not re.fullmatch(rf"{re.escape(pool.name)}-\d+", owner[0]):
        return None
    if name.startswith("anew-seed-"):
        return (
            None
            if owner in alive
            else Leftover(place, "seed", name, f"the seed of {owner[0]}.{owner[1]}, which is gone")
        )
    if owner in alive:
        return None
    kind = "volume" if name.startswith("anew-overlay-") else "file"
    return Leftover(place, kind, name, f"left by {owner[0]}.{owner[1]}, which is gone")


async def _incarnations(place: Place, pool: Pool, look: Snapshot) -> list[Seen]:
    ours = [
        (domain, domain.tag)
        for domain in look.domains
        if domain.tag is not None and domain.tag.pool == pool.name
    ]
    if not ours:
        return []
    directory = await place.store.directory()
    addresses = await asyncio.gather(*(address(place, pool, domain, tag) for domain, tag in ours))
    return [
        seen_of(domain, tag, pool, directory, address)
        for (domain, tag), address in zip(ours, addresses, strict=True)
    ]


async def address(place: Place, pool: Pool, domain: DomainSeen, tag: tags.Tag) -> str:
    """Where a server on a network or bridge is reached: by lease, then by the hypervisor's ARP, then by its
    agent's word.
    """
    if tag.address or not domain.active or domain.xml.find("devices/interface") is None:
        return ""
    port = tag.guest_port or pool.network.guest_port
    for source in (api.ADDRESSES_LEASE, api.ADDRESSES_ARP, api.ADDRESSES_AGENT):
        try:
            found = await place.agent.call(
                f"asking for the address of {domain.name}",
                ADDRESS_PATIENCE,
                functools.partial(_ask_addresses, domain.uuid, source),
            )
        except AnewError:
            continue
        usable = first_address(found)
        if usable:
            return f"{usable}:{port}"
    return ""


def _ask_addresses(uuid: str, source: int, connection: api.Connection) -> object:
    return connection.lookupByUUIDString(uuid).interfaceAddresses(source)


def first_address(interfaces: object) -> str:
    """The first usable IPv4 address in what libvirt answered; the agent's part of it is a stranger's."""
    if not isinstance(interfaces, dict):
        return ""
    for _, interface in sorted(interfaces.items()):
        for entry in (interface or {}).get("addrs") or ():
            try:
                address = ipaddress.IPv4Address(str(entry.get("addr", "")))
            except ValueError:
                continue
            if not (
                address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
            ):
                return str(address)
    return ""


def _foreign(place: Place, pool: Pool, look: Snapshot) -> list[Foreign]:
    found = []
    for domain in look.domains:
        if domain.tag is not None or (domain.name == f"anew-proof-{place.fleet}" and not domain.persistent):
            continue
        note = domain.stranger
        named_as_ours = re.fullmatch(rf"{re.escape(pool.name)}-\d+(\.\d+)?", domain.name)
        if domain.other_fleet and not named_as_ours:
            continue  # anew made it, for somebody else: neither to be adopted nor in our way
        if not note and named_as_ours:
            note = "it bears the name of a server of this pool, but anew did not make it"
        state: Running = "running" if domain.active else "stopped"
        found.append(Foreign(place.name, domain.name, domain.uuid, state, note))
    return found
