"""What holds for all tests: one that timed out in a coroutine tells where each task waits, since the loop's own stack says nothing.

Property tests draw afresh in a plain `pytest`, and the same each time in `make test` (--hypothesis-profile=same). How long one takes is nothing
that they state: a machine that is busy elsewhere would make them red."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("fresh", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("fresh"), derandomize=True)
settings.load_profile("fresh")  # --hypothesis-profile comes later


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and "from pytest-timeout" in str(call.excinfo.value):
        report.sections.append(("where the tasks waited", _waits()))
    return report


def _waits() -> str:
    """Of the tasks of this thread's loop, which is still open when a test has just failed."""
    try:
        tasks = asyncio.all_tasks(asyncio.get_event_loop_policy().get_event_loop())
    except RuntimeError:
        return "no event loop"
    return "\n".join(f"{task.get_name()}\n" + "".join(_frames(task.get_coro())) for task in tasks) or "no tasks"


def _frames(coroutine: Any) -> Generator[str, None, None]:
    """From the task's coroutine down to what it waits for: Task.get_stack knows the first of them alone."""
    while (frame := getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)) is not None:
        yield f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}\n"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
