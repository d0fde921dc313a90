"""Our element in a domain's metadata: what `observe` reads, so that a lost journal loses no server.

One element without children, so that libvirt gives it back as it was. It is trusted as far as the hypervisor
is: a domain counts as ours only if the tag names our fleet *and* the domain's own UUID (a clone copies the
tag, not the UUID).
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

URI: Final = "urn:anew:incarnation:1"
KEY: Final = "anew"
ELEMENT: Final = f"{{{URI}}}incarnation"
ET.register_namespace(KEY, URI)

Mark = Literal["making", "live", "committed", "retired"]
"""making: defined, not yet seen running. live: started by us. committed: the one to keep.

retired: stopped by us.
"""


@dataclass(frozen=True, slots=True)
class Tag:
    """One incarnation as its domain describes it. `files`: volumes it boots from.

    `seed`: "", "fwcfg" or "iso".
    """

    fleet: str
    pool: str
    server: str
    number: int
    uuid: str
    digest: str
    version: str
    born_at: float
    mark: Mark
    operation: str = ""
    rollout: str = ""
    epoch: int = 0
    root: str = ""
    place: str = ""
    address: str = ""
    guest_port: int = 0
    files: tuple[str, ...] = ()
    seed: str = ""


def write(tag: Tag) -> str:
    """The element as text, without a namespace: libvirt's setMetadata puts ours around it."""
    return ET.tostring(_element(tag, "incarnation"), encoding="unicode")


def put(domain: ET.Element, tag: Tag) -> None:
    """Set the tag inside a whole domain's XML, replacing an older one and nothing else."""
    metadata = domain.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(domain, "metadata")
    for old in metadata.findall(ELEMENT):
        metadata.remove(old)
    metadata.append(_element(tag, ELEMENT))


def read(domain: ET.Element) -> Tag | None:
    """The tag in a domain's XML, None if there is none.

    Raises ValueError naming the field if it cannot be read.
    """
    element = domain.find(f"metadata/{ELEMENT}")
    if element is None:
        return None
    get = element.attrib.get
    for field in ("fleet", "pool", "server", "uuid", "digest"):
        if not get(field):
            raise ValueError(f"its field {field} is missing")
    mark = get("mark", "")
    if mark not in get_args(Mark):
        raise ValueError("its field mark is none that anew writes")
    return Tag(
        fleet=get("fleet", ""),
        pool=get("pool", ""),
        server=get("server", ""),
        number=_whole(element, "number"),
        uuid=get("uuid", ""),
        digest=get("digest", ""),
        version=get("version", ""),
        born_at=_time(element),
        mark=cast(Mark, mark),
        operation=get("operation", ""),
        rollout=get("rollout", ""),
        epoch=_whole(element, "epoch"),
        root=get("root", ""),
        place=get("place", ""),
        address=get("address", ""),
        guest_port=_whole(element, "guest-port"),
        files=tuple(get("files", "").split()),
        seed=get("seed", ""),
    )


def _element(tag: Tag, name: str) -> ET.Element:
    fields = {
        "fleet": tag.fleet,
        "pool": tag.pool,
        "server": tag.server,
        "number": str(tag.number),
        "uuid": tag.uuid,
        "digest": tag.digest,
        "version": tag.version,
        "born-at": repr(tag.born_at),
        "mark": tag.mark,
        "operation": tag.operation,
        "rollout": tag.rollout,
        "epoch": str(tag.epoch),
        "root": tag.root,
        "place": tag.place,
        "address": tag.address,
        "guest-port": str(tag.guest_port),
        "files": " ".join(tag.files),
        "seed": tag.seed,
    }
    return ET.Element(name, {key: value for key, value in fields.items() if value})


def _whole(element: ET.Element, field: str) -> int:
    text = element.attrib.get(field, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ValueError(f"its field {field} is no whole number")
    return int(text)


def _time(element: ET.Element) -> float:
    try:
        value = float(element.attrib.get("born-at", "0"))
    except ValueError:
        raise ValueError("its field born-at is no time") from None
    if not math.isfinite(value):
        raise ValueError("its field born-at is no time")
    return value
