"""A host that lies about how much of a bundle it has costs the patience that our own file's size is worth, and no more."""

from __future__ import annotations

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
