"""Who asks much waits for those who ask little, and the loop rests from answering for as long as answering took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from fleet.api import door
from fleet.api.turns import REST, Turns
from tests.clocks import run_virtual
from tests.wire.running import Served, serving
from tests.wire.test_streams import EVENTS, opened, until

CROWD, OTHER = (1000, 7), (1000, 8)


class Spending:
    """A counter of seconds (time.perf_counter) that work moves on by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        patch.setattr(time, "perf_counter", lambda: self.now)

    async def work(self, seconds: float) -> str:
        self.now += seconds
        await asyncio.sleep(0)
        self.now += seconds
        return "answered"


async def _answers(turns: Turns, spending: Spending, key: tuple[int, int], name: str, seconds: float, told: list[tuple[str, float]]) -> None:
    await turns.take(key)
    told.append((name, round(asyncio.get_running_loop().time(), 6)))
    assert await turns.measured(key, spending.work(seconds)) == "answered"


def _played(patch: pytest.MonkeyPatch, *asked: tuple[tuple[int, int], str, float]) -> list[tuple[str, float]]:
    """Who was answered when, if all of that was asked at once."""
    spending, told = Spending(patch), list[tuple[str, float]]()

    async def play() -> None:
        turns = Turns()
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(_answers(turns, spending, key, name, seconds, told) for key, name, seconds in asked))
        told[:] = [(name, round(at - began, 6)) for name, at in told]

    run_virtual(play())
    return told


def test_processes_take_turns_however_much_one_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _played(monkeypatch, *((CROWD, f"crowd {n}", 0.001) for n in range(50)), (OTHER, "pause", 0.001))
    assert [name for name, _ in told][:3] == ["crowd 0", "pause", "crowd 1"]
    assert len(told) == 51, "everybody is answered in the end"


def test_the_loop_rests_for_as_long_as_the_answer_took(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _played(monkeypatch, (CROWD, "one", 0.01), (OTHER, "two", 0.01), ((1000, 9), "three", 0.01))
    assert [at for _, at in told] == pytest.approx([0.0, 0.02, 0.04])


def test_who_has_many_waiting_rests_so_many_times_as_long_but_never_longer_than_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _played(monkeypatch, *((CROWD, f"{n}", 0.01) for n in range(4)))
    assert [at for _, at in told] == pytest.approx([0.0, 0.06, 0.10, 0.12])
    told = _played(monkeypatch, *((CROWD, f"{n}", 10.0) for n in range(3)))
    assert [at for _, at in told] == pytest.approx([0.0, REST, 2 * REST])


def test_one_that_gave_up_waiting_costs_nobody_a_turn() -> None:
    async def play() -> None:
        turns = Turns()
        gone = asyncio.ensure_future(turns.take(CROWD))
        kept = asyncio.ensure_future(turns.take(CROWD))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait_for(kept, 1.0)

    run_virtual(play())


def test_what_work_raises_or_is_told_goes_through() -> None:
    async def raises() -> None:
        await asyncio.sleep(0)
        raise ValueError("its own")

    async def deadline() -> str:
        try:
            async with asyncio.timeout(1.0):
                await asyncio.sleep(10.0)
        except TimeoutError:
            return "too slow"
        return "slept"

    async def play() -> None:
        turns = Turns()
        with pytest.raises(ValueError, match="its own"):
            await turns.measured(CROWD, raises())
        assert await turns.measured(CROWD, deadline()) == "too slow"

    run_virtual(play())


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


def test_a_process_has_a_share_of_the_connections_and_crowds_out_itself(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_EACH", 5)
    streams = [opened(served.socket, EVENTS) for _ in range(5)]
    until(lambda: len(served.office.queues) == 5)
    more = opened(served.socket)
    assert more.recv(10) == b"", "all of its share are being answered: the newcomer is closed"
    streams.pop().close()
    idle = opened(served.socket)
    until(lambda: _open(served)() == 5)
    newer = opened(served.socket, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in newer.recv(4096).splitlines()[0], "its own oldest idle one made room"
    assert idle.recv(10) == b""
    assert _open(served)() == 5
    for sock in streams:
        sock.close()


def _open(served: Served) -> Callable[[], int]:
    return lambda: served.do(lambda: len(served.door.open) if served.door is not None else -1)
