"""The client against something on the socket that is no daemon: a sentence, exit 6, never a traceback or a hang."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleet.api import client as clients
from fleet.api.client import Client, DaemonUnreachable
from fleet.core.errors import AnewError, Invalid

DEADLINE = 120.0


@contextmanager
def liar(answer: bytes, *, hold: bool = False) -> Iterator[str]:
    """A socket whose listener reads a little, sends `answer` and hangs up, or with `hold` says nothing more."""
    with tempfile.TemporaryDirectory(prefix="anew-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(folder, "a.sock")
        listener.bind(path)
        listener.listen()
        over = threading.Event()

        def lie() -> None:
            try:
                caller, _ = listener.accept()
                with caller:
                    caller.recv(65536)
                    caller.sendall(answer)
                    if hold:
                        over.wait(DEADLINE)
            except OSError:
                pass

        thread = threading.Thread(target=lie, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            over.set()
            thread.join(DEADLINE)


OK = b"HTTP/1.1 200 OK\r\n"
LIES = [
    b"", b"\x00" * 100, b"SSH-2.0-dropbear\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 200", OK, OK + b"\r\n{}", OK + b"Content-Length: x\r\n\r\n{}",
    OK + b"Content-Length: 100\r\n\r\n{}", OK + b"Content-Length: 2\r\n\r\n{", OK + b"Content-Length: 1\r\n\r\n{", OK + b"no colon\r\n\r\n",
    OK + b"A: b\r\n" * 1000 + b"\r\n", OK + b"A: " + b"b" * 100_000, OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n", OK + b"Content-Length: 3\r\n\r\n\xff\xfe\xfd",
    b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}", b"HTTP/1.1 403 No\r\nContent-Length: 11\r\n\r\n{\"error\":1}",
    b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nNot found", OK + b"Content-Length: -5\r\n\r\n{}",
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: repr(lie[:50]))
def test_what_is_no_answer_is_no_daemon(lie: bytes) -> None:
    with liar(lie) as path, pytest.raises(DaemonUnreachable) as caught:
        Client(path).get("/v1/status")
    assert caught.value.exit_code == 6
    assert caught.value.where == path


@pytest.mark.parametrize("lie", [b"", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n1\r\n\n\r\n", OK + b"Content-Length: 3\r\n\r\n[]\n"])
def test_a_stream_that_is_none_breaks_off(lie: bytes) -> None:
    with liar(lie) as path, pytest.raises(DaemonUnreachable):
        list(Client(path).lines("/v1/events", since=0))


def test_silence_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(clients, "SILENCE_SECONDS", 0.1)
    with liar(b"", hold=True) as path, pytest.raises(DaemonUnreachable, match="did not answer in time"):
        Client(path).get("/v1/status")
    near, there = socket.socketpair()
    there.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")  # it is there before anybody waits: what is measured is the silence after it

    def connected(_: Client, seconds: float) -> socket.socket:
        near.settimeout(seconds)
        return near

    monkeypatch.setattr(Client, "_connect", connected)
    with there, pytest.raises(DaemonUnreachable, match="broke off"):
        list(Client("there").lines("/v1/events"))


@pytest.mark.parametrize("name", ["a b", "a\r\nX: y", "ü", "a\x00", "\ud800"])
def test_a_name_that_would_break_the_request_is_refused(name: str) -> None:
    with liar(b"") as path, pytest.raises(Invalid):
        Client(path).get(f"/v1/servers/{name}")


def test_the_errors_of_a_daemon_keep_their_exit_code_within_bounds() -> None:
    body = b'{"error": {"code": "x", "message": "m", "where": "w", "exit_code": 999}}'
    with liar(b"HTTP/1.1 409 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)) as path, pytest.raises(AnewError) as caught:
        Client(path).get("/v1/status")
    assert (caught.value.code, caught.value.exit_code) == ("x", 1)
