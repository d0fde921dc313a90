"""A canned office: a small still world in the shapes of wire.py, so that server, client and commands meet a real socket."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fleet.api.office import Caller, Role
from fleet.core.errors import Invalid, Refused, Stale, Transient

QUEUE = 64
UUID = "7b0f4f4e-0000-5000-8000-00000000000"
DIGEST = "sha256:" + "ab" * 32
HASH = "7f3a9c" + "0" * 58


def server_row(name: str, *, pool: str = "web", version: str | None = "1", **fields: Any) -> dict[str, Any]:
    """A ServerRow."""
    number = name.rpartition("-")[2]
    row: dict[str, Any] = {
        "name": name, "pool": pool, "uuid": UUID + number, "incarnation": 1, "version": version, "digest": DIGEST,
        "born_at": "2026-11-15T20:00:00Z", "age_seconds": 532800.0, "state": "serving", "healthy": True,
        "health_words": "tcp 22: SSH-2.0-dropbear in 3 ms", "root": "read-only", "address": f"127.0.0.1:220{number}",
        "hypervisor": "hv1", "held": None, "tainted": [], "retained": [], "reason": None,
    }
    return row | fields


def rollout_row(state: str = "rolling", **fields: Any) -> dict[str, Any]:
    """A RolloutRow of web, 1 to 2, with web-1 done."""
    def run(name: str, step: str, cell: str, reason: str, canary: bool = False) -> dict[str, Any]:
        return {"name": name, "step": step, "cell": cell, "path": "forward", "canary": canary, "since": None,
                "reason": reason, "error": "", "last_words": "", "deadline": None}

    row: dict[str, Any] = {
        "id": "r-0123456789abcdef", "pool": "web", "kind": "rollout", "image": "web", "from": "1", "to": "2", "state": state,
        "reason": "web-3 waits: extra 1 of 1 used by web-2", "author": "root@pts/3", "plan_hash": HASH,
        "started_at": "2026-11-21T21:00:00Z", "ended_at": None, "eta_seconds": 75.0, "eta_low_seconds": 60.0,
        "eta_high_seconds": 110.0, "typical_seconds": {"booting": 6.0},
        "budget": {"max_surge": 1, "max_unavailable": 0, "in_flight": 1, "surge_used": 1, "missing": 0},
        "counts": {"serving": 3} if state == "done" else {"serving": 1, "booting": 1, "waiting": 1}, "failures": 0, "max_failures": 0,
        "rollback_cost": "1 server, about 4 s",
        "servers": [run("web-1", "serving", "+", "", True), run("web-2", "booting", "b", "7s, typical 6s"),
                    run("web-3", "waiting", ".", "extra 1 of 1 used by web-2")],
        "approvals": [],
    }
    return row | fields


def machine_row(name: str, **fields: Any) -> dict[str, Any]:
    """A MachineRow."""
    row: dict[str, Any] = {
        "name": name, "address": f"{name}.example.org", "port": 22, "user": "anew", "jump": "", "pool": "metal",
        "pin": "SHA256:" + "aB3" * 14 + "x", "authority": "", "disk": "WD-1", "bmc": True, "console": False, "reach": "ok", "backend": "rauc",
        "version": "1", "root": "read-only", "state": "serving", "doing": "",
    }
    return row | fields


def plan_frame(pool: str = "web", kind: str = "rollout", to: str = "2", count: int = 3) -> dict[str, Any]:
    """A PlanFrame that replaces `count` servers of three."""
    def server(number: int) -> dict[str, Any]:
        goes = number <= count
        return {"name": f"{pool}-{number}", "action": "replace" if goes else "skip",
                "reason": "oldest, 6d 4h" if number == 1 else "" if goes else f"already {to}, read-only",
                "from": "1", "to": to, "order": "create-first", "canary": number == 1, "data_kept": ["state"],
                "rollback": "retained", "estimate_seconds": 20.0}

    return {
        "pool": pool, "from": "1", "to": to, "digest": DIGEST, "hash": HASH, "generation": 42, "kind": kind,
        "budget": {"max_surge": 1, "max_unavailable": 0}, "servers": [server(n) for n in (1, 2, 3)],
        "blast": {"servers": count, "domains": 1, "worst_loss": 0}, "needs": {"approvals": 0, "typed_number": count > 1},
        "estimate_seconds": 60.0,
        "summary": [f"{count} servers, one extra at a time, oldest first, 1 canary then you decide",
                    "at no moment fewer than 3 serve"],
    }


def proposal_row(left: int = 1, **fields: Any) -> dict[str, Any]:
    """A ProposalRow of web to 2 by ana, which needs two approvals."""
    given = [{"by": "eve@pts/2", "at": "2026-11-21T20:30:00Z", "expires_at": "2026-11-22T20:30:00Z"}] if left < 2 else []
    row: dict[str, Any] = {
        "hash": HASH, "pool": "web", "kind": "rollout", "from": "1", "to": "2", "author": "ana@pts/1", "at": "2026-11-21T20:00:00Z",
        "expires_at": "2026-11-22T20:30:00Z", "servers": 3, "needed": 2, "left": left, "approvals": given,
        "request": {"pool": "web", "to": "2"}, "summary": ["3 servers"], "difference": [],
    }
    return row | fields


def event_row(seq: int, text: str = "web-1 booting") -> dict[str, Any]:
    """An EventRow."""
    return {"seq": seq, "at": f"2026-11-21T21:00:{seq % 60:02d}.000Z", "type": "step-begun", "actor": "engine", "pool": "web",
            "server": "web-1", "rollout": "r-0123456789abcdef", "data": {"step": "booting"}, "text": text, "chain": "c" * 64}


class CannedOffice:
    """Answers from its attributes; remembers what it was asked in `asked` and the commands in `commands`."""

    def __init__(self) -> None:
        self.roles: dict[int, Role] = {0: "operator", os.getuid(): "operator"}
        self.role_by_user: dict[str, Role] = {}
        self.asked: list[str] = []
        self.commands: list[dict[str, Any]] = []
        self.callers: list[Caller] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.told: dict[str, dict[str, Any]] = {}
        """Answers by command."""
        self.events = [event_row(seq) for seq in range(1, 101)]
        self.rollout_states = [rollout_row()]
        self.rollout_seen: list[dict[str, Any]] = []
        self.plan_answer = plan_frame()
        self.proposal_rows: list[dict[str, Any]] = []
        self.foreign_rows: list[dict[str, Any]] = [
            {"place": "hv1", "name": "old-web", "uuid": UUID + "9", "state": "running", "note": ""}]
        self.findings: list[dict[str, Any]] = []
        self.machine_rows = [machine_row("rack1"), machine_row("rack2", pin="", reach="no host key is pinned", version="", backend="")]
        self.machine_checks: list[dict[str, Any]] = [
            {"name": "rack1", "ok": True, "sentence": "ready, rauc, slot A, version 1", "told": {"reach": "ok"}},
            {"name": "rack2", "ok": False, "sentence": "no host key is pinned", "told": {}}]
        self.pool_servers = [server_row("web-1", version="2", age_seconds=311.0), server_row("web-2"),
                             server_row("web-3", healthy=False, state="failed", health_words="tcp 22: refused",
                                        reason="boots without network")]
        self.root_rows: list[dict[str, Any]] = [
            {"name": row["name"], "pool": "web", "wished": "read-only", "observed": "read-only", "why_not": "its root comes from the image", "writers": [],
             "takes": "nothing", "unlocked_until": None}
            for row in self.pool_servers]
        self.pool_more: dict[str, Any] = {}
        self.metrics_text = '# HELP anew_servers Servers.\n# TYPE anew_servers gauge\nanew_servers{pool="web",version="1",state="serving"} 3\n'
        self.empty = False
        self.journal_ok = True
        self.fleet_path = "/etc/anew/fleet.toml"
        self.queues: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self.driving: list[str] = []
        self.here: list[str] = []
        self.people: list[dict[str, Any]] = []
        self.dropped = 0

    def role_of(self, caller: Caller) -> Role:
        self.callers.append(caller)
        return self.role_by_user.get(caller.user, self.roles.get(caller.uid, ""))

    def status(self, caller: Caller) -> Mapping[str, Any]:
        self.asked.append("status")
        servers = [] if self.empty else self.pool_servers
        pool = {
            "name": "web", "driver": "libvirt", "mode": "manual", "size": 3, "healthy": sum(row["healthy"] for row in servers),
            "available": len(servers), "root": "read-only", "data": ["state"],
            "image": {"family": "web", "stable": None if self.empty else "1", "target": "2", "previous": None, "newest": "2",
                      "rejected": []},
            "versions": {} if self.empty else {"1": 2, "2": 1}, "oldest_age_seconds": None if self.empty else 532800.0,
            "max_age_seconds": None, "rollout": None if self.empty else "r-0123456789abcdef", "generation": 42,
            "unreachable": {}, "servers": servers, **self.pool_more,
        }
        return {
            "schema_version": 1, "fleet": "lab", "generation": 42, "seq": 100, "now": "2026-11-21T21:00:00Z", "read_only": "",
            "you": {"user": caller.user, "role": "operator", "terminal": caller.terminal}, "people": self.people, "pools": [pool],
            "rollouts": [] if self.empty else self.rollouts(),
        }

    def info(self, caller: Caller) -> Mapping[str, Any]:
        return {"paths": {"fleet": self.fleet_path, "state": "/var/lib/anew"}, "settings": {"pools": 1},
                "versions": {"anew": "0.1.0"}, "pid": os.getpid(), "started_at": "2026-11-21T20:00:00Z",
                "you": {"user": caller.user, "role": "operator"}}

    def metrics(self) -> str:
        self.asked.append("metrics")
        return self.metrics_text

    def rollouts(self) -> list[dict[str, Any]]:
        if self.rollout_seen:
            return [self.rollout_seen.pop(0) if len(self.rollout_seen) > 1 else self.rollout_seen[0]]
        return [self.rollout_states[0]]

    def rollout(self, rollout: str) -> Mapping[str, Any]:
        row = self.rollout_states[0]
        if rollout != row["id"]:
            raise Invalid("there is no rollout of this id", where=rollout, code="unknown-rollout")
        return self.rollout_states.pop(0) if len(self.rollout_states) > 1 else row

    def server(self, name: str) -> Mapping[str, Any]:
        for row in self.pool_servers:
            if row["name"] == name:
                return row | {"past": []}
        raise Invalid("there is no server of this name", where=name, code="unknown-server")

    async def images(self) -> list[dict[str, Any]]:
        return [await self.image("web", version) for version in ("1", "2")]

    async def image(self, family: str, version: str) -> dict[str, Any]:
        if family != "web" or version not in ("1", "2"):
            raise Invalid("there is no such image; known versions of web: 1, 2", where=f"{family}/{version}", code="unknown-image")
        return {"family": family, "version": version, "digest": DIGEST, "kind": "squashfs", "built_at": "2026-11-21T20:00:00Z",
                "size": 3678208, "packages": 14, "source": "git:abc", "used_by": ["web"], "rejected": [],
                "problem": "" if version == "1" else "root.squashfs is changed", "files": [{"name": "root.squashfs", "sha256": "ab" * 32, "size": 3678208}], "packages_list": {"curl": "8.5"}}

    async def image_diff(self, family: str, a: str, b: str) -> Mapping[str, Any]:
        return {"family": family, "a": a, "b": b, "size_a": 3_000_000, "size_b": 4_000_000, "added": {"curl": "8.5"}, "removed": {},
                "changed": {"openssl": ["3.0.11", "3.0.15"]}, "kernel": ["6.1.0-50", "6.1.0-56"], "cmdline": None,
                "packages_known": True}

    async def foreign(self) -> list[dict[str, Any]]:
        return self.foreign_rows

    async def leftovers(self) -> list[dict[str, Any]]:
        return self.findings

    async def machines(self) -> list[dict[str, Any]]:
        return self.machine_rows

    async def machine_check(self, names: Sequence[str]) -> list[dict[str, Any]]:
        self.asked.append(f"check {', '.join(names)}")
        return [row for row in self.machine_checks if not names or row["name"] in names]

    async def roots(self, name: str) -> list[dict[str, Any]]:
        self.asked.append(f"roots {name}")
        return [row for row in self.root_rows if name in (row["name"], row["pool"])]

    async def plan(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(f"plan {dict(request)}")
        if request["pool"] != "web":
            raise Invalid("there is no pool of this name; did you mean web?", where=request["pool"], code="unknown-pool")
        return copy.deepcopy(self.plan_answer) | {"kind": request.get("kind", "rollout")}

    def proposals(self) -> list[dict[str, Any]]:
        self.asked.append("proposals")
        return self.proposal_rows

    async def command(self, caller: Caller, role: Role, request: Mapping[str, Any]) -> Mapping[str, Any]:
        known = self.answers.get(request["request"])
        if known is not None:
            return known
        self.commands.append(dict(request))
        if request.get("plan_hash", HASH) != HASH:
            raise Stale("the fleet is no longer what the plan was made for", difference=("web-2: 1 → 2",))
        if request.get("server") == "web-refused":
            raise Refused("it is held by somebody", where="web-refused")
        if request.get("server") == "web-away":
            raise Transient("hv1 cannot be reached", where="hv1")
        if request.get("server") == "web-broken":
            raise ZeroDivisionError("a fault of anew itself with a \x1b[31msecret in it")
        if request["command"] in self.told:
            return self.told[request["command"]]
        if request["command"] == "rollout.start" and self.plan_answer["needs"].get("approvals_left"):
            return {"ok": True, "seq": 101, "message": "plan 7f3a9c is proposed, nothing is started", "proposed": HASH}
        answer: dict[str, Any] = {"ok": True, "seq": 101, "message": f"{request['command']} is in the journal",
                                  "rollout": "r-0123456789abcdef"}
        self.answers[request["request"]] = answer
        return answer

    async def journal(self, since: int, limit: int, whole: bool = False) -> Mapping[str, Any]:
        return {"events": [row for row in self.events if row["seq"] > since][:limit], "tip": self.events[-1]["seq"]}

    async def journal_verify(self) -> Mapping[str, Any]:
        return {"ok": self.journal_ok, "message": "" if self.journal_ok else "row 17 does not follow from row 16",
                "rows": len(self.events), "tip": "c" * 64}

    @asynccontextmanager
    async def subscribe(self, since: int, caller: Caller, drives: str = "", *, here: bool = False) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        queue.put_nowait({"frame": "hello", "seq": self.events[-1]["seq"], "fleet": "lab"})
        for row in self.events:
            if row["seq"] > since:
                queue.put_nowait({"frame": "event", "seq": row["seq"], "row": row})
        self.queues.add(queue)
        self.driving += [drives] * bool(drives)
        self.here += [caller.user] * here

        async def frames() -> AsyncIterator[Mapping[str, Any]]:
            while (frame := await queue.get()) is not None:
                yield frame

        try:
            yield frames()
        finally:
            self.queues.discard(queue)
            if drives:
                self.driving.remove(drives)

    def place(self, caller: Caller, place: Mapping[str, Any]) -> None:
        self.asked.append(f"place {dict(place)}")

    def publish(self, frame: dict[str, Any]) -> None:
        """A frame for everybody; who is QUEUE behind the last hundred is dropped."""
        for queue in tuple(self.queues):
            if queue.qsize() > QUEUE + 100:
                self.queues.discard(queue)
                self.dropped += 1
                queue.put_nowait(None)
            else:
                queue.put_nowait(frame)

    async def console(self, server: str) -> AsyncIterator[bytes]:
        self.server(server)
        yield b"booting\r\n\x1b[0m"
        yield b"login: "
