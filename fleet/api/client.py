"""The synchronous client: one request a connection, over the daemon's Unix socket.

Imports nothing heavy (no typing, dataclasses, asyncio, http.client), since one-shot commands are felt.
Rules: the socket must belong to us, to root, or, in system mode, to the daemon's user; so must the process that listens
on it, as the kernel names it. Nothing is sent before both were seen.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import struct

from fleet.api.http1 import MAX_BODY, Garbled, Reply, request_bytes
from fleet.core.errors import AnewError, Invalid, Permanent, Refused, Stale, Transient

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

SYSTEM_SOCKET = "/run/anew/anew.sock"
SYSTEM_USER = "anew"
CONNECT_SECONDS = 5
ANSWER_SECONDS = 120.0
SILENCE_SECONDS = 30.0


class DaemonUnreachable(Transient):
    """No daemon answers on the socket."""

    code = "daemon-unreachable"
    exit_code = 6


def terminal_name() -> str:
    """The terminal this process sits at ("pts/3"), "" without one."""
    for stream in (0, 1, 2):
        try:
            return os.ttyname(stream).removeprefix("/dev/")
        except OSError:
            continue
    return ""


def new_request_id() -> str:
    """A fresh id for a command: repeated with it, a command has one effect."""
    return os.urandom(8).hex()


class Client:
    """Talks to one daemon. Errors of the daemon arrive as the AnewErrors they were; no daemon is DaemonUnreachable.

    `patience`: seconds of silence after which an answer is not waited for any more.
    """

    def __init__(self, socket_path: str, terminal: str = "", name: str = "", trouble: Callable[[], str] = str) -> None:
        """`name`: where the daemon is, for people, if not at the socket; `trouble`: why the way to it is cut, "" if it is not."""
        self.socket_path = socket_path
        self.name = name or socket_path
        self.terminal = terminal
        self._trouble = trouble
        self.patience = ANSWER_SECONDS

    def get(self, path: str, **query: int | str) -> Any:
        """The JSON answer of a GET."""
        return self._ask("GET", _with_query(path, query), b"")

    def text(self, path: str) -> str:
        """The answer of a GET that is text."""
        with self._open("GET", path, b"", self.patience) as (_, reply):
            try:
                return reply.whole().decode()
            except (OSError, Garbled, ValueError) as error:
                raise self._broke(error) from error

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer of a POST."""
        return self._ask("POST", path, json.dumps(body).encode())

    def command(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send a command under a fresh request id; fields that are None or "" are left out. CommandAnswer."""
        body = {key: value for key, value in fields.items() if value not in (None, "")}
        body.update(command=command, request=new_request_id())
        if self.terminal:
            body["terminal"] = self.terminal
        answer = self.post("/v1/commands", body)
        if not isinstance(answer, dict):
            raise _not_ours(self.name)
        return answer

    def stream(self, path: str, **query: int | str) -> Iterator[bytes]:
        """Bytes as they come, until the daemon ends; waits without limit for the next (a console may be silent)."""
        with self._open("GET", _with_query(path, query), b"", None) as (_, reply):
            try:
                yield from reply.pieces()
            except (OSError, Garbled):
                return

    def lines(self, path: str, **query: int | str) -> Iterator[dict[str, Any]]:
        """The frames of an event stream, until the daemon ends it. {} for a line of life.

        DaemonUnreachable if it breaks off, or is silent for SILENCE_SECONDS.
        """
        rest = b""
        with self._open("GET", _with_query(path, query), b"", SILENCE_SECONDS) as (_, reply):
            try:
                for piece in reply.pieces():
                    *lines, rest = (rest + piece).split(b"\n")
                    if len(rest) > MAX_BODY:
                        raise Garbled("a frame is absurdly long")
                    for line in lines:
                        yield _frame(line)
            except (OSError, Garbled, ValueError) as error:
                raise DaemonUnreachable(self._trouble() or "the daemon's event stream broke off", where=self.name) from error

    def daemon_pid(self) -> int:
        """The process that listens on the socket, as the kernel names it."""
        with self._connect(CONNECT_SECONDS) as sock:
            return _server_of(sock)[0]

    def _ask(self, method: str, path: str, body: bytes) -> Any:
        with self._open(method, path, body, self.patience) as (_, reply):
            try:
                return json.loads(reply.whole())
            except (OSError, Garbled, ValueError) as error:
                raise self._broke(error) from error

    def _open(self, method: str, path: str, body: bytes, seconds: float | None) -> _Exchange:
        sock = self._connect(seconds)
        try:
            sock.sendall(request_bytes(method, path, {"Anew-Terminal": self.terminal}, body))
        except OSError:
            pass  # a daemon that refuses early has answered already: read what it said
        except Garbled as error:
            sock.close()
            raise Invalid("this cannot be asked for: a name holds characters that no name has", where=path) from error
        try:
            reply = Reply(sock.makefile("rb"))
            if reply.status >= 400:
                raise _raised(reply)
        except (OSError, Garbled, ValueError) as error:
            sock.close()
            raise self._broke(error) from error
        except AnewError:
            sock.close()
            raise
        return _Exchange(sock, reply)

    def _broke(self, error: Exception) -> DaemonUnreachable:
        if trouble := self._trouble():
            return DaemonUnreachable(trouble, where=self.name)
        if isinstance(error, TimeoutError):
            return DaemonUnreachable("the daemon did not answer in time; it may be stopped or overloaded", where=self.name)
        return DaemonUnreachable(f"what listens there did not answer as anew does ({error})", where=self.name)

    def _connect(self, seconds: float | None) -> socket.socket:
        path = self.socket_path
        allowed = _owners(path)
        try:
            found = os.stat(path)
        except OSError as error:
            raise _no_daemon(path, error) from error
        if not stat.S_ISSOCK(found.st_mode):
            raise Refused("this is no socket", where=path)
        if found.st_uid not in allowed:
            raise Refused("the socket is owned by someone else, nothing was sent to it", where=path, code="socket-owner")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A socket with a Python timeout gives up at once when the backlog is full; a blocking one waits its turn.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", CONNECT_SECONDS, 0))
            sock.connect(path)
            if _server_of(sock)[1] not in allowed:
                raise Refused("someone else listens on the socket, nothing was sent to it", where=path, code="socket-owner")
            sock.settimeout(seconds)
        except OSError as error:
            sock.close()
            raise _no_daemon(path, error) from error
        except Refused:
            sock.close()
            raise
        return sock


class _Exchange:
    """An open connection and its reply; closes it on leaving."""

    def __init__(self, sock: socket.socket, reply: Reply) -> None:
        self._sock = sock
        self._reply = reply

    def __enter__(self) -> tuple[socket.socket, Reply]:
        return self._sock, self._reply

    def __exit__(self, *_: object) -> None:
        self._reply.close()
        self._sock.close()


def _with_query(path: str, query: Mapping[str, int | str]) -> str:
    """Values are numbers and ids; request_bytes refuses what no URL can hold."""
    return path + ("?" + "&".join(f"{key}={value}" for key, value in query.items()) if query else "")


def _frame(line: bytes) -> dict[str, Any]:
    frame = json.loads(line) if line else {}
    if not isinstance(frame, dict):
        raise Garbled("a frame is no object")
    return frame


def _owners(path: str) -> set[int]:
    """The users whose daemon we speak to at this path."""
    allowed = {os.getuid(), 0}
    if path == SYSTEM_SOCKET:
        import pwd

        try:
            allowed.add(pwd.getpwnam(SYSTEM_USER).pw_uid)
        except KeyError:
            pass
    return allowed


def _server_of(sock: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process that called listen()."""
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def _no_daemon(path: str, error: OSError) -> AnewError:
    if error.errno == errno.EACCES:
        return Refused("you may not speak to this daemon: the socket is closed to you", where=path, code="role")
    if isinstance(error, TimeoutError | BlockingIOError):
        return DaemonUnreachable("the daemon does not take connections; it may be stopped or overloaded", where=path)
    return DaemonUnreachable("no daemon listens there; `anew daemon run` starts one", where=path)


def _not_ours(path: str) -> AnewError:
    return DaemonUnreachable("what listens there did not answer as anew does", where=path)


def _raised(reply: Reply) -> AnewError:
    """The error that the daemon answered, as the type it was. ValueError if it has no such shape."""
    body = json.loads(reply.whole())
    try:
        found = body["error"]
        code, message, where, number = found["code"], found["message"], found["where"], found["exit_code"]
        difference = tuple(str(line) for line in found.get("difference", ()))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("an error without a body") from error
    error_: AnewError
    if difference or code == "stale-plan":
        error_ = Stale(str(message), where=str(where), difference=difference)
    elif reply.status == 503:
        error_ = Transient(str(message), where=str(where))
    elif reply.status >= 500:
        error_ = Permanent(str(message), where=str(where))
    else:
        error_ = (Invalid if number == 2 else Refused)(str(message), where=str(where))
    error_.code = str(code)
    error_.exit_code = number if isinstance(number, int) and 1 <= number <= 130 else 1
    return error_
