"""Plans that need other people's approval: proposed, approved, withdrawn (rules: core/approvals.py).

Everything is decided under the pool's lock. A plan is drawn anew for each approval, too: what nobody could start any more is not
approved by anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.core import approvals
from fleet.core.approvals import SHOWN
from fleet.core.errors import Refused, Stale
from fleet.core.events import Draft
from fleet.core.printable import printable
from fleet.core.proposal import Plan
from fleet.core.sight import Sight
from fleet.core.state import Proposal
from fleet.engine import present
from fleet.engine.loop import Engine
from fleet.engine.plans import draw_plan, find_view, first_look
from fleet.engine.view import PoolView

Request = Mapping[str, Any]
Answer = dict[str, Any]


async def propose(engine: Engine, sight: Sight, plan: Plan, asked: Request, actor: str, uid: int, request_id: str) -> Answer:
    """Have a plan wait for approval in the place of the pool's older one. The caller holds the pool's lock."""
    if uid == approvals.NOBODY:
        raise Refused("the kernel does not say who proposes this plan, so nobody could be told apart from its author", where=plan.pool, code="nobody")
    pool = engine.views[plan.pool].pool
    before = approvals.pending(engine.record.state, pool, engine.clock.now())
    summary = present.plan_row(sight, plan, [])["summary"]
    events = await engine.record.write(approvals.proposed(plan, pool, asked, summary, actor, uid, request_id))
    count = approvals.needed(pool, plan.kind)
    instead = f", in the place of plan {before.hash[:SHOWN]} of {approvals.person(before.author)}" if before else ""
    return {"ok": True, "seq": events[-1].seq, "proposed": plan.hash, "message":
            f"plan {plan.hash[:SHOWN]} is proposed, nothing is started{instead}: it needs {count} "
            f"{approvals.call(plan.hash, count, engine.desired.access, actor)}; then `{approvals.start_words(asked)}` starts it"}


def named(engine: Engine, request: Request) -> Proposal:
    """The proposal that a command is about: by the plan's hash, or by its pool; both must agree if both are given."""
    pools = {name: view.pool for name, view in engine.views.items()}
    state, now = engine.record.state, engine.clock.now()
    word, pool = str(request.get("plan_hash", "")), str(request.get("pool", ""))
    if pool:
        find_view(engine, pool)
    proposal = approvals.find(pools, state, now, pool or word)
    # Fewer digits than people are shown could be searched for: a second plan that begins as the one a colleague looked at.
    if word and not (len(word) >= SHOWN and proposal.hash.startswith(word)):
        raise Refused(f"pool {pool} waits for the approval of plan {proposal.hash[:SHOWN]}, not of {word[:SHOWN]}: an approval counts for one plan only",
                      where=pool, code="unknown-plan")
    return proposal


async def approve(engine: Engine, actor: str, request: Request, uid: int) -> Answer:
    """A person's yes to the plan that waits. It starts nothing."""
    view = find_view(engine, named(engine, request).pool)
    await first_look(engine, view.pool.name)
    async with engine.holding(view):
        proposal, pool = named(engine, request), view.pool
        approvals.check_person(proposal, pool, uid, engine.clock.now())
        approvals.same(proposal, pool, draw_plan(engine, proposal.request)[1])
        events = await engine.record.write(Draft("plan-approved", actor=actor, pool=pool.name, request=str(request.get("request", "")), data={
            "hash": proposal.hash, "uid": uid}))
    view.wake()
    left = approvals.approvals_left(engine.record.state, pool, proposal.hash, engine.clock.now(), proposal.kind)
    of = approvals.needed(pool, proposal.kind)
    then = f"it waits for {left} more" if left else f"{approvals.person(proposal.author)}, or any operator, starts it with `{approvals.start_words(proposal.request)}`"
    return {"ok": True, "seq": events[-1].seq, "message": f"plan {proposal.hash[:SHOWN]} of pool {pool.name} is approved, {of - left} of {of}: {then}"}


async def withdraw(engine: Engine, actor: str, request: Request) -> Answer:
    """The plan that waits is taken back, with its approvals."""
    view = find_view(engine, named(engine, request).pool)
    async with engine.holding(view):
        proposal = named(engine, request)
        why = printable(str(request.get("why", "")))
        events = await engine.record.write(Draft("plan-withdrawn", actor=actor, pool=view.pool.name, request=str(request.get("request", "")), data={
            "hash": proposal.hash, "reason": f"withdrawn by {actor}" + (f": {why}" if why else "")}))
    view.wake()
    return {"ok": True, "seq": events[-1].seq, "message": f"plan {proposal.hash[:SHOWN]} of pool {view.pool.name} is withdrawn"}


def rows(engine: Engine) -> list[dict[str, Any]]:
    """ProposalRows of all pools, the oldest first, each with what it was asked with and what no longer holds of it."""
    found = []
    for view in engine.views.values():
        sight = engine.sight(view)
        row = present.proposal_row(sight)
        proposal = sight.pool_state.proposal
        if row is not None and proposal is not None:
            found.append({**row, "request": dict(proposal.request), "summary": list(proposal.summary), "difference": list(difference(engine, view, proposal))})
    return sorted(found, key=lambda row: str(row["at"]))


def difference(engine: Engine, view: PoolView, proposal: Proposal) -> tuple[str, ...]:
    """What changed since it was proposed, a sentence each; () if it could still be started."""
    try:
        approvals.same(proposal, view.pool, draw_plan(engine, proposal.request)[1])
    except Stale as error:
        return error.difference
    except Refused as error:
        return (str(error),)
    return ()
