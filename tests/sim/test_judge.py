"""Who counts as serving in the judge: what a late request starts serves only where it had died in service."""

from __future__ import annotations

import pytest

from drivers.sim.life import Life
from tests.clocks import EPOCH
from tests.sim.case import Case
from tests.sim.judge import Judge, SimWorld
from tests.sim.menu import Menu
from tests.sim.world import Nowhere, past_of


class Scene:
    """A pool of two that runs image 1, without a daemon; web-1 is what happens to."""

    def __init__(self) -> None:
        case = Case(servers=2)
        past = past_of(*case.shape)
        (self.pool,) = case.desired.pools.values()
        self.world = SimWorld("sim", self.pool.name, Nowhere(), Menu())
        past.fill(self.world)
        self.judge = Judge(self.pool, self.world)
        self.judge.recall(past.state)
        self.now = EPOCH + past.at + 20.0
        self.world.told = lambda server: self.judge.changed(server, self.now)
        self.life: Life = self.world.lives["web-1", 1]

    def serves(self, at: float) -> bool:
        return self.judge.well("web-1", at)

    def dies(self) -> None:
        self.world.kill("web-1")

    def is_stopped(self) -> None:
        self.world.stop(self.life)

    def is_started(self) -> None:
        self.world.start(self.pool, self.life, self.now, "rise")

    def is_started_late(self) -> None:
        """By a request whose caller gave up long ago."""
        self.world.later(self.now, self.is_started)
        self.world.advance(self.now)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("times", [1, 2])
def test_who_died_in_service_and_is_started_by_a_late_request_serves_as_soon_as_it_answers(scene: Scene, times: int) -> None:
    for _ in range(times):
        scene.dies()
        scene.now += 10.0
        scene.is_started_late()
    assert not scene.serves(scene.life.ready_at - 0.1)
    assert scene.serves(scene.life.ready_at)


@pytest.mark.parametrize("died", [False, True])
def test_who_was_stopped_and_is_started_by_a_late_request_does_not_serve(scene: Scene, died: bool) -> None:
    if died:
        scene.dies()
    scene.is_stopped()
    scene.now += 10.0
    scene.is_started_late()
    assert scene.life.booted(scene.life.ready_at)
    assert not scene.serves(scene.life.ready_at)


def test_who_died_and_is_started_again_on_purpose_serves_only_when_it_is_admitted(scene: Scene) -> None:
    scene.dies()
    scene.now += 10.0
    scene.is_started()
    assert not scene.serves(scene.life.ready_at)
    scene.judge.commits("web-1", 1)
    assert scene.serves(scene.life.ready_at)


def test_who_died_and_is_started_by_a_late_request_does_not_serve_where_another_was_admitted_since(scene: Scene) -> None:
    scene.dies()
    scene.now += 10.0
    other = Life.from_json({**scene.life.to_json(), "number": 2})
    scene.world.lives[other.key] = other
    scene.judge.commits("web-1", 2)
    scene.is_started_late()
    assert scene.life.booted(scene.life.ready_at)
    assert not scene.serves(scene.life.ready_at)
