"""The socket's path: who may take it, what is removed, what is left alone; and where clients look for it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

from fleet.api import places, start
from fleet.api.client import Client, DaemonUnreachable
from fleet.api.sockets import listening
from fleet.core.errors import Invalid, Refused
from tests.wire.running import serving


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="anew-") as folder:
        yield folder


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in list(os.environ):
        if key.startswith(("ANEW_", "XDG_")):
            monkeypatch.delenv(key)


def test_folder_and_socket_are_closed_to_others_and_gone_afterwards(folder: str) -> None:
    path = os.path.join(folder, "run", "user", "anew.sock")
    with listening(path):
        assert stat.S_IMODE(os.stat(os.path.join(folder, "run")).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert not os.path.exists(path)


def test_system_mode_opens_the_socket_to_a_group(folder: str) -> None:
    import grp

    group = grp.getgrgid(os.getgid()).gr_name
    path = os.path.join(folder, "anew.sock")
    with listening(path, group=group):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    with pytest.raises(Invalid, match="no-such-group"), listening(path, group="no-such-group"):
        pass
    assert not os.path.exists(path)


def test_a_second_daemon_is_refused_and_does_no_harm() -> None:
    with serving() as served:
        with pytest.raises(Refused, match="a daemon already listens"), listening(served.socket):
            pass
        os.unlink(served.socket + ".lock")
        with pytest.raises(Refused, match="a daemon already listens"), listening(served.socket):
            pass
        assert served.client().get("/v1/status")["fleet"] == "lab"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another group")
def test_a_group_reaches_the_socket_that_is_made_for_it_or_the_log_says_why_not(folder: str, caplog: pytest.LogCaptureFixture) -> None:
    path = os.path.join(folder, "anew", "anew.sock")
    reach = ["setpriv", "--reuid=1", "--regid=1", "--groups=nogroup", "test", "-w", path]
    os.chmod(folder, 0o755)
    with listening(path, group="nogroup"):
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o750
        assert subprocess.run(reach, check=False).returncode == 0
        assert subprocess.run([word.replace("nogroup", "mail") for word in reach], check=False).returncode == 1
    assert not caplog.records
    os.chmod(os.path.dirname(path), 0o700)
    with listening(path, group="nogroup"):
        assert subprocess.run(reach, check=False).returncode == 1
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700, "it was there before: somebody's decision"
        assert f"group nogroup cannot reach the socket {path}: the folder {os.path.dirname(path)} is closed to it" in caplog.text


def test_the_socket_of_a_killed_daemon_is_replaced(folder: str) -> None:
    path = os.path.join(folder, "anew.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with listening(path):
        assert os.path.exists(path)


def test_what_is_no_socket_is_left_alone(folder: str) -> None:
    path = os.path.join(folder, "anew.sock")
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(Refused, match="no socket"), listening(path):
        pass
    with open(path) as file:
        assert file.read() == "precious"
    with pytest.raises(Refused, match="no socket"):
        Client(path).get("/v1/status")


def test_a_folder_that_others_can_write_is_refused(folder: str) -> None:
    os.chmod(folder, 0o777)
    with pytest.raises(Refused, match="chmod 700"), listening(os.path.join(folder, "anew.sock")):
        pass


def test_a_path_that_is_too_long_is_said_so(folder: str) -> None:
    with pytest.raises(Invalid, match="at most 107 bytes"), listening(os.path.join(folder, "x" * 120)):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_paths_of_someone_else_are_refused(folder: str) -> None:
    path = os.path.join(folder, "anew.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    os.chown(path, 65534, 65534)
    with pytest.raises(Refused, match="owned by someone else"), listening(path):
        pass
    os.chown(folder, 65534, 65534)
    with pytest.raises(Refused, match="belongs to someone else"), listening(path):
        pass
    os.chown(folder, 0, 0)


def test_where_clients_look(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    system = os.path.join(folder, "system.sock")
    assert places.find_socket(None, system) == ("/home/ada/.local/state/anew/anew.sock", "default")
    open(system, "w").close()
    assert places.find_socket(None, system) == (system, "system")
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    os.makedirs(os.path.join(folder, "anew"))
    open(os.path.join(folder, "anew", "anew.sock"), "w").close()
    assert places.find_socket(None, system) == (os.path.join(folder, "anew", "anew.sock"), "XDG_RUNTIME_DIR")
    monkeypatch.setenv("ANEW_STATE", "/srv/anew")
    assert places.find_socket(None, system) == ("/srv/anew/anew.sock", "ANEW_STATE")
    monkeypatch.setenv("ANEW_SOCKET", "/run/a.sock")
    assert places.find_socket(None, system) == ("/run/a.sock", "ANEW_SOCKET")
    assert places.find_socket("/tmp/b.sock", system) == ("/tmp/b.sock", "--socket")


def test_where_the_fleet_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr(places, "SYSTEM_FLEET", "/nowhere")
    assert places.find_fleet() == ("/home/ada/.config/anew/fleet.toml", "default")
    monkeypatch.setenv("ANEW_FLEET", "/srv/fleet.toml")
    assert places.find_fleet() == ("/srv/fleet.toml", "ANEW_FLEET")
    assert places.find_fleet("/x.toml") == ("/x.toml", "--fleet")


def test_no_start_starts_nothing(folder: str) -> None:
    with pytest.raises(DaemonUnreachable, match="--no-start") as caught:
        start.ensure_daemon(os.path.join(folder, "a.sock"), "/x.toml", folder, no_start=True)
    assert caught.value.exit_code == 6
    assert os.listdir(folder) == []


def test_no_fleet_file_is_said_before_anything_is_made(folder: str) -> None:
    with pytest.raises(Invalid, match="ANEW_FLEET"):
        start.ensure_daemon(os.path.join(folder, "a.sock"), os.path.join(folder, "fleet.toml"), folder)
    assert os.listdir(folder) == []


DAEMON = """
import os, socket, sys, time
path = sys.argv[1]
if path == "broken":
    sys.exit(print("fleet.toml:3: pools.web.servers: must be a number", file=sys.stderr) or 2)
if path == "dies":
    sys.exit(print("out of luck", file=sys.stderr) or 7)
if path == "hangs":
    print("thinking", flush=True); time.sleep(60)
if os.fork(): time.sleep(60)
"""


def time_passes_once_it_said(patch: pytest.MonkeyPatch, words: str, log: str) -> None:
    """The clock of who waits stands still until then, however long a process takes to start."""
    now = [0.0]

    def rest(seconds: float) -> None:
        with open(log) as file:
            now[0] += seconds if words in file.read() else 0.0
        os.sched_yield()

    patch.setattr(time, "monotonic", lambda: now[0])
    patch.setattr(time, "sleep", rest)


def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Those that are started from now on."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(*args: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(real(*args, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    return started


@pytest.mark.parametrize(("how", "said", "exit_code"), [
    ("broken", "fleet.toml:3: pools.web.servers: must be a number", 2), ("dies", "out of luck", 6), ("hangs", "thinking", 6)])
def test_a_daemon_that_does_not_come_up_is_quoted(
    folder: str, monkeypatch: pytest.MonkeyPatch, how: str, said: str, exit_code: int
) -> None:
    started = processes(monkeypatch)
    if how == "hangs":
        time_passes_once_it_said(monkeypatch, "thinking", os.path.join(folder, "daemon.log"))
    monkeypatch.setattr(start, "daemon_command", lambda *_: [sys.executable, "-c", DAEMON, how])
    fleet = os.path.join(folder, "fleet.toml")
    open(fleet, "w").close()
    with pytest.raises((Invalid, DaemonUnreachable)) as caught:
        start.ensure_daemon(os.path.join(folder, "a.sock"), fleet, folder)
    for one in started:
        one.kill()
        one.wait()
    assert said in caught.value.message
    assert caught.value.exit_code == exit_code


def test_where_another_client_s_daemon_is_quicker_ours_ends(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Still on its way, it would take that one's place when somebody stops it, and nobody would know why a daemon runs."""
    started = processes(monkeypatch)
    monkeypatch.setattr(start, "daemon_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(600)"])
    fleet = os.path.join(folder, "fleet.toml")
    open(fleet, "w").close()
    with serving() as served:
        looks = iter([False])
        monkeypatch.setattr(start, "is_up", lambda _: next(looks, True))
        assert start.ensure_daemon(served.socket, fleet, folder) is True
        assert [one.wait(60) for one in started] == [-signal.SIGTERM]
        assert served.client().get("/v1/status"), "the other one serves on"


def test_a_started_daemon_outlives_its_starter_and_keeps_no_secret(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("ANEW_X", "1")
    program = ("import os,socket,sys\ns=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])\n"
               "print(os.getsid(0)==os.getpid(), sorted(k for k in os.environ if 'SECRET' in k or 'ANEW' in k), flush=True)\n"
               "s.settimeout(120); s.listen(); s.accept(); s.accept()")
    monkeypatch.setattr(start, "daemon_command", lambda fleet, sock, state: [sys.executable, "-c", program, sock])
    path, fleet = os.path.join(folder, "a.sock"), os.path.join(folder, "fleet.toml")
    open(fleet, "w").close()
    assert start.ensure_daemon(path, fleet, folder) is True
    with open(os.path.join(folder, "daemon.log")) as log:
        assert log.read() == "True ['ANEW_X']\n"
    Client(path).daemon_pid()  # the second connection ends it
