"""What a host that was taken over, or never was ours, can do to anew and to its neighbours: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.openssh import ANSWER
from drivers.baremetal import facts, protocol, sight
from drivers.baremetal.child import OpenSsh
from drivers.identity import IdentityStore
from drivers.remotes import Remote
from drivers.ssh import SshSessions
from fleet.core.desired import Machine
from fleet.core.errors import Permanent, Transient
from fleet.engine import present
from tests.metal.sshd import Sshd, certify, key, sshd


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(str(tmp_path / "identities"))


@pytest.fixture
async def sessions(store: IdentityStore) -> AsyncIterator[SshSessions]:
    made = SshSessions(store)
    yield made
    await made.close()


def to(host: Sshd, name: str = "rack1", address: str = "127.0.0.1", **more: object) -> Remote:
    given: dict[str, object] = {"pins": (host.host_key,), **more}
    return Remote(name, address, host.port, host.user, **given)  # type: ignore[arg-type]


def lying(host: Sshd, words: str, status: int) -> None:
    """From now on its helper says this on standard error and ends so."""
    (host.folder / "bin/anew-host").write_text(f"#!/bin/sh\ncat >/dev/null\nprintf '%s\\n' '{words}' >&2\nexit {status}\n")


# --- what it says


@pytest.mark.parametrize("born", ["400000000000", "999999999999999", "999999999999999999", "1e300", "-1"])
def test_a_birth_in_an_impossible_year_takes_no_view_down(born: str) -> None:
    """The time is shown in views of the whole fleet: one host's lie must not end them for all."""
    said = ANSWER.replace("born=1795311111", f"born={born}")
    assert said != ANSWER
    found = facts.read(protocol.parse(said.encode(), "rack1"), "rack1")
    for seen in sight.incarnations(Machine("rack1", "127.0.0.1"), found, 1795311200.0):
        shown = present.moment(seen.born_at)
        assert shown is not None
        assert len(shown) == len("2026-11-22T02:00:00Z")


# --- OpenSSH's child: what the host says and what ssh says come out of one pipe


async def test_a_host_cannot_have_its_jump_host_held_back(store: IdentityStore, sessions: SshSessions, tmp_path: Path) -> None:
    """All hosts behind the jump host would be out of reach for minutes, again and again."""
    image = tmp_path / "image"
    image.write_bytes(b"x" * 65536)
    (tmp_path / "ours").mkdir(mode=0o700)
    with sshd(tmp_path / "rack1", store) as host, sshd(tmp_path / "gate", store) as gate:
        by = to(gate, "gate", "localhost")
        lying(host, f"{gate.user}@localhost: Permission denied (publickey).", 255)
        with pytest.raises((Permanent, Transient)):
            await OpenSsh(str(tmp_path / "ours"), sessions).send(to(host, jump=by), "anew-host have x", str(image), 0, 65536, lambda _: None)
        assert "Accepted publickey" in host.log(), "the jump host let us through, and the host let us in"
        sessions.refusals.check(by)


async def test_a_host_that_let_us_in_cannot_say_that_its_key_was_wrong(store: IdentityStore, sessions: SshSessions, tmp_path: Path) -> None:
    """`Nothing was sent to it` would be untrue, and the person sent to look for somebody in between."""
    image = tmp_path / "image"
    image.write_bytes(b"x" * 65536)
    (tmp_path / "ours").mkdir(mode=0o700)
    with sshd(tmp_path / "rack1", store) as host:
        lying(host, "Host key verification failed.", 255)
        try:
            await OpenSsh(str(tmp_path / "ours"), sessions).send(to(host), "anew-host have x", str(image), 0, 65536, lambda _: None)
        except (Permanent, Transient) as said:
            assert said.code != "host-key"
        sessions.refusals.check(to(host))


# --- who it is


async def test_a_host_certificate_that_names_no_host_counts_for_none(store: IdentityStore, sessions: SshSessions, tmp_path: Path) -> None:
    """OpenSSH refuses such a certificate, since it would count for every machine of the authority; so must the sessions."""
    folder = tmp_path / "certified"
    folder.mkdir()
    key(folder, "host")
    authority = _certified_for_nobody(folder)
    with sshd(folder, store) as host:
        with pytest.raises(Permanent) as said:
            await sessions.run(replace(to(host), pins=(), authorities=(authority,)), "true", 20)
        assert said.value.code == "host-key"
        assert "Accepted publickey" not in host.log()


def _certified_for_nobody(folder: Path) -> str:
    """A host certificate without principals; ssh-keygen makes one if it is not told any."""
    import subprocess

    authority = certify(folder, "ca", "127.0.0.1")
    subprocess.run(["ssh-keygen", "-q", "-s", str(folder / "ca"), "-I", "rack", "-h", str(folder / "host.pub")], check=True, timeout=60)
    return authority
