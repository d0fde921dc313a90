"""What is prepared for a first install on this side: the program, the keys that are let in, and what is sent where."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drivers.baremetal import carried
from drivers.baremetal.install import Sessions, install, orders, program
from drivers.refusals import Refusals
from drivers.remotes import Answer, Remote
from fleet.core.desired import HealthCheck, Machine, Pool
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.core.observed import Image, ImageFile, ImageRef
from fleet.ports import Operation
from tests.lab.guest import new_key

PERSON = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKd3Vd0PvPaXxUYbS7hZzY0JYcM2TqPZ1m0tqGm7dP1S ada@desk"
RACK = Machine("rack1", "127.0.0.1", disk="WD-1", host_key="ssh-ed25519 AAAA")
DIGEST = "sha256:" + "ab" * 32


class Recorded(Sessions):
    """Sessions that go nowhere: `asked` has each command with its standard input."""

    def __init__(self, key: str, answer: Answer) -> None:
        self.refusals = Refusals(lambda: 0.0)
        self.key, self.answer = key, answer
        self.asked: list[tuple[str, bytes]] = []

    async def run(self, remote: Remote, command: str, deadline: float, cap: int = 0, input: bytes = b"") -> Answer:
        self.asked.append((command, input))
        return self.answer

    def key_of(self, remote: Remote) -> str:
        return self.key

    def pins_of(self, remote: Remote) -> tuple[str, ...]:
        return ("ssh-ed25519 AAAA",)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "own")
    return tmp_path / "own"


def pool(*keys: str, checks: tuple[HealthCheck, ...] = ()) -> Pool:
    return Pool("metal", "baremetal", 1, "metal", machines=("rack1",), authorized_keys=keys, health=checks)


def image(folder: Path) -> Image:
    (folder / "root.raucb").write_bytes(b"x" * 100)
    return Image(ImageRef("metal", "1", DIGEST), "rauc", "root.raucb", None, {"root.raucb": ImageFile("root.raucb", "cd" * 32, 100)}, str(folder))


async def run(folder: Path, sessions: Recorded, *, of: Pool, user: str = "root", disk: str = "WD-1", jumps: bool = False, epoch: int = 3) -> AnewError:
    with pytest.raises(AnewError) as caught:
        await install(sessions, str(folder), Remote("rack1", "127.0.0.1", 9, user), RACK, of, image(folder), disk, jumps, 1795300000.7,
                      Operation("00000000000000aa", epoch, "", 60.0))
    return caught.value


def authorized(sessions: Recorded) -> list[str]:
    text, _, _ = sessions.asked[0][1].partition(program())
    return [line.removeprefix("key ") for line in text.decode().splitlines() if line.startswith("key ")]


def test_the_program_is_the_helper_with_one_more_verb() -> None:
    text = program().decode()
    assert text.startswith(carried.program().decode()[:2000])
    assert text.endswith('main "$@"; exit\n')
    assert text.count('main "$@"; exit\n') == 1
    assert subprocess.run(["dash", "-n"], input=text, text=True, check=False).returncode == 0
    assert "disk_is_blank" not in carried.program().decode(), "images do not have it"


def test_orders_are_lines() -> None:
    assert orders(5.9, ["a", "b"]) == b"born 5\nkey a\nkey b\n"


async def test_another_disk_than_the_fleet_files_sends_nothing(tmp_path: Path, key: Path) -> None:
    for disk in ("WD-2", "", "wd-1", "\x1b[2J"):
        sessions = Recorded(str(key), Answer(0, b"1\n"))
        error = await run(tmp_path, sessions, of=pool(PERSON), disk=disk)
        assert (type(error), error.code, sessions.asked) == (Refused, "wrong-disk", [])
        assert str(error).isprintable()


async def test_program_and_orders_go_into_memory_that_only_root_reads(tmp_path: Path, key: Path) -> None:
    sessions = Recorded(str(key), Answer(0, f"{len(program())}\n".encode()))
    error = await run(tmp_path, sessions, of=pool(PERSON))
    assert isinstance(error, Transient), "nobody answers at port 9"
    [(command, given)] = sessions.asked
    assert command.startswith("sh -c 'umask 077 && mkdir -p /run/anew/install-00000000000000aa && dd bs=1 ")
    assert given.endswith(program())
    assert given.startswith(b"born 1795300000\nkey ")
    own, person = authorized(sessions)
    public = key.with_suffix(".pub").read_text().split()[:2]
    assert own == f'restrict,command="anew-host" {" ".join(public)}', "anew has the verbs and nothing else"
    assert person == PERSON


@pytest.mark.parametrize(("jumps", "checks", "options"), [
    (True, (), 'restrict,port-forwarding,command="anew-host" '), (False, (HealthCheck("ssh", {"command": "true"}),), "restrict ssh-"),
])
async def test_what_a_pool_needs_is_let_through(tmp_path: Path, key: Path, jumps: bool, checks: tuple[HealthCheck, ...], options: str) -> None:
    sessions = Recorded(str(key), Answer(0, b"no number"))
    await run(tmp_path, sessions, of=pool(checks=checks), jumps=jumps)
    assert authorized(sessions)[0].startswith(options)


async def test_a_user_that_is_not_root_goes_through_sudo(tmp_path: Path, key: Path) -> None:
    sessions = Recorded(str(key), Answer(1, b"", False, b"sudo: a password is required\n"))
    error = await run(tmp_path, sessions, of=pool(), user="debian")
    assert sessions.asked[0][0].startswith("sudo -n sh -c ")
    assert "sudo" in str(error)


@pytest.mark.parametrize("answer", [Answer(0, b"12\n"), Answer(1, b"sh: cannot create\n"), Answer(0, b""), Answer(None, b"")])
async def test_a_live_system_that_does_not_take_it_is_a_sentence(tmp_path: Path, key: Path, answer: Answer) -> None:
    error = await run(tmp_path, Recorded(str(key), answer), of=pool())
    assert isinstance(error, (Permanent, Transient))
    assert "rack1" in str(error)


async def test_somebody_must_be_let_in(tmp_path: Path) -> None:
    error = await run(tmp_path, Recorded("", Answer(0, b"")), of=pool())
    assert (type(error), error.code) == (Refused, "no-key")


@pytest.mark.parametrize("bad", ["", "rsa AAAA", 'command="x" ssh-ed25519 AAAA', "ssh-ed25519 AAAA\nssh-ed25519 BBBB", "ssh-ed25519 A\x1b[2J"])
async def test_keys_that_are_none_are_refused_before_anything_is_sent(tmp_path: Path, key: Path, bad: str) -> None:
    sessions = Recorded(str(key), Answer(0, b""))
    error = await run(tmp_path, sessions, of=pool(bad))
    assert (type(error), error.code, sessions.asked) == (Refused, "key", [])
