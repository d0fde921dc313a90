"""The virtual clock itself: it jumps, is the same for the same seed, and never hangs."""

from __future__ import annotations

import asyncio

import pytest

from tests.clocks import EPOCH, Deadlock, Overrun, SeededRng, VirtualClock, run_virtual


def test_a_day_passes_at_once_and_in_order() -> None:
    async def story() -> list[tuple[float, str]]:
        clock, told = VirtualClock(), []

        async def tell(after: float, what: str) -> None:
            await clock.sleep(after)
            told.append((round(clock.now() - EPOCH, 3), what))

        async with asyncio.TaskGroup() as group:
            for after, what in ((86_400.0, "c"), (0.5, "a"), (3600.0, "b")):
                group.create_task(tell(after, what))
        return told

    assert run_virtual(story()) == [(0.5, "a"), (3600.0, "b"), (86_400.0, "c")]


def test_ties_are_broken_by_the_seed_alone() -> None:
    async def story() -> str:
        told: list[str] = []

        async def tell(what: str) -> None:
            await asyncio.sleep(1)
            told.append(what)

        async with asyncio.TaskGroup() as group:
            for what in "abcdefgh":
                group.create_task(tell(what))
        return "".join(told)

    orders = [run_virtual(story(), seed=seed) for seed in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]


def test_waiting_for_nothing_is_an_error_that_says_who_waits() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def story() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(never(), name="the-one")

    with pytest.raises(Deadlock, match=r"the-one at .*never"):
        run_virtual(story())


def test_running_for_ever_is_an_error() -> None:
    async def story() -> None:
        while True:
            await asyncio.sleep(10)

    with pytest.raises(Overrun):
        run_virtual(story(), limit=1000)


def test_time_stands_still_while_a_thread_works() -> None:
    async def story() -> float:
        ticking = asyncio.create_task(asyncio.sleep(1))
        assert await asyncio.to_thread(sum, range(10**6)) > 0
        assert not ticking.done()
        await ticking
        return asyncio.get_running_loop().time()

    assert run_virtual(story()) == pytest.approx(1.0, abs=1e-6)


def test_deadlines_and_a_later_start() -> None:
    async def story() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return VirtualClock().now()

    assert run_virtual(story(), start=1000.0) == pytest.approx(EPOCH + 1030.0, abs=1e-6)


def test_the_same_seed_gives_the_same_tokens() -> None:
    one, two = SeededRng(3), SeededRng(3)
    tokens = [one.token() for _ in range(3)]
    assert tokens == [two.token() for _ in range(3)]
    assert {len(token) for token in tokens} == {16}
    assert 0 <= one.random() < 1
