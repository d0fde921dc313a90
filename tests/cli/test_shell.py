"""`anew shell SERVER`: asked first, journalled, by the system's ssh with the pinned host key; and what the daemon says of the way is judged."""

from __future__ import annotations

import json
import os
import pwd
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from drivers.identity import IdentityStore
from fleet.api.shell import NoShell, Shell
from tests.cli.running import at_terminal, call, run
from tests.metal.sshd import Sshd, certify, key, sshd
from tests.wire.running import Served

Capture = pytest.CaptureFixture[str]
ME = pwd.getpwuid(os.getuid()).pw_name
PIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
WAY: dict[str, Any] = {"host": "127.0.0.1", "port": 22, "user": "root", "pins": [PIN], "authorities": [], "key": "", "sole": False, "jump": None}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Sshd]:
    """It says which machine it is, and ends as a shell might."""
    with sshd(tmp_path / "host", IdentityStore(str(tmp_path / "keys")), more="ForceCommand echo this is web-1; exit 3") as server:
        yield server


def told(served: Served, server: Sshd, **other: Any) -> None:
    """Have the daemon tell the way to this server."""
    way = {**WAY, "port": server.port, "user": ME, "pins": [server.host_key], "key": str(server.folder.parent / "keys" / "client"), "sole": True, **other}
    served.office.told["shell.open"] = {"message": "web-1 is tainted now, and due for replacement", "shell": way}


def test_asked_journalled_logged_in_and_its_end_told(served: Served, host: Sshd) -> None:
    told(served, host)
    code, shown = at_terminal(served, "y\n", "shell", "web-1")
    assert code == 0, shown
    for words in ("A shell on web-1 taints it", "type y:", "web-1 is tainted now", "this is web-1", "The shell on web-1 ended with exit status 3."):
        assert words in shown
        shown = shown[shown.index(words):]
    assert [(row["command"], row["server"], row.get("text", "")) for row in served.office.commands] == [
        ("shell.open", "web-1", ""), ("shell.ended", "web-1", "The shell on web-1 ended with exit status 3.")]


def test_no_is_no(served: Served, host: Sshd) -> None:
    told(served, host)
    code, _ = at_terminal(served, "n\n", "shell", "web-1")
    assert (code, served.office.commands) == (5, [])
    assert "Accepted" not in host.log()


def test_another_host_key_is_not_spoken_to(served: Served, host: Sshd) -> None:
    told(served, host, pins=[PIN])
    code, shown = at_terminal(served, "", "shell", "web-1", "--yes", prompt="")
    assert code == 1
    assert "web-1 showed another host key than the pinned one: nobody was logged in." in shown
    assert "Accepted" not in host.log()
    assert served.office.commands[-1]["command"] == "shell.ended"


def test_a_host_certificate_of_the_pinned_authority_will_do(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "host"
    folder.mkdir()
    key(folder, "host")
    with ExitStack() as ends:
        authority = certify(folder, "ca", "127.0.0.1")
        server = ends.enter_context(sshd(folder, IdentityStore(str(tmp_path / "keys")), more="ForceCommand exit 0"))
        told(served, server, pins=[], authorities=[authority])
        code, shown = at_terminal(served, "", "shell", "web-1", "--yes", prompt="")
        assert code == 0, shown


def test_a_key_that_is_not_let_in_is_a_sentence(served: Served, host: Sshd, tmp_path: Path) -> None:
    key(tmp_path, "stranger")
    told(served, host, key=str(tmp_path / "stranger"))
    code, shown = at_terminal(served, "", "shell", "web-1", "--yes", prompt="")
    assert code == 1
    assert f"web-1 refused the login: none of your keys opens {ME}@127.0.0.1:{host.port}." in shown


def test_its_end_as_data(served: Served, host: Sshd) -> None:
    told(served, host)
    code, shown = at_terminal(served, "", "shell", "web-1", "--yes", "--json", prompt="")
    assert code == 0
    assert json.loads(shown[shown.index("{"):]) == {"server": "web-1", "how": "The shell on web-1 ended with exit status 3.", "failed": False}


def test_without_a_terminal_nothing_is_asked_and_nothing_tainted(served: Served) -> None:
    ended = run(served, "shell", "web-1", "--yes")
    assert (ended.code, served.office.commands) == (2, [])
    assert "a shell needs a terminal" in ended.err


def test_without_ssh_nothing_is_tainted(served: Served) -> None:
    code, shown = at_terminal(served, "", "shell", "web-1", "--yes", prompt="", PATH="/nonexistent")
    assert code == 5
    assert "install OpenSSH's client (apt install openssh-client)" in shown
    assert served.office.commands == []


@pytest.mark.parametrize("wrong", [
    {"host": "-oProxyCommand=touch /tmp/x"}, {"host": "a b"}, {"host": "$(id)"}, {"host": "x\nProxyCommand id"}, {"host": ""}, {"host": 7}, {"host": "%h"},
    {"user": "-l"}, {"user": "root\nPort 1"}, {"user": "a;b"}, {"user": None}, {"port": 0}, {"port": 70000}, {"port": True}, {"port": "22"},
    {"pins": ["ssh-ed25519 AAAA\n* ssh-rsa AAAA"]}, {"pins": "x"}, {"pins": [7]}, {"authorities": [f"@revoked {PIN}"]}, {"pins": []},
    {"jump": "rack1"}, {"jump": {**WAY, "host": "-x"}}, {"jump": {**WAY, "pins": []}},
])
def test_what_ssh_could_misunderstand_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(NoShell):
        Shell("web-1", {**WAY, **wrong})


def test_a_way_without_end_is_refused() -> None:
    way = dict(WAY)
    way["jump"] = way
    with pytest.raises(NoShell):
        Shell("web-1", way)


@pytest.mark.parametrize("path", ["/etc/shadow\nProxyCommand id", '/x" y', "relative", "~/.ssh/id", "/%h", 7])
def test_a_key_file_of_an_odd_name_is_not_offered(path: object) -> None:
    assert Shell("web-1", {**WAY, "key": path, "sole": True})._hops[0].identities == []


def test_a_key_file_below_a_home_of_any_language_is_told_to_ssh(served: Served, host: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "józef" / "id"
    path.parent.mkdir()
    path.write_bytes((tmp_path / "keys" / "client").read_bytes())
    path.chmod(0o600)
    told(served, host, key=str(path))
    code, shown = at_terminal(served, "y\n", "shell", "web-1")
    assert code == 0 and "ended with exit status 3" in shown, shown


def test_a_daemons_key_is_no_file_of_another_machine(served: Served, host: Sshd, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """With --on, what lies here under the name of the daemon's key is another key: alone, it would open nothing."""
    told(served, host)
    key = str(host.folder.parent / "keys" / "client")
    near, away = Shell("web-1", {**WAY, "key": key, "sole": True})._hops[0], Shell("web-1", {**WAY, "key": key, "sole": True}, away=True)._hops[0]
    assert (near.identities, near.sole) == ([key], True)
    assert (away.identities, away.sole) == ([], False), "ssh offers the person's own keys and agent"

    asked: list[bool] = []

    def opened(server: str, way: dict[str, Any], *, away: bool) -> Shell:
        asked.append(away)
        raise NoShell("enough is seen", where=server)

    monkeypatch.setattr("fleet.registry.load_forward", lambda: lambda on, socket: SimpleNamespace(name=on, socket=served.socket, trouble=str))
    monkeypatch.setattr("fleet.cli.shell.Shell", opened)
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    assert call("--on", "control", "shell", "web-1", "--yes") == 5
    assert "enough is seen" in capsys.readouterr().err
    assert asked == [True]


def test_how_it_ended_is_known_also_where_children_were_ignored() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Shell("web-1", {**WAY, "port": 1}) as session:
            assert session.wait() == "web-1 refused the connection at root@127.0.0.1:1."
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_usage(capsys: Capture) -> None:
    assert call("shell") == 2
    assert "SERVER" in capsys.readouterr().err
