"""How the libvirt driver waits for a hypervisor, and what it makes of its errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from drivers.libvirt import api, faults
from drivers.libvirt.link import Link
from fleet.core.errors import Permanent, Refused, Transient


class Pretended:
    """A connection that can die."""

    def __init__(self) -> None:
        self.alive = 1

    def isAlive(self) -> int:
        return self.alive

    def close(self) -> int:
        return 0


class Line:
    """A link whose connections are pretended, and counted."""

    def __init__(self, lanes: int = 1) -> None:
        self.made: list[Pretended] = []
        self.link = Link("hv1", "none:///", lanes, self._open)

    def _open(self, uri: str) -> Any:
        self.made.append(Pretended())
        return self.made[-1]

    async def call(self, work: Callable[[Any], Any], deadline: float = 60.0) -> Any:
        return await self.link.call("doing it", deadline, work)


async def test_a_hung_call_is_left_behind_and_the_rest_goes_on() -> None:
    line, release = Line(), threading.Event()
    with pytest.raises(Transient, match="took longer"):
        await line.call(lambda _: release.wait(120), 0.1)
    assert await line.call(lambda _: "next") == "next", "long before the hung call ends"
    assert len(line.made) == 2, "a fresh connection: the old one is with the hung call"
    release.set()
    line.link.close()


async def test_a_call_that_was_given_up_in_the_queue_never_runs() -> None:
    line, release, ran = Line(), threading.Event(), []
    slow = asyncio.create_task(line.call(lambda _: release.wait(30)))
    await asyncio.sleep(0)
    with pytest.raises(Transient):
        await line.call(lambda _: ran.append(1), 0.1)
    release.set()
    assert await slow is True
    assert await line.call(lambda _: "alive") == "alive"
    assert ran == []
    line.link.close()


async def test_a_cancelled_caller_does_not_stop_the_lane() -> None:
    line, release, begun = Line(), threading.Event(), threading.Event()

    def work(_: Any) -> bool:
        begun.set()
        return release.wait(30)

    task = asyncio.create_task(line.call(work))
    await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert await line.call(lambda _: "alive") == "alive"
    assert len(line.made) == 1
    line.link.close()


async def test_a_dead_connection_is_opened_anew() -> None:
    line = Line()
    await line.call(lambda c: None)
    line.made[0].alive = 0
    assert await line.call(lambda c: c is line.made[1]) is True
    line.link.close()


async def test_lanes_work_side_by_side() -> None:
    line, meeting = Line(lanes=2), threading.Barrier(2, timeout=60)
    await asyncio.gather(line.call(lambda _: meeting.wait()), line.call(lambda _: meeting.wait()))
    line.link.close()


async def test_errors_of_the_work_come_back_as_they_are() -> None:
    line = Line()

    def refuse(_: Any) -> None:
        raise Refused("no")

    def fail(_: Any) -> None:
        raise OSError(5, "disk")

    with pytest.raises(Refused, match="no"):
        await line.call(refuse)
    with pytest.raises(Transient, match="disk"):
        await line.call(fail)
    assert await line.call(lambda _: 1) == 1
    line.link.close()
    with pytest.raises(Permanent, match="closed"):
        await line.call(lambda _: 1)


# -- errors ------------------------------------------------------------------------------------------------


class LibvirtSays(Exception):
    def __init__(self, code: str, text: str = "words") -> None:
        super().__init__(text)
        self.code = api.constant(code)

    def get_error_code(self) -> int:
        return self.code


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("VIR_ERR_INTERNAL_ERROR", Transient),
        ("VIR_ERR_SYSTEM_ERROR", Transient),
        ("VIR_ERR_AUTH_FAILED", Refused),
        ("VIR_ERR_XML_ERROR", Permanent),
        ("VIR_ERR_NO_SUCH_CODE_EVER", Permanent),
    ],
)
def test_an_error_code_decides_what_happens(code: str, kind: type[Exception]) -> None:
    error = faults.translate(LibvirtSays(code), "starting web-1.2", "hv1")
    assert isinstance(error, kind)
    assert "starting web-1.2" in str(error) and "hv1" in str(error)


def test_qemus_words_are_cut_and_made_printable() -> None:
    error = faults.translate(LibvirtSays("VIR_ERR_INTERNAL_ERROR", "\x1b[31mboom\n" + "x" * 10_000), "starting it", "hv1")
    assert str(error).isprintable() and len(str(error)) < 600


def test_every_code_in_the_table_exists_in_this_libvirt() -> None:
    assert [name for name in faults.TABLE if api.constant(name) < 0] == []
