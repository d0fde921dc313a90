"""Frames for the tests of the terminal: a small fleet with something of everything, and large ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 21, 14, 2, 0, tzinfo=UTC)
Row = dict[str, Any]
EDGE_ERROR = "boots without network: no address after 60 s"


def at(seconds: float) -> str:
    """RFC 3339, that many seconds before NOW."""
    return (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def server(pool: str, number: int, version: str, age: float, **more: Any) -> Row:
    name = f"{pool}-{number}"
    return {
        "name": name, "pool": pool, "uuid": f"00000000-0000-5000-8000-{number:012d}", "incarnation": 1,
        "version": version, "digest": "sha256:" + f"{number:02x}" * 32, "born_at": at(age), "age_seconds": age,
        "state": "serving", "healthy": True, "health_words": "tcp 22 in 3 ms", "root": "read-only",
        "address": f"127.0.0.1:{2200 + number}", "hypervisor": f"hv{1 + number % 2}", "held": None, "tainted": [],
        "retained": [], "reason": None, **more,
    }


def pool(name: str, servers: list[Row], stable: str, **more: Any) -> Row:
    versions: dict[str, int] = {}
    for item in servers:
        if item["version"]:
            versions[item["version"]] = versions.get(item["version"], 0) + 1
    healthy = sum(1 for item in servers if item["healthy"])
    image: Row = {"family": name, "stable": stable, "target": None, "previous": None, "newest": stable, "rejected": []}
    image |= more.pop("image", {})
    return {
        "name": name, "driver": "libvirt", "mode": "manual", "size": len(servers), "healthy": healthy,
        "available": healthy, "image": image, "versions": versions, "root": "read-only", "data": [],
        "oldest_age_seconds": max((item["age_seconds"] for item in servers), default=None), "max_age_seconds": None,
        "rollout": None, "generation": 42, "unreachable": {}, "servers": servers, **more,
    }


def run(name: str, cell: str, **more: Any) -> Row:
    steps = {"+": "serving", "h": "proving", "b": "booting", "s": "stopping", "d": "draining", ".": "waiting",
             "!": "failed", "<": "put-back", "=": "serving"}
    return {"name": name, "step": steps[cell], "cell": cell, "path": "create-first", "canary": False, "since": None,
            "reason": "", "error": "", "last_words": "", "deadline": None, **more}


def rollout(pool_name: str, runs: list[Row], state: str = "rolling", **more: Any) -> Row:
    return {
        "id": f"{pool_name}-r1", "pool": pool_name, "kind": "rollout", "image": pool_name, "from": "1", "to": "2",
        "state": state, "reason": "", "author": "maria@pts/3", "plan_hash": "7f3a9c51", "started_at": at(420),
        "ended_at": None, "eta_seconds": 440.0, "eta_low_seconds": 380.0, "eta_high_seconds": 620.0,
        "typical_seconds": {"booting": 6.0, "proving": 10.0, "stopping": 2.0},
        "budget": {"max_surge": 1, "max_unavailable": 0, "in_flight": 1, "surge_used": 1, "missing": 0},
        "counts": {}, "failures": 0, "max_failures": 0, "rollback_cost": "5 servers, about 4 s", "servers": runs,
        "approvals": [], **more,
    }


def event(seq: int, ago: float, kind: str, text: str, **more: Any) -> Row:
    return {"seq": seq, "at": at(ago), "type": kind, "actor": "engine", "pool": "", "server": "", "rollout": "",
            "data": {}, "text": text, "chain": "", **more}


def step(name: str, how: str, seconds: float | None = None, median: float | None = None, since: float | None = None) -> Row:
    limit = None if median is None else max(2 * median, median + 2)
    return {"step": name, "how": how, "since": None if since is None else at(since), "seconds": seconds, "median_seconds": median,
            "long_from_seconds": limit, "long": seconds is not None and limit is not None and seconds > limit}


def replacement(rollout: str, steps: list[Row], **more: Any) -> Row:
    return {"rollout": rollout, "kind": "rollout", "from": "1", "to": "2", "state": "serving", "active": False, "ended_at": at(240), "seconds": 31.4,
            "error": "", "last_words": "", "steps": steps, **more}


PANIC = ("[    2.114082] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n[    2.114801] CPU: 0 PID: 1 Comm: swapper/0\n"
         "[    2.115310] Call Trace:\n[    2.115622]  panic+0x118/0x2ed")


def replacements() -> dict[str, Row]:
    """web-1 is done, and its boot was long; web-6 is in the middle; edge-4 failed its proof and was put back."""
    ahead = [step("proving", "ahead", median=10.0), step("admitting", "ahead", median=0.3), step("draining", "ahead", median=0.5), step("retiring", "ahead", median=2.1)]
    done = [step("preparing", "done", 1.2, 1.0), step("booting", "done", 17.8, 6.0), step("proving", "done", 10.0, 10.0), step("admitting", "done", 0.3, 0.3),
            step("draining", "done", 0.2, 0.5), step("retiring", "done", 1.9, 2.1)]
    back = [step("preparing", "done", 1.1, 1.0), step("booting", "done", 5.8, 6.0), step("proving", "failed", 60.0, 10.0), step("admitting", "done", 0.3),
            step("stopping", "done", 2.0, 2.0)]
    return {"web-1": replacement("web-r1", done),
            "web-6": replacement("web-r1", [step("preparing", "done", 1.1, 1.0), step("booting", "now", 7.0, 6.0, since=7), *ahead], state="booting", active=True,
                                 ended_at=None, seconds=None),
            "edge-4": replacement("edge-r1", back, state="put-back", ended_at=at(880), seconds=71.0, error=EDGE_ERROR, last_words=PANIC, **{"from": "6", "to": "7"})}


def web_rollout() -> Row:
    runs = [run("web-3", "+", canary=True), run("web-9", "+", canary=True), run("web-1", "+"), run("web-4", "+"),
            run("web-5", "+"),
            run("web-6", "b", since=at(7), deadline=at(-293), reason="domain runs, no answer on port 22 yet")]
    runs += [run(f"web-{n}", ".", reason="extra 1 of 1 used by web-6") for n in (7, 8, 10, 11)]
    runs += [run("web-2", "=", reason='held by maria: "disk test"'), run("web-12", "=", reason="already 2, read-only")]
    return rollout("web", runs)


def events() -> list[Row]:
    web = {"pool": "web", "rollout": "web-r1"}
    return [
        event(101, 3600 * 26, "settings-loaded", "the fleet file was read: 4 pools"),
        event(102, 900, "server-unhealthy", "edge-4: no answer on port 22 for 30 s", pool="edge", server="edge-4",
              rollout="edge-r1"),
        event(103, 890, "step-failed", "edge-4: boots without network: no address after 60 s", pool="edge",
              server="edge-4", rollout="edge-r1"),
        event(104, 880, "server-redirected", "edge-4: put back on 6, nothing else touched", pool="edge",
              server="edge-4", rollout="edge-r1"),
        event(105, 420, "rollout-started", "rollout web 1→2 started: 10 servers", actor="maria@pts/3", **web),
        event(106, 130, "step-done", "web-4: retained until tomorrow 14:01", server="web-4", **web),
        event(107, 30, "remark", "watching the error rate on the graphs", actor="root@pts/1", **web),
        event(108, 27, "step-begun", "web-5: booting, domain running in 0.3 s", server="web-5", **web),
        event(109, 20, "step-begun", "web-5: proving, root read-only, image 2 seen inside", server="web-5", **web),
        event(110, 8, "server-healthy", "web-5: admitted, healthy 10 s, tcp 22 in 3 ms", server="web-5", **web),
    ]


def status() -> Row:
    """The fleet `lab`: web rolls, db is well, edge is paused on a failure, ci is old."""
    kept = [{"incarnation": 1, "version": "1", "until": at(-86400)}]
    web = [server("web", n, "2" if n in (1, 3, 4, 5, 9, 12) else "1", 300.0 if n in (1, 3, 4, 5, 9) else 532800.0)
           for n in range(1, 13)]
    for item in web:
        if item["version"] == "2" and item["name"] != "web-12":
            item |= {"incarnation": 2, "retained": kept}
    web[1]["held"] = "disk test"
    web[5] |= {"state": "booting", "reason": "domain runs, no answer on port 22 yet"}
    edge = [server("edge", n, "6", 781200.0) for n in range(1, 7)]
    edge[3] |= {"state": "put-back", "healthy": True, "reason": "7 boots without network: put back on 6"}
    edge[5] |= {"root": "writable", "tainted": ["shell by root"], "healthy": False,
                "health_words": "no answer on port 22"}
    paused = rollout("edge", [run("edge-4", "<", canary=True, error=EDGE_ERROR, last_words=PANIC)]
                     + [run(f"edge-{n}", ".", reason="paused") for n in (1, 2, 3, 5, 6)],
                     state="paused", reason="edge-4 failed: boots without network; put back on 6, nothing else touched",
                     started_at=at(960), failures=1, eta_seconds=None, rollback_cost="nothing to undo",
                     **{"from": "6", "to": "7"})
    return {
        "schema_version": 1, "fleet": "lab", "generation": 42, "seq": 110, "now": at(0), "read_only": "",
        "you": {"name": "maria", "role": "operator"},
        "pools": [
            pool("web", web, "1", rollout="web-r1", image={"target": "2", "previous": None, "newest": "2"}),
            pool("db", [server("db", n, "14", 7800.0) for n in range(1, 4)], "14", data=["state"],
                 image={"previous": "13"}),
            pool("edge", edge, "6", rollout="edge-r1", max_age_seconds=604800.0,
                 image={"newest": "7", "rejected": [{"version": "5", "reason": "panics at boot"}]}),
            pool("ci", [server("ci", n, "3", 100000.0, root="overlay") for n in range(1, 41)], "3",
                 root="ephemeral", image={"newest": "4"}, driver="sim"),
        ],
        "rollouts": [web_rollout(), paused],
    }


def plan(pool_name: str = "web", count: int = 3) -> Row:
    rows = [{"name": f"web-{n}", "action": "replace", "reason": f"oldest, 6d {5 - at_}h" if at_ < 2 else "", "from": "1",
             "to": "2", "order": "create-first", "canary": at_ < 2, "data_kept": ["state"], "rollback": "retained",
             "estimate_seconds": 18.0} for at_, n in enumerate((3, 9, 1, 4, 5, 6, 7, 8, 10, 11)[:count])]
    rows += [{"name": "web-2", "action": "hold", "reason": 'held by maria: "disk test"', "from": "1", "to": None,
              "order": "", "canary": False, "data_kept": [], "rollback": "", "estimate_seconds": 0.0},
             {"name": "web-12", "action": "skip", "reason": "already 2, read-only", "from": "2", "to": None, "order": "",
              "canary": False, "data_kept": [], "rollback": "", "estimate_seconds": 0.0}]
    return {
        "pool": pool_name, "from": "1", "to": "2", "digest": "sha256:ab", "hash": "7f3a9c51d0", "generation": 42,
        "kind": "rollout", "budget": {"max_surge": 1, "max_unavailable": 0}, "servers": rows,
        "blast": {"servers": count, "domains": 2, "worst_loss": 0}, "needs": {"approvals": 0, "typed_number": False},
        "estimate_seconds": 18.0 * count,
        "summary": [f"{count} servers, one extra at a time, oldest first, 2 canaries, then you decide",
                    "at no moment fewer than 12 serve · about 9 minutes · rollback at any time, in seconds"],
        "diff": {"added": ["nftables 1.0.9", "jq 1.7"], "removed": ["ifupdown 0.8"],
                 "changed": [f"package-{n}" for n in range(14)], "kernel": "6.1.0-50→6.1.0-56"},
    }


def proposal(left: int = 1, **more: Any) -> Row:
    """A plan of db that ana proposed and that needs two approvals; `plan()` with this hash is what it would do."""
    given = [{"by": "eve@pts/2", "at": at(60), "expires_at": at(-3600)}] if left < 2 else []
    given += [{"by": "bob@pts/3", "at": at(30), "expires_at": at(-3600)}] if left < 1 else []
    return {"hash": "7f3a9c51d0", "pool": "db", "kind": "rollout", "from": "1", "to": "2", "author": "ana@pts/1", "at": at(600), "expires_at": at(-3600),
            "servers": 3, "needed": 2, "left": left, "approvals": given, "request": {"pool": "db", "to": "2"}, "summary": [], "difference": [], **more}


def images() -> list[Row]:
    def image(family: str, version: str, age: float, **more: Any) -> Row:
        return {"family": family, "version": version, "digest": "sha256:" + "9c0f" * 16, "kind": "squashfs",
                "built_at": at(age), "size": 3_678_208, "packages": 211, "source": "git:4f2a91c", "used_by": [],
                "rejected": [], "problem": "", **more}
    return [
        image("web", "1", 900000.0, used_by=["web"]), image("web", "2", 7200.0, used_by=["web"]),
        image("edge", "5", 2_000_000.0, rejected=[{"pool": "edge", "reason": "panics at boot"}]),
        image("edge", "6", 1_000_000.0, used_by=["edge"]), image("edge", "7", 3600.0),
        image("ci", "4", 600.0, problem="root.squashfs: 3678208 bytes expected, 41 found; copy it again", size=41),
        image("db", "14", 90000.0, used_by=["db"], packages=None, kind="qcow2", size=812_000_000),
    ]


def image_diff() -> Row:
    """From web/1 to web/2."""
    return {"a": "web/1", "b": "web/2", "size_a": 3_678_208, "size_b": 3_801_088, "added": {"jq": "1.7", "nftables": "1.0.9"}, "removed": {"ifupdown": "0.8.41"},
            "changed": {f"lib{n}": [f"{n}.0-1", f"{n}.0-2"] for n in range(14)}, "kernel": ["/vmlinuz-6.1.0-50", "/vmlinuz-6.1.0-56"], "cmdline": None,
            "packages_known": True}


def large(count: int) -> Row:
    """A fleet of `count` servers in pools of a thousand."""
    pools = []
    for start in range(0, count, 1000):
        name = f"p{start // 1000:02d}"
        size = min(1000, count - start)
        pools.append(pool(name, [server(name, n, "1", 3600.0 * n) for n in range(1, size + 1)], "1"))
    return {"schema_version": 1, "fleet": "large", "generation": 1, "seq": 1, "now": at(0), "read_only": "",
            "you": {"name": "maria", "role": "operator"}, "pools": pools, "rollouts": []}
