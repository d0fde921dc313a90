"""What the API asks of the engine: queries answered from what is known now, commands through the inbox.

Implements fleet.api.office.Office (which it cannot name: api stands above engine).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from datetime import datetime
from typing import Any, Literal, cast

from fleet.core.desired import Access
from fleet.core.errors import Invalid, Refused
from fleet.core.observed import Image
from fleet.core.state import Rollout
from fleet.engine import consent, machines, metal, metrics, present, roots, steer
from fleet.engine.inbox import Inbox
from fleet.engine.loop import Engine
from fleet.engine.pairing import Caller, Pairing
from fleet.engine.plans import draw_plan, find_server, first_look, unknown
from fleet.engine.tally import Tally
from fleet.engine.tell import event_row, whole_page
from fleet.engine.turnaround import turnaround_row
from fleet.images.contents import packages_of, size_of
from fleet.ports import Console
from fleet.store.journal import SqliteJournal

Row = dict[str, Any]
Role = Literal["observer", "operator", "approver", ""]
PAGE_RUNS = 20_000
"""Of so many servers the plans fit into one page of whole rows: a few megabytes."""


class EngineOffice:
    """One for the daemon's life; the engine behind it is swapped when the fleet file is reloaded."""

    def __init__(self, engine: Callable[[], Engine], journal: SqliteJournal, about: Mapping[str, Any], own_uid: int,
                 reload: Callable[[str], Awaitable[str]], read_only: Callable[[], str], tally: Tally) -> None:
        self._engine = engine
        self._journal = journal
        self._about = about
        self._own_uid = own_uid
        self._read_only = read_only
        self._tally = tally
        self.pairing = Pairing(engine, self.role_of)
        self._inbox = Inbox(engine, journal.find_request, reload, read_only, self.pairing)

    def role_of(self, caller: Caller) -> Role:
        """By [access] as it is now; root and the daemon's own user are operators always. Who asked to be an observer is one at most."""
        role = self._listed_role(caller)
        return "observer" if role and caller.observer else role

    def _listed_role(self, caller: Caller) -> Role:
        access = self._engine().desired.access
        if caller.uid in (0, self._own_uid) or _listed(caller, access.operators):
            return "operator"
        if _listed(caller, access.approvers):
            return "approver"
        return "observer" if _listed(caller, access.observers) or _open(access) else ""

    def status(self, caller: Caller) -> Row:
        """StatusFrame."""
        engine = self._engine()
        state = engine.record.state
        pools, rollouts = [], []
        for view in engine.views.values():
            sight = engine.sight(view)
            row = present.pool_row(sight, engine.newest(view.pool), view.trouble, view.auto)
            row["servers"] = [present.server_row(sight, name, view.shown_waits()) for name in view.pool.server_names]
            pools.append(row)
            last = sight.rollout or engine.last_rollout(view.pool.name)
            if last is not None:
                rollouts.append(present.rollout_row(sight, last, view.shown_waits()))
        return {"schema_version": 1, "fleet": engine.desired.fleet, "generation": state.generation, "seq": state.seq,
                "now": present.moment(engine.clock.now()), "read_only": self._read_only(), "failpoints": self._about["failpoints"], "you": self._you(caller),
                "people": self.pairing.rows(), "pools": pools, "rollouts": rollouts}

    def _you(self, caller: Caller) -> Row:
        return {"user": caller.user, "terminal": caller.terminal, "role": self.role_of(caller)}

    def info(self, caller: Caller) -> Row:
        """Paths, versions, and who asks."""
        engine = self._engine()
        return {**self._about, "fleet": engine.desired.fleet, "settings": {"digest": engine.desired.digest, "pools": list(engine.views)}, "you": self._you(caller)}

    def metrics(self) -> str:
        """Prometheus' text."""
        started_at = datetime.fromisoformat(str(self._about["started_at"])).timestamp()
        return metrics.page(self._engine(), self._tally, str(self._about["versions"]["anew"]), started_at, bool(self._read_only()))

    def _row(self, rollout: Rollout) -> Row:
        engine = self._engine()
        view = engine.views.get(rollout.pool)
        if view is None:
            raise Refused(f"pool {rollout.pool} of rollout {rollout.id} is not in the fleet file any more", where=rollout.id)
        return present.rollout_row(engine.sight(view), rollout, view.shown_waits() if not rollout.ended else {})

    def rollouts(self) -> list[Row]:
        """Newest first."""
        engine = self._engine()
        known = [rollout for rollout in engine.record.state.rollouts.values() if rollout.pool in engine.views]
        return [self._row(rollout) for rollout in sorted(known, key=lambda item: item.started_at, reverse=True)]

    def rollout(self, rollout: str) -> Row:
        """One RolloutRow; Invalid (unknown-rollout) if there is none."""
        found = self._engine().record.state.rollouts.get(rollout)
        if found is None:
            raise unknown("rollout", rollout, list(self._engine().record.state.rollouts))
        return self._row(found)

    def server(self, name: str) -> Row:
        """A ServerRow with every incarnation that exists, and its last replacement."""
        engine = self._engine()
        view = find_server(engine, name)
        sight = engine.sight(view)
        known = sight.known(name)
        past = [{"incarnation": number, "version": seen.version, "digest": seen.digest, "state": seen.state, "born_at": present.moment(seen.born_at),
                 "address": seen.address, "hypervisor": seen.place, "data_held": list(seen.data_held), "failed": number in known.failed,
                 "retained_until": present.moment(known.retained.get(number)), "note": seen.note}
                for number, seen in sorted(sight.by_server.get(name, {}).items(), reverse=True)]
        facts = {}
        serving = sight.serving(name)
        if serving is not None and (found := sight.facts.get((name, serving.number))):
            facts = {"root": found.root, "version": found.version, "os": found.os, "boot_id": found.boot_id, "note": found.note}
        run = sight.rollout.runs.get(name) if sight.rollout else None
        return {**present.server_row(sight, name, view.shown_waits()), "facts": facts, "incarnations": past, "replacement": present.replacement_row(sight, name),
                "run": present.run_row(sight, sight.rollout, run, view.shown_waits()) if run and sight.rollout else None}

    # --- images

    async def images(self) -> list[Row]:
        """ImageRows; a version that cannot be used is a row with its problem."""
        engine = self._engine()
        await asyncio.to_thread(engine.catalogue.refresh)
        engine.refresh_images()
        rows = [self._image_row(engine, image) for image in engine.catalogue.list()]
        rows += [{"family": bad.family, "version": bad.version, "digest": "", "kind": "", "built_at": "", "size": 0, "packages": None,
                  "source": "", "used_by": [], "rejected": [], "problem": bad.problem} for bad in engine.catalogue.problems()]
        return rows

    def _image_row(self, engine: Engine, image: Image) -> Row:
        used = [view.pool.name for view in engine.views.values()
                if view.observed and any(seen.digest == image.ref.digest and seen.state == "running" for seen in view.observed.incarnations)]
        rejected = [{"pool": name, "reason": pool.rejected[image.ref.digest].reason} for name, pool in engine.record.state.pools.items() if image.ref.digest in pool.rejected]
        try:
            packages = packages_of(image)
        except Invalid:
            packages = None
        return {"family": image.ref.family, "version": image.ref.version, "digest": image.ref.digest, "kind": image.kind, "built_at": image.built_at,
                "size": size_of(image), "packages": None if packages is None else len(packages), "source": image.source, "used_by": used,
                "rejected": rejected, "problem": ""}

    async def image(self, family: str, version: str) -> Row:
        """An ImageRow with files and packages; the bytes are hashed again."""
        engine = self._engine()
        details = engine.catalogue.show(family, version)
        row = self._image_row(engine, details.image)
        row["files"] = [{"name": file.name, "sha256": file.sha256, "size": file.size} for file in details.image.files.values()]
        row["packages_list"] = dict(details.packages or {})
        try:
            await asyncio.to_thread(engine.catalogue.verify, details.image.ref)
        except Invalid as error:
            row["problem"] = str(error)
        return row

    async def image_diff(self, family: str, a: str, b: str) -> Row:
        """ImageDiff."""
        found = await asyncio.to_thread(self._engine().catalogue.diff, family, a, b)
        return {"family": family, "a": found.a, "b": found.b, "size_a": found.size_a, "size_b": found.size_b, "added": dict(found.added),
                "removed": dict(found.removed), "changed": {name: list(pair) for name, pair in found.changed.items()},
                "kernel": list(found.kernel) if found.kernel else None, "cmdline": list(found.cmdline) if found.cmdline else None,
                "packages_known": found.packages_known}

    # --- machines, plans, commands

    async def foreign(self) -> list[Row]:
        """ForeignRows."""
        return machines.foreign(self._engine())

    async def leftovers(self) -> list[Row]:
        """Findings of doctor."""
        return machines.findings(self._engine())

    async def machines(self) -> list[Row]:
        """MachineRows, as last seen."""
        return metal.rows(self._engine(), self._inbox.doing)

    async def machine_check(self, names: Sequence[str]) -> list[Row]:
        """MachineChecks: a look now."""
        return await metal.check(self._engine(), names)

    async def roots(self, name: str) -> list[Row]:
        """RootRows."""
        return await roots.report(self._engine(), name)

    async def plan(self, request: Mapping[str, Any]) -> Row:
        """PlanFrame: the plan as it is drawn now; with `looked_at` also what changed since that one was shown."""
        engine = self._engine()
        await asyncio.to_thread(engine.catalogue.refresh)
        engine.refresh_images()
        active = engine.record.state.active(str(request.get("pool", "")))
        if request.get("kind") == "rollback" and active is not None and active.kind != "birth" and not request.get("servers"):
            return turnaround_row(engine.sight(engine.views[active.pool]), active)
        await first_look(engine, str(request.get("pool", "")))
        sight, plan = draw_plan(engine, request)
        self._inbox.remember(plan)
        row = present.plan_row(sight, plan, [])
        if changed := self._inbox.changed_since(str(request.get("looked_at", "")), plan):
            row["difference"] = list(changed)
        both = {image.digest for image in (plan.image_from, plan.image_to) if image is not None}
        if len(both) > 1 and both <= engine.images.keys():
            assert plan.image_from is not None
            row["diff"] = await self.image_diff(plan.image_to.family, plan.image_from.version, plan.image_to.version)
        return row

    def proposals(self) -> list[Row]:
        """ProposalRows."""
        return consent.rows(self._engine())

    async def command(self, caller: Caller, role: Role, request: Mapping[str, Any]) -> Row:
        """CommandAnswer."""
        if role != "operator" and not (role == "approver" and request.get("command") == "plan.approve"):
            raise Refused(f"{caller.user} may look, not act; [access] operators in the fleet file says who may", code="role")
        return await self._inbox.command(caller.actor, request, caller.uid, caller.pid)

    # --- journal, stream, console

    async def journal(self, since: int, limit: int, whole: bool = False) -> Row:
        """Events after `since`; whole ones are fewer when they pin the runs of large rollouts, and never none if there are any."""
        events = await self._journal.fetch(since, limit)
        rows = whole_page(events, PAGE_RUNS) if whole else [event_row(event) for event in events]
        return {"events": rows, "tip": self._journal.tip()[0]}

    async def journal_verify(self) -> Row:
        """The whole chain, checked again."""
        message = await asyncio.to_thread(self._journal.verify)
        rows, tip = self._journal.tip()
        return {"ok": not message, "message": message or f"{rows} rows, every link holds", "rows": rows, "tip": tip}

    @asynccontextmanager
    async def subscribe(self, since: int, caller: Caller, drives: str = "", *, here: bool = False) -> AsyncIterator[AsyncIterator[Mapping[str, Any]]]:
        """Frames from `since` on, while the caller's terminal drives the rollout named, if one is; with `here` they are shown to everybody."""
        async with steer.driving(self._engine(), drives, caller.actor):
            engine = self._engine()
            hello = {"frame": "hello", "seq": engine.record.state.seq, "fleet": engine.desired.fleet}
            with ExitStack() as stack:
                if here:
                    hello["you"] = stack.enter_context(self.pairing.here(caller, lambda: engine.over))
                async with engine.hub.subscribe(since, hello) as frames:
                    yield frames

    def place(self, caller: Caller, place: Mapping[str, Any]) -> None:
        """Where the caller looks, for who follows them."""
        self.pairing.show((caller.uid, caller.pid), place)

    async def console(self, server: str) -> AsyncIterator[bytes]:
        """The console of the newborn if there is one, else of the incarnation in service."""
        engine = self._engine()
        view = find_server(engine, server)
        sight = engine.sight(view)
        mine = sight.by_server.get(server, {})
        running = [number for number, seen in mine.items() if seen.state == "running"]
        if not mine:
            raise Refused(f"{server} has no incarnation, so there is no console", where=server)
        driver = engine.drivers[view.pool.driver]
        if not hasattr(driver, "console"):
            raise Refused(f"driver {view.pool.driver} has no console", where=server)
        stream = cast(Console, driver).console(view.pool, server, max(running or mine))
        async with aclosing(cast(Any, stream)) as chunks:
            async for chunk in chunks:
                yield chunk


def _listed(caller: Caller, entries: tuple[str, ...]) -> bool:
    return f"user:{caller.user}" in entries or any(f"group:{group}" in entries for group in caller.groups)


def _open(access: Access) -> bool:
    """Without [access] the socket's own mode decides who may look."""
    return not (access.observers or access.operators or access.approvers)
