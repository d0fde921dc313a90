"""A fleet of one test module: its own fleet file, state folder, ports and names, and a real daemon process.

All of it bears the fleet's name, `lt-PID-RANDOM-WORD`, so that what is left of a killed session can be told apart.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from drivers.identity import IdentityStore
from fleet.api.client import Client
from fleet.core.errors import AnewError
from tests.lab.guest import wait_until
from tests.lab.hypervisor import URI, Domain, Libvirt

FIRST_PORT, LAST_PORT = 24_000, 30_000
ROLLOUT_SECONDS = 420.0
"""Longer than any rollout here takes on a busy machine without KVM."""
FOLDER = "anew-lab-"
PROGRAM = "import sys; from fleet.cli.main import main; sys.exit(main())"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its JSON."""
        return json.loads(self.out)


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


class FleetLab:
    """One fleet and its daemon. `close` removes every domain, volume and seed of the fleet, and nothing else."""

    def __init__(self, word: str, libvirt: Libvirt, images: Mapping[str, Path], pools: Iterable[PoolSpec],
                 hypervisors: Mapping[str, str] | None = None) -> None:
        self.name = f"lt-{os.getpid()}-{os.urandom(2).hex()}-{word}"
        self.libvirt = libvirt
        # Short, since a Unix socket's path has 108 bytes; with our pid, so that what a killed session left is told apart.
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir="/tmp"))
        self.state, self.socket, self.fleet = self.folder / "state", self.folder / "anew.sock", self.folder / "fleet.toml"
        self.log = self.folder / "daemon.log"
        suffix = os.urandom(2).hex()
        self.pools = {spec.word: PoolHere(f"{spec.word}{suffix}", spec, free_block(2 * spec.servers)) for spec in pools}
        self.fleet.write_text(fleet_toml(self.name, images, hypervisors or {"here": URI}, self.pools.values()))
        self.client = Client(str(self.socket))
        self.daemon: subprocess.Popen[bytes] | None = None

    # --- the daemon

    def start(self) -> None:
        """A daemon process that answers."""
        assert self.daemon is None or self.daemon.poll() is not None, "it runs already"
        command = ["setpriv", "--pdeathsig", "KILL",  # it never outlives the test session, not even one that is killed
                   sys.executable, "-P", "-m", "fleet.daemon", "--fleet", str(self.fleet), "--socket", str(self.socket), "--state", str(self.state)]
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self.answers, 60.0, "the daemon's first answer")

    def answers(self) -> bool:
        """True if the daemon answers."""
        assert self.daemon is not None and self.daemon.poll() is None, self.log.read_text()[-3000:]
        try:
            self.client.get("/v1/status")
        except AnewError:
            return False
        return True

    def kill(self) -> None:
        """kill -9, as a power cut is to the daemon."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.send_signal(number)
            try:
                self.daemon.wait(30.0)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait(30.0)

    def close(self) -> None:
        """Remove all that this fleet is."""
        try:
            self._end(signal.SIGTERM)
            self.libvirt.wipe(self.name)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- asking and telling

    def anew(self, *arguments: str, seconds: float = ROLLOUT_SECONDS) -> Ended:
        """The command line tool, in a process of its own, on this fleet; it starts no daemon."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANEW_", "XDG_"))}
        env = {**kept, "ANEW_FLEET": str(self.fleet), "ANEW_STATE": str(self.state), "ANEW_SOCKET": str(self.socket),
               "HOME": str(self.folder), "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run([sys.executable, "-P", "-c", PROGRAM, *arguments, "--no-start"], env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=seconds, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)

    def roll(self, pool: PoolHere, version: str, *options: str, expect: int = 0) -> dict[str, Any]:
        """`anew rollout start POOL --to VERSION --yes --wait --json`; the rollout's row at its end."""
        done = self.anew("rollout", "start", pool.name, "--to", version, "--yes", "--wait", "--json", *options)
        assert done.code == expect, self.trouble(done)
        row: dict[str, Any] = done.data
        return row

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

    def rows(self, pool: PoolHere) -> dict[str, dict[str, Any]]:
        """ServerRows by name."""
        frame = self.client.get("/v1/status")
        found = next(row for row in frame["pools"] if row["name"] == pool.name)
        return {row["name"]: row for row in found["servers"]}

    def server(self, name: str) -> dict[str, Any]:
        """One server in full."""
        row: dict[str, Any] = self.client.get(f"/v1/servers/{name}")
        return row

    def pool_row(self, pool: PoolHere) -> dict[str, Any]:
        """The PoolRow."""
        row: dict[str, Any] = next(row for row in self.client.get("/v1/status")["pools"] if row["name"] == pool.name)
        return row

    def rollout(self, pool: PoolHere) -> dict[str, Any]:
        """The pool's latest rollout in full, through the command line."""
        done = self.anew("rollout", "show", pool.name, "--json")
        assert done.code == 0, self.trouble(done)
        row: dict[str, Any] = done.data
        return row

    def leftovers(self) -> list[dict[str, Any]]:
        """What doctor found that bears our tag and belongs to nobody. Other fleets of this machine are not counted."""
        findings = self.anew("doctor", "--json").data["findings"]
        return [row for row in findings if row["kind"] in ("domain", "volume", "seed", "file")]

    def journal(self) -> list[dict[str, Any]]:
        """All events."""
        events: list[dict[str, Any]] = []
        while True:
            page = self.client.get("/v1/journal", since=events[-1]["seq"] if events else 0, limit=1000)["events"]
            if not page:
                return events
            events += page

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll until it holds; on failure the test shows the rollouts and the daemon's log."""
        try:
            wait_until(condition, seconds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.trouble()}") from None

    def trouble(self, done: Ended | None = None) -> str:
        """Everything that may explain a failure."""
        parts = [f"exit {done.code}\n{done.out[-4000:]}\n{done.err[-2000:]}"] if done else []
        if self.daemon is not None and self.daemon.poll() is None:
            parts += [f"{event['seq']} {event['at']} {event['type']} {event['server']} {event['text']}" for event in self.journal()[-40:]]
        parts.append(self.log.read_text()[-3000:] if self.log.exists() else "")
        return "\n".join(parts)

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


def free_block(count: int) -> int:
    """The first of `count` neighbouring loopback ports that nobody listens on, above 24000."""
    for _ in range(200):
        first = FIRST_PORT + int.from_bytes(os.urandom(2), "big") % (LAST_PORT - FIRST_PORT)
        if all(_free(first + index) for index in range(count)):
            return first
    raise AssertionError("no free ports on the loopback")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


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


def figures(rollout: Mapping[str, Any], lab: FleetLab, **more: object) -> None:
    """Print what was measured, for the log of the test run (`-s` shows it)."""
    found = {"pool": rollout["pool"], "kind": rollout["kind"], "to": rollout["to"], "state": rollout["state"],
             "seconds": round(seconds_of(rollout["id"], lab.journal()), 1), **more}
    print("measured:", json.dumps(found))


def seconds_of(rollout: str, journal: Iterable[Mapping[str, Any]]) -> float:
    """From a rollout's first event to its last so far, by the journal's own clock."""
    stamps = [datetime.fromisoformat(event["at"]) for event in journal if event["rollout"] == rollout]
    return (max(stamps) - min(stamps)).total_seconds()
