"""The fleet's storage pool at a hypervisor, through libvirt alone. Every function blocks: worker threads
only.

Rules: formats and sizes are always given, never found out; only names that start with `anew-` can be deleted,
and there is no function that truncates, resizes or overwrites a volume that has another name (I11).
"""

from __future__ import annotations

import contextlib
import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from drivers.libvirt import api
from drivers.libvirt.digest import CHUNK
from fleet.core.errors import Permanent, Refused


@dataclass(frozen=True, slots=True)
class Volumes:
    """Which pool: its libvirt name, and the directory it is made in when it does not exist."""

    pool: str
    directory: str

    def open(self, connection: api.Connection) -> api.StoragePool:
        """The pool, made and started if need be. A pool of this name that exists is used where it is."""
        pool = self._lookup(connection)
        if pool is None:
            try:
                pool = connection.storagePoolDefineXML(self._xml())
            except api.LibvirtError:
                pool = self._lookup(connection)     # another lane was quicker
                if pool is None:
                    raise
            pool.setAutostart(1)
        if not pool.isActive():
            try:
                pool.build()
                pool.create()
            except api.LibvirtError:
                if not pool.isActive():
                    raise
        return pool

    def _lookup(self, connection: api.Connection) -> api.StoragePool | None:
        try:
            return connection.storagePoolLookupByName(self.pool)
        except api.LibvirtError as err:
            if api.code_of(err) != api.NO_STORAGE_POOL:
                raise
        return None

    def path(self, connection: api.Connection) -> str:
        """The directory of the pool as libvirt has it."""
        path = ET.fromstring(self.open(connection).XMLDesc()).findtext("target/path")
        if not path:
            raise Permanent(f"the storage pool {self.pool} there is not a directory; remove or rename it")
        return path

    def find(self, connection: api.Connection, name: str) -> api.Volume | None:
        """A volume by name; files that others put into the directory are found too."""
        pool = self.open(connection)
        volume = _lookup(pool, name)
        if volume is None and refresh(pool):
            volume = _lookup(pool, name)
        return volume

    def list(self, connection: api.Connection) -> tuple[str, ...]:
        """All names in the directory; none if there is no pool yet, and none is made for the asking."""
        if self._lookup(connection) is None:
            return ()
        pool = self.open(connection)
        refresh(pool)
        return tuple(sorted(pool.listVolumes()))

    def blank(self, connection: api.Connection, name: str, size: int) -> str:
        """The path of the raw volume `name`; made blank and sparse if missing, else left exactly as it is."""
        volume = self.find(connection, name)
        if volume is None:
            volume = self.open(connection).createXML(_volume_xml(name, size, "0600"))
        return volume.path()

    def overlay(self, connection: api.Connection, name: str, size: int, base: str, kind: str) -> str:
        """A fresh qcow2 on top of `base` (whose format is `kind`); one of an earlier try is replaced."""
        self.remove(connection, name)
        xml = _volume_xml(name, size, "0600", "qcow2", (base, kind))
        return self.open(connection).createXML(xml).path()

    def remove(self, connection: api.Connection, name: str) -> bool:
        """Delete one of our own throw-away files; False if there was none. Data disks are Refused."""
        if not name.startswith("anew-"):
            raise Refused(
                "this is a data disk or a stranger's file; anew has no way to delete it", where=name
            )
        volume = self.find(connection, name)
        if volume is None:
            return False
        with tolerated(api.NO_STORAGE_VOL):
            volume.delete()
        return True

    def upload(self, connection: api.Connection, name: str, source: BinaryIO, size: int, mode: str) -> str:
        """Put `size` bytes of `source` into a new volume; returns the sha256 of what was sent."""
        self.remove(connection, name)
        volume = self.open(connection).createXML(_volume_xml(name, size, mode))
        digest = hashlib.sha256()

        def feed(_stream: api.Stream, wanted: int, _opaque: Any) -> bytes:
            chunk = source.read(min(wanted, CHUNK))
            digest.update(chunk)
            return chunk

        with _stream(connection) as stream:
            volume.upload(stream, 0, size)
            stream.sendAll(feed, None)
        return digest.hexdigest()

    def finish(self, connection: api.Connection, part: str, name: str, size: int) -> None:
        """Give an uploaded volume its final name.

        libvirt cannot rename: the hypervisor copies, then the part goes.
        """
        self.remove(connection, name)
        pool, half = self.open(connection), self.find(connection, part)
        if half is None:
            raise Permanent(
                f"the upload {part} vanished before it had its name; somebody else cleans that directory"
            )
        pool.createXMLFrom(_volume_xml(name, size, "0644"), half)
        half.delete()

    def hash(self, connection: api.Connection, name: str) -> str:
        """sha256 of a volume's bytes, read back from the hypervisor; "" if there is no such volume."""
        digest = hashlib.sha256()
        volume = self.find(connection, name)
        if volume is None:
            return ""
        _download(connection, volume, 0, 0, digest.update)
        return digest.hexdigest()

    def stamp(self, connection: api.Connection, name: str) -> str:
        """What changes when a volume does: size and times; "" if there is no such volume."""
        volume = self.find(connection, name)
        if volume is None:
            return ""
        xml = ET.fromstring(volume.XMLDesc())
        times = (xml.findtext(f"target/timestamps/{kind}") or "" for kind in ("mtime", "ctime"))
        return " ".join([str(volume.info()[1]), *times])

    def read(self, connection: api.Connection, name: str, offset: int, limit: int) -> tuple[bytes, int]:
        """Up to `limit` bytes from `offset` (negative: from the end), and the offset after them."""
        volume = self.find(connection, name)
        size = 0 if volume is None else volume.info()[1]
        start = max(0, size + offset) if offset < 0 else offset
        length = min(limit, size - start)
        if volume is None or length <= 0:
            return b"", min(start, size)
        chunks: list[bytes] = []
        _download(connection, volume, start, length, chunks.append)
        data = b"".join(chunks)[:limit]
        return data, start + len(data)

    def _xml(self) -> str:
        pool = ET.Element("pool", {"type": "dir"})
        ET.SubElement(pool, "name").text = self.pool
        target = ET.SubElement(pool, "target")
        ET.SubElement(target, "path").text = self.directory
        permissions = ET.SubElement(target, "permissions")
        ET.SubElement(permissions, "mode").text = "0711"
        return ET.tostring(pool, encoding="unicode")


def refresh(pool: api.StoragePool) -> bool:
    """Let libvirt look at the directory again; False while an upload of somebody keeps it from doing so."""
    try:
        pool.refresh()
    except api.LibvirtError:
        if not pool.isActive():
            pool.create()
        return False
    return True


@contextlib.contextmanager
def tolerated(code: int) -> Iterator[None]:
    """An error of this code is no error here."""
    try:
        yield
    except api.LibvirtError as err:
        if api.code_of(err) != code:
            raise


def _lookup(pool: api.StoragePool, name: str) -> api.Volume | None:
    try:
        return pool.storageVolLookupByName(name)
    except api.LibvirtError as err:
        if api.code_of(err) != api.NO_STORAGE_VOL:
            raise
    return None


@contextlib.contextmanager
def _stream(connection: api.Connection) -> Iterator[api.Stream]:
    stream = connection.newStream()
    done = False
    try:
        yield stream
        stream.finish()
        done = True
    finally:
        if not done:
            with contextlib.suppress(api.LibvirtError):
                stream.abort()


def _download(
    connection: api.Connection, volume: api.Volume, offset: int, length: int, take: Callable[[bytes], Any]
) -> None:
    with _stream(connection) as stream:
        volume.download(stream, offset, length)
        while chunk := stream.recv(CHUNK):
            take(chunk)


def _volume_xml(
    name: str, size: int, mode: str, kind: str = "raw", backing: tuple[str, str] | None = None
) -> str:
    volume = ET.Element("volume")
    ET.SubElement(volume, "name").text = name
    ET.SubElement(volume, "capacity", {"unit": "bytes"}).text = str(size)
    ET.SubElement(volume, "allocation", {"unit": "bytes"}).text = "0"
    target = ET.SubElement(volume, "target")
    ET.SubElement(target, "format", {"type": kind})
    ET.SubElement(ET.SubElement(target, "permissions"), "mode").text = mode
    if backing is not None:
        store = ET.SubElement(volume, "backingStore")
        ET.SubElement(store, "path").text = backing[0]
        ET.SubElement(store, "format", {"type": backing[1]})
    return ET.tostring(volume, encoding="unicode")
