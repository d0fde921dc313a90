"""Who may do what: every method and every command, by every role, against a real daemon, by processes of different users.

The table below is written by hand and compared with the daemon's own registries: a method or a command without a row is a failure. Each cell
is asked for over the real socket by a process with that uid; each that is refused is asked for again with lies about who asks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.api.routes import ROUTES
from fleet.api.wire import COMMANDS
from tests.engine.daemons import FLEET, ROOT, SHARED, Home, shared

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several people")

USERS = {"nobody": 7, "observer": 3, "approver": 2, "lowered": 6, "operator": 6, "co-driver": 6, "colleague": 6, "driver": 1, "own-shell": 1}
"""Users that every Debian has: lp, sys, bin, man, daemon. `lowered`: an operator whose every request asks to be an observer's. `operator`: nobody
has the seat. The last four: a terminal of daemon's has it; man's terminal, a one-shot command of man's, daemon's terminal that drives, and a
one-shot command of daemon's.
"""
ACCESS = """
[access]
operators = ["user:daemon", "user:man"]
approvers = ["user:bin"]
observers = ["user:sys"]
"""
TABLE = """
                                    nobody observer approver lowered  operator  colleague own-shell co-driver driver
GET /v1/status                        r       +        +        +        +          +         +         +       +
GET /v1/rollouts                      r       +        +        +        +          +         +         +       +
GET /v1/rollouts/ID                   r       +        +        +        +          +         +         +       +
GET /v1/images                        r       +        +        +        +          +         +         +       +
GET /v1/images/FAMILY/VERSION         r       +        +        +        +          +         +         +       +
GET /v1/images/FAMILY/A/diff/B        r       +        +        +        +          +         +         +       +
GET /v1/servers/NAME                  r       +        +        +        +          +         +         +       +
GET /v1/servers/NAME/console          r       +        +        +        +          +         +         +       +
GET /v1/foreign                       r       +        +        +        +          +         +         +       +
GET /v1/leftovers                     r       +        +        +        +          +         +         +       +
GET /v1/roots/NAME                    r       +        +        +        +          +         +         +       +
GET /v1/machines                      r       +        +        +        +          +         +         +       +
GET /v1/journal                       r       +        +        +        +          +         +         +       +
GET /v1/journal/verify                r       +        +        +        +          +         +         +       +
GET /v1/events                        r       +        +        +        +          +         +         +       +
GET /v1/events?drives=none            r       r        r        r        +          +         +         +       +
GET /metrics                          r       +        +        +        +          +         +         +       +
GET /v1/info                          r       +        +        +        +          +         +         +       +
POST /v1/plan                         r       +        +        +        +          +         +         +       +
POST /v1/machines/check               r       +        +        +        +          +         +         +       +
GET /v1/proposals                     r       +        +        +        +          +         +         +       +
POST /v1/here                         r       n        n        n        n          n         n         +       +
seat.keep                             r       r        r        r        n          n         n         n       +
rollout.pause                         r       r        r        r        +          +         +         +       +
rollout.abort                         r       r        r        r        +          +         +         +       +
server.hold                           r       r        r        r        +          +         +         +       +
image.reject                          r       r        r        r        +          +         +         +       +
plan.approve                          r       r        +        r        +          +         +         +       +
plan.withdraw                         r       r        r        r        +          +         +         +       +
remark                                r       r        r        r        +          +         +         +       +
shell.ended                           r       r        r        r        +          +         +         +       +
image.add                             r       r        r        r        +          +         +         +       +
settings.reload                       r       r        r        r        +          +         +         +       +
rollout.start                         r       r        r        r        +          s         +         s       +
rollout.resume                        r       r        r        r        +          s         +         s       +
rollout.set                           r       r        r        r        +          s         +         s       +
rollout.promote                       r       r        r        r        +          s         +         s       +
rollback.start                        r       r        r        r        +          s         +         s       +
server.release                        r       r        r        r        +          s         +         s       +
server.adopt                          r       r        r        r        +          s         +         s       +
root.set                              r       r        r        r        +          s         +         s       +
shell.open                            r       r        r        r        +          s         +         s       +
image.unreject                        r       r        r        r        +          s         +         s       +
doctor.fix                            r       r        r        r        +          s         +         s       +
machine.install                       r       r        r        r        +          s         +         s       +
machine.recover                       r       r        r        r        +          s         +         s       +
seat.take                             r       r        r        r        n          n         n         +       +
seat.give                             r       r        r        r        n          n         n         n       +
"""
"""+ the role suffices (what the command then says of a pool that there is not is another matter) · r refused for the role · s refused, for
somebody else has the driver's seat · n only for who is here, or who drives. The first row of a command is asked first, the last one last.
"""
CODES = {"r": {"role"}, "s": {"seat"}, "n": {"not-attached", "not-driver"}}
NAMES = {"ID": "none", "FAMILY": "web", "VERSION": "1", "A": "1", "B": "2", "NAME": "web-1"}
ABOUT = {"pool": "none", "server": "none", "rollout": "none", "plan_hash": "0" * 64, "why": "the matrix", "path": "/nonexistent", "text": "the matrix",
         "place": "none", "key": "none", "kind": "none", "version": "none", "family": "none", "mode": "read-only", "domain": "none"}
"""What a command is about: nothing that there is."""
LIES = {"Anew-Terminal": "pts/77", "X-User": "root", "Uid": "0", "Pid": "1", "X-Role": "operator", "Anew-Role": "driver", "Authorization": "Basic cm9vdDo=",
        "X-Forwarded-User": "daemon", "Anew-User": "root@pts/77"}
LYING_FIELDS = ("uid", "user", "role", "actor", "pid", "driver", "you", "here", "by", "seat")
PERSON = """
import json, socket, sys

def ask(method, target, headers, body, keep=False):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect(sys.argv[1])
    data = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(data)}", *(f"{key}: {value}" for key, value in headers.items())]
    sock.sendall("\\r\\n".join(head).encode() + b"\\r\\n\\r\\n" + data)
    got = b""
    while b"\\r\\n\\r\\n" not in got:
        got += sock.recv(65536)
    status = int(got.split()[1])
    if keep:
        return status, sock
    if status == 200:
        sock.close()
        return status, ""
    while piece := sock.recv(65536):
        got += piece
    return status, json.loads(got.partition(b"\\r\\n\\r\\n")[2])["error"]["code"]

kept = []
for line in sys.stdin:
    asked = json.loads(line)
    status, rest = ask(**asked)
    if asked.get("keep"):
        kept.append(rest)
        rest = ""
    print(json.dumps([status, rest]), flush=True)
"""


def rows() -> dict[str, dict[str, str]]:
    """Method or command -> role -> cell."""
    lines = [line for line in TABLE.splitlines() if line.strip()]
    heads = lines[0].split()
    found = {}
    for line in lines[1:]:
        *name, = line.split()[: -len(heads)]
        found[" ".join(name)] = dict(zip(heads, line.split()[-len(heads):], strict=True))
    return found


ROWS = rows()


class Person:
    """A process of a user, which asks what it is told to; all its connections are one process to the kernel."""

    def __init__(self, home: Home, role: str) -> None:
        uid = USERS[role]
        self.count, self.role = 0, role
        self.always = {"Anew-Observer": "yes"} if role == "lowered" else {}
        self.process = subprocess.Popen(
            ["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={SHARED}", sys.executable, "-c", PERSON, str(home.folder / "s")],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None, *, keep: bool = False) -> tuple[int, str]:
        """(status, error code)."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps({"method": method, "target": target, "headers": {**self.always, **(headers or {})}, "body": body, "keep": keep}), file=self.process.stdin, flush=True)
        status, code = json.loads(self.process.stdout.readline())
        return status, code

    def sit_down(self) -> None:
        """Be here, as a terminal is."""
        assert self.ask("GET", "/v1/events?since=0&here=1", keep=True)[0] == 200

    def row(self, name: str, headers: dict[str, str] | None = None, more: dict[str, Any] | None = None) -> tuple[int, str]:
        """Ask for a row of the table; `more` goes into the body."""
        if name in COMMANDS:
            self.count += 1
            body = {"command": name, "request": f"{self.role}-{self.count}", **ABOUT, **({"plan": {"pool": "none"}} if name == "rollout.start" else {})}
            return self.ask("POST", "/v1/commands", {**body, **(more or {})}, headers)
        method, _, path = name.partition(" ")
        target = "/".join(NAMES.get(part, part) for part in path.split("/"))
        bodies: dict[str, Any] = {"/v1/plan": {"pool": "none"}, "/v1/here": {"screen": "fleet"}, "/v1/machines/check": {}}
        return self.ask(method, target, {**bodies[path], **(more or {})} if method == "POST" else None, headers)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


Answers = dict[tuple[str, str], tuple[int, str]]


class Everybody:
    """What the daemon answered in every cell; and, where it refused, to the same with lies."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.honest: Answers = {}
        self.lying: dict[tuple[str, str], list[tuple[int, str]]] = {}

    def ask_all(self) -> None:
        for role in ("nobody", "observer", "approver", "lowered", "operator"):
            self._column(Person(self.home, role))
        driver, mate = Person(self.home, "driver"), Person(self.home, "co-driver")
        driver.sit_down()
        mate.sit_down()
        assert driver.ask("POST", "/v1/commands", {"command": "seat.take", "request": "sit"})[0] == 200
        for role in ("colleague", "own-shell"):
            self._column(Person(self.home, role))
        self._column(mate, close=False)  # asks for the seat in the end, and the driver's first command keeps it
        self._column(driver)
        mate.close()

    def _column(self, person: Person, *, close: bool = True) -> None:
        names = list(ROWS)
        if person.role == "driver":
            names = ["seat.keep", "seat.take", *(name for name in names if not name.startswith("seat.")), "seat.give"]
        if person.role == "co-driver":
            names = [*(name for name in names if name != "seat.take"), "seat.take"]
        for name in names:
            self.honest[name, person.role] = person.row(name)
            if ROWS[name][person.role] != "+":
                answers = self.lying[name, person.role] = [person.row(name, LIES)]
                if name in COMMANDS or name.startswith("POST"):
                    answers += [person.row(name, LIES, {field: 0 if field in ("uid", "pid") else "root"}) for field in LYING_FIELDS]
        if close:
            person.close()


@pytest.fixture(scope="module")
def everybody() -> Iterator[Everybody]:
    with shared(Home, FLEET + ACCESS) as home:
        found = Everybody(home)
        found.ask_all()
        yield found


def test_every_method_and_every_command_has_a_row() -> None:
    registered = {f"{route.method} {route.path}" for route in ROUTES} - {"POST /v1/commands"} | set(COMMANDS)
    assert {name.partition("?")[0] for name in ROWS} == registered, "a new method needs a row: say who may use it"
    assert all(set(cells) == set(USERS) and set(cells.values()) <= set("+rsn") for cells in ROWS.values())


@pytest.mark.parametrize("role", USERS)
@pytest.mark.parametrize("name", ROWS)
def test_each_role_gets_what_the_table_says_and_no_lie_gets_more(everybody: Everybody, name: str, role: str) -> None:
    cell, (status, code) = ROWS[name][role], everybody.honest[name, role]
    if cell == "+":
        assert code not in {"role", "seat", "not-attached", "not-driver"}, f"{role} may use {name}, and got {status} {code}"
        assert status < 500 or status == 503, f"{status} {code}"
        return
    assert code in CODES[cell] and status == (403 if cell == "r" else 409), f"{role} and {name}: {status} {code}"
    first, *others = everybody.lying[name, role]
    assert first == (status, code), f"headers that lie changed the answer to {first}"
    for answer in others:
        assert answer[0] in (403, 409, 422), f"a body that lies was answered {answer}"


def test_nothing_that_was_refused_left_anything_but_its_refusal(everybody: Everybody) -> None:
    events = everybody.home.events()
    assert not everybody.home.client.get("/v1/rollouts")["rollouts"]
    kinds = {event["type"] for event in events}
    assert kinds <= {"daemon-started", "settings-loaded", "command-refused", "remark", "seat-taken", "seat-asked", "seat-kept", "seat-left"}, kinds
    refused = [event for event in events if event["type"] == "command-refused" and "has the driver's seat" in event["data"]["reason"]]
    assert {event["actor"].partition("@")[0] for event in refused} == {"man"}, "whatever name and terminal they gave"
    assert {event["data"]["command"] for event in refused} == {name for name, cells in ROWS.items() if cells["co-driver"] == "s"}
    seats = [(event["type"], event["actor"].partition("@")[0]) for event in events if event["type"].startswith("seat-")]
    assert seats == [("seat-taken", "daemon"), ("seat-asked", "man"), ("seat-kept", "daemon"), ("seat-left", "daemon")]
