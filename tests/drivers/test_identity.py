"""The identity store: keys are made once, are private, and are what OpenSSH itself reads."""

from __future__ import annotations

import base64
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drivers.identity import IdentityStore
from fleet.core.errors import Permanent, Refused


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(str(tmp_path / "identities"))


def test_a_host_key_is_made_once_and_stays(store: IdentityStore, tmp_path: Path) -> None:
    first = store.host_private("web-1")
    assert store.host_private("web-1") == first
    assert IdentityStore(str(tmp_path / "identities")).host_private("web-1") == first
    assert store.host_private("web-2") != first


def test_ssh_keygen_reads_the_key_and_agrees_on_the_public_part(store: IdentityStore) -> None:
    said = subprocess.run(
        ["ssh-keygen", "-y", "-f", store.client_private_path()], capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[:2] == store.client_public().split()[:2]
    assert store.host_public("web-1").startswith("ssh-ed25519 AAAA")


def test_only_the_owner_may_read(store: IdentityStore, tmp_path: Path) -> None:
    store.host_private("web-1")
    store.client_public()
    folder = tmp_path / "identities"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert sorted(path.name for path in folder.iterdir()) == ["client", "web-1.host"]


def test_many_makers_at_once_agree_on_one_key(store: IdentityStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: store.host_private("web-1"), range(16)))
    assert len(keys) == 1


@pytest.mark.parametrize("name", ["../web", "Web", "web/1", "", "-web", "web\n", "w" * 64, "web.host"])
def test_a_name_that_could_leave_the_folder_is_refused(store: IdentityStore, name: str) -> None:
    with pytest.raises(Refused):
        store.host_private(name)


def test_seed_lines_carry_what_the_guest_needs(store: IdentityStore) -> None:
    fields = dict(
        line.split("=", 1) for line in store.seed_lines("web-1", "web-1.2", ["ssh-rsa AAAA me"]).splitlines()
    )
    assert fields["hostname"] == "web-1" and fields["instance-id"] == "web-1.2"
    assert base64.b64decode(fields["host-key"]).decode() == store.host_private("web-1")
    assert base64.b64decode(fields["authorized-keys"]).decode().splitlines() == [
        store.client_public(),
        "ssh-rsa AAAA me",
    ]


def test_a_key_with_a_line_break_cannot_smuggle_a_second_one(store: IdentityStore) -> None:
    with pytest.raises(Refused):
        store.authorized_keys(["ssh-rsa AAAA me\nssh-rsa BBBB you"])


def test_a_spoiled_key_file_is_named(store: IdentityStore, tmp_path: Path) -> None:
    store.host_private("web-1")
    (tmp_path / "identities" / "web-1.host").write_text("no key")
    with pytest.raises(Permanent, match=r"web-1\.host"):
        store.host_public("web-1")
