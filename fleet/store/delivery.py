"""The way from a caller to the writer's thread and back: what waits, and who is woken when it is durable."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fleet.core.errors import AnewError
from fleet.core.events import Event
from fleet.store.chain import Ready

Outcome = tuple[Event, ...] | AnewError


class Order(NamedTuple):
    """One caller's rows. `release` and the future are used in the caller's event loop only."""

    drafts: tuple[Ready, ...]
    at: float
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[tuple[Event, ...]]
    release: Callable[[], None]


def deliver(outcomes: Sequence[tuple[Order, Outcome]]) -> None:
    """Wake each event loop once for all of its orders."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Order, Outcome]]] = defaultdict(list)
    for order, outcome in outcomes:
        by_loop[order.loop].append((order, outcome))
    for loop, settled in by_loop.items():
        if not loop.is_closed():
            _wake(loop, settled)


def _wake(loop: asyncio.AbstractEventLoop, settled: list[tuple[Order, Outcome]]) -> None:
    try:
        loop.call_soon_threadsafe(_settle, settled)
    except RuntimeError:  # the loop closed in this instant: nobody waits there any more
        return


def _settle(settled: list[tuple[Order, Any]]) -> None:
    for order, outcome in settled:
        order.release()
        if order.future.done():  # the caller was cancelled; its rows stand
            continue
        if isinstance(outcome, AnewError):
            order.future.set_exception(outcome)
        else:
            order.future.set_result(outcome)
