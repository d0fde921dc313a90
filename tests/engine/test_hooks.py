"""Hooks as a careless person writes them: endless output, children that live on, no end. None of them delays a rollout."""

from __future__ import annotations

import time

import pytest

from fleet.core.errors import Permanent, Transient
from fleet.engine.hooks import run_hook

VALUES = {"name": "web-1", "address": "127.0.0.1:22", "version": "2"}


@pytest.mark.parametrize("argv", [("yes", "abc"), ("sh", "-c", "trap '' TERM; yes & setsid sleep 60 & wait"), ("sleep", "60")])
async def test_a_hook_that_does_not_end_is_over_at_its_deadline(argv: tuple[str, ...]) -> None:
    began = time.monotonic()
    with pytest.raises(Transient) as raised:
        await run_hook(argv, VALUES, "", 0.5)
    assert raised.value.code == "deadline"
    assert time.monotonic() - began < 30  # not the 60 s that its children live


async def test_a_child_that_holds_the_output_open_does_not_hold_the_rollout() -> None:
    await run_hook(("sh", "-c", "sleep 60 & exit 0"), VALUES, "", 30)


async def test_a_failing_hook_tells_its_last_words() -> None:
    with pytest.raises(Permanent, match=r"ended with 3: no such backend web-1"):
        await run_hook(("sh", "-c", "echo no such backend $ANEW_NAME; exit 3"), VALUES, "", 30)


async def test_a_hook_that_is_not_there_is_named() -> None:
    with pytest.raises(Permanent, match="could not be started"):
        await run_hook(("/no/such/hook",), VALUES, "", 5)
