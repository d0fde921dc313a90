"""Real machines with a real daemon over them: one fleet file, one pool, each machine booted once and then rolled by anew.

The daemon reaches a machine through a door of the test's (`proxy`) where a test wants to cut the line.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.daemonlab import DaemonLab
from tests.lab.watching import Availability
from tests.metal.machines import SSH_PORT, WEB_PORT, Machine

ROLLOUT: Mapping[str, object] = {
    "canaries": 1, "promotion": "auto", "min_healthy_time": "4s", "healthy_deadline": "5m", "progress_deadline": "12m", "max_unavailable": 1,
}
COMEBACK = 540.0
"""Seconds in which a machine that goes back by itself is back: a boot, its dead-man, a boot."""


class MetalLab(DaemonLab):
    """Machines and the daemon that rolls them; pool `metal`, family `metal`."""

    def __init__(self, machines: Sequence[Machine], images: Path, *, doors: Mapping[str, tuple[str, int]] | None = None,
                 rollout: Mapping[str, object] | None = None) -> None:
        """`doors`: machine -> (address, port) by which the daemon reaches it, where that is not its own."""
        super().__init__(f"metal-{os.getpid()}-{os.urandom(2).hex()}")
        self.machines = {machine.identity.name: machine for machine in machines}
        self.doors = doors or {}
        self.images = images
        self.pool = _Pool()
        self.fleet.write_text(self._toml({**ROLLOUT, **(rollout or {})}))

    def _toml(self, rollout: Mapping[str, object]) -> str:
        lines = ["[fleet]", f'name = "{self.name}"', "[images.metal]", f'path = "{self.images}"']
        for name, machine in self.machines.items():
            address, port = self.doors.get(name, (machine.address, SSH_PORT))
            lines += [f"[machines.{name}]", f'address = "{address}"', f"port = {port}", f'key = "{machine.login}"', f'console = "{machine.log}"',
                      f'host_key = "{" ".join(machine.identity.host_key.split()[:2])}"']
        lines += ["[pools.metal]", 'driver = "baremetal"', f"machines = {json.dumps(list(self.machines))}", 'image = "metal"', 'mode = "manual"',
                  "[[pools.metal.health]]", f'http = {{ port = {WEB_PORT}, path = "/healthz" }}', 'deadline = "20s"', 'interval = "2s"',
                  "[pools.metal.rollout]", *(f"{key} = {json.dumps(value)}" for key, value in rollout.items())]
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        """End the daemon and cut the machines' power."""
        try:
            self._end(signal.SIGTERM)
            for machine in self.machines.values():
                machine.kill9()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def boot(self) -> None:
        """Power on all machines and the daemon, and wait until all are healthy."""
        for machine in self.machines.values():
            machine.start()
        for machine in self.machines.values():
            machine.wait_up()
        self.start()
        self.well()

    def well(self, seconds: float = 180.0) -> None:
        """Until every machine is healthy in anew's eyes."""
        self.until(lambda: self.pool_row(self.pool)["healthy"] == len(self.machines), seconds, "all machines healthy")

    def bring(self, version: str) -> None:
        """All machines on `version`, with no rollout under way and no image rejected, whatever an earlier test left."""
        self.at_rest()
        if set(self.pool_row(self.pool)["versions"]) != {version}:
            self.roll(self.pool, version, "--canaries", "0", "--max-unavailable", "100%")
        self.well()

    def at_rest(self) -> None:
        """All machines on and well, no rollout under way, no image rejected."""
        for machine in self.machines.values():
            machine.start()
        if self.daemon is None or self.daemon.poll() is not None:
            self.start()
        if row := self.pool_row(self.pool)["rollout"]:
            self.anew("rollout", "abort", row)
            self.until(lambda: not self.pool_row(self.pool)["rollout"], COMEBACK, "the end of an aborted rollout")
        for rejected in self.pool_row(self.pool)["image"]["rejected"]:
            self.client.command("image.unreject", pool="metal", version=rejected["version"])
        self.well(COMEBACK)

    def watched(self) -> Availability:
        """Eyes on every machine's web page: a look at SSH would cost a slow machine more than the page does."""
        doors = {(machine.address, WEB_PORT): name for name, machine in self.machines.items()}
        return Availability(doors, pace=0.5, ask=b"GET /healthz HTTP/1.0\r\n\r\n", expect=b"HTTP/1.")

    def inside(self) -> dict[str, tuple[int, str, str]]:
        """machine -> (incarnation, version, boot id), the boot id from inside: nothing of it changes while a machine is left alone."""
        rows = self.rows(self.pool)
        return {name: (rows[name]["incarnation"], rows[name]["version"], self.boot_id(name)) for name in self.machines}

    def boot_id(self, name: str) -> str:
        """The kernel's boot id, asked over an SSH session of the test's own."""
        return self.machines[name].said("cat /proc/sys/kernel/random/boot_id")

    def told(self, name: str) -> dict[str, str]:
        """What the helper on the machine says of it, as KEY -> VALUE."""
        lines = self.machines[name].said("anew-host observe").splitlines()
        return {key: value for key, _, value in (line.partition(" ") for line in lines)}

    def step(self, name: str) -> str:
        """The step at which the pool's latest rollout stands with a machine."""
        return str(next(run["step"] for run in self.rollout(self.pool)["servers"] if run["name"] == name))

    def until_step(self, name: str, *steps: str, seconds: float = 240.0) -> None:
        """Until a machine is at one of the steps."""
        self.until(lambda: self.step(name) in steps, seconds, f"{name} is at {' or '.join(steps)}")

    def begin(self, version: str, *options: str) -> None:
        """Start a rollout and return at once."""
        done = self.anew("rollout", "start", "metal", "--to", version, "--yes", *options)
        assert done.code == 0, self.trouble(done)

    def until_state(self, *states: str, seconds: float = 420.0) -> dict[str, Any]:
        """Until the pool's latest rollout is in one of the states; its row."""
        self.until(lambda: self.rollout(self.pool)["state"] in states, seconds, f"the rollout is {' or '.join(states)}")
        return self.rollout(self.pool)


class _Pool:
    name = "metal"
