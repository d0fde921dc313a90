"""`anew plan list · approve · withdraw`: plans that wait for other people's approval."""

from __future__ import annotations

from fleet.cli import plan as plans
from fleet.cli.text import count, local
from fleet.core.errors import Invalid, Stale

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context

MIN_HASH = 6


def list_all(context: Context) -> int:
    """The plans that wait."""
    rows = _waiting(context)
    if context.as_json:
        context.data({"proposals": rows})
        return 0
    if not rows:
        context.say("no plan waits for approval")
        return 0
    context.rows(("plan", "pool", "image", "servers", "by", "approvals", "until", "note"), [
        (row["hash"][:12], row["pool"], f"{row.get('from') or '-'}→{row['to']}", row["servers"], row["author"], _given(row), local(row["expires_at"]),
         ("stale: " + "; ".join(row["difference"]), "red") if row["difference"] else "" if row["left"] else ("may be started", "green")) for row in rows])
    return 0


def approve(context: Context) -> int:
    """Show the plan as it is now, which must be the one that was proposed; ask; say yes to its hash."""
    row = _find(context, context.options.plan)
    frame = plans.ask(context, row["request"])
    if frame["hash"] != row["hash"]:
        raise Stale(f"the fleet is not what plan {row['hash'][:12]} of {row['author']} was proposed on; nothing was approved",
                    difference=tuple(row["difference"]), where=row["pool"])
    if not context.as_json and not getattr(context.options, "yes", False):
        context.say(f"proposed by {row['author']} at {local(row['at'])}; approved {_given(row)}; waits until {local(row['expires_at'])}")
        plans.show(context, frame)
        context.say()
    acting = plans.acting(frame)
    if len(acting) > 1:
        context.confirm(f"Approve that {count(len(acting), 'server')} of {row['pool']} go to {row['to']}?", str(len(acting)))
    else:
        context.confirm(f"Approve that {acting[0]['name']} goes to {row['to']}?", "y")
    context.answer(context.client.command("plan.approve", pool=row["pool"], plan_hash=row["hash"]))
    return 0


def withdraw(context: Context) -> int:
    """Nobody is asked for this plan any more."""
    row = _find(context, context.options.plan)
    context.answer(context.client.command("plan.withdraw", pool=row["pool"], plan_hash=row["hash"], why=context.options.why))
    return 0


def _waiting(context: Context) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = context.client.get("/v1/proposals")["proposals"]
    return rows


def _find(context: Context, word: str) -> dict[str, Any]:
    """The waiting plan of a pool, or the one whose hash begins so."""
    rows = _waiting(context)
    found = [row for row in rows if row["pool"] == word] or [row for row in rows if len(word) >= MIN_HASH and row["hash"].startswith(word)]
    if len(found) != 1:
        waits = ", ".join(f"{row['hash'][:12]} of {row['pool']}" for row in rows) or "none waits"
        raise Invalid(f"no plan of this hash or pool waits for approval ({waits}); it may have been started, withdrawn or replaced, or have expired",
                      where=word[:80], code="unknown-plan")
    return found[0]


def _given(row: dict[str, Any]) -> str:
    by = ", ".join(one["by"] for one in row["approvals"])
    return f"{row['needed'] - row['left']} of {row['needed']}" + (f" ({by})" if by else "")
