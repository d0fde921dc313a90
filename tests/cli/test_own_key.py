"""`anew machine key`: the one line that a person carries to a host is the key that anew then logs in with."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from drivers.identity import IdentityStore
from tests.cli.racks import Racks
from tests.cli.running import Ended, run


def anew(state: Path, *arguments: str, **more: str) -> Ended:
    return run(None, "machine", "key", *arguments, ANEW_STATE=str(state), HOME=str(state.parent), **more)


def by_ssh_keygen(private: Path) -> str:
    return subprocess.run(["ssh-keygen", "-y", "-f", str(private)], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_it_is_made_once_for_its_user_alone_and_printed_in_one_line(tmp_path: Path) -> None:
    state = tmp_path / "state" / "anew"
    first, again = anew(state), anew(state)
    private = state / "identities" / "client"
    assert (first.code, again.code) == (0, 0), first.err
    assert first.out == again.out == by_ssh_keygen(private) + " anew\n"
    assert f"it is now in {private.parent}" in first.err and again.err == ""
    assert [oct(path.stat().st_mode & 0o777) for path in (state.parent, state, private.parent, private)] == ["0o700", "0o700", "0o700", "0o600"]
    assert sorted(os.listdir(state)) == ["identities"], "and no daemon was started for it"
    assert first.out.strip() == IdentityStore(str(private.parent)).client_public(), "what the daemon logs in with"


def test_a_line_for_authorized_keys_and_all_of_it_as_data(tmp_path: Path) -> None:
    key = anew(tmp_path / "state").out.strip()
    assert anew(tmp_path / "state", "--authorized-keys").out == f'restrict,command="anew-host" {key}\n'
    (tmp_path / "key.pub").write_text(key + "\n")
    listed = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "key.pub")], capture_output=True, text=True, check=True, timeout=30).stdout.split()
    assert json.loads(anew(tmp_path / "state", "--json").out) == {
        "key": key, "fingerprint": f"ssh-ed25519 {listed[1]}", "authorized_keys": f'restrict,command="anew-host" {key}'}


def test_a_folder_that_cannot_be_and_a_key_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = anew(tmp_path / "file" / "state")
    assert ended.code == 2 and "the state folder cannot be made" in ended.err
    spoilt = tmp_path / "state" / "identities"
    spoilt.mkdir(parents=True)
    (spoilt / "client").write_text("no key")
    ended = anew(tmp_path / "state")
    assert ended.code != 0 and "this file is not an OpenSSH private key any more" in ended.err and ended.out == ""


def test_while_a_daemon_runs_it_is_the_daemon_s(tmp_path: Path) -> None:
    racks = Racks(tmp_path)
    try:
        racks.write()
        assert racks.anew("machine", "check").code == 0
        ended = anew(tmp_path / "elsewhere", ANEW_SOCKET=str(racks.state / "anew.sock"))
        assert ended.code == 0 and ended.out.strip() == IdentityStore(str(racks.state / "identities")).client_public()
        assert not (tmp_path / "elsewhere").exists()
    finally:
        racks.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_root_makes_no_key_in_the_folder_of_another_user(tmp_path: Path) -> None:
    """System mode: a key of root's in the daemon's folder could not be read by the daemon."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 65534, -1)
    ended = anew(state)
    assert ended.code == 5 and ended.out == ""
    assert "this state folder is of user nobody, and so is the key in it; as root: sudo -u nobody anew machine key" in ended.err
    assert os.listdir(state) == []
