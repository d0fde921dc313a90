"""What every driver must keep, as one list of stories: `CASES`. Each takes a harness and runs on a pool never
seen before.

A driver's own test file makes a harness and runs them:

    @pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
    def test_conformance(case: conformance.Case, tmp_path: Path) -> None:
        run_virtual(story(case, tmp_path))        # or, for a driver on real machines: await case(harness)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import Any, Protocol

import pytest

from fleet.core.desired import DataDisk, Pool
from fleet.core.errors import Permanent, Refused, Transient
from fleet.core.observed import Image, Seen
from fleet.ports import Birth, Driver, Operation


class Harness(Protocol):
    """A driver and what a test must do behind its back. `pool` has at least two servers and no data disks."""

    driver: Driver
    pool: Pool
    image: Image
    place: str

    def op(self) -> Operation:
        """A new operation with a long deadline."""

    def born_at(self) -> float:
        """Engine time now."""

    async def interrupt(self, verb: Coroutine[Any, Any, object]) -> None:
        """Start the verb, cancel it when it is about half done (or let it end if it is too quick), wait for
        its end.
        """

    def without_images(self) -> AbstractAsyncContextManager[None]:
        """While inside, the catalogue's files are not to be had."""

    def cut_off(self) -> AbstractAsyncContextManager[bool] | None:
        """While inside, the place does not answer. None if the harness cannot do that."""

    async def data_disks(self, pool: Pool) -> frozenset[str]:
        """Names of all data disks that exist for the pool, in any form that tells them apart."""


Case = Callable[[Harness], Awaitable[None]]


def name(case: Case) -> str:
    """For pytest's ids."""
    return getattr(case, "__name__", "case")


# -- steps -------------------------------------------------------------------------------------------------


def first(h: Harness) -> str:
    return h.pool.server_names[0]


def with_data(h: Harness) -> Pool:
    return replace(h.pool, data=(DataDisk("state", 8 * 2**20),))


async def born(h: Harness, number: int, pool: Pool | None = None, op: Operation | None = None) -> Seen:
    pool = pool or h.pool
    await h.driver.stage(pool, h.image, h.place, h.op())
    return await h.driver.birth(pool, Birth(first(h), number, h.image, h.place, h.born_at()), op or h.op())


async def states(h: Harness, pool: Pool | None = None) -> dict[int, str]:
    """number -> state of the first server, as observed."""
    observed = await h.driver.observe(pool or h.pool)
    assert not observed.unreachable
    return {seen.number: seen.state for seen in observed.incarnations if seen.server == first(h)}


async def holders(h: Harness, pool: Pool) -> list[int]:
    observed = await h.driver.observe(pool)
    return [seen.number for seen in observed.incarnations if seen.data_held]


# -- cases -------------------------------------------------------------------------------------------------


async def a_pool_seen_for_the_first_time_is_empty(h: Harness) -> None:
    for _ in range(2):
        observed = await h.driver.observe(h.pool)
        assert (observed.pool, observed.incarnations, observed.leftovers) == (h.pool.name, (), ())


async def observe_tells_what_a_birth_made(h: Harness) -> None:
    op, at = h.op(), h.born_at()
    await h.driver.stage(h.pool, h.image, h.place, op)
    made = await h.driver.birth(h.pool, Birth(first(h), 1, h.image, h.place, at), op)
    (seen,) = (await h.driver.observe(h.pool)).incarnations
    assert (seen.server, seen.number, seen.place) == (first(h), 1, h.place)
    assert (seen.digest, seen.version) == (h.image.ref.digest, h.image.ref.version)
    assert (seen.operation, seen.rollout, seen.state) == (op.id, op.rollout, "running")
    assert seen.born_at == pytest.approx(at, abs=0.01)
    assert (made.server, made.number, made.operation, made.uuid) == (
        seen.server,
        seen.number,
        op.id,
        seen.uuid,
    )


async def birth_by_the_same_operation_adopts(h: Harness) -> None:
    op = h.op()
    one = await born(h, 1, op=op)
    two = await born(h, 1, op=op)
    assert (one.number, one.uuid, one.operation) == (two.number, two.uuid, two.operation)
    assert await states(h) == {1: "running"}


async def a_number_belongs_to_one_image(h: Harness) -> None:
    await born(h, 1)
    other = replace(h.image, ref=replace(h.image.ref, version="9", digest="sha256:" + "9" * 64))
    with pytest.raises(Refused):
        await h.driver.birth(h.pool, Birth(first(h), 1, other, h.place, h.born_at()), h.op())
    with suppress(Refused):  # or: another operation finds what it would have made
        await h.driver.birth(h.pool, Birth(first(h), 1, h.image, h.place, h.born_at()), h.op())
    assert await states(h) == {1: "running"}


async def staging_twice_is_staging_once(h: Harness) -> None:
    for _ in range(2):
        await h.driver.stage(h.pool, h.image, h.place, h.op())
    assert (await h.driver.observe(h.pool)).incarnations == ()


async def old_and_new_run_side_by_side_if_surge_is_declared(h: Harness) -> None:
    if not h.driver.surge:
        return
    await born(h, 1)
    await born(h, 2)
    assert await states(h) == {1: "running", 2: "running"}


async def commit_twice_is_commit_once(h: Harness) -> None:
    await born(h, 1)
    for _ in range(2):
        await h.driver.commit(h.pool, first(h), 1, h.op())
    assert await states(h) == {1: "running"}


async def retire_keeps_it_whole_and_may_be_repeated(h: Harness) -> None:
    await born(h, 1)
    for _ in range(2):
        await h.driver.retire(h.pool, first(h), 1, h.op())
        assert await states(h) == {1: "stopped"}


async def revive_needs_no_image_store(h: Harness) -> None:
    await born(h, 1)
    await h.driver.retire(h.pool, first(h), 1, h.op())
    async with h.without_images():
        for _ in range(2):
            seen = await h.driver.revive(h.pool, first(h), 1, h.op())
            assert (seen.number, seen.state, seen.digest) == (1, "running", h.image.ref.digest)
    assert await states(h) == {1: "running"}


async def bury_refuses_a_running_one(h: Harness) -> None:
    await born(h, 1)
    with pytest.raises(Refused):
        await h.driver.bury(h.pool, first(h), 1, h.op())
    assert await states(h) == {1: "running"}


async def bury_removes_a_stopped_one_and_may_be_repeated(h: Harness) -> None:
    await born(h, 1)
    await h.driver.retire(h.pool, first(h), 1, h.op())
    for _ in range(2):
        await h.driver.bury(h.pool, first(h), 1, h.op())
        assert await states(h) == {}
    assert (await h.driver.observe(h.pool)).leftovers == ()


async def bury_of_what_never_was_changes_nothing(h: Harness) -> None:
    await born(h, 1)
    with suppress(Refused):  # a driver that can tell "never was" from "is gone" says so
        await h.driver.bury(h.pool, first(h), 7, h.op())
    assert await states(h) == {1: "running"}


async def verbs_on_what_never_was_are_refused(h: Harness) -> None:
    for verb in (h.driver.commit, h.driver.revive):
        with pytest.raises((Refused, Permanent)):
            await verb(h.pool, first(h), 7, h.op())
    with suppress(Refused):  # or: what is not there is stopped already
        await h.driver.retire(h.pool, first(h), 7, h.op())
    assert await states(h) == {}
    assert (await h.driver.probe(h.pool, first(h), 7)).boot_id == ""


async def a_data_disk_has_one_writer(h: Harness) -> None:
    pool = with_data(h)
    await born(h, 1, pool)
    assert await holders(h, pool) == [1]
    with pytest.raises(Transient):
        await born(h, 2, pool)
    assert await holders(h, pool) == [1]
    await h.driver.retire(pool, first(h), 1, h.op())
    assert await holders(h, pool) == []
    made = await born(h, 3, pool)
    assert made.data_held and await holders(h, pool) == [3]
    with pytest.raises(Transient):
        await h.driver.revive(pool, first(h), 1, h.op())
    assert await holders(h, pool) == [3]


async def data_outlives_every_incarnation(h: Harness) -> None:
    pool = with_data(h)
    await born(h, 1, pool)
    disks = await h.data_disks(pool)
    assert len(disks) == 1
    await h.driver.retire(pool, first(h), 1, h.op())
    await h.driver.bury(pool, first(h), 1, h.op())
    assert await states(h, pool) == {}
    assert await h.data_disks(pool) == disks
    await born(h, 2, pool)
    assert await h.data_disks(pool) == disks


async def a_cancelled_birth_is_found_and_finished(h: Harness) -> None:
    op = h.op()
    await h.driver.stage(h.pool, h.image, h.place, h.op())
    await h.interrupt(h.driver.birth(h.pool, Birth(first(h), 1, h.image, h.place, h.born_at()), op))
    assert set(await states(h)) <= {1}, "a half-made one is shown, and nothing else"
    await born(h, 1, op=op)
    assert await states(h) == {1: "running"}


async def a_cancelled_birth_can_be_buried(h: Harness) -> None:
    await h.driver.stage(h.pool, h.image, h.place, h.op())
    await h.interrupt(h.driver.birth(h.pool, Birth(first(h), 1, h.image, h.place, h.born_at()), h.op()))
    found = await states(h)
    if found.get(1) == "running":
        await h.driver.retire(h.pool, first(h), 1, h.op())
    if found:
        await h.driver.bury(h.pool, first(h), 1, h.op())
    assert await states(h) == {}


async def a_cancelled_birth_stands_in_nobodys_way(h: Harness) -> None:
    """Put-back: the new one came to nothing, the old one gets its data again."""
    pool = with_data(h)
    await born(h, 1, pool)
    await h.driver.retire(pool, first(h), 1, h.op())
    await h.interrupt(h.driver.birth(pool, Birth(first(h), 2, h.image, h.place, h.born_at()), h.op()))
    await h.driver.retire(pool, first(h), 2, h.op())
    await h.driver.revive(pool, first(h), 1, h.op())
    assert await holders(h, pool) == [1]


async def a_cancelled_retire_and_revive_converge(h: Harness) -> None:
    await born(h, 1)
    await h.interrupt(h.driver.retire(h.pool, first(h), 1, h.op()))
    assert set(await states(h)) == {1}
    await h.driver.retire(h.pool, first(h), 1, h.op())
    assert await states(h) == {1: "stopped"}
    await h.interrupt(h.driver.revive(h.pool, first(h), 1, h.op()))
    assert set(await states(h)) == {1}
    await h.driver.revive(h.pool, first(h), 1, h.op())
    assert await states(h) == {1: "running"}


async def a_place_that_does_not_answer_is_unknown_not_empty(h: Harness) -> None:
    await born(h, 1)
    silence = h.cut_off()
    if silence is None:
        return
    async with silence:
        observed = await h.driver.observe(h.pool)
        assert observed.unreachable[h.place]
        assert observed.incarnations == ()
        with pytest.raises(Transient):
            await h.driver.retire(h.pool, first(h), 1, h.op())
    assert await states(h) == {1: "running"}


CASES: tuple[Case, ...] = (
    a_pool_seen_for_the_first_time_is_empty,
    observe_tells_what_a_birth_made,
    birth_by_the_same_operation_adopts,
    a_number_belongs_to_one_image,
    staging_twice_is_staging_once,
    old_and_new_run_side_by_side_if_surge_is_declared,
    commit_twice_is_commit_once,
    retire_keeps_it_whole_and_may_be_repeated,
    revive_needs_no_image_store,
    bury_refuses_a_running_one,
    bury_removes_a_stopped_one_and_may_be_repeated,
    bury_of_what_never_was_changes_nothing,
    verbs_on_what_never_was_are_refused,
    a_data_disk_has_one_writer,
    data_outlives_every_incarnation,
    a_cancelled_birth_is_found_and_finished,
    a_cancelled_birth_can_be_buried,
    a_cancelled_birth_stands_in_nobodys_way,
    a_cancelled_retire_and_revive_converge,
    a_place_that_does_not_answer_is_unknown_not_empty,
)
