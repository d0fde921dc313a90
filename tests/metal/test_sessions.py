"""SSH with machines, against real OpenSSH: pinned keys and host CAs, jump hosts, the agent, and hosts that do not let us in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drivers import ssh
from drivers.identity import IdentityStore
from drivers.refusals import Refusals, obstacle
from drivers.remotes import Remote, remote_of
from drivers.ssh import SshSessions
from drivers.warm import room, shared
from fleet.core.desired import Desired, Machine
from fleet.core.errors import Permanent, Refused, Transient
from fleet.ports import Surroundings
from tests.clocks import SeededRng, VirtualClock
from tests.metal.proxy import Spoil, proxy
from tests.metal.sshd import Sshd, certify, key, sshd

PIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFm3f9sZ8m2b0cX6yq3m7oVdMmRk0w5cM1m1kq0aVb1x"


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return IdentityStore(str(tmp_path / "identities"))


@pytest.fixture
async def sessions(store: IdentityStore) -> AsyncIterator[SshSessions]:
    made = SshSessions(store)
    yield made
    await made.close()


@pytest.fixture
def host(tmp_path: Path, store: IdentityStore) -> Iterator[Sshd]:
    with sshd(tmp_path / "rack1", store) as running:
        yield running


def to(host: Sshd, /, **more: object) -> Remote:
    made = Remote("rack1", "127.0.0.1", host.port, host.user, pins=(host.host_key,))
    return replace(made, **more)  # type: ignore[arg-type]


def fleet(*machines: Machine) -> Desired:
    return Desired("lab", {}, {}, {}, machines={machine.name: machine for machine in machines})


# --- the fleet file


def test_a_machine_without_pin_is_spoken_to_by_nobody() -> None:
    with pytest.raises(Refused, match="machine rack1 has no pinned host key; run `anew machine pin rack1`"):
        remote_of("rack1", fleet(Machine("rack1", "10.0.0.1")))
    with pytest.raises(Refused, match="machine gate has no pinned host key"):
        remote_of("rack1", fleet(Machine("rack1", "10.0.0.1", jump="gate", host_key=PIN), Machine("gate", "10.0.0.2")))


def test_the_way_over_jump_hosts() -> None:
    found = remote_of("rack1", fleet(Machine("rack1", "10.0.0.1", 2222, "ops", "gate", "/k", host_ca=PIN), Machine("gate", "gate", host_key=PIN)))
    assert found == Remote("rack1", "10.0.0.1", 2222, "ops", "/k", authorities=(PIN,), jump=Remote("gate", "gate", 22, pins=(PIN,)))
    with pytest.raises(Refused, match="does not end: a → b → a"):
        remote_of("a", fleet(Machine("a", "a", jump="b", host_key=PIN), Machine("b", "b", jump="a", host_key=PIN)))
    with pytest.raises(Refused, match="the jump host of a, c, is not in the fleet file"):
        remote_of("a", fleet(Machine("a", "a", jump="c", host_key=PIN)))


# --- whom is believed


async def test_the_pinned_key_lets_commands_through(sessions: SshSessions, host: Sshd) -> None:
    answers = await asyncio.gather(*(sessions.run(to(host), f"echo {n}; echo aside >&2; exit {n}", 20) for n in range(12)))
    assert [(one.status, one.output, one.errors) for one in answers] == [(n, f"{n}\n".encode(), b"aside\n") for n in range(12)]
    assert host.log().count("Accepted publickey") == 1


async def test_standard_input_comes_whole_and_ends(sessions: SshSessions, host: Sshd) -> None:
    given = os.urandom(300_000)
    answer = await sessions.run(to(host), "cat", 20, 1_000_000, given)
    assert answer.output == given
    with pytest.raises(Refused, match="at most 1048576"):
        await sessions.run(to(host), "cat", 20, input=b"x" * 1_048_577)


async def test_another_host_key_ends_it_before_authentication(sessions: SshSessions, host: Sshd, tmp_path: Path) -> None:
    other = key(tmp_path, "other")
    with pytest.raises(Permanent, match=r"pinned ssh-ed25519 SHA256:.*, shown ssh-ed25519 SHA256:.*anew machine pin rack1") as caught:
        await sessions.run(to(host, pins=(other,)), "true", 20)
    assert caught.value.code == "host-key"
    assert untouched(host)


def untouched(host: Sshd) -> bool:
    """Nobody tried to authenticate: sshd at VERBOSE tells of every key that is offered, and of who stops before."""
    return not re.search(r"Accepted|Failed|Postponed|authenticating user|Invalid user", host.log()) and not host.verbs()


async def test_a_host_certificate_counts_if_its_authority_and_name_do(store: IdentityStore, sessions: SshSessions, tmp_path: Path) -> None:
    folder = tmp_path / "certified"
    folder.mkdir()
    key(folder, "host")
    authority = certify(folder, "ca", "127.0.0.1")
    stranger = key(tmp_path, "strange-ca")
    with sshd(folder, store) as host:
        assert (await sessions.run(to(host, pins=(), authorities=(authority,)), "echo in", 20)).output == b"in\n"
        accepted = host.log().count("Accepted")
        with pytest.raises(Permanent, match="pinned a certificate of ssh-ed25519 SHA256:.*shown a certificate of the authority ssh-ed25519"):
            await sessions.run(to(host, pins=(), authorities=(stranger,)), "true", 20)
        with pytest.raises(Permanent, match="host certificate does not count: .*principal"):
            await sessions.run(to(host, pins=(), authorities=(authority,), host="localhost"), "true", 20)
        assert host.log().count("Accepted") == accepted


async def test_what_a_host_shows_is_told_without_authentication(sessions: SshSessions, host: Sshd, store: IdentityStore) -> None:
    assert await ssh.shown("127.0.0.1", host.port, 20) == host.host_key
    assert await sessions.shown(to(host, pins=()), 20) == host.host_key
    assert untouched(host)
    assert ssh.fingerprint(host.host_key).startswith("ssh-ed25519 SHA256:")
    with pytest.raises(Refused, match="no SSH public key"):
        ssh.fingerprint("AAAA")
    folder = os.path.dirname(store.client_private_path())
    assert await ssh.shown("127.0.0.1", host.port, 20, to(host), folder) == host.host_key, "through itself as jump host"
    with pytest.raises(Transient, match="refused"):
        await ssh.shown("127.0.0.1", 1, 20)


# --- who is not let in


async def test_a_refused_key_is_no_storm(store: IdentityStore, sessions: SshSessions, tmp_path: Path) -> None:
    stranger = IdentityStore(str(tmp_path / "stranger"))
    with sshd(tmp_path / "rack2", stranger) as host:
        remote = to(host)
        for _ in range(20):
            with pytest.raises(Transient, match=r"does not accept anew's key for user \w+; .*; next try in \d\d s") as caught:
                await sessions.run(remote, "true", 20)
            assert caught.value.code == "auth"
            assert 20 < caught.value.retry_after <= 30
        log = host.log()
        assert max(log.count("Failed publickey"), log.count("Connection closed by authenticating user")) == 1, "sshd writes one of them, or both"


def test_the_pause_grows_to_five_minutes_and_ends_with_a_success() -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    remote = Remote("rack1", "h", 22, pins=(PIN,))
    pauses = []
    for _ in range(6):
        pauses.append(refusals.refused(remote).retry_after)
        with pytest.raises(Transient, match=f"next try in {pauses[-1]:.0f} s"):
            refusals.check(remote)
        now[0] += pauses[-1] + 0.1
        refusals.check(remote)
    assert [round(pause) for pause in pauses] == [30, 60, 120, 240, 300, 300]
    refusals.accepted(remote)
    assert refusals.refused(remote).retry_after == 30
    assert refusals.refused(Remote("web-1", "h", 22)).retry_after == 5, "a guest that boots may take the key any moment"


async def test_a_wrong_user_is_named(store: IdentityStore, sessions: SshSessions, host: Sshd) -> None:
    with pytest.raises(Transient, match="for user nobody-here; .* or name another user"):
        await sessions.run(to(host, user="nobody-here"), "true", 20)


@pytest.mark.parametrize(("said", "code", "sentence"), [
    (b"sudo: a password is required\n", "sudo", "NOPASSWD"),
    (b"sudo: a terminal is required to read the password\n", "sudo", "NOPASSWD"),
    (b"ops is not in the sudoers file.\n", "sudo", "may not use sudo"),
    (b"sh: 1: sudo: not found\n", "sudo", "there is no sudo"),
    (b'Please login as the user "debian" rather than the user "root".\n', "user", "debian"),
    (b"This account is currently not available.\n", "user", "no shell"),
    (b"WARNING: Your password has expired.\n", "user", "expired"),
    (b"sh: 1: anew-host: not found\n", "no-helper", "no anew-host"),
])
def test_what_stands_in_the_way_is_a_sentence(said: bytes, code: str, sentence: str) -> None:
    remote = Remote("rack1", "h", 22, "ops")
    for found in (obstacle(remote, 1, said, b""), obstacle(remote, 1, b"", b"\x1b[31m\n" + said)):
        assert found is not None
        assert found.code == code
        assert sentence in found.message
        assert found.message.isprintable()
    assert obstacle(remote, 0, said, b"") is None
    assert obstacle(remote, 1, b"something else", b"") is None


async def test_a_key_that_others_may_read_or_that_is_none(sessions: SshSessions, host: Sshd, tmp_path: Path) -> None:
    key(tmp_path, "mine")
    (tmp_path / "mine").chmod(0o644)
    with pytest.raises(Permanent, match="others may read this SSH key; run: chmod 600"):
        await sessions.run(to(host, key=str(tmp_path / "mine")), "true", 20)
    with pytest.raises(Permanent, match="no such file"):
        await sessions.run(to(host, key=str(tmp_path / "none")), "true", 20)
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True, timeout=60)
    with pytest.raises(Permanent, match="locked by a passphrase"):
        await sessions.run(to(host, key=str(locked)), "true", 20)
    assert untouched(host)


# --- other ways in


async def test_a_key_of_its_own(store: IdentityStore, sessions: SshSessions, tmp_path: Path) -> None:
    mine = key(tmp_path, "mine")
    with sshd(tmp_path / "rack3", store, authorized=mine + "\n") as host:
        assert (await sessions.run(to(host, key=str(tmp_path / "mine")), "echo in", 20)).output == b"in\n"


@contextlib.contextmanager
def agent(folder: Path) -> Iterator[str]:
    path = str(folder / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield path
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


async def test_the_agent_only_if_it_is_asked_for(
    store: IdentityStore, sessions: SshSessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = key(tmp_path, "mine")
    with agent(tmp_path) as path, sshd(tmp_path / "rack4", store, authorized=mine + "\n") as host:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        with pytest.raises(Transient, match="the SSH agent has no key; add one"):
            await sessions.run(to(host, agent=True), "true", 20)
        subprocess.run(["ssh-add", "-q", str(tmp_path / "mine")], check=True, timeout=60, env={**os.environ, "SSH_AUTH_SOCK": path})
        assert (await sessions.run(to(host, agent=True), "echo in", 20)).output == b"in\n"
        with pytest.raises(Transient, match="does not accept anew's key"):
            await sessions.run(to(host), "true", 20)
        monkeypatch.delenv("SSH_AUTH_SOCK")
        await sessions.close()
        with pytest.raises(Permanent, match="SSH_AUTH_SOCK is not set"):
            await sessions.run(to(host, agent=True), "true", 20)


async def test_a_jump_host_is_one_warm_connection(store: IdentityStore, sessions: SshSessions, host: Sshd, tmp_path: Path) -> None:
    with sshd(tmp_path / "gate", store) as gate, sshd(tmp_path / "rack5", store) as other:
        async with proxy(gate.port) as front:
            by = Remote("gate", "127.0.0.1", front.port, gate.user, pins=(gate.host_key,))
            one, two = to(host, jump=by), replace(to(other, jump=by), server="rack5")
            answers = await asyncio.gather(sessions.run(one, "echo one", 30), sessions.run(two, "echo two", 30))
            assert [answer.output for answer in answers] == [b"one\n", b"two\n"]
            assert not re.search(r"Starting session: (command|shell)", gate.log()), "no command runs on the jump host"
            assert await sessions.shown(replace(one, pins=()), 20) == host.host_key
            with pytest.raises(Transient, match="its jump host gate .* cannot reach it"):
                await sessions.run(replace(one, port=1), "true", 20)
            assert (await sessions.run(one, "echo still", 20)).output == b"still\n"
            assert gate.log().count("Accepted publickey") == 1
            front.cut()
            assert (await sessions.run(one, "echo again", 30)).output == b"again\n"
            assert (await sessions.run(two, "echo again", 30)).output == b"again\n"
            assert gate.log().count("Accepted publickey") == 2


async def test_a_jump_host_that_refuses_is_the_one_named(store: IdentityStore, sessions: SshSessions, host: Sshd, tmp_path: Path) -> None:
    with sshd(tmp_path / "gate", IdentityStore(str(tmp_path / "stranger"))) as gate:
        by = Remote("gate", "127.0.0.1", gate.port, gate.user, pins=(gate.host_key,))
        with pytest.raises(Transient, match="does not accept anew's key") as caught:
            await sessions.run(to(host, jump=by), "true", 20)
        assert caught.value.where.startswith("gate ")
        assert untouched(host)


# --- connections


async def test_a_slow_command_does_not_take_a_long_one_with_it(sessions: SshSessions, host: Sshd, tmp_path: Path) -> None:
    """An observation that gives up must not end an install that runs."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    long = asyncio.create_task(sessions.run(to(host), f"cat {gate}", 60))
    with pytest.raises(Transient, match="no answer over SSH in"):
        await sessions.run(to(host), "sleep 600", 1.0)
    assert (await sessions.run(to(host), "echo new", 20)).output == b"new\n"
    await asyncio.to_thread(gate.write_text, "done\n")
    assert (await long).output == b"done\n"
    assert host.log().count("Accepted publickey") == 2


async def test_half_open_and_then_well(sessions: SshSessions, host: Sshd) -> None:
    async with proxy(host.port) as front:
        remote = to(host, port=front.port)
        assert (await sessions.run(remote, "true", 20)).status == 0
        front.spoil = Spoil("up", hole=front.up + 1)
        with pytest.raises(Transient, match="no answer over SSH in"):
            await sessions.run(remote, "true", 1.0)
        assert (await sessions.run(remote, "echo on", 20)).output == b"on\n"


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_flipped_bit_is_a_broken_session_and_no_answer(sessions: SshSessions, host: Sshd, way: str) -> None:
    async with proxy(host.port) as front:
        remote = to(host, port=front.port)
        assert (await sessions.run(remote, "true", 20)).status == 0
        front.spoil = Spoil(way, flip=front.passed[way] + 20, times=2)  # type: ignore[arg-type,index]
        try:
            answer = await sessions.run(remote, "echo whole", 5)
        except Transient as problem:
            assert problem.message.isascii()
        else:
            assert answer.output == b"whole\n", "what comes is whole or does not come"
        front.spoil = Spoil(times=0)
        assert (await sessions.run(remote, "echo whole", 20)).output == b"whole\n"


async def test_one_daemon_has_one_set_of_sessions(tmp_path: Path, host: Sshd) -> None:
    around = Surroundings(fleet(*(Machine(f"r{n}", f"10.0.0.{n}", host_key=PIN) for n in range(300))), str(tmp_path), VirtualClock(), SeededRng())
    async with shared(around) as one:
        async with shared(around) as two:
            assert one is two
        assert one._warm >= 300, "as many stay warm as the fleet has"
        assert (await one.run(to(host), "true", 20)).status == 0, "still open: somebody uses them"
    async with shared(around) as three:
        assert three is not one


def test_descriptors_bound_what_stays_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    was: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: was.append(limits))
    assert room(100) == 100
    assert not was
    assert room(2000) == 2000
    assert was == [(2256, 4096)]
    assert room(10_000) == 4096 - 256


async def test_hosts_that_accept_and_say_nothing_hold_up_nobody(store: IdentityStore, host: Sshd) -> None:
    """As many of them as there are places among the handshakes; each is tried for a minute."""
    few = SshSessions(store, handshakes=2)
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    try:
        stuck = [asyncio.create_task(few.run(to(host, server=f"mute{number}", port=port), "true", 60)) for number in range(2)]
        while len(few._sessions) < 2 or few._shaking._value:
            assert not any(task.done() for task in stuck)
            await asyncio.sleep(0)
        answer = await few.run(to(host), "echo in", 20)
        assert answer.output == b"in\n"
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
    finally:
        silent.close()
        await few.close()
