"""Approvals against a real daemon on a real socket, by people who are different users to the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.engine.daemons import FLEET, ROOT, SHARED, Home, shared, until

AUTHOR, FRIEND, WATCHER = 1, 2, 3
"""Users that every Debian has: daemon, bin and sys. They are ana, eve and a guest in these stories."""
GUARDED = FLEET.replace('mode = "manual"', 'mode = "manual"\napprovals = 1') + """
[access]
operators = ["user:daemon"]
approvers = ["user:bin"]
observers = ["user:sys"]
"""
PROGRAM = "import sys; from fleet.cli.main import main; sys.exit(main())"
SEND = """
import json, socket, sys
path, terminal, body = sys.argv[1:]
sock = socket.socket(socket.AF_UNIX)
sock.connect(path)
data = body.encode()
head = f"POST /v1/commands HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nAnew-Terminal: {terminal}\\r\\nContent-Length: {len(data)}\\r\\n\\r\\n"
sock.sendall(head.encode() + data)
got = b""
while piece := sock.recv(65536):
    got += piece
print(got.decode())
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several people")


@dataclass
class Ended:
    code: int
    out: str
    err: str


class Office(Home):
    """A daemon in system mode; its socket is open to a group, and commands are given by users of that group."""

    def by(self, uid: int, *arguments: str) -> Ended:
        """A command, by that user."""
        return self._as(uid, "-c", PROGRAM, *arguments)

    def raw(self, who: int, terminal: str = "pts/1", /, **body: Any) -> tuple[int, dict[str, Any]]:
        """A request by hand, by that user, with whatever it likes to say of itself: (status, answer)."""
        ended = self._as(who, "-c", SEND, str(self.folder / "s"), terminal, json.dumps(body))
        top, _, rest = ended.out.partition("\n\n")
        return int(top.split()[1]), json.loads(rest)

    def _as(self, uid: int, *argv: str) -> Ended:
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "ANEW_SOCKET": str(self.folder / "s"), "ANEW_FLEET": str(self.fleet),
                       "TERM": "dumb", "COLUMNS": "200"}
        done = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={SHARED}", sys.executable, *argv], cwd=ROOT, env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["type"] == kind]

    def waiting(self) -> list[dict[str, Any]]:
        return list(self.client.get("/v1/proposals")["proposals"])


@pytest.fixture
def office() -> Iterator[Office]:
    with shared(Office, GUARDED) as made:
        until(lambda: made.by(WATCHER, "plan", "web", "--to", "1").code == 0, "the pool was observed")
        yield made


def test_two_people_bring_a_pool_up_and_neither_could_alone(office: Office) -> None:
    proposed = office.by(AUTHOR, "rollout", "start", "web", "--to", "1", "--yes", "--wait")
    assert proposed.code == 4, proposed.err
    assert "nothing is started: it needs 1 approval of somebody else than daemon (user:bin or root): `anew plan approve" in proposed.out
    (event,) = office.told("plan-proposed")
    assert (event["actor"], event["data"]["uid"]) == ("daemon", AUTHOR)
    assert not office.client.get("/v1/rollouts")["rollouts"]

    again = office.by(AUTHOR, "rollout", "start", "web", "--to", "1", "--yes")
    assert again.code == 4 and "waits for 1 more approval of somebody else than daemon" in again.err
    for uid, words in ((AUTHOR, "you proposed plan"), (WATCHER, "this needs an approver")):
        refused = office.by(uid, "plan", "approve", "web", "--yes")
        assert refused.code == 5 and words in refused.err, refused.err
    assert office.by(FRIEND, "rollout", "start", "web", "--to", "1", "--yes").code == 5, "an approver starts nothing"
    assert office.by(FRIEND, "plan", "withdraw", "web").code == 5

    assert "0 of 1" in office.by(FRIEND, "plan", "list").out
    said = office.by(FRIEND, "plan", "approve", event["data"]["hash"][:6], "--yes")
    assert said.code == 0, said.err
    assert "is approved, 1 of 1: daemon, or any operator, starts it with `anew rollout start web --to 1`" in said.out
    assert not office.client.get("/v1/rollouts")["rollouts"], "the last approval starts nothing"

    office.kill()
    office.start()
    until(lambda: office.waiting()[0]["left"] == 0, "the approval outlived the daemon")
    until(lambda: office.by(WATCHER, "plan", "web", "--to", "1").code == 0, "the pool was observed again")
    started = office.by(AUTHOR, "rollout", "start", "web", "--to", "1", "--yes", "--wait")
    assert started.code == 0, started.err
    assert json.loads(office.by(WATCHER, "rollout", "show", "web", "--json").out)["approvals"] == ["bin"]
    assert office.waiting() == []

    assert office.by(AUTHOR, "rollout", "start", "web", "--to", "2", "--yes").code == 4
    assert office.client.command("plan.approve", pool="web")["ok"], "root, the daemon's own user, is somebody else, too"
    assert office.by(AUTHOR, "rollout", "start", "web", "--to", "2", "--yes").code == 0
    assert office.by(AUTHOR, "rollback", "web", "--yes", "--wait").code == 3, "a rollback needs nobody's approval"


def test_whatever_a_request_says_the_kernel_says_who_approves(office: Office) -> None:
    assert office.by(AUTHOR, "rollout", "start", "web", "--to", "1", "--yes").code == 4
    plan_hash = office.waiting()[0]["hash"]
    mine = {"command": "plan.approve", "pool": "web", "plan_hash": plan_hash}
    for number, terminal in enumerate(("pts/1", "pts/99", "bin@pts/1", "bin")):
        status, answer = office.raw(AUTHOR, terminal, request=f"a{number}", **mine)
        assert (status, answer["error"]["code"]) == (409, "own-plan")
    for key in ("uid", "by", "author", "user", "actor"):
        status, answer = office.raw(AUTHOR, "pts/1", request="b", **mine, **{key: FRIEND})
        assert (status, answer["error"]["where"]) == (422, key)
    status, answer = office.raw(FRIEND, request="c", command="plan.approve", pool="web", plan_hash="0123456789abcdef")
    assert status == 404 and "an approval counts for one plan only" in answer["error"]["message"]
    status, answer = office.raw(FRIEND, request="d", command="plan.approve", plan_hash="0123456789abcdef")
    assert (status, answer["error"]["code"]) == (404, "unknown-plan")
    assert office.waiting()[0]["left"] == 1
    assert office.raw(FRIEND, request="e", **mine)[0] == 200
    first = office.told("plan-approved")
    assert office.raw(FRIEND, request="e", **mine)[0] == 200, "the same request twice"
    assert office.raw(FRIEND, "pts/2", request="f", **mine)[1]["error"]["code"] == "approved-already"
    assert office.told("plan-approved") == first
    assert [(event["actor"], event["data"]["uid"]) for event in first] == [("bin@pts/1", FRIEND)]


def test_a_plan_that_the_fleet_has_left_behind_is_neither_approved_nor_started(office: Office) -> None:
    assert office.by(AUTHOR, "rollout", "start", "web", "--to", "1", "--yes").code == 4
    plan_hash = office.waiting()[0]["hash"]
    assert office.by(FRIEND, "plan", "approve", "web", "--yes").code == 0
    assert office.by(AUTHOR, "hold", "web-2", "--why", "the disk is looked at").code == 0
    stale = office.by(AUTHOR, "rollout", "start", "web", "--to", "1", "--plan", plan_hash[:12], "--yes")
    assert stale.code == 5 and "web-2: was birth (absent), now hold (held: the disk is looked at)" in stale.err
    stale = office.by(AUTHOR, "rollout", "start", "web", "--to", "1", "--yes")
    assert stale.code == 5 and "the fleet is not what plan" in stale.err and "`anew plan withdraw web` drops it" in stale.err
    assert office.client.get("/v1/proposals")["proposals"][0]["difference"]
    assert office.by(AUTHOR, "plan", "withdraw", plan_hash[:6], "--why", "web-2 is held").code == 0
    assert office.told("plan-withdrawn")[0]["data"]["reason"] == "withdrawn by daemon: web-2 is held"
    assert office.by(FRIEND, "plan", "approve", plan_hash, "--yes").code == 2
    assert not office.client.get("/v1/rollouts")["rollouts"]
