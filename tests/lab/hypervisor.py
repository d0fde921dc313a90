"""The hypervisor as an outsider sees it: domains, who writes to which disk, and the removal of one fleet's remains.

Nothing here goes through anew's driver, but for the name of its tag: what the tests see is libvirt's own word.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

import libvirt
import pytest

URI = "qemu:///system"
TAG = "{urn:anew:incarnation:1}incarnation"
OURS = re.compile(r"lt-(\d+)-[0-9a-f]+-")
"""Fleets of these tests: `lt-PID-RANDOM-WORD`, PID being the test session that made them."""


@dataclass(frozen=True)
class Domain:
    """One domain at one moment. `tag`: our metadata's attributes, {} if it has none. `id`: libvirt's, -1 if it is off."""

    name: str
    uuid: str
    id: int
    active: bool
    xml: str
    tag: dict[str, str]
    writes: frozenset[str]


class Libvirt:
    """A connection of the tests' own."""

    def __init__(self) -> None:
        libvirt.registerErrorHandler(lambda *_: None, None)
        self._connection = libvirt.open(URI)

    def reopen(self) -> None:
        """A new connection, after libvirtd was restarted."""
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()
        self._connection = libvirt.open(URI)

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()

    def domains(self) -> list[Domain]:
        """All domains; one that vanishes meanwhile is left out."""
        found = []
        for handle in self._connection.listAllDomains(0):
            with contextlib.suppress(libvirt.libvirtError):
                found.append(_read(handle))
        return found

    def of_fleet(self, fleet: str) -> list[Domain]:
        """The domains that bear this fleet's tag."""
        return [domain for domain in self.domains() if domain.tag.get("fleet") == fleet]

    def named(self, name: str) -> Domain | None:
        """The domain of this name."""
        return next((domain for domain in self.domains() if domain.name == name), None)

    def define(self, xml: str, *, start: bool) -> Domain:
        """A domain made by hand, as an administrator would."""
        handle = self._connection.defineXML(xml)
        if start:
            handle.create()
        return _read(handle)

    def volumes(self, fleet: str) -> list[str]:
        """Names of all files in the fleet's storage pool; [] if there is none."""
        try:
            pool = self._connection.storagePoolLookupByName(f"anew-{fleet}")
        except libvirt.libvirtError:
            return []
        pool.refresh()
        return sorted(pool.listVolumes())

    def remove(self, name: str) -> None:
        """Switch off and undefine one domain by name."""
        with contextlib.suppress(libvirt.libvirtError):
            _end(self._connection.lookupByName(name))

    def wipe(self, fleet: str) -> None:
        """Remove every domain with the fleet's tag and its storage pool with all that is in it; nothing else."""
        assert OURS.match(fleet), fleet
        for handle in self._connection.listAllDomains(0):
            with contextlib.suppress(libvirt.libvirtError):
                if _read(handle).tag.get("fleet") == fleet:
                    _end(handle)
        with contextlib.suppress(libvirt.libvirtError):
            _remove_pool(self._connection.storagePoolLookupByName(f"anew-{fleet}"))

    def wipe_stale(self) -> None:
        """Remains of test sessions that were killed: their process is gone."""
        tagged = {domain.tag.get("fleet", "") for domain in self.domains()}
        pooled = {pool.name().removeprefix("anew-") for pool in self._connection.listAllStoragePools(0)}
        for fleet in tagged | pooled:
            match = OURS.match(fleet)
            if match and not os.path.exists(f"/proc/{match[1]}"):
                self.wipe(fleet)


def connect() -> Libvirt:
    """libvirt, or a skip where it cannot run at all. On a machine that has it, or in CI, its silence is a failure."""
    if shutil.which("libvirtd") is None and not os.environ.get("CI"):
        pytest.skip("libvirtd is not installed here, so no real guest can boot; `make setup` installs it")
    try:
        return Libvirt()
    except libvirt.libvirtError as error:
        pytest.fail(f"libvirt does not answer on {URI} ({error}); start it with vagrant/provision/libvirt.sh start")


def _read(handle: libvirt.virDomain) -> Domain:
    text = handle.XMLDesc(0)
    xml = ET.fromstring(text)
    tag = xml.find(f"metadata/{TAG}")
    active = handle.isActive() == 1
    return Domain(handle.name(), handle.UUIDString(), handle.ID(), active, text, dict(tag.attrib) if tag is not None else {},
                  frozenset(_written(xml)) if active else frozenset())


def _written(xml: ET.Element) -> Iterator[str]:
    for disk in xml.findall("devices/disk"):
        source = disk.find("source")
        if disk.find("readonly") is None and source is not None:
            yield source.get("file") or source.get("dev") or ""


def _end(handle: libvirt.virDomain) -> None:
    if handle.isActive():
        with contextlib.suppress(libvirt.libvirtError):
            handle.destroy()
    if handle.isPersistent():
        handle.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


def _remove_pool(pool: libvirt.virStoragePool) -> None:
    if not pool.isActive():
        pool.create()
    pool.refresh()
    for volume in pool.listAllVolumes():
        with contextlib.suppress(libvirt.libvirtError):
            volume.delete()
    pool.destroy()
    with contextlib.suppress(libvirt.libvirtError):
        pool.delete()
    pool.undefine()
