"""One machine whose bytes are no SSH, or at which anew itself trips: it has a sentence, and the driver goes on with the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.baremetal import facts, words
from drivers.baremetal.facts import HostFacts
from drivers.baremetal.protocol import Frame
from fleet.core.errors import AnewError
from tests.metal.baremetal_world import harness
from tests.metal.evil import Evil

FLIPS = range(0, 1700, 23)
"""Through the banner, the key exchange in the clear, and what is sealed after it."""


async def test_a_flipped_bit_anywhere_is_one_machines_trouble(tmp_path: Path) -> None:
    async with harness(tmp_path, spacing=0.0) as h:
        other = h.pool.machines[1]
        said = set()
        for at in FLIPS:
            h.host.door.close()
            await h.host.be(Evil(flip_at=at))
            try:
                await h.own.hosts[h.place].ask(words.observe(), 2.0)
            except AnewError as problem:
                said.add(problem.message)
                assert problem.message.isprintable()
        assert any("bytes that are no SSH" in text for text in said), "what asyncssh's parsers raise was met"
        assert (await h.own.hosts[other].look()).version == "1"
        await h.host.be(Evil())
        assert (await h.own.hosts[h.place].look()).version == "1", "nothing is held against it"


async def test_a_fault_of_ours_in_one_look_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    real = facts.read

    def stumbling(frame: Frame, where: str) -> HostFacts:
        if where == "rack1":
            raise ZeroDivisionError("a fault")
        return real(frame, where)

    async with harness(tmp_path, spacing=0.0) as h:
        monkeypatch.setattr(facts, "read", stumbling)
        for _ in range(2):
            seen = await h.driver.observe(h.pool)
            assert "anew itself failed" in seen.unreachable["rack1"]
            assert [item.server for item in seen.incarnations] == ["rack2"]
        assert "a fault in looking at rack1" in caplog.text
        monkeypatch.setattr(facts, "read", real)
        assert await h.states() == {0: "running"}
