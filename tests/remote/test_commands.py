"""`anew --on HOST COMMAND` through a real OpenSSH server: what works, and what each thing that stands in the way is told as."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import call
from tests.metal.sshd import Sshd, key, sshd
from tests.remote.far import SFTP, Far, far

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's SSH server lets several people in")
ACCESS = """
[access]
operators = ["user:man"]
observers = ["user:sys"]
"""


@pytest.fixture(scope="module")
def over_there() -> Iterator[Far]:
    with far() as made:
        yield made


@pytest.fixture(scope="module")
def server(over_there: Far) -> Iterator[Sshd]:
    with over_there.sshd() as made:
        yield made


@pytest.fixture
def control(over_there: Far, server: Sshd) -> Far:
    """As it is when all is well, and again after a test has changed something."""
    over_there.know(server, server.host_key)
    over_there.configure(server)
    return over_there


def test_commands_speak_to_the_daemon_there(control: Far) -> None:
    status = control.anew("status", "--json")
    assert status.code == 0, status.err
    assert json.loads(status.out)["fleet"] == "real"
    assert "web-2" in control.anew("status", "web").out
    held = control.anew("hold", "web-2", "--why", "disk test")
    assert held.code == 0, held.err
    assert next(server for server in control.home.pool()["servers"] if server["name"] == "web-2")["held"]
    event = next(event for event in reversed(control.home.events()) if event["type"] == "server-held")
    assert re.fullmatch(r"root@ssh:[A-Za-z0-9_-]+", event["actor"]), "who, and that it came from elsewhere; not a terminal of that machine"
    plan = control.anew("plan", "web", "--to", "1", "--json")
    assert plan.code == 0 and json.loads(plan.out)["pool"] == "web"
    assert "server-held" in control.anew("journal", "show", "--json").out
    assert "anew_servers_wanted" in control.anew("metrics").out
    assert "a daemon runs" in control.anew("daemon", "status").out
    assert control.anew("info", "--json").code == 0


def test_files_are_written_here(control: Far, tmp_path: Path) -> None:
    assert control.anew("journal", "export", str(tmp_path / "journal.jsonl")).code == 0
    assert "settings-loaded" in (tmp_path / "journal.jsonl").read_text()


@pytest.mark.parametrize(("arguments", "said"), [
    (("daemon", "stop"), "is about this machine"), (("daemon", "run"), "is about this machine"), (("demo",), "is about this machine"), (("web",), "is about this machine"),
    (("lab", "up"), "is about this machine"), (("machine", "key"), "is about this machine"), (("machine", "add", "a", "b"), "is about this machine"),
    (("completion", "bash"), "is about this machine"), (("--fleet", "x.toml", "status"), "keeps the fleet file that it was started with"),
    (("image", "add", "web/2"), "a folder on the other machine: write its whole path"), (("--socket", "s", "status"), "a socket on the other machine"),
])
def test_what_is_of_this_machine_is_refused(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    assert call("--on", "nowhere.invalid", *arguments) in (2, 5)
    assert said in capsys.readouterr().err


def test_nobody_answers_at_a_port(control: Far) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and it does not listen
        done = control.anew("status", on=f"root@127.0.0.1:{taken.getsockname()[1]}")
    assert done.code == 6 and "connection refused" in done.err


@pytest.mark.parametrize("on", ["-oProxyCommand=id", "a b", "x;id", "host:70000", "host:0", "@host", "a@-b", "::1", "$(id)@host", "a%h@b"])
def test_what_is_no_destination(capsys: pytest.CaptureFixture[str], on: str) -> None:
    assert call(f"--on={on}", "status") == 2
    assert "write it as [USER@]HOST[:PORT]" in capsys.readouterr().err


def test_an_empty_name_is_not_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--on", "", "status") == 2
    assert "--on names no machine" in capsys.readouterr().err


def test_an_unknown_host_key_is_shown_and_not_trusted(control: Far, server: Sshd) -> None:
    (control.person / "known").unlink()
    logins = server.log().count("Accepted publickey")
    done = control.anew("status", "--json")
    assert done.code == 5 and json.loads(done.out)["error"]["code"] == "host-key-unknown"
    assert "SHA256:" in done.err and "is not known here" in done.err and "ssh control" in done.err
    assert not (control.person / "known").exists(), "nothing is written"
    assert server.log().count("Accepted publickey") == logins


def test_strict_checking_cannot_be_configured_away(control: Far, server: Sshd) -> None:
    control.configure(server, more="StrictHostKeyChecking no\nUserKnownHostsFile none\n")
    done = control.anew("status")
    assert done.code == 5 and "is not known here" in done.err


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_changed_host_key_ends_it(control: Far, server: Sshd, tmp_path: Path, kind: str) -> None:
    control.know(server, key(tmp_path, "old", kind))
    logins = server.log().count("Accepted publickey")
    done = control.anew("status")
    assert done.code == 5 and "has CHANGED" in done.err and done.err.count("SHA256:") == 2 and f"[127.0.0.1]:{server.port}" in done.err
    assert server.log().count("Accepted publickey") == logins


def test_a_revoked_host_key_ends_it(control: Far, server: Sshd) -> None:
    with (control.person / "known").open("a") as known:
        known.write(f"@revoked * {server.host_key}\n")
    done = control.anew("status")
    assert done.code == 5 and "revoked" in done.err


def test_a_line_of_known_hosts_that_cannot_be_read_is_passed_over(control: Far, server: Sshd) -> None:
    known = control.person / "known"
    known.write_text(f"@what is this\nnonsense\n{known.read_text()}")
    assert control.anew("status").code == 0


def test_a_key_that_is_not_accepted(control: Far, server: Sshd) -> None:
    if not (control.person / "other").exists():
        key(control.person, "other")
    control.configure(server, identity="other")
    done = control.anew("status")
    assert done.code == 5 and "accepts none of your keys for user root" in done.err and "ssh-copy-id control" in done.err


def test_a_locked_key_is_the_agents_business(control: Far, server: Sshd) -> None:
    locked = control.person / "locked"
    locked.write_bytes((control.person / "mine").read_bytes())
    locked.chmod(0o600)
    (control.person / "locked.pub").write_bytes((control.person / "mine.pub").read_bytes())
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "sesame", "-f", str(locked)], check=True, timeout=60)
    control.configure(server, identity="locked")
    done = control.anew("status")
    assert done.code == 5 and f"{locked} is locked by a passphrase: `ssh-add {locked}` first" in done.err

    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(control.person / "agent")], stdout=subprocess.DEVNULL)
    try:
        while not (control.person / "agent").exists():
            assert agent.poll() is None
        subprocess.run(["ssh-add", "-q", str(control.person / "mine")], env={**os.environ, "SSH_AUTH_SOCK": str(control.person / "agent")}, check=True, timeout=60)
        control.configure(server, identity="locked", agent=str(control.person / "agent"))
        assert control.anew("status").code == 0, "the agent has it"
    finally:
        agent.terminate()
        agent.wait(60)


def test_a_way_through_a_jump_host(control: Far, server: Sshd) -> None:
    control.configure(server, more="Host inner\n  User root\n  ProxyJump control\n")
    logins = server.log().count("Accepted publickey")
    assert control.anew("status", on="inner").code == 0
    assert server.log().count("Accepted publickey") == logins + 2
    control.configure(server, more="Host control\n  ProxyJump inner\nHost inner\n  ProxyJump control\n")
    done = control.anew("status", on="inner")
    assert done.code == 2 and "does not end" in done.err


def test_a_proxy_command(control: Far, server: Sshd) -> None:
    relay = control.person / "relay"
    relay.write_text("import os, socket, sys, threading\n"
                     "there = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
                     "def back():\n    while piece := there.recv(65536): os.write(1, piece)\n    os._exit(0)\n"
                     "threading.Thread(target=back).start()\n"
                     "while piece := os.read(0, 65536): there.sendall(piece)\n"
                     "os._exit(0)\n")
    control.configure(server, more=f"Host control\n  ProxyCommand /usr/bin/env python3 {relay} %h %p\n")
    done = control.anew("status")
    assert done.code == 0, done.err


@pytest.mark.parametrize(("place", "said"), [
    ("", "there is no socket at /run/anew/anew.sock, /run/user/"), ("nowhere", "no daemon listens there: there is no socket at "),
    ("fleet.toml", "this is no socket"), ("left", "a killed daemon left the socket behind"), ("strange", "the socket is owned by someone else"),
])
def test_no_daemon_there(control: Far, place: str, said: str) -> None:
    if place == "" and os.path.exists("/run/anew/anew.sock"):
        pytest.skip("a daemon of the system runs on this machine")
    path = control.folder / place
    if place in ("left", "strange") and not path.exists():
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        if place == "strange":
            os.chown(path, 7, 7)
    done = control.anew("status", socket=str(path) if place else "")
    assert done.code in (5, 6) and said in done.err, done.err


def test_sshd_that_may_not_forward(control: Far) -> None:
    with sshd(control.folder / "closed", None, more=f"{SFTP}\nAllowStreamLocalForwarding no", authorized=f"{control.public}\n") as closed:  # type: ignore[arg-type]
        control.know(closed, closed.host_key)
        control.configure(closed)
        done = control.anew("status")
        assert done.code == 6 and "AllowStreamLocalForwarding" in done.err, done.err


def test_sshd_without_sftp(control: Far) -> None:
    with sshd(control.folder / "bare", None, authorized=f"{control.public}\n") as bare:  # type: ignore[arg-type]
        control.know(bare, bare.host_key)
        control.configure(bare)
        named, found = control.anew("status"), control.anew("status", socket="")
        assert named.code == 5 and "whose socket" in named.err and "cannot be seen" in named.err
        assert found.code == 6 and "offers no SFTP" in found.err


def test_the_daemon_goes_by_who_logged_in(control: Far) -> None:
    control.home.fleet.write_text(control.home.fleet.read_text().partition("\n[access]")[0] + ACCESS)
    assert control.anew("reload").code == 0
    for user, looks, holds, role in (("man", 0, 0, "operator"), ("sys", 0, 5, "observer"), ("lp", 5, 5, "")):
        looked = control.anew("status", "--json", on=f"{user}@control")
        held = control.anew("hold", "web-1", "--why", "mine", on=f"{user}@control", LOGNAME="root", USER="root")
        assert (looked.code, held.code) == (looks, holds), (user, looked.err, held.err)
        assert not role or [json.loads(looked.out)["you"][key] for key in ("user", "role")] == [user, role]
    assert {event["actor"].partition("@")[0] for event in control.home.events() if event["server"] == "web-1" and event["type"] == "server-held"} == {"man"}
    os.chmod(control.socket, 0o600)
    try:
        done = control.anew("status", on="man@control")
        assert done.code == 5 and "you are not in the socket's group" in done.err
    finally:
        os.chmod(control.socket, 0o666)


