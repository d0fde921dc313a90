"""The record: folded in the order of the journal's numbers, whoever's append returned first; readers never see a gap."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from fleet.core.errors import Permanent
from fleet.core.events import Draft, Event
from fleet.core.state import State
from fleet.engine.record import Record
from tests.clocks import VirtualClock, run_virtual
from tests.scenarios.memory import MemoryJournal


class SlowJournal(MemoryJournal):
    """Numbers are given at once; `append` of "slow" remarks returns later than those written after it."""

    async def append(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        events = await super().append(drafts)
        await asyncio.sleep(5.0 if drafts[0].data.get("text") == "slow" else 0.1)
        return events


def remark(text: str) -> Draft:
    return Draft("remark", pool="web", data={"text": text})


def test_events_are_folded_and_heard_in_the_order_of_their_numbers() -> None:
    heard: list[int] = []
    returned: list[str] = []

    async def story() -> None:
        record = Record(SlowJournal(VirtualClock()), State())
        record.listen(lambda event: heard.append(event.seq))

        async def write(*texts: str) -> None:
            events = await record.write(*(remark(text) for text in texts))
            assert record.state.seq >= events[-1].seq, "on return it is folded"
            returned.append(texts[0])

        async with asyncio.TaskGroup() as tasks:
            for texts in (("a",), ("slow", "b"), ("c",), ("d", "e")):
                tasks.create_task(write(*texts))

    run_virtual(story())
    assert heard == [1, 2, 3, 4, 5, 6]
    assert returned[0] == "a" and set(returned) == {"a", "slow", "c", "d"}


def test_a_read_only_record_writes_nothing_and_says_so_by_returning_nothing() -> None:
    async def story() -> None:
        journal = MemoryJournal(VirtualClock())
        record = Record(journal, State())
        record.read_only = True
        assert await record.write(remark("x")) == ()
        assert journal.tip() == (0, "")
        assert await record.write() == ()

    run_virtual(story())


def test_who_stopped_listening_hears_no_more() -> None:
    heard: list[int] = []

    def ear(event: Event) -> None:
        heard.append(event.seq)

    async def story() -> None:
        record = Record(MemoryJournal(VirtualClock()), State())
        record.listen(ear)
        await record.write(remark("x"))
        record.unlisten(ear)
        await record.write(remark("y"))
        assert [event.seq for event in await record.journal_page(1, 10)] == [2]

    run_virtual(story())
    assert heard == [1]


def test_a_writer_that_is_cancelled_leaves_no_hole_for_the_others() -> None:
    async def story() -> None:
        record = Record(SlowJournal(VirtualClock()), State())
        lost = asyncio.get_running_loop().create_task(record.write(remark("slow")))
        await asyncio.sleep(1.0)
        lost.cancel()
        async with asyncio.timeout(60.0):
            await record.write(remark("after"))
        assert record.state.seq == 2

    run_virtual(story())


def test_a_listener_that_fails_is_logged_and_keeps_nobody_from_hearing_or_writing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []

    def deaf(event: Event) -> None:
        raise RuntimeError("cannot hear")

    async def story() -> None:
        record = Record(MemoryJournal(VirtualClock()), State())
        for ear in (deaf, lambda event: heard.append(event.seq)):
            record.listen(ear)
        async with asyncio.timeout(60.0):
            await record.write(remark("a"), remark("b"))
            await record.write(remark("c"))
        assert record.state.seq == 3

    run_virtual(story())
    assert heard == [1, 2, 3]
    logged = [entry for entry in caplog.records if entry.levelno >= logging.ERROR and entry.name == "anew.record"]
    assert ["event-1" in entry.getMessage() and "remark" in entry.getMessage() for entry in logged] == [True, False, False]
    assert all(entry.exc_info for entry in logged), "with where it failed"


def test_a_row_that_cannot_be_taken_in_is_the_end_and_no_row_is_written_after_it() -> None:
    """It is durable, so a state without it would not be the journal's: everybody who waits is told, and so is the daemon."""
    told: list[str] = []

    async def story() -> None:
        journal = SlowJournal(VirtualClock())
        record = Record(journal, State())
        record.on_fatal = told.append
        outcomes: list[object] = []

        async def write(draft: Draft) -> None:
            try:
                outcomes.append(await record.write(draft))
            except Permanent as error:
                outcomes.append(str(error))

        async with asyncio.timeout(60.0), asyncio.TaskGroup() as tasks:
            for draft in (remark("slow"), Draft("rollout-moved", pool="web", rollout="none", data={"cause": "pause", "state": "", "reason": ""}), remark("c")):
                tasks.create_task(write(draft))
        assert record.state.seq == 1, "the row before it was taken in"
        await write(remark("later"))
        assert journal.tip()[0] == 3, "nothing was written on top of it"
        assert sorted(type(outcome) is str for outcome in outcomes) == [False, True, True, True]

    run_virtual(story())
    assert len(told) == 1 and "row 2" in told[0] and "rollout-moved" in told[0] and "the daemon ends" in told[0]
