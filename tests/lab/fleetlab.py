"""A fleet of one test module: its own fleet file, state folder, ports and names, and a real daemon process.

All of it bears the fleet's name, `lt-PID-START-WORD`, so that what is left of a killed session can be told apart.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drivers.identity import IdentityStore
from tests.lab.daemonlab import FOLDER, DaemonLab, figures, seconds_of
from tests.lab.hypervisor import URI, Domain, Libvirt, fleet_name
from tests.ports import free_block


@dataclass(frozen=True)
class PoolSpec:
    """A pool of a test's fleet. `word` becomes its name, made unique; `more` and `rollout` are lines of TOML."""

    word: str
    servers: int
    image: str = "web"
    root: str = "read-only"
    memory: str = "192MiB"
    hypervisors: tuple[str, ...] = ("here",)
    more: tuple[str, ...] = ()
    rollout: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class PoolHere:
    """A pool as it was written: its name, and which ports belong to which server."""

    name: str
    spec: PoolSpec
    first_port: int

    @property
    def names(self) -> list[str]:
        """Its servers."""
        return [f"{self.name}-{number}" for number in range(1, self.spec.servers + 1)]

    @property
    def ports(self) -> dict[int, str]:
        """port -> server: the home port of each, then the second one of each (drivers/libvirt/ports.py)."""
        return {self.first_port + index: self.names[index % self.spec.servers] for index in range(2 * self.spec.servers)}


class FleetLab(DaemonLab):
    """One fleet and its daemon. `close` removes every domain, volume and seed of the fleet, and nothing else."""

    def __init__(self, word: str, libvirt: Libvirt, images: Mapping[str, Path], pools: Iterable[PoolSpec],
                 hypervisors: Mapping[str, str] | None = None) -> None:
        super().__init__(fleet_name(f"{word}{os.urandom(2).hex()}"))
        self.libvirt = libvirt
        suffix = os.urandom(2).hex()
        self.pools = {spec.word: PoolHere(f"{spec.word}{suffix}", spec, free_block(2 * spec.servers)) for spec in pools}
        self.fleet.write_text(fleet_toml(self.name, images, hypervisors or {"here": URI}, self.pools.values()))

    def close(self) -> None:
        """Remove all that this fleet is."""
        try:
            self._end(signal.SIGTERM)
            self.libvirt.wipe(self.name)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- bringing pools to where a test begins

    def birth(self, pool: PoolHere, version: str = "1") -> None:
        """All servers of an empty pool at once: nobody is served yet."""
        self.roll(pool, version, "--canaries", "0", "--max-unavailable", "100%", "--promotion", "auto")

    def bring(self, pool: PoolHere, version: str) -> None:
        """All servers on `version`, whatever an earlier test left; nothing is done if they are."""
        if row := self.pool_row(pool)["rollout"]:
            self.anew("rollout", "abort", row)
            self.until(lambda: not self.pool_row(pool)["rollout"], 120.0, "the end of an aborted rollout")
        for rejected in self.pool_row(pool)["image"]["rejected"]:
            self.client.command("image.unreject", pool=pool.name, version=rejected["version"])
        if self.pool_row(pool)["versions"] == {}:
            self.birth(pool, version)
        elif self.pool_row(pool)["versions"] != {version: pool.spec.servers}:
            self.roll(pool, version)
        self.until(lambda: self.pool_row(pool)["healthy"] == pool.spec.servers, 120.0, "all servers healthy")

    # --- looking inside and outside

    def domains(self, pool: PoolHere | None = None) -> list[Domain]:
        """libvirt's own word about this fleet's domains."""
        return [domain for domain in self.libvirt.of_fleet(self.name) if pool is None or domain.tag.get("pool") == pool.name]

    def pin(self, server: str) -> str:
        """The server's pinned host key, kept in a known_hosts file for `inside`."""
        key = IdentityStore(str(self.state / "identities")).host_public(server)
        known = self.folder / "known_hosts"
        lines = known.read_text().splitlines() if known.exists() else []
        if not any(line.startswith(f"{server} ") for line in lines):
            known.write_text("\n".join([*lines, f"{server} {key}"]) + "\n")
        return key

    def inside(self, server: str, command: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a command in the guest over OpenSSH, which accepts the key pinned first and no other."""
        self.pin(server)
        options = ("BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=30", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={self.folder}/known_hosts",
                   "GlobalKnownHostsFile=/dev/null", f"HostKeyAlias={server}", "HostKeyAlgorithms=ssh-ed25519")
        flags = [part for option in options for part in ("-o", option)]
        port = self.server(server)["address"].rpartition(":")[2]
        client = IdentityStore(str(self.state / "identities")).client_private_path()
        return subprocess.run(["ssh", "-F", "none", *flags, "-i", client, "-p", port, f"{user}@127.0.0.1", command],
                              capture_output=True, text=True, timeout=120, check=False)

    def boot_id(self, server: str) -> str:
        """The guest kernel's boot id: another one means that the guest was started again."""
        said = self.inside(server, "cat /proc/sys/kernel/random/boot_id")
        assert said.returncode == 0, said
        return said.stdout.strip()


def remove_stale_folders() -> None:
    """Folders of test sessions that were killed."""
    for folder in Path("/tmp").glob(f"{FOLDER}*-*"):
        session = folder.name.removeprefix(FOLDER).partition("-")[0]
        if session.isdigit() and not Path(f"/proc/{session}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def fleet_toml(name: str, images: Mapping[str, Path], hypervisors: Mapping[str, str], pools: Iterable[PoolHere]) -> str:
    """The fleet file."""
    lines = ["[fleet]", f'name = "{name}"']
    for family, path in images.items():
        lines += [f"[images.{family}]", f'path = "{path}"']
    for place, uri in hypervisors.items():
        lines += [f"[hypervisors.{place}]", f'uri = "{uri}"', 'acceleration = "tcg"']
    for pool in pools:
        lines += _pool_toml(pool)
    return "\n".join(lines) + "\n"


def _pool_toml(pool: PoolHere) -> list[str]:
    spec = pool.spec
    places = ", ".join(f'"{place}"' for place in spec.hypervisors)
    settings = {"promotion": "auto", "min_healthy_time": "2s", "healthy_deadline": "3m", "progress_deadline": "6m", **spec.rollout}
    return [
        f"[pools.{pool.name}]", 'driver = "libvirt"', f"servers = {spec.servers}", f'image = "{spec.image}"', f"hypervisors = [{places}]",
        f'memory = "{spec.memory}"', f'root = "{spec.root}"', 'mode = "manual"', *spec.more,
        f'network = {{ user = {{ address = "127.0.0.1", first_port = {pool.first_port}, guest_port = 22 }} }}',
        f"[[pools.{pool.name}.health]]", 'tcp = { port = 22, expect = "SSH-" }',
        f"[pools.{pool.name}.rollout]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items()),
    ]




__all__ = ["FleetLab", "PoolHere", "PoolSpec", "figures", "fleet_toml", "remove_stale_folders", "seconds_of"]
