"""What things of ours are called at a hypervisor, and the UUID and MAC that follow from who they are.

Names never identify (I22): UUID and tag do. Names are for people, for storage, and for finding leftovers:
every file that anew may remove starts with `anew-`; a data disk's name never does.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Final

from fleet.core.errors import Invalid

ROOT: Final = uuid.UUID("6d1c5a2e-4a0b-5f0e-9c53-1f2a7a6e4b90")
"""The namespace of every UUID here; it never changes."""

PART: Final = ".part"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_OWNED = re.compile(
    r"anew-(?:overlay|seed|console)-(?P<server>[a-z0-9-]{1,63})\.(?P<number>\d{1,9})\.[a-z0-9.]+\Z"
)
_IMAGE = re.compile(r"anew-image-(?P<family>[a-z0-9-]{1,63})-(?P<sha256>[0-9a-f]{64})(?:\.part)?\Z")


def checked(name: str, what: str) -> str:
    """`name` if it is by the grammar, else Invalid that says what it should name."""
    if not _NAME.match(name):
        raise Invalid(
            f"{what} may have small letters, digits and inner dashes only, at most 63", where=name[:80]
        )
    return name


def incarnation_uuid(fleet: str, server: str, number: int) -> str:
    """The UUID of a domain: always the same for (fleet, server, number), so that a second try finds the
    first.
    """
    return str(uuid.uuid5(ROOT, f"{fleet}/{server}.{number}"))


def domain(server: str, number: int) -> str:
    """ "web-1.2": the domain's name and the seed's instance id."""
    return f"{server}.{number}"


def mac(fleet: str, server: str, number: int) -> str:
    """One of two MACs of a server, by the number's parity: neighbours in time never share one."""
    digest = hashlib.sha256(f"{fleet}/{server}/{number % 2}".encode()).hexdigest()
    return "52:54:00:" + ":".join(digest[i : i + 2] for i in (0, 2, 4))


def image_file(family: str, sha256: str) -> str:
    """A staged file is called by its own bytes, so that two versions share what is equal."""
    return f"anew-image-{checked(family, 'an image family')}-{sha256}"


def image_parts(name: str) -> tuple[str, str] | None:
    """(family, sha256) of a staged file's name, finished or not; None for any other name."""
    found = _IMAGE.match(name)
    return (found["family"], found["sha256"]) if found else None


def overlay(server: str, number: int) -> str:
    """The throw-away disk of an ephemeral root."""
    return f"anew-overlay-{server}.{number}.qcow2"


def seed(server: str, number: int, kind: str) -> str:
    """The identity file; `kind` is `fwcfg` or `iso`."""
    return f"anew-seed-{server}.{number}.{kind}"


def console(server: str, number: int) -> str:
    """The serial console's log."""
    return f"anew-console-{server}.{number}.log"


def owned_by(name: str) -> tuple[str, int] | None:
    """(server, number) of an overlay, seed or console log by its name; None for any other name."""
    found = _OWNED.match(name)
    return (found["server"], int(found["number"])) if found else None


def data(disk: str, server: str) -> str:
    """A data disk's volume: no dash-prefix of ours, so that nothing which removes ever matches it."""
    return f"{checked(disk, 'a data disk')}.{checked(server, 'a server')}"


def storage_pool(fleet: str) -> str:
    """The libvirt storage pool of a fleet."""
    return f"anew-{checked(fleet, 'a fleet')}"
