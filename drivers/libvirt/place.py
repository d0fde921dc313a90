"""One hypervisor as the driver knows it: its links, its storage, and the turn in which ports and disks are
given out.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from drivers.libvirt import digest, names, snapshot
from drivers.libvirt import tag as tags
from drivers.libvirt.acceleration import Acceleration
from drivers.libvirt.link import Link
from drivers.libvirt.store import Store
from drivers.libvirt.volumes import Volumes
from fleet.core.desired import Hypervisor
from fleet.core.errors import Refused
from fleet.ports import Operation, Surroundings

LOOK = 20.0
"""Seconds that reading all domains may take."""

MAIN_LANES, BULK_LANES, AGENT_LANES = 3, 2, 4
"""Calls at once: a slow start holds up nobody's look, an upload no start, and a silent agent only its own
lane.
"""

SYSTEM_IMAGES = "/var/lib/libvirt/images/anew"


@dataclass(slots=True)
class Place:
    """`turn` is held from the look at the domains to the definition of a new one, so that no port is given
    twice.
    """

    name: str
    fleet: str
    main: Link
    bulk: Link
    agent: Link
    store: Store
    acceleration: Acceleration
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    busy: set[tuple[str, int]] = field(default_factory=set)

    async def look(self) -> snapshot.Snapshot:
        """All domains there, now."""
        return await self.main.call("reading the domains", LOOK, lambda c: snapshot.take(c, self.fleet))

    async def look_at(self, uuid: str) -> snapshot.Snapshot:
        """The one domain with this UUID, now."""
        return await self.main.call(
            "reading a domain", LOOK, lambda c: snapshot.take_one(c, self.fleet, uuid)
        )

    def close(self) -> None:
        """End the links."""
        for link in (self.main, self.bulk, self.agent):
            link.close()


def make(around: Surroundings, hypervisor: Hypervisor) -> Place:
    """The place of a hypervisor; nothing is opened yet.

    Options: `libvirt.grace` (seconds to shut down in), `libvirt.upload` (bring files through libvirt even here) and
    `libvirt.storage` (the directory of the storage pool, instead of the usual one).
    """
    fleet, state = around.desired.fleet, Path(around.state_dir) / "libvirt"
    uri = quiet_ssh(hypervisor.uri)
    main, bulk = Link(hypervisor.name, uri, MAIN_LANES), Link(hypervisor.name, uri, BULK_LANES)
    agent = Link(hypervisor.name, uri, AGENT_LANES)
    directory = str(around.options.get("libvirt.storage") or _directory(uri, fleet, state))
    store = Store(
        main,
        bulk,
        Volumes(names.storage_pool(fleet), directory),
        digest.Verified(state / "verified.json"),
        local=is_local(uri),
        upload=bool(around.options.get("libvirt.upload", False)),
    )
    proof = Acceleration(main, store, around.clock, hypervisor.acceleration, state / "acceleration.json")
    return Place(hypervisor.name, fleet, main, bulk, agent, store, proof)


def is_local(uri: str) -> bool:
    """Is the hypervisor this machine? (libvirt.org/uri.html: no authority, or an explicit Unix transport.)"""
    parts = urlsplit(uri)
    return not parts.netloc and parts.scheme.partition("+")[2] in ("", "unix")


def quiet_ssh(uri: str) -> str:
    """An ssh URI that never asks a daemon's terminal for a password."""
    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query))
    if "ssh" not in parts.scheme or "no_tty" in query:
        return uri
    return urlunsplit(parts._replace(query=urlencode({**query, "no_tty": "1"})))


def fence(tag: tags.Tag, op: Operation) -> None:
    """Refused if a newer daemon has touched this incarnation (I16)."""
    if tag.epoch > op.epoch:
        raise Refused(
            f"a newer daemon (epoch {tag.epoch}, this one is {op.epoch}) has taken over this incarnation; "
            "stop this daemon",
            where=names.domain(tag.server, tag.number),
        )


def _directory(uri: str, fleet: str, state: Path) -> str:
    if uri.startswith("test:") or urlsplit(uri).path.endswith("/session"):
        return str(state / "storage" / fleet)
    return f"{SYSTEM_IMAGES}/{fleet}"
