"""The same facts with other tools, by CPU time: Ansible, pyinfra, clush, and ssh with ControlMaster.

Run by bench.facts as `python -m bench.facts_peers TOOL HOSTS.json`, a fresh process for each: prints {"cold", "warm"}, seconds
of CPU of everything the tool starts on the control side. Children that a tool leaves behind (OpenSSH's masters) become
this process's own, so that they are counted too and end with it. Cold is the first run, start-up of the tool included, as its
user pays it. Warm is a run over connections that are there; pyinfra keeps none between runs, so for it warm is
what one more command costs within a run.

The tools are no dependencies of anew: they live in a virtual environment of their own, .cache/bench/peers.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.openssh import ANSWER, COMMAND, Hosts, Missing

PEERS = Path(__file__).resolve().parents[1] / ".cache/bench/peers"
PACKAGES = {"ansible": "ansible-core", "pyinfra": "pyinfra", "clush": "ClusterShell"}
FORKS = 32
KEX = ["-o", "KexAlgorithms=curve25519-sha256"]
"""What asyncssh agrees on with the same server. OpenSSH's own first choice may cost 80 ms more a connection (sntrup761 of 9.2)."""
WARM_ROUNDS = 2
_BECOME_SUBREAPER = 36


def install() -> None:
    """Make the tools' virtual environment if there is none; a failure is seen by who misses its tool."""
    if (PEERS / "bin/python").exists():
        return
    try:
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True, capture_output=True, timeout=300)
        for package in PACKAGES.values():
            subprocess.run([PEERS / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package], capture_output=True, timeout=600, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"no tools to compare with: {error}", file=sys.stderr)


def version(tool: str) -> str:
    """Which release was measured. Raises Missing if it is not there."""
    if tool == "controlmaster":
        return subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True, timeout=60).stderr.strip()
    package = PACKAGES[tool]
    asked = [str(PEERS / "bin/python"), "-c", "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))", package]
    try:
        return f"{package} {subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout.strip()}"
    except (OSError, subprocess.SubprocessError):
        raise Missing(f"{package} could not be installed into {PEERS.relative_to(PEERS.parents[2])}; is PyPI, or a mirror of it, reachable?") from None


@dataclass(slots=True)
class Bench:
    """A folder with what the tools read, and what has been spent so far."""

    hosts: Hosts
    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: {**os.environ, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"})

    @property
    def ssh(self) -> list[str]:
        """Options of ssh for all that run it: our key, pinned host keys, the quicker key exchange, nobody's configuration."""
        return ["-F", "none", *KEX, "-i", self.hosts.client_key, "-p", str(self.hosts.port), "-l", self.hosts.user, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
                "-o", f"UserKnownHostsFile={self.hosts.known_hosts}", "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes"]

    @property
    def kept(self) -> list[str]:
        """Options that keep a connection for the next command."""
        return ["-o", "ControlMaster=auto", "-o", "ControlPersist=600", "-o", f"ControlPath={self.folder}/c/%h"]

    def run(self, *argv: str | Path) -> str:
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, env=self.environment, cwd=self.folder, timeout=1800, check=False)
        if done.returncode:
            raise RuntimeError(f"{Path(argv[0]).name} ended with {done.returncode}: {(done.stderr or done.stdout)[-400:]}")
        return done.stdout + done.stderr

    def spent(self, work: Callable[[], str]) -> float:
        """Seconds of CPU that `work` took here and in all it started; what it printed must hold every host's whole answer."""
        before = _cpu()
        said = work()
        taken = _cpu() - before
        answers, last = said.count(ANSWER.splitlines()[4]), said.count('"boot_status":"good"')
        if answers != len(self.hosts.addresses) or last != 2 * answers:
            raise RuntimeError(f"{answers} answers of {len(self.hosts.addresses)} hosts: {said[-400:]}")
        return taken


def ansible(bench: Bench) -> dict[str, float]:
    """`ansible -m raw`, as it comes but for the forks: its own ControlPersist, pipelining plays no part."""
    inventory = f"[all:vars]\nansible_port={bench.hosts.port}\nansible_user={bench.hosts.user}\nansible_ssh_private_key_file={bench.hosts.client_key}\n[bench]\n"
    (bench.folder / "inventory.ini").write_text(inventory + "\n".join(bench.hosts.addresses) + "\n", encoding="ascii")
    (bench.folder / "ansible.cfg").write_text(f"""[defaults]
inventory = inventory.ini
forks = {FORKS}
home = {bench.folder}/ansible
[ssh_connection]
control_path_dir = {bench.folder}/c
ssh_args = -C -o ControlMaster=auto -o ControlPersist=600 -F none {" ".join(KEX)} -o IdentitiesOnly=yes -o UserKnownHostsFile={bench.hosts.known_hosts}
""", encoding="ascii")
    bench.environment["ANSIBLE_CONFIG"] = str(bench.folder / "ansible.cfg")

    def once() -> str:
        return bench.run(PEERS / "bin/ansible", "bench", "-m", "raw", "-a", COMMAND)

    return _cold_and_warm(bench, once)


def pyinfra(bench: Bench) -> dict[str, float]:
    """A deploy of one raw command, and one of several: the difference is what a command costs once connected."""
    data = {"ssh_port": bench.hosts.port, "ssh_user": bench.hosts.user, "ssh_key": bench.hosts.client_key, "ssh_known_hosts_file": bench.hosts.known_hosts,
            "ssh_strict_host_key_checking": "yes"}
    (bench.folder / "inventory.py").write_text(f"bench = ({list(bench.hosts.addresses)!r}, {data!r})\n", encoding="ascii")
    for times in (1, 1 + WARM_ROUNDS):
        body = "from pyinfra.operations import server\n" + "".join(f"server.shell(name='facts {n}', commands=[{COMMAND!r}])\n" for n in range(times))
        (bench.folder / f"facts{times}.py").write_text(body, encoding="ascii")

    def runs(times: int) -> Callable[[], str]:
        return lambda: bench.run(PEERS / "bin/pyinfra", "-y", "-vvv", "--parallel", str(FORKS), "inventory.py", f"facts{times}.py")

    cold = bench.spent(runs(1))
    before = _cpu()
    runs(1 + WARM_ROUNDS)()
    return {"cold": cold, "warm": (_cpu() - before - cold) / WARM_ROUNDS}


def clush(bench: Bench) -> dict[str, float]:
    """`clush` over ssh with ControlPersist, fan-out as wide as the others'."""
    options = " ".join([*bench.ssh, *bench.kept]).replace("%", "%%")  # clush reads its options as a template
    return _cold_and_warm(bench, lambda: bench.run(PEERS / "bin/clush", "-S", "-N", "-f", str(FORKS), "-o", options, "-w", ",".join(bench.hosts.addresses), COMMAND))


def controlmaster(bench: Bench) -> dict[str, float]:
    """One `ssh` a host and command, 32 at a time, its connection kept by a master: what a shell script with care does."""
    def one(address: str) -> str:
        return bench.run("ssh", *bench.ssh, *bench.kept, address, COMMAND)

    def all_of_them() -> str:
        with concurrent.futures.ThreadPoolExecutor(FORKS) as pool:
            return "".join(pool.map(one, bench.hosts.addresses))

    return _cold_and_warm(bench, all_of_them)


def _cold_and_warm(bench: Bench, once: Callable[[], str]) -> dict[str, float]:
    (bench.folder / "c").mkdir(mode=0o700)
    return {"cold": bench.spent(once), "warm": sum(bench.spent(once) for _ in range(WARM_ROUNDS)) / WARM_ROUNDS}


def _cpu() -> float:
    """Seconds of user and system time: this process, children that have ended, and those that still live."""
    ours = sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
    living = 0
    for child in _descendants():
        try:
            living += int(Path(f"/proc/{child}/schedstat").read_text(encoding="ascii").split()[0])
        except (OSError, IndexError):
            continue  # ended meanwhile
    return ours + living / 1e9


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path("/proc", entry, "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found and child not in found}:
        found |= more
    return sorted(found - {os.getpid()})


def _end_all() -> None:
    """What a tool left running ends with the measurement; only what descends from this process."""
    for child in _descendants():
        try:
            os.kill(child, signal.SIGTERM)
        except ProcessLookupError:
            continue
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return


TOOLS: dict[str, Callable[[Bench], dict[str, float]]] = {"ansible": ansible, "pyinfra": pyinfra, "clush": clush, "controlmaster": controlmaster}


def main(tool: str, path: str) -> None:
    described = json.loads(Path(path).read_text(encoding="utf-8"))
    folder = Path(path).parent / f"{tool}.{os.getpid()}"
    folder.mkdir(mode=0o700)
    ctypes.CDLL(None).prctl(_BECOME_SUBREAPER, 1, 0, 0, 0)
    try:
        print(json.dumps(TOOLS[tool](Bench(Hosts(**{**described, "addresses": tuple(described["addresses"])}), folder))))
    finally:
        _end_all()


if __name__ == "__main__":
    main(*sys.argv[1:])
