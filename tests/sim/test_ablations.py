"""A safeguard that is switched off is missed within the seeds promised for it: so the judge is no decoration."""

from __future__ import annotations

import pytest

from tests.sim.ablations import ABLATIONS, without
from tests.sim.menu import draw
from tests.sim.play import play
from tests.sim.shrink import promise
from tests.sim.world import past_of


@pytest.mark.parametrize("name", ABLATIONS)
def test_without_it_a_promise_is_broken_within_the_seeds_stated(name: str) -> None:
    ablation = ABLATIONS[name]
    found: list[str] = []
    for seed in range(1, ablation.within + 1):
        case = draw(seed, "safety")
        past_of(*case.shape)
        with without(name):
            broken = play(case).broken
        if broken:
            found.append(broken)
            if promise(broken) in ablation.promises:
                return
    raise AssertionError(f"{ablation.within} seeds do not miss it; they found {found[:3]}")
