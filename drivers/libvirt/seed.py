"""Who a server is, told to the guest at its first boot: a fw_cfg blob, or a NoCloud image for cloud-init.

The seed holds the server's private host key: it is made just before a start, 0600, and gone once the server
is healthy.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any, Literal

import pycdlib

from drivers.identity import IdentityStore
from drivers.libvirt import names
from fleet.core.observed import Image

SeedKind = Literal["fwcfg", "iso"]


@dataclass(frozen=True, slots=True)
class Seed:
    """A seed before it is written anywhere. Its text never shows the content."""

    kind: SeedKind
    name: str
    content: bytes

    def __repr__(self) -> str:
        return f"Seed({self.name})"


def kind_for(image: Image) -> SeedKind:
    """A direct-booted file system image reads fw_cfg; a disk image is taken to have cloud-init."""
    return "fwcfg" if image.boot is not None and image.kind in ("squashfs", "erofs") else "iso"


def make(
    identity: IdentityStore, kind: SeedKind, server: str, number: int, keys: tuple[str, ...], mac: str
) -> Seed:
    """The seed of one incarnation; `keys` are trusted besides anew's own.

    Reads and makes keys: blocks shortly.
    """
    name = names.seed(server, number, kind)
    instance = names.domain(server, number)
    if kind == "fwcfg":
        return Seed(kind, name, identity.seed_lines(server, instance, keys).encode())
    return Seed(kind, name, _nocloud(identity, server, instance, keys, mac))


def _nocloud(
    identity: IdentityStore, server: str, instance: str, keys: tuple[str, ...], mac: str
) -> bytes:
    trusted = list(identity.authorized_keys(keys))
    user_data: dict[str, Any] = {
        "hostname": server,
        "preserve_hostname": False,
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_authorized_keys": trusted,
        "users": ["default", {"name": "root", "ssh_authorized_keys": trusted}],
        "ssh_deletekeys": True,
        "ssh_keys": {
            "ed25519_private": identity.host_private(server),
            "ed25519_public": identity.host_public(server),
        },
        # Once the seed is gone cloud-init would take the next boot for a new machine and make new host keys.
        "write_files": [
            {
                "path": "/etc/cloud/cloud.cfg.d/99-anew.cfg",
                "content": "manual_cache_clean: true\n",
                "permissions": "0644",
            }
        ],
    }
    # By MAC: cloud-init 22 writes a match by name for systemd-networkd wrongly, and the guest stays without network.
    interface = {"match": {"macaddress": mac}, "set-name": "eth0", "dhcp4": True}
    network = {"version": 2, "ethernets": {"eth0": interface}}
    return _iso(
        {
            # JSON is YAML, and quotes whatever a key's comment may hold.
            "user-data": "#cloud-config\n" + json.dumps(user_data, indent=1) + "\n",
            "meta-data": json.dumps({"instance-id": instance, "local-hostname": server}) + "\n",
            "network-config": json.dumps(network) + "\n",
        }
    )


def _iso(files: dict[str, str]) -> bytes:
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for name, text in files.items():
        data = text.encode()
        plain = name.replace("-", "").upper()[:8]
        iso.add_fp(io.BytesIO(data), len(data), f"/{plain}.;1", rr_name=name, joliet_path=f"/{name}")
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()
