"""The simulated world on file: it survives its daemon, refuses what it cannot read, and stays small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.core.errors import Permanent
from fleet.ports import Birth
from tests.clocks import run_virtual
from tests.drivers import conformance
from tests.drivers.sim_world import harness, image


def test_a_killed_daemons_world_goes_on(tmp_path: Path) -> None:
    """The second driver opens the file while the first one, never closed, has just written to it."""

    async def before() -> None:
        maker = harness(tmp_path)
        h = await maker.__aenter__()
        await h.birth(1)
        await h.birth(1, "flaky", "web-2")
        await h.interrupt(h.sim.birth(h.pool, Birth("web-3", 1, image("1"), "sim", h.clock.now()), h.op()))
        await conformance.born(h, 2, conformance.with_data(h))

    async def after() -> None:
        async with harness(tmp_path) as h:
            found = {(s.server, s.number): s for s in (await h.sim.observe(h.pool)).incarnations}
            assert {key: seen.state for key, seen in found.items()} == {
                ("web-1", 1): "running",
                ("web-2", 1): "crashed",
                ("web-3", 1): "half-made",
                ("web-1", 2): "running",
            }
            assert found[("web-1", 2)].data_held == ("state",)
            assert h.well(server="web-1"), "the boot went on while nobody looked"
            await h.birth(2, server="web-3")
            assert not h.world.breaches

    run_virtual(before())
    run_virtual(after(), start=100.0)


def test_a_line_cut_short_costs_only_itself(tmp_path: Path) -> None:
    async def before() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1)

    async def after() -> list[str]:
        async with harness(tmp_path) as h:
            return [seen.state for seen in (await h.sim.observe(h.pool)).incarnations]

    run_virtual(before())
    file = tmp_path / "sim" / "web.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert run_virtual(after()) == ["half-made"]


@pytest.mark.parametrize(
    "line", ["{]", "[1]", '{"life":{"server":"x"}}', '{"format":2}', '{"gone":7}', "\udcff"]
)
def test_a_broken_file_is_a_sentence_that_names_the_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "sim" / "web.jsonl"
    file.parent.mkdir()
    file.write_bytes(b'{"epoch":1}\n' + line.encode("utf-8", "surrogateescape") + b'\n{"epoch":2}\n')
    kept = file.read_bytes()

    async def story() -> None:
        async with harness(tmp_path) as h:
            with pytest.raises(Permanent, match="line 2 of the simulated world") as caught:
                await h.sim.observe(h.pool)
            assert caught.value.where == str(file)

    run_virtual(story())
    assert file.read_bytes() == kept


def test_the_file_does_not_grow_with_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with harness(tmp_path) as h:
            await h.birth(1)
            for _ in range(1500):
                h.world.kill("web-1")
                await h.sim.revive(h.pool, "web-1", 1, h.op())

    run_virtual(story())
    lines = (tmp_path / "sim" / "web.jsonl").read_text().splitlines()
    assert len(lines) < 2200
    assert json.loads(lines[0])["pool"] == "web"
