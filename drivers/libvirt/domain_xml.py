"""The domain of an incarnation, built and edited as an element tree; never as text.

A guest that panics (`panic=1`) reboots, and `on_reboot` destroys it: it ends, so that `observe` sees it.
Disks: vda is the root; data disks follow with their name as the virtio serial; a NoCloud seed is the last, read-only.
Every format is explicit, the backing chain too: nothing is ever probed.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Final, Literal

from drivers.libvirt import tag as tags
from fleet.core.desired import Network

QEMU: Final = "http://libvirt.org/schemas/domain/qemu/1.0"
ET.register_namespace("qemu", QEMU)

IDENTITY: Final = "opt/org.anew/identity"
"""The fw_cfg name; `opt/` and a reversed domain name are what QEMU's specification asks of users."""

SERIAL_LIMIT: Final = 20
"""Bytes of a virtio block serial (VIRTIO_BLK_ID_BYTES)."""

_HOST_FORWARD = re.compile(r"hostfwd=tcp:((?:\d{1,3}\.){3}\d{1,3}|):(\d{1,5})-")


@dataclass(frozen=True, slots=True)
class Root:
    """The first disk.

    `path` is read-only and shared, or (with `backing`) an overlay that belongs to this domain.
    """

    path: str
    format: str
    backing: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """Direct kernel boot: paths at the hypervisor."""

    kernel: str
    initrd: str
    cmdline: str


@dataclass(frozen=True, slots=True)
class Blueprint:
    """All that a domain is made from.

    `kind`: kvm, qemu (TCG) or test. Memory in bytes. `data`: (serial, path). `owners`: the hypervisor changes the
    owner of a guest's files (DAC), so shared ones must be exempted.
    """

    tag: tags.Tag
    name: str
    title: str
    kind: str
    memory: int
    vcpus: int
    root: Root
    kernel: Kernel | None
    data: tuple[tuple[str, str], ...]
    network: Network
    mac: str
    port: int
    console: str
    seed: tuple[Literal["fwcfg", "iso"], str] | None = None
    agent: bool = True
    owners: bool = True


def build(plan: Blueprint) -> str:
    """The whole domain as XML text."""
    domain = ET.Element("domain", {"type": plan.kind})
    _text(domain, "name", plan.name)
    _text(domain, "uuid", plan.tag.uuid)
    _text(domain, "title", plan.title)
    tags.put(domain, plan.tag)
    _text(domain, "memory", str(plan.memory // 1024), unit="KiB")
    _text(domain, "vcpu", str(plan.vcpus))
    _boot(domain, plan)
    if plan.kind != "test":
        ET.SubElement(ET.SubElement(domain, "features"), "acpi")
    if plan.kind == "kvm":
        ET.SubElement(domain, "cpu", {"mode": "host-model"})
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "destroy"), ("on_crash", "destroy")):
        _text(domain, event, action)
    devices = ET.SubElement(domain, "devices")
    _root_disk(devices, plan.root, exempt=plan.owners)
    for index, (serial, path) in enumerate(plan.data):
        _data_disk(devices, serial, path, f"vd{chr(ord('b') + index)}")
    _small_devices(devices, plan)
    if plan.network.kind in ("network", "bridge"):
        _interface(devices, plan.network, plan.mac)
    elif plan.network.kind == "user":
        _user_network(domain, plan)
    if plan.seed is not None:
        set_seed(domain, *plan.seed)
    return ET.tostring(domain, encoding="unicode")


def set_seed(domain: ET.Element, kind: Literal["fwcfg", "iso"], path: str) -> None:
    """Put the seed in, in place of the one that may be there."""
    drop_seed(domain)
    if kind == "fwcfg":
        info = ET.Element("sysinfo", {"type": "fwcfg"})
        ET.SubElement(info, "entry", {"name": IDENTITY, "file": path})
        domain.append(info)
        return
    # A virtio disk, not a CD-ROM: Debian's cloud kernel drives no SATA. cloud-init goes by the label alone.
    disk = _disk(_devices(domain), path, "raw", "vdz", relabel=True)
    ET.SubElement(disk, "readonly")


def drop_seed(domain: ET.Element) -> None:
    """Take the seed out: a domain that names a missing file does not start."""
    for info in domain.findall("sysinfo[@type='fwcfg']"):
        for entry in info.findall(f"entry[@name='{IDENTITY}']"):
            info.remove(entry)
        if not len(info):
            domain.remove(info)
    devices = _devices(domain)
    for disk in devices.findall("disk"):
        source = disk.find("source")
        if source is not None and "/anew-seed-" in source.get("file", ""):
            devices.remove(disk)


def set_port(domain: ET.Element, old: int, new: int) -> None:
    """Move the loopback forward of a user network from one port to another."""
    for arg in domain.iter(f"{{{QEMU}}}arg"):
        value = arg.get("value", "")
        if "hostfwd=tcp:" in value:
            arg.set("value", re.sub(rf"(hostfwd=tcp:[^:,]*:){old}-", rf"\g<1>{new}-", value))


def forwards(domain: ET.Element) -> tuple[tuple[str, int], ...]:
    """(address, port) of every forward of QEMU's user networking, of ours and of strangers."""
    found: list[tuple[str, int]] = []
    for arg in domain.iter(f"{{{QEMU}}}arg"):
        found += [(address, int(port)) for address, port in _HOST_FORWARD.findall(arg.get("value", ""))]
    return tuple(found)


def disk_files(domain: ET.Element, *, writable: bool = False) -> frozenset[str]:
    """Paths of the domain's disks (`writable`: only those attached for writing).

    Backing files and kernels too if not.
    """
    found: set[str] = set()
    for disk in domain.findall("devices/disk"):
        if writable and disk.find("readonly") is not None:
            continue
        sources = disk.findall("source") if writable else disk.iter("source")
        found |= {path for source in sources for key in ("file", "dev") if (path := source.get(key))}
    if not writable:
        for kind in ("kernel", "initrd"):
            found.add(domain.findtext(f"os/{kind}") or "")
    return frozenset(found - {""})


def _boot(domain: ET.Element, plan: Blueprint) -> None:
    os = ET.SubElement(domain, "os")
    attributes = {"arch": "x86_64"} if plan.kind == "test" else {"arch": "x86_64", "machine": "q35"}
    _text(os, "type", "hvm", **attributes)
    if plan.kernel is None:
        ET.SubElement(os, "boot", {"dev": "hd"})
        return
    _text(os, "kernel", plan.kernel.kernel)
    if plan.kernel.initrd:
        _text(os, "initrd", plan.kernel.initrd)
    _text(os, "cmdline", plan.kernel.cmdline)


def _root_disk(devices: ET.Element, root: Root, *, exempt: bool) -> None:
    disk = _disk(devices, root.path, root.format, "vda", relabel=root.backing is not None or not exempt)
    if root.backing is None:
        ET.SubElement(disk, "readonly")
        ET.SubElement(disk, "shareable")
        return
    path, kind = root.backing
    backing = ET.SubElement(disk, "backingStore", {"type": "file"})
    ET.SubElement(backing, "format", {"type": kind})
    _source(backing, path, relabel=not exempt)
    ET.SubElement(backing, "backingStore")


def _data_disk(devices: ET.Element, serial: str, path: str, target: str) -> None:
    disk = _disk(devices, path, "raw", target, relabel=True)
    _text(disk, "serial", serial)


def _disk(devices: ET.Element, path: str, kind: str, target: str, *, relabel: bool) -> ET.Element:
    disk = ET.SubElement(devices, "disk", {"type": "file", "device": "disk"})
    ET.SubElement(disk, "driver", {"name": "qemu", "type": kind})
    _source(disk, path, relabel=relabel)
    ET.SubElement(disk, "target", {"dev": target, "bus": "virtio"})
    return disk


def _source(parent: ET.Element, path: str, *, relabel: bool) -> None:
    source = ET.SubElement(parent, "source", {"file": path})
    if not relabel:
        # Staged images are readable for all and shared: libvirt must not give them to the first guest's user.
        ET.SubElement(source, "seclabel", {"model": "dac", "relabel": "no"})


def _small_devices(devices: ET.Element, plan: Blueprint) -> None:
    if plan.kind != "test":
        ET.SubElement(devices, "controller", {"type": "usb", "model": "none"})
    serial = ET.SubElement(devices, "serial", {"type": "pty"})
    ET.SubElement(serial, "log", {"file": plan.console, "append": "on"})
    ET.SubElement(serial, "target", {"port": "0"})
    if plan.agent:
        channel = ET.SubElement(devices, "channel", {"type": "unix"})
        ET.SubElement(channel, "target", {"type": "virtio", "name": "org.qemu.guest_agent.0"})
    rng = ET.SubElement(devices, "rng", {"model": "virtio"})
    _text(rng, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "memballoon", {"model": "none"})


def _interface(devices: ET.Element, network: Network, mac: str) -> None:
    interface = ET.SubElement(devices, "interface", {"type": network.kind})
    ET.SubElement(interface, "mac", {"address": mac})
    ET.SubElement(interface, "source", {network.kind: network.name})
    ET.SubElement(interface, "model", {"type": "virtio"})


def _user_network(domain: ET.Element, plan: Blueprint) -> None:
    """libvirt 9.0 cannot do this with an <interface> (no passt): QEMU's own arguments, values checked by
    settings.

    restrict=on: a guest reaches nothing through it, least of all what listens on the hypervisor's loopback.
    """
    net = plan.network
    forward = f"hostfwd=tcp:{net.address}:{plan.port}-:{net.guest_port}"
    commands = ET.SubElement(domain, f"{{{QEMU}}}commandline")
    for value in (
        "-netdev",
        f"user,id=n0,restrict=on,{forward}",
        "-device",
        f"virtio-net-pci,netdev=n0,addr=0x10,mac={plan.mac}",
    ):
        ET.SubElement(commands, f"{{{QEMU}}}arg", {"value": value})


def _devices(domain: ET.Element) -> ET.Element:
    devices = domain.find("devices")
    return ET.SubElement(domain, "devices") if devices is None else devices


def _text(parent: ET.Element, name: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, name, attributes)
    element.text = text
    return element
