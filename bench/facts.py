"""Facts from 64 and from 256 hosts over real OpenSSH: CPU of the control side for a host, and how many times that others need.

Compared in one run, on the same servers (bench/openssh.py), with one command and one answer: `BaremetalDriver.observe` and the
session module below it, a bare asyncssh loop tuned by hand, and Ansible, pyinfra, clush and ssh with ControlMaster
(bench/facts_peers.py says how each is used, always in its favour). Cold: connections are made. Warm: they are there, or as
good as the tool knows how. Counted is user and system time of the tool and of all it starts; what sshd spends is not.
Each measurement is a process of its own; the methods take turns, so that a slow minute of the machine meets all; the
least of the rounds counts, since whatever else runs here can only add. The daemon's start is paid once and not counted; the others'
start-up is, since each of their runs pays it.

Run `python -m bench.facts [HOSTS...]`; it needs openssh-server and openssh-client. The first run installs the tools to
compare with into .cache/bench, from PyPI; one that cannot be had is named with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bench import facts_peers
from bench.openssh import Missing, a_folder, hosts

COUNTS = (64, 256)
ROUNDS = 3
PEER_ROUNDS = 2
"""Of the others: each of theirs takes minutes."""
OURS = ("bare", "sessions", "driver")
Cost = dict[str, float]
"""Milliseconds of CPU for one host: "cold", "warm"."""


def measure(counts: tuple[int, ...] = COUNTS, rounds: int = ROUNDS) -> dict[str, object]:
    """Ratios first, then costs, by number of hosts. Raises Missing without OpenSSH; a tool that is missing is named."""
    facts_peers.install()
    versions, missing = _tools()
    found: dict[str, object] = {}
    for count in counts:
        costs = _of(count, (*OURS, *versions), rounds, missing)
        found[f"hosts_{count}"] = {**_ratios(costs), "cpu_ms_per_host": costs}
    return {**found, "rounds": {"ours": rounds, "others": min(rounds, PEER_ROUNDS)}, "tools": versions, "missing": missing}


def _tools() -> tuple[dict[str, str], dict[str, str]]:
    """Those that are there, with their versions; the others, with the reason."""
    there: dict[str, str] = {}
    missing: dict[str, str] = {}
    for tool in facts_peers.TOOLS:
        try:
            there[tool] = facts_peers.version(tool)
        except Missing as problem:
            missing[tool] = str(problem)
    return there, missing


def _of(count: int, methods: tuple[str, ...], rounds: int, missing: dict[str, str]) -> dict[str, Cost]:
    best: dict[str, Cost] = {}
    order = list(methods)
    with a_folder() as folder, hosts(count, folder) as up:
        described = folder / "hosts.json"
        described.write_text(json.dumps(asdict(up)), encoding="utf-8")
        for turn in range(rounds):
            for method in list(order):
                if method not in OURS and turn >= PEER_ROUNDS:
                    continue
                try:
                    seen = _once(method, described, count)
                except (Missing, subprocess.SubprocessError) as problem:
                    if method in OURS:
                        raise
                    missing[method] = str(problem)[-400:]
                    order.remove(method)
                    continue
                before = best.get(method, seen)
                best[method] = {kind: min(value, before[kind]) for kind, value in seen.items()}
            order.append(order.pop(0))
    return {method: best[method] for method in methods if method in best}


def _once(method: str, described: Path, count: int) -> Cost:
    module = "bench.facts_loops" if method in OURS else "bench.facts_peers"
    done = subprocess.run([sys.executable, "-m", module, method, str(described)], capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise Missing(f"{method} failed with {count} hosts: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}")
    spent = json.loads(done.stdout)
    return {kind: round(1000 * spent[kind] / count, 3) for kind in ("cold", "warm")}


def _ratios(costs: Mapping[str, Cost]) -> dict[str, float]:
    """anew's own against the bare loop, and how many times what anew needs each tool needs; by "METHOD_KIND"."""
    driver, bare = costs["driver"], costs["bare"]
    found = {f"{method}_to_bare_{kind}": round(costs[method][kind] / bare[kind], 2) for method in ("driver", "sessions") for kind in bare}
    for tool, cost in costs.items():
        if tool not in OURS:
            found |= {f"{tool}_to_driver_{kind}": round(cost[kind] / driver[kind], 1) for kind in driver}
    return found


if __name__ == "__main__":
    try:
        print(json.dumps(measure(tuple(map(int, sys.argv[1:])) or COUNTS), indent=2))
    except Missing as error:
        sys.exit(str(error))
