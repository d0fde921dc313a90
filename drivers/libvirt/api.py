"""libvirt-python as typed Protocols, and the constants that are used: the only module that imports it.

libvirt-python carries no types. What is named here is what the driver may call, no more. All of it blocks: it
is called on a worker thread of `link.Link` only.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import libvirt  # type: ignore[import-untyped]
import libvirt_qemu  # type: ignore[import-untyped]

LibvirtError: type[Exception] = libvirt.libvirtError


class Stream(Protocol):
    """A byte stream to or from a hypervisor, blocking."""

    def sendAll(self, handler: Callable[[Stream, int, Any], bytes], opaque: Any) -> int: ...
    def recv(self, nbytes: int) -> bytes: ...
    def finish(self) -> int: ...
    def abort(self) -> int: ...


class Volume(Protocol):
    """A file in a storage pool."""

    def name(self) -> str: ...
    def path(self) -> str: ...
    def info(self) -> list[int]: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def delete(self, flags: int = 0) -> int: ...
    def upload(self, stream: Stream, offset: int, length: int, flags: int = 0) -> int: ...
    def download(self, stream: Stream, offset: int, length: int, flags: int = 0) -> int: ...


class StoragePool(Protocol):
    """A directory of volumes."""

    def name(self) -> str: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def isActive(self) -> int: ...
    def build(self, flags: int = 0) -> int: ...
    def create(self, flags: int = 0) -> int: ...
    def destroy(self) -> int: ...
    def undefine(self) -> int: ...
    def refresh(self, flags: int = 0) -> int: ...
    def setAutostart(self, autostart: int) -> int: ...
    def listVolumes(self) -> list[str]: ...
    def storageVolLookupByName(self, name: str) -> Volume: ...
    def createXML(self, xml: str, flags: int = 0) -> Volume: ...
    def createXMLFrom(self, xml: str, clone: Volume, flags: int = 0) -> Volume: ...


class Domain(Protocol):
    """A virtual machine, running or defined."""

    def name(self) -> str: ...
    def UUIDString(self) -> str: ...
    def XMLDesc(self, flags: int = 0) -> str: ...
    def isActive(self) -> int: ...
    def isPersistent(self) -> int: ...
    def state(self, flags: int = 0) -> list[int]: ...
    def autostart(self) -> int: ...
    def setAutostart(self, autostart: int) -> int: ...
    def create(self) -> int: ...
    def destroy(self) -> int: ...
    def shutdown(self) -> int: ...
    def undefineFlags(self, flags: int = 0) -> int: ...
    def setMetadata(self, kind: int, metadata: str | None, key: str, uri: str, flags: int = 0) -> int: ...
    def interfaceAddresses(self, source: int, flags: int = 0) -> dict[str, Any]: ...


class Connection(Protocol):
    """One connection to a hypervisor. Read-write: it is root on that machine."""

    def isAlive(self) -> int: ...
    def close(self) -> int: ...
    def setKeepAlive(self, interval: int, count: int) -> int: ...
    def getType(self) -> str: ...
    def getVersion(self) -> int: ...
    def getLibVersion(self) -> int: ...
    def getCapabilities(self) -> str: ...
    def listAllDomains(self, flags: int = 0) -> list[Domain]: ...
    def lookupByName(self, name: str) -> Domain: ...
    def lookupByUUIDString(self, uuid: str) -> Domain: ...
    def defineXML(self, xml: str) -> Domain: ...
    def createXML(self, xml: str, flags: int = 0) -> Domain: ...
    def storagePoolLookupByName(self, name: str) -> StoragePool: ...
    def storagePoolDefineXML(self, xml: str, flags: int = 0) -> StoragePool: ...
    def newStream(self, flags: int = 0) -> Stream: ...


RUNNING: Final[int] = libvirt.VIR_DOMAIN_RUNNING
PAUSED: Final[int] = libvirt.VIR_DOMAIN_PAUSED
CRASHED: Final[int] = libvirt.VIR_DOMAIN_CRASHED
SHUTOFF_REASONS: Final[dict[int, str]] = {
    libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "it shut itself down",
    libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "it was destroyed, or it panicked or rebooted",
    libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "it crashed",
    libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "QEMU failed",
    libvirt.VIR_DOMAIN_SHUTOFF_DAEMON: "libvirtd lost it",
}
XML_INACTIVE: Final[int] = libvirt.VIR_DOMAIN_XML_INACTIVE
XML_SECURE: Final[int] = libvirt.VIR_DOMAIN_XML_SECURE
METADATA_ELEMENT: Final[int] = libvirt.VIR_DOMAIN_METADATA_ELEMENT
AFFECT_LIVE: Final[int] = libvirt.VIR_DOMAIN_AFFECT_LIVE
AFFECT_CONFIG: Final[int] = libvirt.VIR_DOMAIN_AFFECT_CONFIG
START_AUTODESTROY: Final[int] = libvirt.VIR_DOMAIN_START_AUTODESTROY
UNDEFINE_OURS: Final[int] = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
UNDEFINE_ADOPTED: Final[int] = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
ADDRESSES_LEASE: Final[int] = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE
ADDRESSES_ARP: Final[int] = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP
ADDRESSES_AGENT: Final[int] = libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT

NO_DOMAIN: Final[int] = libvirt.VIR_ERR_NO_DOMAIN
NO_STORAGE_POOL: Final[int] = libvirt.VIR_ERR_NO_STORAGE_POOL
NO_STORAGE_VOL: Final[int] = libvirt.VIR_ERR_NO_STORAGE_VOL
OPERATION_INVALID: Final[int] = libvirt.VIR_ERR_OPERATION_INVALID

_once = threading.Lock()
_started: list[threading.Thread] = []


def code_of(error: Exception) -> int:
    """libvirt's number for an error, -1 if it has none."""
    code = cast(Any, error).get_error_code()
    return code if isinstance(code, int) else -1


def constant(name: str) -> int:
    """A constant of libvirt by name, -1 where this release has none."""
    return int(getattr(libvirt, name, -1))


def open_connection(uri: str) -> Connection:
    """A new read-write connection with keepalive. Blocks; raises LibvirtError."""
    start_events()
    connection = cast(Connection, libvirt.open(uri))
    with contextlib.suppress(LibvirtError):  # test:/// has no keepalive; it cannot be lost either
        connection.setKeepAlive(5, 3)
    return connection


def agent_command(domain: Domain, command: str, timeout: int) -> str:
    """One QEMU guest agent command (JSON text both ways). `timeout` in seconds. The reply is a stranger's."""
    reply = libvirt_qemu.qemuAgentCommand(domain, command, timeout, 0)
    return reply if isinstance(reply, str) else ""


def start_events() -> None:
    """Keepalive needs libvirt's event loop: registered once a process, before the first open, run by one
    thread.
    """
    with _once:
        if _started:
            return
        # The C library prints every error on stderr otherwise, over the operator's screen.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        thread = threading.Thread(target=_run_events, name="libvirt-events", daemon=True)
        _started.append(thread)
        thread.start()


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
