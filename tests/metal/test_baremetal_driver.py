"""The bare-metal driver's verbs, on hosts that speak the protocol over real SSH."""

from __future__ import annotations

from pathlib import Path

from tests.metal.driving import rig


async def test_a_machine_is_born_tried_kept_and_goes_back(tmp_path: Path) -> None:
    async with rig(tmp_path) as lab:
        await lab.driver.stage(lab.pool, lab.image(), "rack1", lab.op())
        assert await lab.states() == {0: "running"}
        seen = await lab.born(commit=False)
        assert (seen.number, seen.state, seen.version, seen.digest) == (1, "running", "2", lab.image().ref.digest)
        assert "on trial" in seen.note and seen.address == f"{lab.world['rack1'].address}:{lab.world['rack1'].port}"
        assert await lab.states() == {0: "stopped", 1: "running"}
        await lab.driver.commit(lab.pool, "rack1", 1, lab.op())
        assert not lab.world["rack1"].trial
        await lab.born(2, "3")
        assert await lab.states() == {1: "stopped", 2: "running"}
        back = await lab.driver.revive(lab.pool, "rack1", 1, lab.op())
        assert (back.number, back.state, back.version) == (1, "running", "2")
        assert lab.world["rack1"].version == "2"
