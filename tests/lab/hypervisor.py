"""The hypervisor as an outsider sees it: domains, who writes to which disk, and the removal of one fleet's remains.

Nothing here goes through anew's driver, but for the name of its tag: what the tests see is libvirt's own word.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import libvirt
import pytest

URI = "qemu:///system"
TAG = "{urn:anew:incarnation:1}incarnation"
OURS = re.compile(r"(?:lt|drv)-(\d+)-([0-9a-f]+)-")
"""Fleets of these tests: `lt-PID-START-WORD`, the test session that made them. (`drv-` was once the driver's own.)"""
RECONNECT = 60.0
GONE = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_NO_STORAGE_VOL)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Domain:
    """One domain at one moment. `tag`: our metadata's attributes, {} if it has none. `id`: libvirt's, -1 if it is off.

    `kept`: the definition it will start from next time. `writes`: files that it has attached for writing now.
    """

    name: str
    uuid: str
    id: int
    active: bool
    kept: str
    tag: dict[str, str]
    writes: frozenset[str]


def fleet_name(word: str) -> str:
    """A fleet of this test session's, told apart from what a killed one left even if its pid is another process's by now."""
    return f"lt-{os.getpid()}-{_start(os.getpid())}-{word}"


def _start(pid: int) -> str:
    """When a process began, in ticks since boot (hex); "" if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return f"{int(file.read().rpartition(')')[2].split()[19]):x}"
    except OSError:
        return ""


@contextlib.contextmanager
def gone_is_fine() -> Iterator[None]:
    """What vanished between the look and the act is no error."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() not in GONE:
            raise


def patient(method: Callable[Concatenate[Libvirt, P], R]) -> Callable[Concatenate[Libvirt, P], R]:
    """libvirtd may be restarted under a test: connect anew and ask again, for a while."""

    def again(self: Libvirt, /, *args: P.args, **kwargs: P.kwargs) -> R:
        end = time.monotonic() + RECONNECT
        while True:
            try:
                self.open()
                return method(self, *args, **kwargs)
            except libvirt.libvirtError:
                if self.alive() or time.monotonic() > end:
                    raise
                time.sleep(0.2)

    return again


class Libvirt:
    """A connection of the tests' own, made again when it breaks."""

    def __init__(self) -> None:
        libvirt.registerErrorHandler(lambda *_: None, None)
        self._connection = libvirt.open(URI)

    def alive(self) -> bool:
        """True if the connection works."""
        try:
            return bool(self._connection.isAlive() == 1 and self._connection.getLibVersion() > 0)
        except libvirt.libvirtError:
            return False

    def open(self) -> None:
        """A new connection if the old one broke."""
        if self._connection.isAlive() != 1:
            self.close()
            self._connection = libvirt.open(URI)

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()

    @patient
    def domains(self) -> list[Domain]:
        """All domains; one that vanishes meanwhile is left out."""
        found = []
        for handle in self._connection.listAllDomains(0):
            with gone_is_fine():
                found.append(_read(handle))
        return found

    def of_fleet(self, fleet: str) -> list[Domain]:
        """The domains that bear this fleet's tag."""
        return [domain for domain in self.domains() if domain.tag.get("fleet") == fleet]

    def named(self, name: str) -> Domain | None:
        """The domain of this name."""
        return next((domain for domain in self.domains() if domain.name == name), None)

    @patient
    def define(self, xml: str, *, start: bool) -> Domain:
        """A domain made by hand, as an administrator would."""
        handle = self._connection.defineXML(xml)
        if start:
            handle.create()
        return _read(handle)

    @patient
    def volumes(self, fleet: str) -> list[str]:
        """Names of all files in the fleet's storage pool; [] if there is none."""
        try:
            pool = self._connection.storagePoolLookupByName(f"anew-{fleet}")
        except libvirt.libvirtError:
            return []
        pool.refresh()
        return sorted(pool.listVolumes())

    @patient
    def remove(self, name: str) -> None:
        """Switch off and undefine one domain by name."""
        with gone_is_fine():
            _end(self._connection.lookupByName(name))

    @patient
    def wipe(self, fleet: str) -> None:
        """Remove every domain with the fleet's tag and its storage pool with all that is in it; nothing else."""
        assert OURS.match(fleet), fleet
        for handle in self._connection.listAllDomains(0):
            with gone_is_fine():
                if _read(handle).tag.get("fleet") == fleet:
                    _end(handle)
        with gone_is_fine():
            _remove_pool(self._connection.storagePoolLookupByName(f"anew-{fleet}"))

    @patient
    def wipe_stale(self) -> None:
        """Remains of test sessions that were killed: their process is gone."""
        tagged = {domain.tag.get("fleet", "") for domain in self.domains()}
        pooled = {pool.name().removeprefix("anew-") for pool in self._connection.listAllStoragePools(0)}
        for fleet in tagged | pooled:
            match = OURS.match(fleet)
            if match and _start(int(match[1])) != match[2]:
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
    xml = ET.fromstring(handle.XMLDesc(0))
    kept = handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    tag = xml.find(f"metadata/{TAG}")
    active = handle.isActive() == 1
    return Domain(handle.name(), handle.UUIDString(), handle.ID(), active, kept, dict(tag.attrib) if tag is not None else {},
                  frozenset(_written(xml)) if active else frozenset())


def _written(xml: ET.Element) -> Iterator[str]:
    for disk in xml.findall("devices/disk"):
        source = disk.find("source")
        if disk.find("readonly") is None and source is not None:
            yield source.get("file") or source.get("dev") or ""


def _end(handle: libvirt.virDomain) -> None:
    if handle.isActive():
        with contextlib.suppress(libvirt.libvirtError):  # it ended by itself meanwhile, or undefining says why not
            handle.destroy()
    if handle.isPersistent():
        handle.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


def _remove_pool(pool: libvirt.virStoragePool) -> None:
    if not pool.isActive():
        pool.create()
    pool.refresh()
    for volume in pool.listAllVolumes():
        with gone_is_fine():
            volume.delete()
    pool.destroy()
    with contextlib.suppress(libvirt.libvirtError):  # a directory that somebody else put files into stays
        pool.delete()
    pool.undefine()
