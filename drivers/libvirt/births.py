"""Making an incarnation and bringing a retained one back: the two ways in which a domain of ours starts.

A birth leaves a trace that a second one finds at every step: files by their names, the domain by its UUID. It
is `making` until it was seen running, so that a crash in between leaves something that says of itself that it
is half-made.
"""

from __future__ import annotations

import asyncio
import functools
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from drivers.identity import IdentityStore
from drivers.libvirt import api, domain_xml, lookup, names, ports, qcow2, seed, snapshot
from drivers.libvirt import tag as tags
from drivers.libvirt.place import Place, fence
from drivers.libvirt.store import Staged
from fleet.core.desired import Pool
from fleet.core.errors import Permanent, Refused, Transient
from fleet.core.observed import Image
from fleet.ports import Birth, Operation

START: Final = 120.0
"""Seconds that starting a domain may take (a busy machine, a libvirtd that probes QEMU anew)."""

PORT_TRIES: Final = 8

FORMATS: Final[dict[str, str]] = {"squashfs": "raw", "erofs": "raw", "raw": "raw", "qcow2": "qcow2"}

PORT_TAKEN: Final = "host forwarding rule"
"""What QEMU's text says when a port is held by something that is no domain (net/slirp.c)."""


@dataclass(frozen=True, slots=True)
class Births:
    """The two verbs, for all hypervisors of a fleet."""

    fleet: str
    places: Mapping[str, Place]
    identity: IdentityStore

    async def stage(self, image: Image, place: Place, deadline: float) -> Staged:
        """The image's files at the place, verified. Permanent for an image that libvirt cannot boot."""
        if image.kind not in FORMATS:
            raise Permanent(
                f"image {image.ref} is of kind {image.kind}; the libvirt driver boots {', '.join(FORMATS)}",
                where=image.folder,
            )
        staged = await place.store.stage(image, deadline)
        await asyncio.to_thread(_root_size, image)
        return staged

    async def birth(self, pool: Pool, order: Birth, op: Operation) -> None:
        """Make and start, or find it made."""
        place = lookup.place_of(self.places, order.place)
        key = (order.server, order.number)
        place.busy.add(key)
        try:
            if not await self._adopted(place, order, op):
                await self._make(place, pool, order, op)
        finally:
            place.busy.discard(key)

    async def revive(self, found: lookup.Found, pool: Pool, op: Operation) -> None:
        """Start a retained incarnation again. No effect if it runs."""
        fence(found.tag, op)
        if found.domain.active:
            return
        where = names.domain(found.tag.server, found.tag.number)
        if found.tag.mark == "making":
            raise Refused(
                "this incarnation was never started, so there is nothing to go back to", where=where
            )
        await found.place.store.require(found.tag.files, op.deadline)
        if found.tag.number == 0:
            await self._start_adopted(found, op)
            return
        path = await self._put_seed(found.place, found.tag, pool)
        await self._start(found.place, _Revival(found.tag, path, op), pool)

    async def _adopted(self, place: Place, order: Birth, op: Operation) -> bool:
        """True if this birth was done before; clears away a half-made one."""
        look = await place.look()
        uuid = names.incarnation_uuid(self.fleet, order.server, order.number)
        mine = look.by_uuid(uuid)
        if mine is None:
            return False
        where = names.domain(order.server, order.number)
        if mine.tag is None:
            raise Refused(
                f"a domain has this incarnation's UUID but not its tag; {mine.stranger or 'see virsh'}",
                where=where,
            )
        fence(mine.tag, op)
        if mine.tag.mark != "making":
            if mine.tag.digest != order.image.ref.digest:
                raise Refused(
                    f"this incarnation exists already, born from version {mine.tag.version}", where=where
                )
            return True
        if mine.active:
            await place.main.call(
                f"marking {where}",
                20.0,
                lambda c: lookup.write_tag(c, replace(cast(tags.Tag, mine.tag), mark="live")),
            )
            return True
        await place.main.call(
            f"clearing the half-made {where}",
            30.0,
            lambda c: c.lookupByUUIDString(uuid).undefineFlags(api.UNDEFINE_OURS),
        )
        return False

    async def _make(self, place: Place, pool: Pool, order: Birth, op: Operation) -> None:
        uuid = names.incarnation_uuid(self.fleet, order.server, order.number)
        _refuse_namesake(await place.look(), order, uuid)
        staged = await self.stage(order.image, place, op.deadline)
        data = await self._data(place, pool, order.server)
        plan = await self._blueprint(place, pool, order, op, staged, data)
        plan = replace(plan, kind=await place.acceleration.kind(plan))
        if plan.root.backing is not None:
            size = await asyncio.to_thread(_root_size, order.image)
            await place.store.overlay(names.overlay(order.server, order.number), size, *plan.root.backing)
        path = await self._put_seed(place, plan.tag, pool)
        plan = replace(plan, seed=(cast(seed.SeedKind, plan.tag.seed), path))
        await self._start(place, _Making(plan, order), pool)

    async def _data(self, place: Place, pool: Pool, server: str) -> tuple[tuple[str, str], ...]:
        found = []
        for disk in pool.data:
            if len(disk.name) > domain_xml.SERIAL_LIMIT:
                raise Permanent(
                    f"the data disk's name is longer than the {domain_xml.SERIAL_LIMIT} bytes of a virtio serial",
                    where=disk.name,
                )
            name = names.data(disk.name, server)
            if not await place.store.has(name):
                await self._not_elsewhere(place, pool, name)
            found.append((disk.name, await place.store.data(name, disk.size)))
        return tuple(found)

    async def _not_elsewhere(self, place: Place, pool: Pool, name: str) -> None:
        """A blank disk here would hide the full one at another hypervisor of the pool."""
        for other in (
            self.places[one] for one in pool.hypervisors if one in self.places and one != place.name
        ):
            if await other.store.has(name):
                raise Permanent(
                    f"the data disk is at the hypervisor {other.name}; its server can only live there",
                    where=f"hypervisor {place.name}, {name}",
                )

    async def _blueprint(
        self,
        place: Place,
        pool: Pool,
        order: Birth,
        op: Operation,
        staged: Staged,
        data: tuple[tuple[str, str], ...],
    ) -> domain_xml.Blueprint:
        image, directory = order.image, await place.store.directory()
        name = names.domain(order.server, order.number)
        root = domain_xml.Root(staged.root, FORMATS[image.kind])
        if pool.root == "ephemeral":
            overlay = f"{directory}/{names.overlay(order.server, order.number)}"
            root = domain_xml.Root(overlay, "qcow2", (staged.root, FORMATS[image.kind]))
        boot = image.boot
        kernel = domain_xml.Kernel(staged.kernel, staged.initrd, boot.cmdline) if boot else None
        tag = tags.Tag(
            fleet=self.fleet,
            pool=pool.name,
            server=order.server,
            number=order.number,
            uuid=names.incarnation_uuid(self.fleet, order.server, order.number),
            digest=image.ref.digest,
            version=image.ref.version,
            born_at=order.born_at,
            mark="making",
            operation=op.id,
            rollout=op.rollout,
            epoch=op.epoch,
            root=pool.root,
            place=place.name,
            guest_port=pool.network.guest_port if pool.network.kind != "none" else 0,
            files=staged.names,
            seed=seed.kind_for(image),
        )
        return domain_xml.Blueprint(
            tag=tag,
            name=name,
            title=f"anew: {order.server}, incarnation {order.number}, image {image.ref}",
            kind="",
            memory=pool.memory,
            vcpus=pool.vcpus,
            root=root,
            kernel=kernel,
            data=data,
            network=pool.network,
            mac=names.mac(self.fleet, order.server, order.number),
            port=0,
            console=f"{directory}/{names.console(order.server, order.number)}",
            owners=(await place.acceleration.host()).owners,
        )

    async def _put_seed(self, place: Place, tag: tags.Tag, pool: Pool) -> str:
        kind = cast(seed.SeedKind, tag.seed)
        mac = names.mac(self.fleet, tag.server, tag.number)
        made = await asyncio.to_thread(
            seed.make, self.identity, kind, tag.server, tag.number, pool.authorized_keys, mac
        )
        return await place.store.put_seed(made.name, made.content)

    async def _start(self, place: Place, start: _Making | _Revival, pool: Pool) -> None:
        """Define with a free port and start.

        A port that turns out to be held by a stranger is tried no more.
        """
        refused: set[int] = set()
        for _ in range(PORT_TRIES):
            async with place.turn:
                look = await place.look()
                tag, writable = await self._define(place, start, pool, look, refused)
            try:
                await place.main.call(
                    f"starting {names.domain(tag.server, tag.number)}",
                    START,
                    functools.partial(_run, tag, writable, self.fleet),
                )
            except Transient as err:
                port = snapshot.port_of(tag.address)
                if PORT_TAKEN not in err.message or not port:
                    raise
                refused.add(port)
            else:
                return
        raise Transient(
            "every port that was tried is held by another program", retry_after=5.0, where=pool.name
        )

    async def _define(
        self, place: Place, start: _Making | _Revival, pool: Pool, look: snapshot.Snapshot, refused: set[int]
    ) -> tuple[tags.Tag, frozenset[str]]:
        tag = start.tag
        port = 0
        if pool.network.kind == "user":
            taken = look.taken_ports(tag.uuid) | refused
            old = snapshot.port_of(tag.address)
            port = old if old and old not in taken else ports.choose(pool, tag.server, taken)
            tag = replace(tag, address=f"{pool.network.address}:{port}")
        where = names.domain(tag.server, tag.number)
        if isinstance(start, _Making):
            _refuse_namesake(look, start.order, tag.uuid)
            plan = replace(start.plan, tag=tag, port=port)
            text = domain_xml.build(plan)
        else:
            text = await place.main.call(f"reading {where}", 20.0, lambda c: _revived(c, tag, start, port))
        writable = domain_xml.disk_files(ET.fromstring(text), writable=True)
        look.require_free(writable, tag.uuid)
        await place.main.call(f"defining {where}", 30.0, lambda c: c.defineXML(text))
        return tag, writable

    async def _start_adopted(self, found: lookup.Found, op: Operation) -> None:
        """An adopted domain is started as it is: nothing in it is ours but the tag."""
        tag = replace(found.tag, mark="live", epoch=op.epoch)
        writable = domain_xml.disk_files(found.domain.xml, writable=True)
        async with found.place.turn:
            look = await found.place.look()
            look.require_free(writable, tag.uuid)
        await found.place.main.call(
            f"starting {found.domain.name}", START, functools.partial(_run, tag, writable, self.fleet)
        )


@dataclass(frozen=True, slots=True)
class _Making:
    plan: domain_xml.Blueprint
    order: Birth

    @property
    def tag(self) -> tags.Tag:
        return self.plan.tag


@dataclass(frozen=True, slots=True)
class _Revival:
    tag: tags.Tag
    seed: str
    op: Operation


def _run(tag: tags.Tag, writable: frozenset[str], fleet: str, connection: api.Connection) -> None:
    """Start the defined domain and mark it live; the disks are looked at once more, as late as can be."""
    domain = connection.lookupByUUIDString(tag.uuid)
    if not domain.isActive():
        if writable:
            snapshot.take(connection, fleet).require_free(writable, tag.uuid)
        domain.create()
    lookup.write_tag(connection, replace(tag, mark="live"))


def _revived(connection: api.Connection, tag: tags.Tag, start: _Revival, port: int) -> str:
    """The kept definition with a fresh seed, the new port and our epoch."""
    kept = connection.lookupByUUIDString(tag.uuid).XMLDesc(api.XML_INACTIVE | api.XML_SECURE)
    domain = ET.fromstring(kept)
    old = snapshot.port_of(start.tag.address)
    if port and port != old:
        domain_xml.set_port(domain, old, port)
    if start.tag.seed:
        domain_xml.set_seed(domain, cast(seed.SeedKind, start.tag.seed), start.seed)
    # Not "making": it was proven once, and must stay what rollback can return to if this start fails.
    tags.put(domain, replace(tag, epoch=start.op.epoch))
    return ET.tostring(domain, encoding="unicode")


def _refuse_namesake(look: snapshot.Snapshot, order: Birth, uuid: str) -> None:
    name = names.domain(order.server, order.number)
    other = look.by_name(name)
    if other is not None and other.uuid != uuid:
        raise Refused(
            f"a domain called {name} exists already (UUID {other.uuid}) and is not this incarnation"
            f"{': ' + other.stranger if other.stranger else ''}; anew does not touch it: rename or remove it",
            where=f"hypervisor {order.place}",
        )


def _root_size(image: Image) -> int:
    """The size of the root disk as the guest sees it. Refuses a qcow2 file that points elsewhere."""
    path = f"{image.folder}/{image.root}"
    if image.kind != "qcow2":
        return -(-image.files[image.root].size // 512) * 512
    try:
        return qcow2.virtual_size(path)
    except OSError as err:
        raise Permanent(f"this image file cannot be read: {err}", where=path) from err


__all__ = ["Births"]
