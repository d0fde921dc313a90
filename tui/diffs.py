"""Which two images `d` compares: the marked ones, or the one looked at with the one that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tui.offers import Image
from tui.phrases import offered

if TYPE_CHECKING:
    from tui.desk import Desk
    from tui.screens.images import ImagesView


def show(desk: Desk) -> None:
    """Open the difference, or say why there is none to show."""
    found = _of_images(desk) if desk.view.name == "images" else _of_a_pool(desk)
    if isinstance(found, str):
        desk.say(found, "warn")
    else:
        family, a, b = found
        desk.open("diff", family=family, a=a, b=b)


def _of_a_pool(desk: Desk) -> tuple[str, str, str] | str:
    """What the plan, the rollout or the newest image would change."""
    at, plan = desk.situation(), desk.plan
    if at.pool is None:
        return "There is no pool under the cursor."
    if at.screen == "plan" and plan is not None:
        a, b = plan.origin, plan.to
    elif at.rollout is not None and (at.rollout.active or at.screen == "rollout"):
        a, b = at.rollout.origin, at.rollout.to
    else:
        a, b = at.pool.stable, offered(at.pool)
    if not a or not b:
        return f"There are no two images of {at.pool.name} to compare: {desk.model.key_of('show-images')} lists all."
    return f"{at.pool.name} stays on {a}: there is nothing to compare." if a == b else (at.pool.family, a, b)


def _of_images(desk: Desk) -> tuple[str, str, str] | str:
    """The two marked, the marked one and the one under the cursor, or the one that runs and the one under the cursor."""
    view = cast("ImagesView", desk.view)
    here, marked = view.table.current, view.picked()
    if here is None:
        return "There is no image under the cursor."
    if len(marked) > 2:
        return f"{len(marked)} images are marked: a difference is between two."
    pair = marked if len(marked) == 2 else [marked[0] if marked else _running(desk, here), here]
    before, after = pair
    if before is None:
        return f"{here.family} has no other version to compare {here.version} with."
    assert after is not None
    if before.family != after.family:
        return f"{before.key} and {after.key} are of two families: only versions of one can be compared."
    if before.version == after.version:
        return "This image is the marked one: move to another, or mark two."
    first, second = sorted((before, after), key=lambda item: item.built or 0) if len(marked) == 2 else (before, after)
    return first.family, first.version, second.version


def _running(desk: Desk, here: Image) -> Image | None:
    """The version that a pool of this family runs; looked at that one itself, the version built before it."""
    family = [item for item in desk.model.images.values() if item.family == here.family and item.version != here.version]
    stable = {pool.stable for pool in desk.model.pools.values() if pool.family == here.family}
    running = next((item for item in family if item.version in stable), None)
    older = sorted((item for item in family if (item.built or 0) < (here.built or 0)), key=lambda item: item.built or 0)
    if here.version in stable or running is None:
        return older[-1] if older else next(iter(family), None)
    return running
