"""What a pretended host prints when it is looked at: the text of `anew-host observe`, and RAUC's own JSON in it.

The JSON has the shape that rauc 1.8 gives for `status --detailed --output-format=json` (taken from the real program on two
slots of type raw): the idle slot first, and a slot that no bundle was written to has a status of nothing but `compatible`.
A booted slot whose try is not given back is "bad", and is not what boots next: that is how a trial looks.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from tests.metal.disk import SLOTS, Content, Slot, other

if TYPE_CHECKING:
    from tests.metal.host import Host

COMPATIBLE = "anew-metal-x86_64"
HUGE = 100 * 2**20


def observe(host: Host) -> bytes:
    """The whole answer but its last line."""
    lines = ["anew-host 1", f"backend {backend(host)}", *_running(host), *_data(host), *_records(host)]
    section = _section(host)
    return "\n".join(lines).encode() + b"\n" + section


def backend(host: Host) -> str:
    """What it boots with: none where it has no A/B layout, or its program finds none."""
    return "none" if host.plain or host.evil.no_backend else host.backend


def _running(host: Host) -> list[str]:
    content, plain = host.content, backend(host) == "none"
    return [
        f"boot_id {host.shown_boot_id()}",
        f"uptime {int(asyncio.get_running_loop().time() - host.started)}",
        f"clock {int(time.time() + host.evil.clock_off)}",
        f"image_id {_image_id(host, content)}",
        f"version {content.version if content else '-'}",
        f"os {host.evil.os}",
        f"root {_root(host)}",
        f"trial {'yes' if host.trial else 'no'}",
        f"deadman {int(max(1.0, host.pace.dead_man)) if host.trial else 'off'}",
        f"booted {host.booted if host.booted and not plain and host.evil.lie != 'no-slot' else '-'}",
    ]


def _image_id(host: Host, content: Content | None) -> str:
    if content is None or host.plain:
        return "-"
    return "web-0-ffffffff" if host.evil.lie == "wrong-image" else content.image_id


def _root(host: Host) -> str:
    if not host.plain:
        return "read-only squashfs"
    return "read-only ext4" if host.disk.fstab == "ro" else "writable ext4"


def _data(host: Host) -> list[str]:
    disk = host.disk
    return [
        f"data_free {0 if host.evil.disk_full else max(0, disk.free)}",
        f"data {'read-only' if host.evil.read_only_data else 'writable'}",
        f"epoch {disk.epoch}",
        f"env {disk.env.condition if backend(host) != 'none' else '-'}",
        f"server {'-' if host.plain else disk.server}",
        f"lock {host.evil.locked_by or host.held_by or 'free'}",
    ]


def _records(host: Host) -> list[str]:
    lines = []
    for slot in SLOTS:
        record = host.disk.records.get(slot)
        if record is not None:
            line = record.line()
            if host.evil.lie == "wrong-digest":
                line = line.replace(record.digest, "sha256:" + "e" * 64)
            if host.evil.lie == "other-number" and record.number >= 0:
                line = line.replace(f"number={record.number}", f"number={record.number + 100}")
            lines.append(f"slot.{slot} {line}")
    for sha, held in host.disk.bundles.items():
        lines.append(f"bundle {sha} {held.size} {'complete' if held.complete else 'part'}")
    return lines


def _section(host: Host) -> bytes:
    match backend(host):
        case "none":
            return b""
        case "rauc" if not host.rauc_answers():
            return b""
        case "rauc":
            raw = json.dumps(rauc_status(host), separators=(",", ":")).encode()
        case "sdboot":
            raw = _boot_entries(host).encode()
        case _:
            raw = json.dumps(_bootc_status(host)).encode()
    return f"--- {backend(host)} {len(raw)}\n".encode() + raw + b"\n"


def rauc_status(host: Host) -> dict[str, Any]:
    """`rauc status --detailed --output-format=json`."""
    booted = host.booted or "A"
    primary = host.disk.env.primary() if host.disk.env.condition == "ok" else None
    return {
        "compatible": COMPATIBLE,
        "variant": "",
        "booted": booted,
        "boot_primary": None if primary is None else _rauc_name(primary),
        "slots": [{_rauc_name(slot): _rauc_slot(host, slot)} for slot in (other(booted), booted)],
    }


def _rauc_name(slot: str) -> str:
    return f"rootfs.{SLOTS.index(slot)}"


def _rauc_slot(host: Host, slot: Slot) -> dict[str, Any]:
    env = host.disk.env
    good = env.condition == "ok" and env.good[slot] and not env.tried[slot]
    return {
        "class": "rootfs",
        "device": f"/dev/disk/by-partlabel/root{slot}",
        "type": "raw",
        "bootname": slot,
        "state": "booted" if slot == host.booted else "inactive",
        "parent": None,
        "mountpoint": None,
        "boot_status": "good" if good else "bad",
        "slot_status": _slot_status(host, slot),
    }


def _slot_status(host: Host, slot: Slot) -> dict[str, Any]:
    content = host.disk.contents[slot]
    if content is None or not content.sha:
        return {"bundle": {"compatible": None}}
    when = {"timestamp": "2026-11-22T02:00:00Z", "count": 1}
    return {
        "bundle": {"compatible": COMPATIBLE, "version": content.version, "hash": content.sha},
        "checksum": {"sha256": content.sha, "size": content.size},
        "installed": when,
        "activated": when,
        "status": "ok",
    }


def _boot_entries(host: Host) -> str:
    """An entry has tries left and done in its name while it is on trial: NAME+LEFT-DONE.conf."""
    env, lines = host.disk.env, []
    for slot in SLOTS:
        if host.disk.contents[slot] is not None:
            kept = env.good[slot] and not (slot == host.booted and host.trial)
            lines.append(f"anew-{slot}.conf" if kept else f"anew-{slot}+{0 if env.tried[slot] else 1}-{int(env.tried[slot])}.conf")
    return "\n".join([*lines, f"selected anew-{host.booted}", f"default anew-{env.primary() or env.order[0]}"])


def _bootc_status(host: Host) -> dict[str, Any]:
    """The part of `bootc status --format=json` that matters here."""

    def deployment(slot: Slot | None) -> dict[str, Any] | None:
        content = host.disk.contents[slot] if slot else None
        if content is None:
            return None
        image = {"image": {"image": f"registry.example.com/web:{content.version}", "transport": "registry"}, "version": content.version,
                 "timestamp": None, "imageDigest": content.digest or "sha256:" + "0" * 64}
        return {"image": image, "cachedUpdate": None, "incompatible": False, "pinned": False, "store": "ostreeContainer",
                "ostree": {"checksum": (content.sha or "0" * 64), "deploySerial": 0}}

    booted = host.booted or "A"
    staged = host.disk.env.primary() == other(booted)
    return {
        "apiVersion": "org.containers.bootc/v1",
        "kind": "BootcHost",
        "metadata": {"name": "host"},
        "spec": {"image": None, "bootOrder": "default"},
        "status": {
            "staged": deployment(other(booted)) if staged else None,
            "booted": deployment(booted),
            "rollback": None if staged else deployment(other(booted)),
            "rollbackQueued": False,
            "type": "bootcHost",
        },
    }
