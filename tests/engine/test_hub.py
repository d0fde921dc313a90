"""The stream: no event twice, none left out, whoever comes when; who does not keep up is dropped and harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from fleet.core.events import Draft, Event
from fleet.core.state import State
from fleet.engine import hub
from fleet.engine.hub import Hub
from fleet.engine.record import Record
from tests.clocks import VirtualClock, run_virtual
from tests.scenarios.memory import MemoryJournal

Row = dict[str, Any]


class House:
    """A record with a hub, and rows that a test may change."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.record = Record(MemoryJournal(self.clock), State())
        self.rows: dict[tuple[str, str], Row] = {}
        self.made = 0
        self.hub = Hub(self.clock, self._rows, self.record.journal_page)
        self.record.listen(self.hub.on_event)

    def _rows(self, pool: str, servers: set[str]) -> Iterable[tuple[str, str, Row]]:
        self.made += 1
        for (kind, name), row in self.rows.items():
            if kind != "server" or name in servers or "" in servers:
                yield kind, name, dict(row)

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.record.write(Draft("remark", pool="web", data={"text": text}))

    def hello(self) -> Mapping[str, Any]:
        return {"frame": "hello", "seq": self.record.state.seq}

    async def listen(self, since: int, into: list[Mapping[str, Any]]) -> None:
        async with self.hub.subscribe(since, self.hello()) as frames:
            async for frame in frames:
                into.append(frame)


def seqs(frames: Iterable[Mapping[str, Any]]) -> list[int]:
    return [frame["seq"] for frame in frames if frame["frame"] == "event"]


def test_who_comes_late_gets_what_was_missed_and_then_the_rest_without_a_seam() -> None:
    early: list[Mapping[str, Any]] = []
    late: list[Mapping[str, Any]] = []

    async def story() -> None:
        house = House()
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(house.hub.run()), tasks.create_task(house.listen(0, early))]
            await house.say(*(f"n{n}" for n in range(hub.PAGE + 50)))
            await house.clock.sleep(1.0)
            jobs.append(tasks.create_task(house.listen(7, late)))
            await house.say("while it catches up", "and again")
            await house.clock.sleep(1.0)
            await house.say("live")
            await house.clock.sleep(1.0)
            for job in jobs:
                job.cancel()

    run_virtual(story())
    end = hub.PAGE + 53
    assert seqs(early) == list(range(1, end + 1))
    assert seqs(late) == list(range(8, end + 1))
    assert late[0]["frame"] == "hello"


def test_who_does_not_keep_up_is_dropped_and_can_come_again_with_since() -> None:
    async def story() -> None:
        house = House()
        got: list[Mapping[str, Any]] = []
        again: list[Mapping[str, Any]] = []
        async with house.hub.subscribe(0, house.hello()) as frames:
            await anext(frames)
            await house.say(*("x" for _ in range(hub.QUEUE + 10)))
            async for frame in frames:
                got.append(frame)
        assert seqs(got) == list(range(1, hub.QUEUE + 1)), "what was queued is still told, then the stream ends"
        async with asyncio.TaskGroup() as tasks:
            job = tasks.create_task(house.listen(got[-1]["seq"], again))
            await house.clock.sleep(1.0)
            job.cancel()
        assert seqs(again) == list(range(hub.QUEUE + 1, hub.QUEUE + 11))

    run_virtual(story())


def test_rows_go_out_when_they_change_and_not_when_they_only_grow_older() -> None:
    async def story() -> None:
        house = House()
        got: list[Mapping[str, Any]] = []
        house.rows = {("server", "web-1"): {"name": "web-1", "state": "serving", "age_seconds": 1.0}, ("server", "web-2"): {"name": "web-2", "state": "serving"}}
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(house.hub.run()), tasks.create_task(house.listen(0, got))]
            await house.clock.sleep(0.1)
            for age, state in ((1.0, "serving"), (2.0, "serving"), (3.0, "draining")):
                house.rows["server", "web-1"] = {"name": "web-1", "state": state, "age_seconds": age}
                house.hub.changed("web", "web-1")
                await house.clock.sleep(1.0)
            house.hub.changed("web", "")
            await house.clock.sleep(1.0)
            for job in jobs:
                job.cancel()
        rows = [(frame["row"]["name"], frame["row"]["state"]) for frame in got if frame["frame"] == "server"]
        assert rows == [("web-1", "serving"), ("web-1", "draining"), ("web-2", "serving")]

    run_virtual(story())


def test_many_changes_at_once_make_few_rows_and_without_listeners_none() -> None:
    async def story() -> None:
        house = House()
        house.rows = {("pool", "web"): {"name": "web"}}
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(house.hub.run())]
            await house.say(*("x" for _ in range(100)))
            await house.clock.sleep(1.0)
            assert house.made == 0
            jobs.append(tasks.create_task(house.listen(100, [])))
            await house.clock.sleep(0.1)
            await house.say(*("x" for _ in range(100)))
            await house.clock.sleep(1.0)
            assert house.made <= 2
            for job in jobs:
                job.cancel()

    run_virtual(story())


def test_when_the_daemon_ends_everybody_is_told() -> None:
    async def story() -> None:
        house = House()
        got: list[Mapping[str, Any]] = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(house.listen(0, got))
            await house.clock.sleep(0.1)
            house.hub.close(bye=True)
        assert [frame["frame"] for frame in got] == ["hello", "bye"]

    run_virtual(story())


def test_an_event_of_before_the_hello_is_not_told_twice() -> None:
    async def story() -> None:
        house = House()
        await house.say("a", "b")
        hello = house.hello()
        async with house.hub.subscribe(0, hello) as frames:
            await house.say("c")
            got = [await anext(frames) for _ in range(4)]
            event: Event = house.record.journal.find_request("")[0]
            assert event.seq == 1
        assert seqs(got) == [1, 2, 3]

    run_virtual(story())
