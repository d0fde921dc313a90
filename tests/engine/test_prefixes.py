"""From every prefix of a journal, with the world as it was before or after the verb, a restart leads to the same end (I17, I24)."""

from __future__ import annotations

import pytest

from tests.clocks import run_virtual
from tests.engine.chaos import Play
from tests.engine.prefixes import Person, film, resume
from tests.scenarios.stage import Stage


def onward(stage: Stage) -> str:
    assert stage.rollout is not None
    return "rollout.promote" if stage.rollout.state == "awaiting-promotion" else "rollout.resume"


def back(stage: Stage) -> str:
    assert stage.rollout is not None
    return "rollout.resume" if stage.rollout.resume_to == "rolling-back" else "rollback.start"


STORIES: dict[str, tuple[Play, Person, str]] = {
    "create-first": (Play(servers=2, surge="1", unavailable="0", jitter=0.0), onward, ""),
    "delete-first": (Play(servers=2, surge="0", unavailable="1", canaries="0", jitter=0.0), onward, ""),
    "with data": (Play(servers=2, surge="0", unavailable="1", data=True, jitter=0.0), onward, ""),
    "in place": (Play(servers=2, surge="0", unavailable="1", canaries="0", in_place=True, jitter=0.0), onward, ""),
    "in place, a sick canary": (Play(servers=2, surge="0", unavailable="1", in_place=True, fault="never-boots", jitter=0.0), back, ""),
    "in place, rolled back after the end": (
        Play(servers=2, surge="0", unavailable="1", canaries="0", in_place=True, jitter=0.0), onward, "rollback.start"),
    "a sick canary, rolled back": (Play(servers=2, surge="0", unavailable="1", fault="never-boots", jitter=0.0), back, ""),
    "rolled back in the middle": (Play(servers=2, surge="1", unavailable="0", jitter=0.0), back, ""),
    "rolled back after the end": (Play(servers=2, surge="0", unavailable="1", canaries="0", jitter=0.0), onward, "rollback.start"),
}


@pytest.mark.parametrize("name", STORIES)
def test_from_every_prefix_it_comes_to_the_same_end(name: str) -> None:
    play, person, after = STORIES[name]
    whole = run_virtual(film(play.fleet, person, "2", after))
    assert len(whole.pictures) > 20
    for number, picture in enumerate(whole.pictures):
        end = run_virtual(resume(play.fleet, picture, person, "2", after), start=picture.at)
        last = picture.events[-1]
        assert end == whole.end, f"picture {number}, after {last.seq} {last.type} {last.server} {dict(last.data)}"
