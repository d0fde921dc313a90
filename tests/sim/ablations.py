"""Safeguards of the engine, each switched off in turn: the simulator must find that, or a promise is missing from the judge.

Only here, and only by replacing production functions while a `with` lasts. Where a second safeguard stands behind the first (the
run-time watchdog behind the budget), both are off; one alone would rightly not be missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from unittest.mock import patch

from fleet.core import checkpoints, fold, planner, runs, watchdog
from fleet.core.bench import Bench
from fleet.core.errors import AnewError
from fleet.core.slots import Slots
from fleet.core.state import Run
from fleet.engine import inbox
from fleet.engine.act import Actor, Outcome
from fleet.engine.inbox import Inbox
from fleet.engine.observe import Watch


@dataclass(frozen=True, slots=True)
class Ablation:
    """`promises`: those that are seen broken without it. `within`: the first so many seeds of safety cases must show it."""

    says: str
    promises: tuple[str, ...]
    within: int
    off: Callable[[ExitStack], None]


@contextmanager
def without(name: str) -> Iterator[None]:
    """The engine without this safeguard; "" leaves it whole."""
    with ExitStack() as stack:
        if name:
            ABLATIONS[name].off(stack)
        yield


def _put(stack: ExitStack, where: Any, name: str, what: Any) -> None:
    stack.enter_context(patch.object(where, name, what))


def _no_watchdog(stack: ExitStack) -> None:
    _put(stack, watchdog, "breach", lambda sight, rollout: "")
    _put(stack, watchdog, "sift", lambda sight, rollout, actions: (list(actions), {}))


def _intent_after_act(stack: ExitStack) -> None:
    async def begin(self: Actor, view: Any, actions: Any, tasks: asyncio.TaskGroup, images: Any) -> None:
        named = [action if action.op else replace(action, op=self.rng.token()) for action in actions]
        for action in named:
            if action.verb:
                view.busy.add(action.server)
                tasks.create_task(self._perform(view, action, images))
        await self.record.write(*(self._intent(view, action) for action in named))

    _put(stack, Actor, "begin", begin)


def _no_healthy_reset(stack: ExitStack) -> None:
    judge = Watch._judge

    async def keep(self: Watch, view: Any, key: Any, healthy: bool, words: str) -> None:
        before = view.health.get(key)
        first: dict[Any, float] = self.__dict__.setdefault("first_healthy", {})
        if before is not None and before.healthy:
            first.setdefault(key, before.since)
        await judge(self, view, key, healthy, words)
        now = view.health.get(key)
        if now is not None and now.healthy and key in first:
            view.health[key] = replace(now, since=first[key])

    _put(stack, Watch, "_judge", keep)


def _budget_from_the_journal_alone(stack: ExitStack) -> None:
    def down(self: Any) -> set[str]:
        return {name for name, run in self._active.items() if run.path in (*planner_paths(), "put-back", "fall-back")}

    def extra(self: Any) -> dict[str, int]:
        return {name: 1 for name, run in self._active.items() if run.path in ("create-first", "keep-old")}

    for name, what in (("missing", down), ("extra", extra)):
        view: cached_property[Any] = cached_property(what)
        view.__set_name__(Slots, name)
        _put(stack, Slots, name, view)
    _no_watchdog(stack)


def planner_paths() -> tuple[str, ...]:
    """Paths on which a server is away for a while."""
    return ("delete-first", "in-place")


def _detach_is_believed(stack: ExitStack) -> None:
    retire = Actor._retire

    async def believe(self: Actor, view: Any, action: Any, op: Any, images: Any) -> Outcome:
        try:
            return await retire(self, view, action, op, images)
        except AnewError:
            return Outcome({})

    _put(stack, Actor, "_retire", believe)


def _nothing_is_retained(stack: ExitStack) -> None:
    def bury(sight: Any, seen: Any, notes: Any, actions: Any, wake: Any) -> None:
        if seen.state != "running" and sight.available(seen.server):
            actions.append(planner._house_action(seen, "burying", "bury", "it is in the way"))

    _put(stack, planner, "_keep_or_bury", bury)


def _any_generation(stack: ExitStack) -> None:
    _put(stack, Inbox, "_check_generation", lambda self, engine, view, request: None)


def _canaries_wait_for_nobody(stack: ExitStack) -> None:
    not_yet = planner._not_yet

    def go(bench: Any, run: Run) -> str:
        return not_yet(bench, replace(run, canary=True))

    _put(stack, planner, "_not_yet", go)
    _put(stack, runs, "_not_its_turn", lambda bench, run: "")


def _pause_is_not_asked(stack: ExitStack) -> None:
    closed, enter = planner._closed, runs.enter_next

    def opened(rollout: Any, run: Run) -> str:
        return "" if rollout.state == "paused" else closed(rollout, run)

    def enter_all(bench: Any, run: Run) -> Any:
        on = replace(bench, rollout=replace(bench.rollout, state="rolling")) if bench.rollout.state == "paused" else bench
        return enter(on, run)

    _put(stack, planner, "_closed", opened)
    _put(stack, runs, "enter_next", enter_all)
    _put(stack, planner, "enter_next", enter_all)


def _no_fresh_look(stack: ExitStack) -> None:
    _put(stack, Bench, "fresh", lambda self, run: True)


def _failures_are_not_counted(stack: ExitStack) -> None:
    _put(stack, planner, "_failing", lambda rollout: None)


def _checkpoints_are_open(stack: ExitStack) -> None:
    _put(stack, checkpoints, "closed", lambda left, more=0: "")


def _request_ids_are_not_read(stack: ExitStack) -> None:
    async def decide(self: Inbox, actor: str, request: Any, uid: int = -1, pid: int = 0) -> Any:
        return await self._decide(actor, request, (uid, pid))

    _put(stack, Inbox, "command", decide)


def _no_approval_is_asked(stack: ExitStack) -> None:
    _put(stack, inbox, "clear", lambda *asked: ())


def _open_intents_count_as_done(stack: ExitStack) -> None:
    waken = fold._waken

    def done(run: Run, at: float) -> Run:
        woken = waken(run, at)
        return replace(woken, phase="done") if woken.phase == "unknown" else woken

    _put(stack, fold, "_waken", done)
    _no_watchdog(stack)


ABLATIONS: Mapping[str, Ablation] = {
    "intent before act": Ablation("verbs begin while their intent is being written", ("I14",), 20, _intent_after_act),
    "min_healthy_time starts anew": Ablation("a flap does not start the healthy time anew", ("I3",), 150, _no_healthy_reset),
    "budget from reality": Ablation("who is missing or extra is taken from the journal alone; the watchdog is off", ("I1", "I2"), 300,
                                    _budget_from_the_journal_alone),
    "detach is confirmed": Ablation("a `retire` that failed counts as done", ("I10/I13", "I2", "I1"), 300, _detach_is_believed),
    "retention": Ablation("what was replaced is buried at once", ("I4",), 50, _nothing_is_retained),
    "generation check": Ablation("a command decided on an older generation is carried out", ("I31",), 50, _any_generation),
    "canary gate": Ablation("nobody waits for the canaries", ("I9",), 40, _canaries_wait_for_nobody),
    "pause": Ablation("steps begin while the rollout is paused", ("I7",), 40, _pause_is_not_asked),
    "fresh look": Ablation("decisions are taken on an observation older than the last event", ("I17",), 50, _no_fresh_look),
    "max_failures": Ablation("failed servers stop nothing", ("I8",), 100, _failures_are_not_counted),
    "checkpoints": Ablation("nobody waits at a checkpoint", ("I9",), 60, _checkpoints_are_open),
    "request ids": Ablation("a request id seen before is not recognised", ("I18",), 60, _request_ids_are_not_read),
    "approvals": Ablation("a plan starts without the approval of others", ("I33",), 60, _no_approval_is_asked),
    "open intents are looked into": Ablation("what a dead daemon had begun counts as done; the watchdog is off", ("I1", "I2", "I10/I13", "I3"), 150,
                                             _open_intents_count_as_done),
}
