"""Commands in: checked, decided under the pool's lock, journalled, and only then acknowledged (invariant I18).

The same request id twice has one effect and one answer. A command decided on an older generation of its pool is refused
(rollout.md rule 16), except pause and abort, which anybody may give at any time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from fleet.core.approvals import clear
from fleet.core.errors import AnewError, Invalid, Refused, Stale
from fleet.core.events import Draft, Event
from fleet.core.lifecycle import may
from fleet.core.lifecycle import move as next_state
from fleet.core.planner import reject_note, rollback_notes
from fleet.core.printable import printable
from fleet.core.proposal import Plan, differences
from fleet.core.sight import some
from fleet.core.state import Rollout
from fleet.engine import consent, machines, roots, shells
from fleet.engine.loop import Engine, Swapped
from fleet.engine.metal import Orders
from fleet.engine.pairing import NO_ONE, Key, Pairing
from fleet.engine.plans import draw_plan, find_server, find_view, first_look, unknown
from fleet.engine.starts import started
from fleet.engine.steer import asked_of, set_note
from fleet.engine.view import PoolView

Request = Mapping[str, Any]
Answer = dict[str, Any]
ANSWERS = 1024
DRAWN = 64
MIN_HASH = 6


class Inbox:
    """The commands of one daemon. `reload` reads the fleet file again and swaps the engine; it raises Invalid."""

    def __init__(self, engine: Callable[[], Engine], find_request: Callable[[str], tuple[Event, ...]],
                 reload: Callable[[str], Awaitable[str]], read_only: Callable[[], str], pairing: Pairing | None = None) -> None:
        self._engine = engine
        self._find_request = find_request
        self._reload = reload
        self._read_only = read_only
        self._pairing = pairing or Pairing(engine, lambda caller: "")
        self._orders = Orders()
        self._answers: OrderedDict[str, tuple[tuple[str, str], asyncio.Future[Answer]]] = OrderedDict()
        self._drawn: OrderedDict[str, Plan] = OrderedDict()

    @property
    def doing(self) -> Mapping[str, str]:
        """Machine -> what was ordered for it and is under way, in words."""
        return self._orders.doing

    def remember(self, plan: Plan) -> None:
        """Keep a plan that somebody looks at, to tell what changed if it goes stale."""
        self._drawn[plan.hash] = plan
        while len(self._drawn) > DRAWN:
            self._drawn.popitem(last=False)

    async def command(self, actor: str, request: Request, uid: int = NO_ONE[0], pid: int = NO_ONE[1]) -> Answer:
        """Carry out one command; the answer means that the journal has it. `uid`, `pid`: the kernel's word for who gives it."""
        key = str(request.get("request", ""))
        if not key:
            return await self._decide(actor, request, (uid, pid))
        mine = (actor, str(request.get("command", "")))
        asked, answer = self._answers.get(key, (mine, None))
        if answer is None:
            if written := self._find_request(key):
                asked = (written[0].actor, mine[1] if written[0].type in _WRITES.get(mine[1], ()) else "another command")
                answer = asyncio.get_running_loop().create_future()
                answer.set_result({"ok": True, "seq": written[-1].seq, "message": "done before", "rollout": written[0].rollout,
                                   **({"proposed": written[0].data["hash"]} if written[0].type == "plan-proposed" else {})})
            else:
                answer = asyncio.ensure_future(self._decide(actor, request, (uid, pid)))
            self._answers[key] = (asked, answer)
            while len(self._answers) > ANSWERS:
                self._answers.popitem(last=False)
        if asked != mine:
            raise Invalid("this request id was used for something else; nothing was done, ask again with a new one", where="request", code="request-reused")
        return await asyncio.shield(answer)

    async def _decide(self, actor: str, request: Request, by: Key) -> Answer:
        name = str(request.get("command", ""))
        do = self._verbs(by).get(name)
        if do is None:
            raise Invalid(f"no command {name!r}", code="unknown-command")
        if self._read_only():
            raise Refused(self._read_only(), code="read-only")
        try:
            self._pairing.check(by, name)
            await self._pairing.settle()
            return await self._by_one_file(partial(do, actor, request))
        except AnewError as error:
            await self._engine().record.write(Draft("command-refused", actor=actor, pool=printable(str(request.get("pool", "")), 64), data={
                "command": name, "reason": printable(str(error), 300)}))
            raise

    async def _by_one_file(self, do: Callable[[], Awaitable[Answer]]) -> Answer:
        """Nothing is begun by a fleet file that was left while the command waited for its turn."""
        while True:
            engine = self._engine()
            try:
                return await do()
            except Swapped:
                if self._engine() is engine:
                    raise Refused("the daemon is ending; nothing was done, ask again when it runs", code="ending") from None

    def _verbs(self, by: Key) -> Mapping[str, Callable[[str, Request], Awaitable[Answer]]]:
        return {
            "rollout.start": partial(self._start, uid=by[0]), "plan.approve": partial(self._approve, uid=by[0]), "plan.withdraw": self._withdraw,
            "rollback.start": self._rollback, "rollout.pause": self._pause, "rollout.resume": self._resume,
            "rollout.set": self._set,
            "rollout.promote": self._promote, "rollout.abort": self._abort, "server.hold": self._hold, "server.release": self._release,
            "remark": self._remark, "settings.reload": self._settings_reload, "image.reject": self._reject,
            "image.unreject": self._unreject, "image.add": self._image_add, "server.adopt": self._adopt,
            "shell.open": self._shell_open, "shell.ended": self._shell_ended, "doctor.fix": self._fix, "root.set": self._root, "machine.install": self._machine_install,
            "machine.recover": self._machine_recover, "seat.take": partial(self._pairing.take, by), "seat.give": partial(self._pairing.give, by),
            "seat.keep": partial(self._pairing.keep, by),
        }

    # --- rollouts

    async def _start(self, actor: str, request: Request, uid: int = NO_ONE[0]) -> Answer:
        engine = self._engine()
        asked = {**request.get("plan", {}), "pool": request.get("pool") or request.get("plan", {}).get("pool", "")}
        view = find_view(engine, str(asked["pool"]))
        if view.pool.mode == "observe":
            raise Refused(f'pool {view.pool.name} is in mode "observe", which touches nothing; set mode = "manual" in '
                          f"{engine.desired.path} and `anew reload`", where=f"pools.{view.pool.name}.mode", code="observe-mode")
        await first_look(engine, view.pool.name)
        async with engine.holding(view):
            self._check_generation(engine, view, request)
            sight, plan = draw_plan(engine, asked)
            self._check_hash(plan, str(request.get("plan_hash", "")))
            approved = clear(engine.record.state, view.pool, plan, asked, engine.desired.access, engine.clock.now())
            if approved is None:
                return await consent.propose(engine, sight, plan, asked, actor, uid, str(request.get("request", "")))
            rollout = engine.rng.token()[:8]
            events = await engine.record.write(*started(plan, view.pool, rollout, actor, str(request.get("request", "")), approved,
                                                         asked_of(view.pool, request, plan.settings, back=plan.kind == "rollback")))
        view.wake()
        count = f"{len(plan.acting)} server{'s' if len(plan.acting) > 1 else ''}"
        return {"ok": True, "seq": events[-1].seq, "rollout": rollout, "message": f"rollout {rollout} started: {count} to {plan.image_to.version}"}

    async def _approve(self, actor: str, request: Request, uid: int) -> Answer:
        return await consent.approve(self._engine(), actor, request, uid)

    async def _withdraw(self, actor: str, request: Request) -> Answer:
        return await consent.withdraw(self._engine(), actor, request)

    def changed_since(self, wanted: str, plan: Plan) -> tuple[str, ...]:
        """What changed since the plan was looked at whose hash, or its first six characters or more, is `wanted`; () if it is this one."""
        if not wanted or wanted == plan.hash or (len(wanted) >= MIN_HASH and plan.hash.startswith(wanted)):
            return ()
        old = next((kept for name, kept in reversed(self._drawn.items()) if len(wanted) >= MIN_HASH and name.startswith(wanted)), None)
        if old is None:
            return ("the plan you name is not known here any more, so what changed since cannot be told",)
        return differences(old, plan) or ("what is left behind is another image",)

    def _check_hash(self, plan: Plan, wanted: str) -> None:
        changed = self.changed_since(wanted, plan)
        if not changed:
            return
        raise Stale(f"the fleet is not what plan {wanted[:6]} was drawn on: {'; '.join(changed[:5])}; look at the plan again", difference=changed)

    def _check_generation(self, engine: Engine, view: PoolView, request: Request) -> None:
        seen, now = request.get("generation"), engine.record.state.pool(view.pool.name).generation
        if seen is not None and int(seen) < now:
            raise Stale(f"pool {view.pool.name} was changed by somebody since you looked (generation {seen}, now {now}); look again",
                        difference=(self._last_change(engine, view.pool.name),))

    def _last_change(self, engine: Engine, pool: str) -> str:
        rollout = engine.record.state.active(pool)
        return f"rollout {rollout.id} is {rollout.state}" if rollout else "no rollout is under way"

    async def _rollback(self, actor: str, request: Request) -> Answer:
        engine = self._engine()
        named: Rollout | None = None
        if request.get("rollout"):
            view, named = self._named(engine, request)
        else:
            view = find_server(engine, str(request["server"])) if request.get("server") else find_view(engine, str(request.get("pool", "")))
        rollout = engine.record.state.active(view.pool.name)
        turned = named is None or (rollout is not None and rollout.id == named.id)
        planned = rollout is None and request.get("plan_hash")
        if named is not None and not (turned or planned or request.get("server")):
            raise Refused(f"rollout {named.id} is {named.state} by now; look again, its way back is a rollback with a plan of its own",
                          where=view.pool.name, code="wrong-state")
        if named is None and rollout is not None and request.get("plan_hash") and not request.get("server"):
            raise Refused(f"rollout {rollout.id} has begun since this rollback was planned, and would be turned around in its place; look again",
                          where=view.pool.name, code="wrong-state")
        if rollout is None or request.get("server"):
            servers = [str(request["server"])] if request.get("server") else None
            return await self._start(actor, {**request, "pool": view.pool.name, "plan": {
                **request.get("plan", {}), "kind": "rollback", **({"servers": servers} if servers else {})}})
        if rollout.kind == "birth":
            raise Refused("a birth has nothing to go back to; abort it instead", where=rollout.id)
        async with engine.holding(view):
            rollout = self._still(engine, rollout.id, "rollback")
            why = printable(str(request.get("why", ""))) or f"rolled back by {actor}"
            events = await engine.record.write(*_asked(rollback_notes(rollout, why, actor), request))
        view.wake()
        return {"ok": True, "seq": events[-1].seq, "rollout": rollout.id, "message": f"rollout {rollout.id} is rolling back"}

    async def _pause(self, actor: str, request: Request) -> Answer:
        return await self._move(actor, request, "pause", _because(request, f"paused by {actor}"), check=False)

    async def _abort(self, actor: str, request: Request) -> Answer:
        return await self._move(actor, request, "abort", _because(request, f"aborted by {actor}"), check=False)

    async def _promote(self, actor: str, request: Request) -> Answer:
        return await self._move(actor, request, "promoted", f"promoted by {actor}")

    async def _resume(self, actor: str, request: Request) -> Answer:
        return await self._move(actor, request, "resume", f"resumed by {actor}")

    async def _set(self, actor: str, request: Request) -> Answer:
        engine = self._engine()
        view, found = self._named(engine, request)
        async with engine.holding(view):
            self._check_generation(engine, view, request)
            note, message = set_note(engine, view.pool, engine.record.state.rollouts[found.id], actor, request)
            events = await engine.record.write(note)
        view.wake()
        return {"ok": True, "seq": events[-1].seq, "rollout": found.id, "message": message}

    async def _move(self, actor: str, request: Request, cause: str, reason: str, *, check: bool = True) -> Answer:
        engine = self._engine()
        view, found = self._named(engine, request)
        async with engine.holding(view):
            if check:
                self._check_generation(engine, view, request)
            if cause == "resume":  # to what, and whether at all, only the lock's holder can say
                cause = self._resumption(engine.record.state.rollouts[found.id])
            rollout = self._still(engine, found.id, cause)
            note = Draft("rollout-moved", actor=actor, pool=rollout.pool, rollout=rollout.id, request=str(request.get("request", "")),
                         data={"cause": cause, "state": next_state(rollout.state, cause), "reason": reason, **engine.reins.let_go(rollout, cause),
                               **asked_of(view.pool, request, rollout.settings, back="rolling-back" in (rollout.state, rollout.resume_to))})
            events = await engine.record.write(note)
        view.wake()
        state = {"abort": "being aborted; what is in flight is made whole first", "resume-canary": "going on with its canaries"}.get(
            cause, next_state(rollout.state, cause))
        return {"ok": True, "seq": events[-1].seq, "rollout": rollout.id, "message": f"rollout {rollout.id} is {state}{_first(engine, rollout.id)}"}

    def _resumption(self, rollout: Rollout) -> str:
        if rollout.ending:
            raise Refused(f"rollout {rollout.id} was aborted and only finishes what is in flight", where=rollout.id)
        return f"resume-{rollout.resume_to or rollout.state}"

    def _named(self, engine: Engine, request: Request) -> tuple[PoolView, Rollout]:
        if request.get("rollout"):
            wanted = str(request["rollout"])
            rollout = engine.record.state.rollouts.get(wanted)
            if rollout is None:
                raise unknown("rollout", wanted, list(engine.record.state.rollouts))
            return find_view(engine, rollout.pool), rollout
        view = find_view(engine, str(request.get("pool", "")))
        active = engine.record.state.active(view.pool.name)
        if active is None:
            raise Refused(f"pool {view.pool.name} has no rollout under way", where=view.pool.name, code="no-rollout")
        return view, active

    def _still(self, engine: Engine, rollout_id: str, cause: str) -> Rollout:
        rollout = engine.record.state.rollouts[rollout_id]
        if not may(rollout.state, cause):
            does = {"pause": "paused", "abort": "aborted"}.get(cause, "resumed" if cause.startswith("resume") else cause)
            first = f"; `anew rollout resume {rollout.id}` comes first" if cause == "promoted" and rollout.state == "paused" else ""
            raise Refused(f"rollout {rollout.id} is {rollout.state} and cannot be {does} now{first}", where=rollout.pool, code="wrong-state")
        return rollout

    # --- servers, images, the rest

    async def _simple(self, actor: str, request: Request, draft: Draft, message: str) -> Answer:
        engine = self._engine()
        view = engine.views.get(draft.pool)
        signed = Draft(draft.type, actor, draft.pool, draft.server, draft.rollout, draft.data, str(request.get("request", "")))
        if view is None:
            events = await engine.record.write(signed)
        else:
            async with engine.holding(view):
                events = await engine.record.write(signed)
            view.wake()
        return {"ok": True, "seq": events[-1].seq, "message": message}

    async def _hold(self, actor: str, request: Request) -> Answer:
        name, why = str(request.get("server", "")), printable(str(request.get("why", "")))
        view = find_server(self._engine(), name)
        if not why:
            raise Invalid("say why the server is held, for the colleague who finds it", where="why")
        return await self._simple(actor, request, Draft("server-held", pool=view.pool.name, server=name, data={"why": why}), f"{name} is held")

    async def _release(self, actor: str, request: Request) -> Answer:
        name = str(request.get("server", ""))
        view = find_server(self._engine(), name)
        if self._engine().record.state.pool(view.pool.name).server(name).held is None:
            raise Refused(f"{name} is not held", where=name)
        return await self._simple(actor, request, Draft("server-released", pool=view.pool.name, server=name), f"{name} is released")

    async def _remark(self, actor: str, request: Request) -> Answer:
        text = printable(str(request.get("text", "")), 500)
        if not text:
            raise Invalid("the remark is empty", where="text")
        return await self._simple(actor, request, Draft("remark", pool=str(request.get("pool", "")), rollout=str(request.get("rollout", "")), data={"text": text}), "noted")

    async def _reject(self, actor: str, request: Request) -> Answer:
        view = find_view(self._engine(), str(request.get("pool", "")))
        ref = self._engine().catalogue.get(view.pool.image, str(request.get("version", ""))).ref
        why = printable(str(request.get("why", ""))) or f"rejected by {actor}"
        return await self._simple(actor, request, reject_note(view.pool.name, "", ref.digest, ref.version, why, actor), f"{ref} is rejected for {view.pool.name}")

    async def _unreject(self, actor: str, request: Request) -> Answer:
        engine = self._engine()
        view = find_view(engine, str(request.get("pool", "")))
        version = str(request.get("version", ""))
        rejected = engine.record.state.pool(view.pool.name).rejected
        digest = next((key for key, item in rejected.items() if item.version == version), None)
        if digest is None:
            raise Invalid(f"version {version!r} is not rejected for pool {view.pool.name}", code="unknown-version")
        return await self._simple(actor, request, Draft("image-unrejected", pool=view.pool.name, data={"digest": digest, "version": version}), f"{version} may be chosen again")

    async def _image_add(self, actor: str, request: Request) -> Answer:
        engine = self._engine()
        image = await asyncio.to_thread(engine.catalogue.add, str(request.get("path", "")))
        engine.refresh_images()
        return await self._simple(actor, request, Draft("warning", data={"text": f"image {image.ref} catalogued, {image.ref.digest}"}), f"{image.ref} is catalogued")

    async def _settings_reload(self, actor: str, request: Request) -> Answer:
        return {"ok": True, "seq": self._engine().record.state.seq, "message": await self._reload(actor)}

    async def _adopt(self, actor: str, request: Request) -> Answer:
        return await machines.adopt(self._engine(), actor, request)

    async def _fix(self, actor: str, request: Request) -> Answer:
        return await machines.fix(self._engine(), actor, request)

    async def _root(self, actor: str, request: Request) -> Answer:
        return await roots.set_root(self._engine(), actor, request)

    async def _shell_open(self, actor: str, request: Request) -> Answer:
        return await shells.open_shell(self._engine(), actor, request)

    async def _shell_ended(self, actor: str, request: Request) -> Answer:
        name = str(request.get("server", ""))
        draft = Draft("shell-ended", pool=find_server(self._engine(), name).pool.name, server=name, data={"words": shells.end_words(request)})
        return await self._simple(actor, request, draft, "noted")

    async def _machine_install(self, actor: str, request: Request) -> Answer:
        return await self._orders.install(self._engine(), actor, request)

    async def _machine_recover(self, actor: str, request: Request) -> Answer:
        return await self._orders.recover(self._engine(), actor, request)


_STARTS, _MOVES = ("rollout-started",), ("rollout-moved",)
_WRITES: Mapping[str, tuple[str, ...]] = {
    "rollout.start": (*_STARTS, "plan-proposed"), "plan.approve": ("plan-approved",), "plan.withdraw": ("plan-withdrawn",),
    "rollback.start": _STARTS + _MOVES, "rollout.pause": _MOVES, "rollout.resume": _MOVES, "rollout.promote": _MOVES,
    "rollout.abort": _MOVES, "rollout.set": ("rollout-set",), "server.hold": ("server-held",), "server.release": ("server-released",), "server.adopt": ("server-adopted",),
    "remark": ("remark",), "image.reject": ("image-rejected",), "image.unreject": ("image-unrejected",), "image.add": ("warning",),
    "seat.take": ("seat-asked", "seat-taken"), "seat.give": ("seat-taken", "seat-left"), "seat.keep": ("seat-kept",),
    "root.set": ("root-set",), "shell.open": ("server-tainted",), "shell.ended": ("shell-ended",), "machine.install": ("machine-ordered",), "machine.recover": ("machine-ordered",),
}
"""The event that carries a command's request id: what the journal can still tell after a restart."""


def _because(request: Request, usual: str) -> str:
    """The reason a person gave, and who it was."""
    why = printable(str(request.get("why", "")))
    return f"{usual}: {why}" if why else usual


def _first(engine: Engine, rollout: str) -> str:
    """"" or who is put back before it is tried once more, since it had failed when somebody resumed."""
    back = [run.server for run in engine.record.state.rollouts[rollout].runs.values() if run.again]
    more = len(back) > 1
    return f"; {some(back)} failed and {'are' if more else 'is'} put back first, then {'they are' if more else 'it is'} tried once more" if back else ""


def _asked(notes: tuple[Draft, ...], request: Request) -> tuple[Draft, ...]:
    """The first note carries the client's request id, so that the journal knows the answer."""
    first = notes[0]
    return (Draft(first.type, first.actor, first.pool, first.server, first.rollout, first.data, str(request.get("request", ""))), *notes[1:])
