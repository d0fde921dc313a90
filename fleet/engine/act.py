"""Carrying out one action: intent is durable before the first byte leaves, the outcome is written whatever it is.

Rule 1: one verb at a time per server. Rule 2: Transient is tried again until the step's deadline, Permanent and Refused
fail the step; what belongs to no rollout is tried once, since what it was decided on may be over by the next try. Rule 3: what
was done but timed out is found by the next observation, never assumed. Rule 4: this is one of the two places where any
exception is caught: a fault of anew's own fails the step and is logged with an id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fleet.core.decision import Action
from fleet.core.errors import AnewError, Permanent, Transient
from fleet.core.events import Draft
from fleet.core.observed import Image, Seen
from fleet.core.printable import last_words, printable
from fleet.engine.hooks import run_hook
from fleet.engine.pulse import Pulse
from fleet.engine.record import Record
from fleet.engine.view import PoolView
from fleet.ports import Birth, Clock, Driver, Operation, Rng

log = logging.getLogger("anew.act")
LAST_WORDS_DEADLINE = 5.0
DRAIN_MARGIN = 5.0
"""Seconds for ending a drain hook that used up its deadline, before the verb itself is given up."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verb led to. `seen`: the incarnation afterwards; `gone`: it exists no more; `after`: further events."""

    facts: Mapping[str, Any]
    seen: Seen | None = None
    gone: bool = False
    after: tuple[Draft, ...] = ()


class Actor:
    """Performs actions for all pools of one daemon."""

    def __init__(self, record: Record, drivers: Mapping[str, Driver], clock: Clock, rng: Rng, epoch: int, folder: str,
                 pulse: Pulse) -> None:
        self.record = record
        self.drivers = drivers
        self.clock = clock
        self.rng = rng
        self.epoch = epoch
        self.folder = folder
        self.pulse = pulse
        self.told: Callable[[PoolView, str], None] = lambda view, server: None
        self.around_hook: Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]] = lambda what, hook: hook()

    async def begin(self, view: PoolView, actions: tuple[Action, ...], tasks: asyncio.TaskGroup, images: Mapping[str, Image]) -> None:
        """Write the intents in one commit, then start the verbs. An action with `op` takes up an earlier daemon's intent."""
        named = [action if action.op else replace(action, op=self.rng.token()) for action in actions]
        for action in named:
            if action.verb:
                view.busy.add(action.server)
        try:
            await self.record.write(*(self._intent(view, action) for action in named))
        except BaseException:
            view.busy.difference_update(action.server for action in named)  # nothing was begun, so nobody is waited for
            raise
        for action in named:
            if action.verb:
                tasks.create_task(self._perform(view, action, images))

    def _intent(self, view: PoolView, action: Action) -> Draft:
        return Draft("step-begun", pool=view.pool.name, server=action.server, rollout=action.rollout, data={
            "op": action.op, "step": action.step, "verb": action.verb, "number": action.number, "path": action.path,
            "reason": action.reason, "epoch": self.epoch})

    async def _perform(self, view: PoolView, action: Action, images: Mapping[str, Image]) -> None:
        try:
            outcome = await self._until_deadline(view, action, images)
        except asyncio.CancelledError:
            raise
        except AnewError as error:
            await self._failed(view, action, error.beside(action.server))
        except Exception:
            fault = self.rng.token()[:8]
            log.exception("fault %s in %s of %s", fault, action.verb, action.server)
            await self._failed(view, action, f"anew itself failed in `{action.verb}`; the daemon's log says more under {fault}")
        else:
            await self._done(view, action, outcome)
        view.busy.discard(action.server)
        view.told.pop(action.server, None)
        view.wake()

    async def _until_deadline(self, view: PoolView, action: Action, images: Mapping[str, Image]) -> Outcome:
        gaps = self.pulse.check()
        ends = self.clock.now() + action.deadline
        while True:
            if (seen := self.pulse.check()) != gaps:  # time while the daemon did not run is nobody's fault
                gaps, ends = seen, self.clock.now() + action.deadline
            left = max(0.1, ends - self.clock.now())
            try:
                async with asyncio.timeout(left + (DRAIN_MARGIN if action.verb == "drain" else 0.0)):
                    op = Operation(action.op, self.epoch, action.rollout, left, lambda words: self._told(view, action, words))
                    return await self._verb(view, action, op, images)
            except TimeoutError:
                if self.pulse.check() != gaps and action.rollout:
                    continue
                raise Permanent(f"`{action.verb}` of {action.server} was not done within {action.deadline:g}s") from None
            except Transient as error:
                if error.code == "deadline" or not action.rollout:
                    raise
                if self.clock.now() + error.retry_after >= ends and self.pulse.check() == gaps:
                    raise Permanent(f"{error.beside(action.server)} (tried for {action.deadline:g}s)") from error
                self._told(view, action, f"{error.message}; it is tried again")
                await self.clock.sleep(error.retry_after)

    def _told(self, view: PoolView, action: Action, words: str) -> None:
        """A driver says how far it has come. For the screen only: it is at most what a host claims."""
        view.told[action.server] = f"{action.reason}: {printable(words, 120)}"
        self.told(view, action.server)

    async def _verb(self, view: PoolView, action: Action, op: Operation, images: Mapping[str, Image]) -> Outcome:
        verbs: Mapping[str, Callable[[PoolView, Action, Operation, Mapping[str, Image]], Awaitable[Outcome]]] = {
            "stage": self._stage, "birth": self._birth, "revive": self._revive, "retire": self._retire,
            "commit": self._commit, "drain": self._drain, "bury": self._bury,
        }
        return await verbs[action.verb](view, action, op, images)

    def _driver(self, view: PoolView) -> Driver:
        return self.drivers[view.pool.driver]

    async def _stage(self, view: PoolView, action: Action, op: Operation, images: Mapping[str, Image]) -> Outcome:
        await self._driver(view).stage(view.pool, _image(action, images), action.place, op)
        return Outcome({})

    async def _birth(self, view: PoolView, action: Action, op: Operation, images: Mapping[str, Image]) -> Outcome:
        order = Birth(action.server, action.number, _image(action, images), action.place, self.clock.now())
        seen = await self._driver(view).birth(view.pool, order, op)
        return Outcome({"address": seen.address}, seen)

    async def _revive(self, view: PoolView, action: Action, op: Operation, images: Mapping[str, Image]) -> Outcome:
        seen = await self._driver(view).revive(view.pool, action.server, action.number, op)
        return Outcome({"address": seen.address}, seen)

    async def _retire(self, view: PoolView, action: Action, op: Operation, images: Mapping[str, Image]) -> Outcome:
        await self._driver(view).retire(view.pool, action.server, action.number, op)
        seen = view.find(action.server, action.number)
        if seen is None:
            return Outcome({})
        rollout = self.record.state.rollouts.get(action.rollout)
        keep = rollout.settings.retain if rollout else view.pool.rollout.retain
        retained = Draft("incarnation-retained", pool=view.pool.name, server=action.server, rollout=action.rollout, data={
            "number": action.number, "digest": seen.digest, "version": seen.version, "until": self.clock.now() + keep})
        return Outcome({}, replace(seen, state="stopped", data_held=()), after=(retained,))

    async def _commit(self, view: PoolView, action: Action, op: Operation, images: Mapping[str, Image]) -> Outcome:
        await self._driver(view).commit(view.pool, action.server, action.number, op)
        if view.pool.hooks.admit:
            await self._hook(view, action, view.pool.hooks.admit, op.deadline)
        return Outcome({})

    async def _drain(self, view: PoolView, action: Action, op: Operation, images: Mapping[str, Image]) -> Outcome:
        """The drain deadline is not a failure: then go on, with a warning in the journal."""
        try:
            await self._hook(view, action, view.pool.hooks.drain, op.deadline)
        except Transient as error:
            warning = Draft("warning", pool=view.pool.name, server=action.server, rollout=action.rollout,
                            data={"text": f"{error.message}; went on without it"})
            return Outcome({}, after=(warning,))
        return Outcome({})

    async def _hook(self, view: PoolView, action: Action, argv: tuple[str, ...], deadline: float) -> None:
        seen = view.find(action.server, action.number)
        values = {"name": action.server, "address": seen.address if seen else "", "version": seen.version if seen else ""}
        await self.around_hook("drain" if action.verb == "drain" else "admit", lambda: run_hook(argv, values, self.folder, deadline))

    async def _bury(self, view: PoolView, action: Action, op: Operation, images: Mapping[str, Image]) -> Outcome:
        await self._driver(view).bury(view.pool, action.server, action.number, op)
        buried = Draft("incarnation-buried", pool=view.pool.name, server=action.server, data={"number": action.number})
        return Outcome({}, gone=True, after=(buried,))

    async def _done(self, view: PoolView, action: Action, outcome: Outcome) -> None:
        done = Draft("step-done", pool=view.pool.name, server=action.server, rollout=action.rollout,
                     data={"op": action.op, "step": action.step, "facts": dict(outcome.facts)})
        events = await self.record.write(done, *outcome.after)
        number = outcome.seen.number if outcome.seen else action.number
        seen = None if outcome.gone else outcome.seen or view.find(action.server, number)
        if action.path in ("in-place", "fall-back") and action.verb in ("birth", "revive"):
            view.end_others(events[-1].at, action.server, number)  # the boot that began one incarnation ended the other
        view.confirm(events[-1].at, action.server, number, seen)

    async def _failed(self, view: PoolView, action: Action, error: str) -> None:
        words = await self.last_words(view, action.server, action.number) if action.verb in ("birth", "revive") else ""
        await self.record.write(Draft("step-failed", pool=view.pool.name, server=action.server, rollout=action.rollout, data={
            "op": action.op, "step": action.step, "error": error, "last_words": words, "number": action.number}))
        view.look.set()

    async def last_words(self, view: PoolView, server: str, number: int) -> str:
        """The end of the incarnation's console, fit to be shown; "" if the driver has none or it does not answer soon."""
        ask = getattr(self._driver(view), "last_words", None)
        if ask is None or number < 0:
            return ""
        try:
            async with asyncio.timeout(LAST_WORDS_DEADLINE):
                return last_words(str(await ask(view.pool, server, number))[-4096:])
        except (AnewError, TimeoutError):
            return ""

    async def guard(self, view: PoolView, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a pool's loop for ever: a fault of anew's own pauses that pool's rollout and is told, the others go on."""
        while True:
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                fault = self.rng.token()[:8]
                log.exception("fault %s in %s of pool %s", fault, what, view.pool.name)
                words = str(error) if isinstance(error, AnewError) else f"anew itself failed; the daemon's log says more under {fault}"
                view.trouble = f"{what}: {words}"
                await self.pause_for(view, view.trouble)
                await self.clock.sleep(5.0)

    async def pause_for(self, view: PoolView, reason: str, states: tuple[str, ...] = ("canary", "rolling", "rolling-back")) -> None:
        """Pause the pool's rollout, if it is in one of these states, for a reason of the daemon's own."""
        rollout = self.record.state.active(view.pool.name)
        if rollout is not None and rollout.state in states:
            await self.record.write(Draft("rollout-moved", pool=view.pool.name, rollout=rollout.id,
                                          data={"cause": "pause", "state": "paused", "reason": reason}))


def _image(action: Action, images: Mapping[str, Image]) -> Image:
    assert action.target is not None
    image = images.get(action.target.image.digest)
    if image is None:
        raise Permanent(f"image {action.target.image} with the digest of the plan is not in the catalogue any more; "
                        "restore its folder and resume, or roll back", where=str(action.target.image))
    return image
