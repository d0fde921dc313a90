"""Approvals: so many other people say yes to a plan before its rollout may start (invariant I33).

- An approval is for the hash of one plan, by one uid as the kernel gave it, and good for the pool's `approval_expiry`. The
  author's never counts, from whatever terminal or client it comes; one person counts once.
- A pool has one proposal. A newer one takes its place, a start ends it, a person withdraws it, and without a fresh approval it ends
  by itself.
- The last approval starts nothing: the start is a person's key, and the plan is drawn once more for it. What is no longer what
  was approved is refused with the difference.
- A rollback needs none (rollout.md rule 9).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.core.codec import image_out, run_out, settings_out
from fleet.core.desired import Access, Pool, redefined
from fleet.core.errors import Refused, Stale
from fleet.core.events import Draft
from fleet.core.proposal import Plan, differences
from fleet.core.sight import Sight, span
from fleet.core.state import Approval, Proposal, State

NOBODY = -1
"""The uid of a command that no person gave."""
SHOWN = 12
"""Characters of a hash that people are shown and type."""


class Unapproved(Refused):
    """A plan that waits for other people's approval: nothing is wrong with it, a person is needed."""

    code = "awaiting-approval"
    exit_code = 4


def needed(pool: Pool, kind: str) -> int:
    """How many other people must approve a plan of this kind."""
    return 0 if kind == "rollback" else pool.approvals


def ends_at(proposal: Proposal, pool: Pool) -> float:
    """Engine time at which it waits no more: `approval_expiry` after it was proposed, or after its last approval."""
    return max(proposal.at, *(one.at for one in proposal.approvals), 0.0) + pool.approval_expiry


def pending(state: State, pool: Pool, now: float) -> Proposal | None:
    """The plan of the pool that waits, unless its time is over."""
    proposal = state.pool(pool.name).proposal
    return proposal if proposal is not None and now < ends_at(proposal, pool) else None


def given(proposal: Proposal, pool: Pool, now: float) -> tuple[Approval, ...]:
    """The approvals that count now: none too old. The state holds only those of other people than the author, and of each the last."""
    return tuple(one for one in proposal.approvals if one.at <= now < one.at + pool.approval_expiry)


def approvals_left(state: State, pool: Pool, plan_hash: str, now: float, kind: str = "rollout") -> int:
    """How many more people must approve the plan of this hash before a rollout of it may start; 0: it may."""
    proposal = pending(state, pool, now)
    have = len(given(proposal, pool, now)) if proposal is not None and proposal.hash == plan_hash else 0
    return max(0, needed(pool, kind) - have)


def clear(state: State, pool: Pool, plan: Plan, request: Mapping[str, Any], access: Access, now: float) -> tuple[Approval, ...] | None:
    """The approvals with which a plan may start; None if it must be proposed first.

    Unapproved, with who may approve, while it waits; Stale if it was proposed, and the fleet is no longer what it was proposed on.
    """
    if not needed(pool, plan.kind):
        return ()
    proposal = pending(state, pool, now)
    if proposal is None or (proposal.hash != plan.hash and proposal.request != plainly(request)):
        return None
    same(proposal, pool, plan)
    have = given(proposal, pool, now)
    left = needed(pool, plan.kind) - len(have)
    if left > 0:
        old = ", ".join(person(one.by) for one in proposal.approvals if one not in have)
        raise Unapproved(f"plan {plan.hash[:SHOWN]} waits for {left} more {call(plan.hash, left, access, proposal.author, *(one.by for one in have))}"
                         + (f"; that of {old} expired" if old else ""), where=pool.name)
    return have


def same(proposal: Proposal, pool: Pool, plan: Plan) -> None:
    """Stale if the plan as it is drawn now is not what was proposed. Its hash is short: what it stands for is compared, too."""
    changed = differences(proposal, plan)
    if not changed and redefined(proposal.definition, pool):
        changed = (f"the settings of pool {pool.name} were changed in the fleet file",)
    if not changed and proposal.hash == plan.hash:
        return
    changed = changed or ("what is left behind is another image",)
    raise Stale(f"the fleet is not what plan {proposal.hash[:SHOWN]} of {person(proposal.author)} was proposed on: {'; '.join(changed[:5])}; "
                f"`anew plan withdraw {pool.name}` drops it, then propose anew", difference=changed, where=pool.name)


def check_person(proposal: Proposal, pool: Pool, uid: int, now: float) -> None:
    """Refused with the reason why this person's approval would not count."""
    short = proposal.hash[:SHOWN]
    if uid == NOBODY:
        raise Refused("the kernel does not say who approves, so it does not count", where=short, code="nobody")
    if uid == proposal.uid:
        raise Refused(f"you proposed plan {short} yourself: only the approval of somebody else counts, whatever terminal or client yours comes from",
                      where=pool.name, code="own-plan")
    if any(one.uid == uid for one in given(proposal, pool, now)):
        raise Refused(f"you have approved plan {short} already; one person counts once", where=pool.name, code="approved-already")


def find(pools: Mapping[str, Pool], state: State, now: float, word: str) -> Proposal:
    """The proposal of a pool, or the one whose hash begins so; Refused with the reason if there is none, or its time is over."""
    kept = {name: proposal for name in pools if (proposal := state.pool(name).proposal) is not None}
    found = [kept[word]] if word in kept else [one for one in kept.values() if len(word) >= 6 and one.hash.startswith(word)]
    if not found:
        waits = ", ".join(f"{one.hash[:SHOWN]} of {name}" for name, one in kept.items()) or "no plan waits"
        raise Refused(f"no plan of this hash or pool waits for approval ({waits}); it may have been started, withdrawn or replaced, or is of another fleet",
                      where=word[:80], code="unknown-plan")
    if len(found) > 1:
        raise Refused(f"this is the beginning of {len(found)} plans; give more of it", where=word[:80], code="unknown-plan")
    proposal = found[0]
    pool = pools[proposal.pool]
    if pending(state, pool, now) is None:
        raise Refused(f"plan {proposal.hash[:SHOWN]} expired {span(now - ends_at(proposal, pool))} ago; have it proposed anew", where=proposal.pool,
                      code="expired-plan")
    return proposal


def proposed(plan: Plan, pool: Pool, request: Mapping[str, Any], summary: Sequence[str], actor: str, uid: int, request_id: str) -> Draft:
    """The event that has a plan wait for approval. `uid`: NOBODY for the engine."""
    return Draft("plan-proposed", actor=actor, pool=plan.pool, request=request_id, data={
        "hash": plan.hash, "uid": uid, "kind": plan.kind, "from": image_out(plan.image_from), "to": image_out(plan.image_to),
        "settings": settings_out(plan.settings), "definition": pool.definition, "runs": [run_out(run) for run in plan.runs],
        "request": plainly(request), "summary": list(summary)})


def lapse(sight: Sight) -> tuple[Draft, ...]:
    """The end of a proposal whose time is over."""
    proposal = sight.pool_state.proposal
    if proposal is None or sight.now < ends_at(proposal, sight.pool):
        return ()
    why = f"expired: not approved and started within {span(sight.pool.approval_expiry)}"
    return (Draft("plan-withdrawn", pool=sight.pool.name, data={"hash": proposal.hash, "reason": why}),)


def person(actor: str) -> str:
    """The name in the journal's word for somebody."""
    return actor.partition("@")[0]


def plainly(request: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for, without what goes without saying: equal for everybody who asks for the same."""
    return {key: value for key, value in request.items() if value not in (None, "", {}) and (key, value) != ("kind", "rollout")}


def start_words(request: Mapping[str, Any]) -> str:
    """The command that asks for this plan."""
    words = ["anew", "rollout", "start", str(request.get("pool", ""))]
    for key, option in (("to", "--to"), ("older_than", "--older-than")):
        if request.get(key):
            words += [option, str(request[key])]
    if request.get("servers") is not None:
        words += ["--servers", ",".join(request["servers"])]
    for name, value in (request.get("overrides") or {}).items():
        words += [f"--{name.removeprefix('--').replace('_', '-')}", str(value)]
    return shlex.join(words)


def call(plan_hash: str, count: int, access: Access, author: str, *others: str) -> str:
    """Whose approval is needed, and how it is given. `others` have approved already."""
    whose = f"approval of somebody else than {person(author)}" if count == 1 else f"approvals of other people than {person(author)}"
    mine = {f"user:{person(actor)}" for actor in (author, *others)}
    listed = [entry for entry in dict.fromkeys((*access.approvers, *access.operators)) if entry not in (*mine, "user:root")]
    root, named = "user:root" not in mine, ", ".join([*listed[:6], *(["…"] if listed[6:] else [])])
    may = named + " or root" * root if listed else "root, or " * root + "whom [access] names as approver or operator"
    return f"{whose} ({may}): `anew plan approve {plan_hash[:SHOWN]}`"
