"""A story is played once and photographed at every commit of its journal; then a new daemon starts from each picture.

For a commit there are two pictures of the world: before it ("intent written, verb done, outcome not written") and right
after it ("intent written, verb not done"). From every one of them the operator's rules lead to the same end.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drivers.sim import Faults
from fleet.core.events import Event
from tests.scenarios.stage import Stage, staged

Person = Callable[[Stage], str]
"""What the operator does when a rollout rests: a command, or "" for nothing."""


@dataclass(frozen=True)
class Picture:
    """The journal so far, the world's file, the loop's time."""

    events: tuple[Event, ...]
    world: str
    at: float


@dataclass
class Film:
    """All pictures of one play, and how it ended."""

    pictures: list[Picture] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)


def how_it_stands(stage: Stage) -> dict[str, Any]:
    """What must be the same in the end, however often daemons died."""
    pool = stage.state.pool(stage.pool.name)
    return {"state": stage.last.state, "serving": dict(sorted(stage.serving().items())), "stable": str(pool.stable), "previous": str(pool.previous),
            "rejected": sorted(pool.rejected)}


async def lead(stage: Stage, person: Person, orders: int = 12) -> None:
    """Until the rollout has ended; the person is asked whenever it rests."""
    for _ in range(orders):
        await stage.settle()
        if stage.rollout is None:
            return
        command = person(stage)
        if command == "rollback.start" and stage.rollout.kind == "rollback":
            command = "rollout.resume"
        await stage.command(command)
    raise AssertionError(f"it does not end: {stage.describe()}")


async def film(fleet: str, person: Person, to: str, after: str = "") -> Film:
    """Play it through: birth on 1, a rollout to `to`, and `after` its end another command."""
    found = Film()
    with tempfile.TemporaryDirectory() as folder:
        async with staged(fleet, folder, Faults()) as stage:
            await stage.birth("1")

            def take(length: int) -> None:
                text = "".join(json.dumps(line) + "\n" for line in stage.world.photograph())
                found.pictures.append(Picture(tuple(stage.journal.events), text, stage.clock.now() - 1_800_000_000.0))

            stage.journal.before_append = stage.journal.after_append = take
            await stage.command("rollout.start", plan={"to": to})
            take(0)
            await lead(stage, person)
            if after:
                await stage.command(after)
                await lead(stage, person)
            stage.journal.before_append = stage.journal.after_append = lambda length: None
            found.end = how_it_stands(stage)
    return found


async def resume(fleet: str, picture: Picture, person: Person, to: str, after: str = "") -> dict[str, Any]:
    """A new daemon on that journal and that world; whatever the operator had not done yet is done."""
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "sim"))
        with open(os.path.join(folder, "sim", "web.jsonl"), "w", encoding="utf-8") as file:
            file.write(picture.world)
        async with staged(fleet, folder, Faults(), picture.events) as stage:
            await stage.observed()
            await stage.until(lambda: len(stage.view.health) > 0, what="a look at the servers")
            started = [event for event in picture.events if event.type == "rollout-started"]
            if len(started) < 2:
                await stage.command("rollout.start", plan={"to": to})
            await lead(stage, person)
            if after and len(started) < 3:
                await stage.command(after)
                await lead(stage, person)
            return how_it_stands(stage)
