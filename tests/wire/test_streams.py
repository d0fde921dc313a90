"""Endless answers, and the clients that stall, crowd or vanish: nobody else may notice them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fleet.api import door, server, stream
from fleet.api.client import DaemonUnreachable
from fleet.core.errors import Invalid
from tests.wire.office import event_row
from tests.wire.running import DEADLINE, Served, serving


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < limit, "it never came true"
        time.sleep(0.01)


def opened(path: str, data: bytes = b"") -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.settimeout(DEADLINE)
    if data:
        sock.sendall(data)
    return sock


EVENTS = b"GET /v1/events?since=0 HTTP/1.1\r\nHost: x\r\n\r\n"


def test_events_resume_after_the_number_given(served: Served) -> None:
    frames = served.client().lines("/v1/events", since=97)
    assert next(frames) == {"frame": "hello", "seq": 100, "fleet": "lab"}
    assert [next(frames)["row"]["seq"] for _ in range(3)] == [98, 99, 100]
    served.do(lambda: served.office.publish({"frame": "event", "seq": 101, "row": event_row(101)}))
    assert next(frames)["seq"] == 101


def test_two_clients_see_the_same_events_and_leave_nothing_behind(served: Served) -> None:
    one, two = (served.client().lines("/v1/events", since=100) for _ in range(2))
    assert next(one)["frame"] == next(two)["frame"] == "hello"
    served.do(lambda: served.office.publish({"frame": "gone", "kind": "server", "name": "web-3"}))
    assert next(one) == next(two) == {"frame": "gone", "kind": "server", "name": "web-3"}
    one.close()  # type: ignore[attr-defined]
    two.close()  # type: ignore[attr-defined]
    until(lambda: not served.office.queues)


def test_silence_is_filled_with_signs_of_life(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LIFE_SECONDS", 0.05)
    frames = served.client().lines("/v1/events", since=100)
    assert [next(frames) for _ in range(4)][1:] == [{}, {}, {}]


def test_the_stream_ends_in_order_when_the_daemon_does() -> None:
    with serving() as served:
        frames = served.client().lines("/v1/events", since=100)
        next(frames)
        served.stop()
        assert list(frames) == []
        with pytest.raises(DaemonUnreachable) as caught:
            served.client().get("/v1/status")
        assert caught.value.exit_code == 6


def test_a_client_that_does_not_read_is_dropped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "DRAIN_SECONDS", 0.2)
    stopped = opened(served.socket, EVENTS)
    reader = served.client().lines("/v1/events", since=100)
    next(reader)
    row = event_row(101, "x" * 20_000)
    sent = 0
    limit = time.monotonic() + DEADLINE
    while len(served.office.queues) == 2:
        served.do(lambda: served.office.publish({"frame": "event", "seq": 101, "row": row}))
        assert next(reader)["seq"] == 101
        sent += 1
        assert time.monotonic() < limit, "the slow client was never dropped"
    assert sent * len(row["text"]) < 20_000_000
    until(lambda: len(served.office.queues) == 1)
    stopped.close()


def test_a_console_is_raw_bytes_and_an_unknown_one_an_error(served: Served) -> None:
    assert b"".join(served.client().stream("/v1/servers/web-1/console")) == b"booting\r\n\x1b[0mlogin: "
    with pytest.raises(Invalid):
        list(served.client().stream("/v1/servers/web-9/console"))


def test_hundreds_of_bad_clients_do_not_affect_a_good_one(served: Served) -> None:
    noises = (b"", b"GET /v1/st", b"\x00\xff" * 50, b"POST /v1/plan HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{",
              b"POST /v1/plan HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", EVENTS)
    crowd: list[socket.socket] = []
    try:
        for number in range(400):
            try:
                crowd.append(opened(served.socket, noises[number % len(noises)]))
            except OSError:
                continue  # closed to its face, as it deserves
            if number % 50 == 0:
                assert served.client().get("/v1/status")["fleet"] == "lab"
        assert served.client().get("/v1/status")["fleet"] == "lab"
        assert served.do(lambda: served.door is not None and len(served.door.open)) <= door.MAX_OPEN
        answer = served.client().command("rollout.pause", rollout="r-0123456789abcdef")
        assert answer["ok"]
    finally:
        for sock in crowd:
            sock.close()
    until(lambda: served.door is not None and not served.door.open)


def test_a_thousand_idle_connections_leave_the_newest_served(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_OPEN", 20)
    crowd = [opened(served.socket) for _ in range(300)]
    assert served.client().get("/v1/status")["fleet"] == "lab"
    assert served.do(lambda: served.door is not None and len(served.door.open)) <= 20
    for sock in crowd:
        sock.close()


def test_a_head_that_never_ends_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HEAD_SECONDS", 0.2)
    with serving() as served:
        sock = opened(served.socket, b"GET /v1/status HTTP/1.1\r\nA: ")
        ticking = threading.Event()

        def trickle() -> None:
            try:
                while not ticking.wait(0.02):
                    sock.sendall(b"T")
            except OSError:
                pass

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        try:
            assert sock.recv(10) == b""
        except ConnectionError:
            pass
        ticking.set()
        thread.join(DEADLINE)


def test_a_body_that_never_ends_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.1)
    sock = opened(served.socket, b"POST /v1/plan HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert b" 408 " in sock.recv(4096).splitlines()[0]
    sock.close()


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault_of_anew(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        opened(served.socket, b"POST /v1/plan HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").close()
    until(lambda: served.door is not None and not served.door.open)
    assert served.client().get("/v1/status")["fleet"] == "lab"
    assert not [record.getMessage() for record in caplog.records if record.name == "anew.api" and record.levelname == "ERROR"]


def test_a_client_that_leaves_in_the_middle_is_forgotten(served: Served) -> None:
    for _ in range(20):
        opened(served.socket, EVENTS).close()
    until(lambda: not served.office.queues and served.door is not None and not served.door.open)
    assert served.client().get("/v1/status")["fleet"] == "lab"
