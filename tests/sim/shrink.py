"""Makes a case that breaks a promise as small as it goes: whatever is left out and it still breaks the same promise, stays out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from tests.sim.case import Case
from tests.sim.play import play

PLAYS = 400
"""So many times a case is played again for it, at most."""

LISTS = ("faults", "blows", "orders")
KEPT = (*LISTS, "seed", "mode", "servers")


def promise(broken: str) -> str:
    """The name of the first promise in a sentence ("I6"), or its first word."""
    return broken.partition(":")[0][:40]


def shrink(case: Case, broken: str, breaks: Callable[[Case], str] | None = None) -> Case:
    """The smallest case found that breaks the same promise."""
    left = PLAYS
    judged = breaks or (lambda other: play(other).broken)
    while True:
        for smaller in filter(_possible, _smaller(case)):
            left -= 1
            if left < 0:
                return case
            if promise(judged(smaller)) == promise(broken):
                case = smaller
                break
        else:
            return case


def _possible(case: Case) -> bool:
    """A fleet file may say so."""
    return any(text.rstrip("%") != "0" for text in (case.surge, case.unavailable)) and not (case.kind and case.unavailable == "0")


def _smaller(case: Case) -> Iterator[Case]:
    """The big steps first."""
    for name in LISTS:
        items = getattr(case, name)
        if len(items) > 3:
            yield _changed(case, name, items[: len(items) // 2])
            yield _changed(case, name, items[len(items) // 2:])
    for name in LISTS:
        items = getattr(case, name)
        for index in range(len(items)):
            yield _changed(case, name, (*items[:index], *items[index + 1:]))
    for servers in (1, 2, 3, case.servers // 2, case.servers - 1):
        if 0 < servers < case.servers:
            yield replace(case, servers=servers)
    usual = Case()
    for field in fields(Case):
        if field.name not in KEPT and getattr(case, field.name) != getattr(usual, field.name):
            yield _changed(case, field.name, getattr(usual, field.name))
    for index, order in enumerate(case.orders):
        if order.twice or order.seen or order.who:
            plain = replace(order, twice=False, seen="", who=0)
            yield _changed(case, "orders", (*case.orders[:index], plain, *case.orders[index + 1:]))


def _changed(case: Case, name: str, value: Any) -> Case:
    changes: dict[str, Any] = {name: value}
    return replace(case, **changes)
