"""The API as its clients notice it: who may do what, what is refused and how, over a real socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.api.client import Client
from fleet.api.routes import ROUTES, Route
from fleet.api.server import find_route
from fleet.api.wire import COMMANDS, MAX_REQUEST
from fleet.core.errors import AnewError, Invalid, Refused, Stale, Transient
from tests.wire.office import CannedOffice
from tests.wire.running import DEADLINE, Served, serving

NAMES = {"ID": "r-0123456789abcdef", "FAMILY": "web", "VERSION": "1", "A": "1", "B": "2", "NAME": "web-1"}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def fresh() -> Iterator[Served]:
    with serving() as served:
        yield served


def raw(path: str, data: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes, return all that comes back."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(DEADLINE)
        sock.connect(path)
        sock.sendall(data)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        got = b""
        while piece := sock.recv(65536):
            got += piece
        return got


def http(path: str, method: str, target: str, body: bytes = b"") -> tuple[int, Any]:
    """A plain request by hand: (status, JSON)."""
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    answer = raw(path, head + body)
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), rest.decode() if b"text/plain" in top else json.loads(rest)


def url_of(route: Route) -> str:
    return "/".join(NAMES.get(part, part) for part in route.path.split("/"))


PLAIN = [route for route in ROUTES if not route.path.endswith(("/console", "/events"))]


@pytest.mark.parametrize("route", PLAIN, ids=lambda route: route.path)
@pytest.mark.parametrize("role", ["observer", "operator", "approver", ""])
def test_each_role_gets_exactly_what_the_table_says(served: Served, route: Route, role: str) -> None:
    body = {"/v1/plan": {"pool": "web"}, "/v1/machines/check": {}, "/v1/here": {"screen": "fleet"}, "/v1/commands": {"command": "remark", "request": f"role-{role or 'none'}", "text": "hm"}}
    served.office.roles[os.getuid()] = role  # type: ignore[assignment]
    status, answer = http(served.socket, route.method, url_of(route), json.dumps(body[route.path]).encode() if route.cap else b"")
    allowed = role == "operator" or (role != "" and route.least == "observer")  # of the commands an approver has one, and not this
    assert status == (200 if allowed else 403)
    if not allowed:
        assert answer["error"]["code"] == "role"
        assert "[access]" in answer["error"]["message"]
        assert answer["error"]["exit_code"] == 5
        assert served.refused[-1][1].startswith(f"{route.method} {url_of(route)}")


@pytest.mark.parametrize("role", ["observer", "operator", "approver", ""])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_approver_may_approve_and_nothing_else(served: Served, command: str, role: str) -> None:
    served.office.roles[os.getuid()] = role  # type: ignore[assignment]
    served.office.commands.clear()
    status, answer = http(served.socket, "POST", "/v1/commands", json.dumps({"command": command, "request": f"{command}-of-{role or 'none'}"}).encode())
    allowed = role == "operator" or (role == "approver" and command == "plan.approve")
    assert (status == 200, bool(served.office.commands)) == (allowed, allowed)
    if not allowed:
        assert (status, answer["error"]["code"]) == (403, "role")
        assert served.refused[-1][2] == answer["error"]["message"], "it is in the journal"


@pytest.mark.parametrize("key", ["uid", "by", "author", "actor", "user", "approvals", "role"])
def test_nobody_can_say_in_a_request_who_they_are(served: Served, key: str) -> None:
    served.office.roles[os.getuid()] = "operator"
    served.office.commands.clear()
    for value in (0, "root"):
        body = {"command": "plan.approve", "request": "lie", "plan_hash": "7f3a9c", key: value}
        status, answer = http(served.socket, "POST", "/v1/commands", json.dumps(body).encode())
        assert (status, answer["error"]["where"]) == (422, key)
    assert not served.office.commands


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/v1", "/v2/status", "/v1/status/", "/v1/servers/web-1/shell", "/v1/servers/..",
                                  "/v1/servers/%2e%2e", "/v1/images/web/1/2", "/v1/commands/x"])
def test_what_is_not_in_the_table_is_refused(fresh: Served, method: str, path: str) -> None:
    status, answer = http(fresh.socket, method, path)
    assert (status, answer["error"]["code"]) == (404, "unknown-path")
    assert not fresh.office.asked
    assert not fresh.office.commands


def test_a_known_path_with_another_method_says_which(fresh: Served) -> None:
    status, answer = http(fresh.socket, "DELETE", "/v1/status")
    assert status == 404
    assert "only GET" in answer["error"]["message"]
    assert fresh.refused[0][1] == "DELETE /v1/status"


def test_every_route_is_found_by_a_sample_of_its_own_path() -> None:
    for route in ROUTES:
        assert find_route(route.method, url_of(route))[0] is route


BAD_BODIES: list[tuple[str, bytes, str]] = [
    ("/v1/plan", b"", "body"),
    ("/v1/plan", b"[]", ""),
    ("/v1/plan", b"{", "body"),
    ("/v1/plan", b'{"pool": "web", "pool": "db"}', "body"),
    ("/v1/plan", b'{"pool": NaN}', "body"),
    ("/v1/plan", b"[" * 100_000, "body"),
    ("/v1/plan", b'{"pool": ' + b"9" * 5000 + b"}", "body"),
    ("/v1/plan", b"\xff\xfe", "body"),
    ("/v1/plan", b"{}", "pool"),
    ("/v1/plan", b'{"pool": 1}', "pool"),
    ("/v1/plan", b'{"pool": "web", "color": "red"}', "color"),
    ("/v1/plan", b'{"pool": "web", "servers": "web-1"}', "servers"),
    ("/v1/plan", b'{"pool": "web", "servers": [1]}', "servers"),
    ("/v1/plan", b'{"pool": "web", "kind": "revolution"}', "kind"),
    ("/v1/plan", b'{"pool": "web", "overrides": {"canaries": 1}}', "overrides.canaries"),
    ("/v1/plan", json.dumps({"pool": "x" * 5000}).encode(), "pool"),
    ("/v1/plan", b'{"pool": "a\\u0000b"}', "pool"),
    ("/v1/machines/check", b'{"machines": "rack1"}', "machines"),
    ("/v1/machines/check", b'{"names": []}', "names"),
    ("/v1/here", b'{"screen": 1}', "screen"),
    ("/v1/here", b'{"user": "root"}', "user"),
    ("/v1/commands", b'{"command": "remark"}', "request"),
    ("/v1/commands", b'{"request": "a"}', "command"),
    ("/v1/commands", b'{"command": "format.disk", "request": "a"}', "command"),
    ("/v1/commands", b'{"command": "remark", "request": "a b"}', "request"),
    ("/v1/commands", b'{"command": "remark", "request": ""}', "request"),
    ("/v1/commands", b'{"command": "remark", "request": "a", "uid": 0}', "uid"),
    ("/v1/commands", b'{"command": "remark", "request": "a", "generation": true}', "generation"),
    ("/v1/commands", b'{"command": "remark", "request": "a", "generation": -1}', "generation"),
    ("/v1/commands", b'{"command": "remark", "request": "a", "plan": {"pool": "web", "x": 1}}', "plan.x"),
]


@pytest.mark.parametrize(("path", "body", "where"), BAD_BODIES, ids=lambda value: str(value)[:40])
def test_a_bad_body_is_refused_and_names_the_key(served: Served, path: str, body: bytes, where: str) -> None:
    served.office.roles[os.getuid()] = "operator"
    before = len(served.office.commands), len(served.office.asked)
    status, answer = http(served.socket, "POST", path, body)
    assert (status, answer["error"]["where"], answer["error"]["exit_code"]) == (422, where, 2)
    assert (len(served.office.commands), len(served.office.asked)) == before


@pytest.mark.parametrize("query", ["since=-1", "since=x", "limit=1001", "since=%31%00", "until=3", "whole=2", "since=" + "9" * 30])
def test_a_bad_query_is_refused(served: Served, query: str) -> None:
    served.office.roles[os.getuid()] = "operator"
    status, answer = http(served.socket, "GET", f"/v1/journal?{query}")
    assert status == 422
    assert answer["error"]["where"] in ("since", "limit", "until", "whole")


def test_a_body_beyond_the_cap_is_refused_before_it_is_read(fresh: Served) -> None:
    status, answer = http(fresh.socket, "POST", "/v1/plan", b" " * (MAX_REQUEST + 1))
    assert (status, answer["error"]["code"]) == (413, "too-large")
    chunked = b"POST /v1/plan HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += (b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 5 + b"0\r\n\r\n"
    assert b" 413 " in raw(fresh.socket, chunked).splitlines()[0]
    status, _ = http(fresh.socket, "GET", "/v1/status", b"x")
    assert status == 413
    assert not fresh.office.asked


def test_a_compressed_body_is_not_unpacked(fresh: Served) -> None:
    import gzip

    body = gzip.compress(json.dumps({"pool": "web"}).encode())
    head = f"POST /v1/plan HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    assert b" 422 " in raw(fresh.socket, head.encode() + body).splitlines()[0]


@pytest.mark.parametrize("noise", [b"\x00" * 100, b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
                                   b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
                                   b"GET /v1/status HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
                                   b"GET /v1/status HTTP/1.1\r\nA: " + b"b" * 10_000 + b"\r\n\r\n"])
def test_garbage_gets_one_error_and_is_closed(fresh: Served, noise: bytes) -> None:
    answer = raw(fresh.socket, noise, half_close=True)
    assert answer == b"" or b" 400 " in answer.splitlines()[0]
    assert not fresh.office.asked
    assert fresh.client().get("/v1/status")["fleet"] == "lab"


def test_a_fault_of_anew_reaches_the_client_as_a_sentence_with_an_id(fresh: Served, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AnewError) as caught:
        fresh.client().command("server.hold", server="web-broken", why="x")
    assert "log has the details under the id" in caught.value.message
    assert "secret" not in caught.value.message
    fault = caught.value.message.rpartition(" ")[2]
    assert fault in caplog.text
    assert fresh.client().get("/v1/status")["fleet"] == "lab"


def test_errors_arrive_as_what_they_were(fresh: Served) -> None:
    client = fresh.client()
    cases: list[tuple[dict[str, str], type[AnewError], int]] = [
        ({"command": "server.hold", "server": "web-refused"}, Refused, 5),
        ({"command": "server.hold", "server": "web-away"}, Transient, 1),
        ({"command": "rollout.start", "plan_hash": "old"}, Stale, 5),
    ]
    for fields, kind, exit_code in cases:
        with pytest.raises(kind) as caught:
            client.command(fields.pop("command"), **fields)
        assert caught.value.exit_code == exit_code
    assert isinstance(caught.value, Stale)
    assert caught.value.difference == ("web-2: 1 → 2",)
    with pytest.raises(Invalid) as unknown:
        client.get("/v1/servers/web-9")
    assert (unknown.value.code, unknown.value.exit_code, unknown.value.where) == ("unknown-server", 2, "web-9")


def test_the_same_request_id_twice_has_one_effect_and_one_answer(fresh: Served) -> None:
    body = {"command": "remark", "request": "once", "text": "watching the graphs"}
    first = fresh.client().post("/v1/commands", body)
    assert fresh.client().post("/v1/commands", body) == first
    assert len(fresh.office.commands) == 1


def test_every_command_of_the_wire_is_taken(fresh: Served) -> None:
    for command in COMMANDS:
        assert fresh.client().command(command)["ok"]


def test_the_kernel_says_who_calls_and_no_field_does(fresh: Served) -> None:
    head = b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAnew-Terminal: pts/3\r\nX-User: mallory\r\nUid: 0\r\n\r\n"
    assert b" 200 " in raw(fresh.socket, head).splitlines()[0]
    caller = fresh.office.callers[-1]
    assert (caller.uid, caller.gid, caller.pid, caller.terminal) == (os.getuid(), os.getgid(), os.getpid(), "pts/3")


@pytest.mark.parametrize("said", ["\x1b]0;owned\x07", "a b", "x" * 100, "../../etc"])
def test_a_strange_terminal_name_is_dropped(fresh: Served, said: str) -> None:
    head = f"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAnew-Terminal: {said}\r\n\r\n"
    raw(fresh.socket, head.encode())
    assert all(caller.terminal == "" for caller in fresh.office.callers)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_is_who_the_kernel_says(fresh: Served) -> None:
    os.chmod(os.path.dirname(fresh.socket), 0o755)
    os.chmod(fresh.socket, 0o666)
    program = (
        "import os,socket,sys\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\nprint(s.recv(9999).decode())"
    )
    asked = [sys.executable, "-c", program, fresh.socket]
    denied = subprocess.run(asked, capture_output=True, text=True, timeout=DEADLINE, check=True).stdout
    assert " 403 " in denied.splitlines()[0]
    assert "nobody has no role" in denied
    fresh.office.role_by_user["nobody"] = "observer"
    allowed = subprocess.run(asked, capture_output=True, text=True, timeout=DEADLINE, check=True).stdout
    assert " 200 " in allowed.splitlines()[0]
    caller = fresh.office.callers[-1]
    assert (caller.uid, caller.user) == (65534, "nobody")
    assert "nogroup" in caller.groups


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_client_sends_nothing_to_a_socket_of_someone_else(fresh: Served) -> None:
    os.chown(fresh.socket, 65534, 65534)
    with pytest.raises(Refused, match="owned by someone else") as caught:
        Client(fresh.socket).get("/v1/status")
    assert caught.value.exit_code == 5
    assert not fresh.office.callers


def test_canned_office_is_an_office() -> None:
    from fleet.api.office import Office

    office: Office = CannedOffice()
    assert office.rollouts()
