"""What a simulated server prints while it boots, and what it says last."""

from __future__ import annotations

from drivers.sim.chance import chance
from drivers.sim.life import Life

_BOOT = (
    (0.00, "Linux version 6.1.0-sim (anew@sim) #1 SMP PREEMPT_DYNAMIC"),
    (0.01, "Command line: console=ttyS0 quiet panic=1 anew.image={version}"),
    (0.05, "BIOS-provided physical RAM map:"),
    (0.15, "smp: Bringing up secondary CPUs ..."),
    (0.30, "virtio_blk virtio1: [vda] 7184 512-byte logical blocks (3.68 MB/3.51 MiB)"),
    (0.45, "squashfs: version 4.0 (2009/01/31) Phillip Lougher"),
    (0.55, "{mount}"),
    (0.60, "Run /sbin/init as init process"),
    (0.75, "virtio_net virtio3 eth0: link becomes ready"),
    (0.90, "dropbear: listening on port 22"),
    (1.00, "{server} login: "),
)
"""(share of the boot at which it is printed, text)."""

_PANIC_AT = 0.6
_MOUNTS = {
    "read-only": "VFS: Mounted root (squashfs filesystem) readonly on device 254:0.",
    "overlay": "overlayfs: root is a throw-away layer over device 254:0.",
    "writable": "EXT4-fs (vda): mounted filesystem with ordered data mode, read-write",
}


def lines(life: Life, boot: float) -> list[tuple[float, str]]:
    """(moment, line) of everything this start prints in the end. `boot`: seconds that a whole boot would
    take.
    """
    takes = life.ready_at - life.started_at if life.ready_at < float("inf") else boot
    panics = life.fault in ("never-healthy", "never-boots")
    root = "writable" if life.fault == "writable-root" else life.root
    words = {"version": life.version, "server": life.server, "mount": _MOUNTS[root]}
    said = [
        (share * takes, text.format(**words)) for share, text in _BOOT if not panics or share <= _PANIC_AT
    ]
    if panics:
        said.append(
            (_PANIC_AT * takes, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100")
        )
    elif life.fault == "dies-after" and life.dies_at < float("inf"):
        said.append((life.dies_at - life.started_at, "Out of memory: Killed process 1 (init)"))
        said.append(
            (
                life.dies_at - life.started_at,
                "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
            )
        )
    drift = 0.001 * chance(0, life.uuid, life.number, life.starts)
    return [(life.started_at + at, f"[{at + drift:12.6f}] {text}") for at, text in said]
