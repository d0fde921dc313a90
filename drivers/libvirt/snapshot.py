"""Everything a hypervisor has, read in one go: the ground on which observe, birth, revive and sweep decide.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass

from drivers.libvirt import api, domain_xml
from drivers.libvirt import tag as tags
from fleet.core.errors import Transient
from fleet.core.observed import Running


@dataclass(frozen=True, slots=True)
class DomainSeen:
    """One domain. `tag` is set only if it is ours by fleet and UUID.

    `stranger` says why a tagged one is not, `other_fleet` whose it is.
    """

    name: str
    uuid: str
    active: bool
    persistent: bool
    state: int
    reason: int
    xml: ET.Element
    tag: tags.Tag | None = None
    stranger: str = ""
    other_fleet: str = ""

    @property
    def running(self) -> Running:
        """The incarnation's state: a stop that nobody of us asked for is `crashed`, whatever its cause."""
        if self.active:
            return "crashed" if self.state == api.CRASHED else "running"
        if self.tag is None or self.tag.mark == "retired":
            return "stopped"
        return "half-made" if self.tag.mark == "making" else "crashed"

    @property
    def note(self) -> str:
        """What an operator should know about the state; "" if nothing."""
        if self.active:
            return "it is paused at the hypervisor" if self.state == api.PAUSED else ""
        if self.tag is None or self.tag.mark == "retired":
            return ""
        if self.tag.mark == "making":
            return "it was defined and never started"
        return f"{api.SHUTOFF_REASONS.get(self.reason, 'it stopped')}; anew did not stop it"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The domains of one hypervisor at one moment."""

    domains: tuple[DomainSeen, ...]

    def find(self, server: str, number: int) -> DomainSeen | None:
        """The incarnation of ours, by its tag."""
        for domain in self.domains:
            if domain.tag and domain.tag.server == server and domain.tag.number == number:
                return domain
        return None

    def by_uuid(self, uuid: str) -> DomainSeen | None:
        """The domain with this UUID, ours or not."""
        return next((domain for domain in self.domains if domain.uuid == uuid), None)

    def by_name(self, name: str) -> DomainSeen | None:
        """The domain with this name, ours or not."""
        return next((domain for domain in self.domains if domain.name == name), None)

    def taken_ports(self, besides: str = "") -> frozenset[int]:
        """Forwarded ports of active domains, and those promised to domains of ours that are just being made.
        """
        found: set[int] = set()
        for domain in self.domains:
            if domain.uuid == besides:
                continue
            making = domain.tag is not None and domain.tag.mark == "making"
            if domain.active or making:
                found |= {port for _, port in domain_xml.forwards(domain.xml)}
                if domain.tag is not None:
                    found.add(port_of(domain.tag.address))
        return frozenset(found - {0})

    def require_free(self, paths: Iterable[str], besides: str) -> None:
        """Transient unless no other active domain has one of `paths` attached (I10, I13)."""
        wanted = frozenset(paths)
        for domain in self.domains:
            if domain.active and domain.uuid != besides:
                held = sorted(wanted & domain_xml.disk_files(domain.xml))
                if held:
                    raise Transient(
                        f"the disk {held[0]} is still attached to the running domain {domain.name}; "
                        "it is given to another only when the hypervisor says that it is free",
                        retry_after=2.0,
                        where=domain.name,
                    )

    def files(self) -> frozenset[str]:
        """Every file that a domain refers to, running or not."""
        return frozenset(path for domain in self.domains for path in domain_xml.disk_files(domain.xml))


def take(connection: api.Connection, fleet: str) -> Snapshot:
    """Read all domains. On a worker thread; a domain that vanishes meanwhile is left out."""
    seen = []
    for domain in connection.listAllDomains(0):
        try:
            seen.append(_read(domain, fleet))
        except api.LibvirtError as err:
            if api.code_of(err) != api.NO_DOMAIN:
                raise
    return Snapshot(tuple(sorted(seen, key=lambda one: one.name)))


def take_one(connection: api.Connection, fleet: str, uuid: str) -> Snapshot:
    """Only the domain with this UUID, if there is one: what a verb on one incarnation needs of a full house."""
    try:
        return Snapshot((_read(connection.lookupByUUIDString(uuid), fleet),))
    except api.LibvirtError as err:
        if api.code_of(err) != api.NO_DOMAIN:
            raise
    return Snapshot(())


def port_of(address: str) -> int:
    """The port of "host:port", 0 if there is none."""
    port = address.rpartition(":")[2]
    return int(port) if port.isascii() and port.isdigit() else 0


def _read(domain: api.Domain, fleet: str) -> DomainSeen:
    xml = ET.fromstring(domain.XMLDesc(0))
    state = domain.state()
    name, uuid = domain.name(), domain.UUIDString()
    ours, stranger, other = _judge(xml, uuid, fleet)
    active, persistent = domain.isActive() == 1, domain.isPersistent() == 1
    return DomainSeen(name, uuid, active, persistent, state[0], state[1], xml, ours, stranger, other)


def _judge(xml: ET.Element, uuid: str, fleet: str) -> tuple[tags.Tag | None, str, str]:
    """(our tag, why a tagged domain is not ours, the other fleet that it is of)."""
    try:
        found = tags.read(xml)
    except ValueError as err:
        return None, f"it bears a tag of anew that cannot be read: {err}", ""
    if found is None:
        return None, "", ""
    if found.fleet != fleet:
        return None, f"it belongs to the fleet {found.fleet}", found.fleet
    if found.uuid != uuid:
        return (
            None,
            f"it is a copy of {found.server}.{found.number}: it bears that one's tag under another UUID",
            "",
        )
    return found, "", ""
