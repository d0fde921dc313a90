"""Makes `bench/results.json`: every figure with its goal, how it came out, and the command that makes it again.

    python -m bench.run [PART...]      (all parts, or some: the others keep what was measured before)

A part that cannot run here (no libvirt, say) leaves its sentence instead of figures. Nothing in the tests asserts a time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet.core.errors import AnewError

RESULTS = Path(__file__).with_name("results.json")
ROOT = RESULTS.parents[1]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number worth a promise. `at`: where it stands in what the part's measure() returns. `goal`: None for none."""

    says: str
    part: str
    at: tuple[str, ...]
    unit: str
    goal: float | None = None
    at_least: bool = False

    def met(self, value: float) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        return value >= self.goal if self.at_least else value <= self.goal


PARTS: tuple[str, ...] = ("cli", "journal", "orchestration", "tui", "crowd", "hypervisor", "facts", "push", "metal_scale", "sim")
FIGURES: tuple[Figure, ...] = (
    Figure("`anew --help`, CPU time", "cli", ("help_ratio",), "x `python -c pass`", 3.5),
    Figure("`anew status`, CPU time", "cli", ("status_ratio",), "x `python -c pass`", 3.5),
    Figure("journal with 16 waiters against one commit an event", "journal", ("journal_to_plain",), "x", 5.0, at_least=True),
    Figure("journal with 16 waiters", "journal", ("journal_appends_per_s",), "events/s"),
    Figure("journal with 16 waiters against the disk's fdatasync rate", "journal", ("journal_to_fdatasync",), "x"),
    Figure("rollout of 1,000 simulated servers against the ideal schedule", "orchestration", ("overhead",), "x", 1.02),
    Figure("engine's CPU time for one server's replacement", "orchestration", ("cpu_seconds_per_server",), "s"),
    Figure("to the terminal, idle", "tui", ("idle_bytes_per_second",), "bytes/s", 0.0),
    Figure("to the terminal, live rollout of 60 servers at 80x24", "tui", ("live_60_servers_bytes_per_second",), "bytes/s", 2000.0),
    Figure("the same with 16 million colours", "tui", ("live_60_servers_truecolor_bytes_per_second",), "bytes/s", 2000.0),
    Figure("first picture, 10,000 servers against 100", "tui", ("first_paint_growth_100_to_10000",), "x", 2.0),
    Figure("key to picture, 10,000 servers against 100", "tui", ("key_to_paint_growth_100_to_10000",), "x", 2.0),
    Figure("first picture, 100 servers", "tui", ("fleets", "100", "first_paint_seconds"), "s"),
    Figure("key to picture, 10,000 servers", "tui", ("fleets", "10000", "key_to_paint_seconds"), "s"),
    Figure("memory of the terminal UI, 10,000 servers", "tui", ("rss_10000_servers_mb",), "MB", 100.0),
    Figure("CPU of the terminal UI, idle", "tui", ("idle_cpu_percent",), "% of a core", 0.5),
    Figure("htop, left alone: to the terminal", "tui", ("peers", "htop", "idle_bytes_per_second"), "bytes/s"),
    Figure("htop, left alone: CPU", "tui", ("peers", "htop", "idle_cpu_percent"), "% of a core"),
    Figure("btop, left alone: to the terminal", "tui", ("peers", "btop", "idle_bytes_per_second"), "bytes/s"),
    Figure("btop, left alone: CPU", "tui", ("peers", "btop", "idle_cpu_percent"), "% of a core"),
    Figure("a decision among a thousand clients of garbage, one stopped, one slow", "crowd", ("decision_ratio",), "x one without", 1.5),
    Figure("a rollout of 60 servers among them", "crowd", ("rollout_ratio",), "x one without", 1.05),
    Figure("the daemon's memory among them", "crowd", ("daemon_peak_mb",), "MB", 150.0),
    Figure("replace to running, read-only root, lab image", "hypervisor", ("lab_root", "read_only_seconds"), "s"),
    Figure("qcow2 overlay against read-only root, lab image", "hypervisor", ("lab_root", "overlay_to_read_only"), "x"),
    Figure("full copy against read-only root, lab image", "hypervisor", ("lab_root", "full_copy_to_read_only"), "x"),
    Figure("replace to running, read-only root, 1 GiB image", "hypervisor", ("large_root", "read_only_seconds"), "s"),
    Figure("qcow2 overlay against read-only root, 1 GiB image", "hypervisor", ("large_root", "overlay_to_read_only"), "x"),
    Figure("full copy against read-only root, 1 GiB image", "hypervisor", ("large_root", "full_copy_to_read_only"), "x"),
    Figure("facts of 256 hosts against a bare asyncssh loop, cold", "facts", ("hosts_256", "driver_to_bare_cold"), "x its CPU", 1.3),
    Figure("facts of 256 hosts against a bare asyncssh loop, warm", "facts", ("hosts_256", "driver_to_bare_warm"), "x its CPU", 1.5),
    Figure("CPU of `ansible -m raw` for the same facts, cold", "facts", ("hosts_256", "ansible_to_driver_cold"), "x anew's", 20.0, at_least=True),
    Figure("CPU of `ansible -m raw` for the same facts, warm", "facts", ("hosts_256", "ansible_to_driver_warm"), "x anew's", 20.0, at_least=True),
    Figure("CPU of ssh with ControlMaster, cold", "facts", ("hosts_256", "controlmaster_to_driver_cold"), "x anew's", 4.0, at_least=True),
    Figure("CPU of ssh with ControlMaster, warm", "facts", ("hosts_256", "controlmaster_to_driver_warm"), "x anew's", 4.0, at_least=True),
    Figure("CPU of clush, cold", "facts", ("hosts_256", "clush_to_driver_cold"), "x anew's"),
    Figure("CPU of clush, warm", "facts", ("hosts_256", "clush_to_driver_warm"), "x anew's"),
    Figure("CPU of pyinfra, cold", "facts", ("hosts_256", "pyinfra_to_driver_cold"), "x anew's"),
    Figure("CPU of pyinfra, warm", "facts", ("hosts_256", "pyinfra_to_driver_warm"), "x anew's"),
    Figure("facts of one host, 256 of them, cold", "facts", ("hosts_256", "cpu_ms_per_host", "driver", "cold"), "ms of CPU"),
    Figure("facts of one host, 256 of them, warm", "facts", ("hosts_256", "cpu_ms_per_host", "driver", "warm"), "ms of CPU"),
    Figure("512 MiB to 4 hosts against `ssh cat`", "push", ("to_ssh_cat",), "x its throughput", 0.9, at_least=True),
    Figure("512 MiB to 4 hosts, checked, against `ssh cat` and sha256sum", "push", ("whole_to_ssh_cat_checked",), "x its throughput", 0.9, at_least=True),
    Figure("first look at 1,000 simulated SSH hosts", "metal_scale", ("cold_seconds",), "s", 15.0),
    Figure("a second look at them", "metal_scale", ("warm_seconds",), "s"),
    Figure("the controller's memory with 1,000 open sessions", "metal_scale", ("peak_mb",), "MB", 150.0),
    Figure("delta of an image with 5 % of its blocks changed, on the wire", "push", ("delta", "share"), "x the image", 0.032),
    Figure("simulated cases of 12 servers on 2 cores, safety", "sim", ("safety", "seeds_per_minute"), "a minute", 2000.0, at_least=True),
    Figure("simulated cases of 12 servers on 2 cores, liveness", "sim", ("liveness", "seeds_per_minute"), "a minute"),
    Figure("the same journals under two hash seeds", "sim", ("same_trace_for_two_hash_seeds",), "(1: yes)", 1.0, at_least=True),
)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {"cpu": _cpu_model(), "cores": os.cpu_count(), "kernel": platform.release(), "system": _system(),
            "python": platform.python_version(), "load_1m": round(os.getloadavg()[0], 2)}


def _cpu_model() -> str:
    lines = _lines("/proc/cpuinfo")
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _system() -> str:
    named = dict(line.split("=", 1) for line in _lines("/etc/os-release") if "=" in line)
    return named.get("PRETTY_NAME", platform.system()).strip('"')


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def commit() -> str:
    """The commit that was measured, with `+` if the tree was not clean; "" outside a repository."""
    try:
        head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, timeout=30)
        changed = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    others = [line for line in changed.stdout.splitlines() if not line.endswith("bench/results.json")]
    return head.stdout.strip() + ("+" if others else "")


def run_part(name: str) -> dict[str, Any]:
    """One part's figures with when and how they were made; or the sentence why there are none."""
    made = {"date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "commit": commit(), "machine": machine(), "command": f"python -m bench.{name}"}
    began = time.monotonic()
    try:
        module = importlib.import_module(f"bench.{name}")
        measure: Callable[[], Mapping[str, Any]] = module.measure
        found: dict[str, Any] = {"figures": dict(measure())}
    except ModuleNotFoundError as error:
        found = {"missing": f"there is no module {error.name} here"}
    except (AnewError, AttributeError, OSError, RuntimeError, subprocess.SubprocessError, TimeoutError, AssertionError) as error:
        found = {"missing": f"could not be measured: {str(error) or type(error).__name__}"[:500]}
    return {**made, "took_seconds": round(time.monotonic() - began, 1), **found}


def summary(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures that have a place in the README and the issue, each with goal, verdict and command."""
    rows = []
    for figure in FIGURES:
        value: Any = parts.get(figure.part, {}).get("figures")
        for key in figure.at:
            value = value.get(key) if isinstance(value, Mapping) else None
        row = {"figure": figure.says, "value": value, "unit": figure.unit, "goal": figure.goal, "command": f"python -m bench.{figure.part}"}
        if isinstance(value, int | float):
            row["met"] = figure.met(value)
        else:
            row["missing"] = parts.get(figure.part, {}).get("missing", "not measured")
        rows.append(row)
    return rows


def _kept() -> dict[str, Any]:
    try:
        kept = json.loads(RESULTS.read_text(encoding="utf-8")).get("parts", {})
    except (OSError, ValueError):
        return {}
    return dict(kept)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The summary for people."""
    lines = []
    for row in rows:
        goal = "" if row["goal"] is None else f"goal {row['goal']:g}: {'met' if row.get('met') else 'NOT met' if 'met' in row else '?'}"
        value = f"{row['value']} {row['unit']}" if "met" in row else row.get("missing", "")
        lines.append(f"{row['figure']:<62} {value:<26} {goal}".rstrip())
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure, write, print. 0 even if a goal is not met: a figure is not a test."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measure, and write bench/results.json.")
    parser.add_argument("part", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; left out: all")
    wanted = parser.parse_args(arguments).part or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    parts = _kept()
    for name in wanted:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        parts[name] = run_part(name)
    ordered = {name: parts[name] for name in PARTS if name in parts}
    rows = summary(ordered)
    RESULTS.write_text(json.dumps({"summary": rows, "parts": ordered}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
