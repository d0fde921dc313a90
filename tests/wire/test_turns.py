"""Who asks much waits for those who ask little, and the loop rests from answering for as long as answering took."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fleet.api import door
from fleet.api.peers import Peer
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


def test_users_take_turns_in_however_many_processes_one_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    told = _played(monkeypatch, *(((1000, 100 + n), f"crowd {n}", 0.001) for n in range(50)), ((0, 7), "pause", 0.001), ((0, 8), "status", 0.001))
    assert [name for name, _ in told][:5] == ["crowd 0", "pause", "crowd 1", "status", "crowd 2"]
    assert len(told) == 52, "everybody is answered in the end"


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
    until(lambda: _open(served)() == 4)
    idle = opened(served.socket)
    until(lambda: _open(served)() == 5)
    newer = opened(served.socket, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in newer.recv(4096).splitlines()[0], "its own oldest idle one made room"
    assert idle.recv(10) == b""
    assert _open(served)() == 5
    for sock in streams:
        sock.close()


ASK = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
CROWDED = """
import socket, sys
held = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]))]
for one in held:
    one.connect(sys.argv[1])
    one.sendall(b"GET /v1/events?since=0 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    assert b" 200 " in one.recv(20)
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def crowded(served: Served, count: int) -> Iterator[None]:
    """Another process that has as many streams."""
    with subprocess.Popen([sys.executable, "-c", CROWDED, served.socket, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as crowd:
        assert crowd.stdin is not None and crowd.stdout is not None
        try:
            assert crowd.stdout.readline() == b"\n"
            yield
        finally:
            crowd.stdin.close()


def test_streams_that_fill_every_place_keep_nobody_else_out(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_OPEN", 8)
    with crowded(served, 4), crowded(served, 4):
        own = [opened(served.socket, ASK) for _ in range(2)]
        assert all(b" 200 " in one.recv(4096).splitlines()[0] for one in own)
        assert _open(served)() == 8, "the greediest process has lost what was needed"
        for one in own:
            one.close()


def test_streams_of_the_greediest_user_make_room_for_others_and_a_newcomer_of_its_own_is_closed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_OPEN", 4)
    pids = itertools.count(1)
    uids = iter([1, 1, 1, 1, 0, 1, 0])
    monkeypatch.setattr(door, "read_peer", lambda sock: Peer(next(uids), 0, next(pids)))
    served.office.roles[1] = "observer"
    crowd = [opened(served.socket, EVENTS) for _ in range(4)]
    until(lambda: len(served.office.queues) == 4)
    first = opened(served.socket, ASK)
    assert b" 200 " in first.recv(4096).splitlines()[0]
    again = opened(served.socket)
    until(lambda: _open(served)() == 4)
    second = opened(served.socket, ASK)
    assert b" 200 " in second.recv(4096).splitlines()[0] and first.fileno() != -1
    for one in (*crowd, first, again, second):
        one.close()


def _open(served: Served) -> Callable[[], int]:
    return lambda: served.do(lambda: len(served.door.open) if served.door is not None else -1)
