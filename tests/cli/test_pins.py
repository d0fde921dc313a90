"""`anew machine add` and `pin` against real OpenSSH servers: what is shown, what is refused, what the fleet file is afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.identity import IdentityStore
from fleet.settings import load
from tests.cli.running import DEADLINE, Ended, at_terminal, environment, run
from tests.metal.sshd import Sshd, key, sshd

FLEET = """\
# our fleet -- mind the order
[fleet]
name = "small" # of the lab

[images.app]
simulated = ["1"]

[pools.app]   # simulated
driver = "sim"
servers = 1
image = 'app'
"""


class Desk:
    """Where a person sits: a fleet file, a state folder, and nothing that runs."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "fleet" / "fleet.toml"
        self.file.parent.mkdir()
        self.file.write_text(FLEET)
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)

    @property
    def where(self) -> dict[str, str]:
        return {"ANEW_FLEET": str(self.file), "ANEW_STATE": str(self.state), "HOME": str(self.state)}

    def anew(self, *arguments: str) -> Ended:
        return run(None, *arguments, **self.where)

    def typing(self, typed: str, *arguments: str, **prompt: str) -> tuple[int, str]:
        return at_terminal(None, typed, *arguments, **prompt, **self.where)

    def untouched(self, text: str = FLEET) -> bool:
        return self.file.read_text() == text and os.listdir(self.file.parent) == ["fleet.toml"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def store(desk: Desk) -> IdentityStore:
    return IdentityStore(str(desk.state / "identities"))


@pytest.fixture
def host(tmp_path: Path, store: IdentityStore) -> Iterator[Sshd]:
    with sshd(tmp_path / "host", store) as host:
        yield host


def by_ssh_keygen(host: Sshd) -> str:
    """SHA256:… of the host's key, as its console would say it."""
    told = subprocess.run(["ssh-keygen", "-lf", str(host.folder / "host.pub")], capture_output=True, text=True, check=True, timeout=30).stdout
    return told.split()[1]


def machine_of(host: Sshd, name: str = "rack1") -> str:
    return f'\n[machines.{name}]\naddress = "127.0.0.1"\nport = {host.port}\nhost_key = "{host.host_key}"\n'


def test_the_fingerprint_shown_is_the_machine_s_and_its_name_pins_it(desk: Desk, host: Sshd) -> None:
    code, shown = desk.typing("rack1\n", "machine", "add", "rack1", "127.0.0.1", "--port", str(host.port))
    assert code == 0, shown
    assert f"ssh-ed25519 {by_ssh_keygen(host)}" in shown and "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in shown
    assert desk.file.read_text() == FLEET + machine_of(host)
    assert load(str(desk.file)).machines["rack1"].host_key == host.host_key
    assert "no daemon runs; the next one reads it" in shown
    log = host.log()
    assert "Connection from 127.0.0.1" in log
    assert "Accepted" not in log and "Failed" not in log and "userauth" not in log, "it only looked at the key"


@pytest.mark.parametrize("typed", ["\n", "y\n", "rack2\n", "yes\n"])
def test_any_other_answer_trusts_nothing(desk: Desk, host: Sshd, typed: str) -> None:
    code, shown = desk.typing(typed, "machine", "add", "rack1", "127.0.0.1", "--port", str(host.port))
    assert code == 5 and "not confirmed, nothing was changed" in shown and desk.untouched()


def test_without_a_terminal_only_a_fingerprint_can_answer(desk: Desk, host: Sshd) -> None:
    asked = ("machine", "add", "rack1", "127.0.0.1", "--port", str(host.port))
    ended = desk.anew(*asked)
    assert ended.code == 2 and "--fingerprint SHA256:… compares with what you know from elsewhere" in ended.err and desk.untouched()
    assert desk.anew(*asked, "--yes").code == 2, "there is no --yes for trust"
    wrong = "SHA256:" + "A" * 43
    ended = desk.anew(*asked, "--fingerprint", wrong)
    assert ended.code == 5 and desk.untouched()
    assert f"the host shows its ssh-ed25519 key with {by_ssh_keygen(host)}, not {wrong}; nothing was written" in ended.err
    for no_fingerprint in ("", "MD5:aa:bb", wrong[:-1]):
        ended = desk.anew(*asked, "--fingerprint", no_fingerprint)
        assert ended.code == 2 and "write it as `ssh-keygen -lf` prints it" in ended.err
    ended = desk.anew(*asked, "--fingerprint", by_ssh_keygen(host), "--json")
    assert ended.code == 0 and f'"fingerprint": "ssh-ed25519 {by_ssh_keygen(host)}"' in ended.out
    assert desk.file.read_text() == FLEET + machine_of(host)


def test_all_that_can_be_told_of_a_machine_is_written(desk: Desk, host: Sshd) -> None:
    desk.file.write_text(FLEET + '[machines.gate]\naddress = "gate"\n')
    ended = desk.anew("machine", "add", "rack1", "127.0.0.1", "--port", str(host.port), "--user", "anew", "--key", "keys/rack1", "--disk", "WD-1",
                      "--console", "/var/log/rack1", "--fingerprint", by_ssh_keygen(host))
    assert ended.code == 0, ended.err
    made = load(str(desk.file)).machines["rack1"]
    assert (made.user, made.disk, made.console, made.key) == ("anew", "WD-1", "/var/log/rack1", os.path.abspath("keys/rack1"))


@pytest.mark.parametrize(("arguments", "words"), [
    (("Rack1", "127.0.0.1"), 'found "Rack1", allowed a name of a-z, 0-9 and inner dashes'),
    (("rack1", "root@host"), 'address: found "root@host", allowed a host name'), (("rack1", "127.0.0.1", "--port", "99999"), "port: found 99999"),
    (("rack1", "127.0.0.1", "--disk", "/dev/sda"), "a disk's serial number"),
    (("rack1", "127.0.0.1", "--jump", "gate"), "machine gate is not in the fleet file"), (("rack1", "127.0.0.1", "--port", "1"), "no SSH connection: connection refused"),
])
def test_what_cannot_be_is_told_and_nothing_is_changed(desk: Desk, arguments: tuple[str, ...], words: str) -> None:
    ended = desk.anew("machine", "add", *arguments, "--fingerprint", "SHA256:" + "A" * 43)
    assert ended.code != 0 and desk.untouched()
    assert words in ended.err
    assert "Traceback" not in ended.err and "fault" not in ended.err


def test_a_fingerprint_is_compared_also_with_a_key_that_is_pinned_already(desk: Desk, host: Sshd) -> None:
    """Who knows another fingerprint from elsewhere must not be told that all is well."""
    desk.file.write_text(FLEET + machine_of(host))
    wrong = "SHA256:" + "A" * 43
    ended = desk.anew("machine", "pin", "rack1", "--fingerprint", wrong)
    assert ended.code == 5 and f"the host shows its ssh-ed25519 key with {by_ssh_keygen(host)}, not {wrong}; nothing was written" in ended.err
    ended = desk.anew("machine", "pin", "rack1", "--fingerprint", by_ssh_keygen(host))
    assert ended.code == 0 and "rack1 shows the key that is pinned; nothing was changed" in ended.out
    assert desk.untouched(FLEET + machine_of(host))


def test_a_name_that_is_taken_and_a_file_that_is_none(desk: Desk, host: Sshd) -> None:
    text = FLEET + machine_of(host)
    desk.file.write_text(text)
    ended = desk.anew("machine", "add", "rack1", "127.0.0.1", "--fingerprint", by_ssh_keygen(host))
    assert ended.code == 5 and "there is a machine rack1 in this file already; `anew machine pin rack1`" in ended.err and desk.untouched(text)
    ended = desk.anew("machine", "pin", "rack2")
    assert ended.code == 2 and "there is no machine rack2 in this file; `anew machine add rack2 ADDRESS`" in ended.err
    desk.file.write_text("[fleet\n")
    ended = desk.anew("machine", "add", "rack2", "127.0.0.1")
    assert ended.code == 2 and "this is not TOML" in ended.err
    desk.file.unlink()
    ended = desk.anew("machine", "add", "rack2", "127.0.0.1")
    assert ended.code == 5 and "name one with --fleet FILE" in ended.err


def test_a_pin_exchanges_one_line_after_both_keys_were_shown(desk: Desk, host: Sshd, tmp_path: Path) -> None:
    older = key(tmp_path, "older")
    text = FLEET.replace("[images.app]", f'[machines.rack1]\naddress = "127.0.0.1" # here\nport = {host.port}\nhost_key = "{older}" # since May\n\n[images.app]')
    desk.file.write_text(text)
    code, shown = desk.typing("no\n", "machine", "pin", "rack1")
    assert code == 5 and desk.untouched(text)
    assert "The host shows ANOTHER key" in shown and by_ssh_keygen(host) in shown
    old = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "older.pub")], capture_output=True, text=True, check=True, timeout=30).stdout.split()[1]
    assert f"pinned until now: ssh-ed25519 {old}" in shown
    code, shown = desk.typing("rack1\n", "machine", "pin", "rack1")
    assert code == 0, shown
    assert desk.untouched(text.replace(older, host.host_key))
    ended = desk.anew("machine", "pin", "rack1")
    assert ended.code == 0 and "rack1 shows the key that is pinned; nothing was changed" in ended.out


def test_a_machine_without_a_pin_gets_one_in_its_table_only(desk: Desk, host: Sshd) -> None:
    table = f'[machines.rack1]\naddress = "127.0.0.1" # here\nport = {host.port}\n'
    desk.file.write_text(table + FLEET)
    ended = desk.anew("machine", "pin", "rack1", "--fingerprint", by_ssh_keygen(host))
    assert ended.code == 0, ended.err
    assert desk.untouched(table.replace("# here\n", f'# here\nhost_key = "{host.host_key}"\n') + FLEET)


def test_a_crash_before_the_rename_leaves_the_old_file(desk: Desk, host: Sshd) -> None:
    program = "import os, sys; os.rename = lambda *_: os._exit(9); from fleet.cli.main import main; sys.exit(main())"
    asked = ["machine", "add", "rack1", "127.0.0.1", "--port", str(host.port), "--fingerprint", by_ssh_keygen(host)]
    done = subprocess.run([sys.executable, "-c", program, *asked], env=environment(None, **desk.where), stdin=subprocess.DEVNULL, timeout=DEADLINE, check=False)
    assert done.returncode == 9
    assert desk.file.read_text() == FLEET
    assert desk.anew(*asked).code == 0
    assert desk.file.read_text() == FLEET + machine_of(host)


def test_a_link_is_refused_before_anybody_is_asked(desk: Desk, host: Sshd) -> None:
    link = desk.state.parent / "link.toml"
    link.symlink_to(desk.file)
    ended = desk.anew("--fleet", str(link), "machine", "add", "rack1", "127.0.0.1", "--port", str(host.port), "--fingerprint", by_ssh_keygen(host))
    assert ended.code == 5 and f"replacing it would cut it off from {desk.file}" in ended.err and desk.untouched()


def test_a_machine_behind_another_is_looked_at_through_it(desk: Desk, host: Sshd, store: IdentityStore, tmp_path: Path) -> None:
    with sshd(tmp_path / "gate", store) as gate:
        desk.file.write_text(FLEET + f'[machines.gate]\naddress = "127.0.0.1"\nport = {gate.port}\nuser = "{gate.user}"\nhost_key = "{gate.host_key}"\n')
        ended = desk.anew("machine", "add", "inner", "127.0.0.1", "--port", str(host.port), "--jump", "gate", "--fingerprint", by_ssh_keygen(host))
        assert ended.code == 0, ended.err
        assert load(str(desk.file)).machines["inner"].jump == "gate"
        assert "Accepted publickey" in gate.log() and "Accepted" not in host.log()


def test_a_daemon_that_keeps_the_file_reads_it(desk: Desk, host: Sshd) -> None:
    try:
        assert desk.anew("status").code == 0
        ended = desk.anew("machine", "add", "rack1", "127.0.0.1", "--port", str(host.port), "--fingerprint", by_ssh_keygen(host))
        assert ended.code == 0 and "settings loaded: 1 pools" in ended.out
        listed = desk.anew("machine", "list")
        assert f"127.0.0.1:{host.port}" in listed.out and by_ssh_keygen(host)[7:15] + "…" in listed.out
        assert max(len(line) for line in listed.out.splitlines()) <= 80
    finally:
        desk.anew("daemon", "stop")
