"""A host that lies about how much of a bundle it has, or dawdles over it, costs the patience that our own file's size is worth, and no more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from drivers.baremetal import protocol
from drivers.baremetal.bulk import CHECKING, Bulk
from drivers.baremetal.protocol import Frame
from drivers.baremetal.words import Words
from drivers.identity import IdentityStore
from drivers.remotes import Remote
from drivers.ssh import SshSessions
from fleet.core.errors import Transient
from fleet.ports import Operation
from tests.clocks import VirtualClock, run_virtual
from tests.metal.bringing import MIB, QuickClock, digest, noise

SIZE = 8 * MIB


class Liar:
    """Has `claimed` bytes of whatever it is asked for, of something else, and answers nothing that would have it work."""

    def __init__(self, claimed: int) -> None:
        self.claimed, self.waits = claimed, {}  # type: int, dict[str, float]

    async def call(self, what: Words, deadline: float = 30.0) -> Frame:
        self.waits[what.verb] = deadline
        if what.verb != "have":
            raise Transient(f"no answer within {deadline:.0f} s", where="rack1")
        answer = f"anew-host 1\nsize {self.claimed}\nstate part\nsha_so_far {'ab' * 32}\nok\n"
        return protocol.parse(answer.encode(), "rack1")


@pytest.mark.parametrize("claimed", [SIZE - 1, SIZE, SIZE + 1, 10**15 - 1])
async def test_the_wait_for_a_wrong_part_is_our_file_s_and_not_the_host_s(tmp_path: Path, claimed: int) -> None:
    image, liar = noise(tmp_path / "a", SIZE), Liar(claimed)
    sessions = SshSessions(IdentityStore(str(tmp_path / "identities")))
    bulk = Bulk(str(tmp_path / "state"), QuickClock(), sessions)
    with pytest.raises(Transient, match="no answer within"):
        await bulk.bring(Remote("rack1", "127.0.0.1", 22), str(image), digest(image), SIZE, liar.call, Operation("0" * 16, 7, "", 600.0), (), lambda _: None)
    assert set(liar.waits) == {"have", "upload"}
    assert max(liar.waits.values()) <= CHECKING + SIZE / MIB
    await sessions.close()


async def fetching(folder: Path, size: int, stalling: int) -> dict[str, float]:
    """When each host had the bundle from the mirror, in seconds. The first `stalling` take half an hour, the others a second."""
    sessions, clock, ended = SshSessions(IdentityStore(str(folder / "identities"))), VirtualClock(), {}  # type: SshSessions, VirtualClock, dict[str, float]
    bulk, begun = Bulk(str(folder / "state"), clock, sessions, at_once=1), clock.now()

    async def one(name: str, takes: float) -> None:
        async def call(what: Words, deadline: float = 30.0) -> Frame:
            if what.verb == "pull":
                await clock.sleep(takes)
            return protocol.parse(b"anew-host 1\nsize 0\nstate none\nok\n", name)

        op = Operation("0" * 16, 7, "", 3600.0)
        await bulk.bring(Remote(name, "127.0.0.1", 22), "/none", "ab" * 32, size, call, op, (), lambda _: None, "http://127.0.0.1:1/x")
        ended[name] = clock.now() - begun

    await asyncio.gather(*(one(f"rack{number}", 1800.0 if number < stalling else 1.0) for number in range(8)))
    await sessions.close()
    return ended


def test_hosts_that_stall_over_the_mirror_give_their_places_to_others(tmp_path: Path) -> None:
    """Four fetch at a time here. Four that dawdle are not waited for by the others, and end in their own time."""
    ended = run_virtual(fetching(tmp_path, 60 * MIB, 4))
    assert [ended[f"rack{number}"] for number in range(4)] == [1800.0] * 4
    assert all(60.0 <= ended[f"rack{number}"] <= 62.0 for number in range(4, 8)), ended


def test_hosts_that_fetch_in_good_time_keep_to_their_number(tmp_path: Path) -> None:
    ended = run_virtual(fetching(tmp_path, 60 * MIB, 0))
    assert sorted(ended.values()) == [1.0] * 4 + [2.0] * 4
