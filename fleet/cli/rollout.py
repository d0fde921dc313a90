"""`anew rollout …` and `anew rollback`: start, watch, steer, undo."""

from __future__ import annotations

from fleet.cli import plan as plans
from fleet.cli.status import nearest, phrase, pick_pool
from fleet.cli.text import age, local
from fleet.cli.wait import NEEDS_PERSON, wait_for
from fleet.core.errors import Invalid, Stale

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context

MIN_HASH = 6


def start(context: Context) -> int:
    """Show the plan, ask, and start it."""
    request = plans.request_from(context.options)
    wanted: str | None = context.options.plan
    frame = plans.ask(context, request if wanted is None else {**request, "looked_at": wanted})
    _guard(context, frame, wanted)
    return begin(context, request, frame, _outside(context))


def begin(context: Context, request: dict[str, Any], frame: dict[str, Any], outside: str | None = None) -> int:
    """Ask about a plan that was drawn for this request, and start it."""
    if not plans.acting(frame):
        return _nothing(context, frame)
    if frame["needs"].get("approvals_left"):
        _confirm_proposal(context, frame)
    else:
        _confirm(context, frame, "Birth" if frame["kind"] == "birth" else "Replace")
    answer = context.client.command("rollout.start", pool=frame["pool"], plan=request, plan_hash=frame["hash"],
                                    generation=frame["generation"], outside=outside, driven=context.options.wait)
    return _started(context, answer)


def rollback(context: Context) -> int:
    """Back to the previous image: turns a running rollout around, or starts a rollback."""
    options = context.options
    pool = pick_pool(context.client.get("/v1/status"), options.pool)
    request: dict[str, Any] = {"pool": options.pool, "kind": "rollback"}
    if options.server:
        request["servers"] = [options.server]
    frame = plans.ask(context, request)
    if not plans.acting(frame) and not pool.get("rollout"):
        return _nothing(context, frame)
    _confirm(context, frame, "Roll back")
    answer = context.client.command("rollback.start", pool=options.pool, rollout=pool.get("rollout") or "", server=options.server,
                                    plan=request, plan_hash=frame["hash"], generation=frame["generation"], why=options.why)
    return _started(context, answer)


def _outside(context: Context) -> str | None:
    """The reason given for going on outside the windows. A client leaves empty fields out, so an empty reason must be refused here."""
    why: str | None = context.options.outside
    if why is not None and not why.strip():
        raise Invalid("say why, for the colleague who finds it in the journal", where="--outside-windows", code="usage")
    return why


def _confirm_proposal(context: Context, frame: dict[str, Any]) -> None:
    """Proposing touches no server, so a y will do; a plan that waits already is not asked about: the daemon says what it waits for."""
    if not context.as_json and not getattr(context.options, "yes", False):
        plans.show(context, frame)
        context.say()
    if not frame["needs"].get("proposed_by"):
        context.confirm("Propose it to the others? Nothing is started yet.", "y")


def _guard(context: Context, frame: dict[str, Any], wanted: str | None) -> None:
    """Refuse a plan that is not the one that was looked at, with the difference."""
    if wanted is None:
        return
    if len(wanted) < MIN_HASH:
        raise Invalid(f"give at least {MIN_HASH} characters of the plan's hash", where="--plan", code="usage")
    if not frame["hash"].startswith(wanted):
        waiting = context.client.get("/v1/proposals")["proposals"]
        changed = next((tuple(row["difference"]) for row in waiting if row["hash"].startswith(wanted)), ()) or tuple(frame.get("difference", ()))
        raise Stale(f"the plan is now {frame['hash'][:12]}: the fleet or the request is no longer what it was made for; "
                    "look at `anew plan` again", difference=changed, where=f"--plan {wanted[:80]}")


def _nothing(context: Context, frame: dict[str, Any]) -> int:
    if context.as_json:
        context.data({"ok": True, "message": "nothing to do", "plan": frame})
    else:
        plans.show(context, frame)
        context.say("nothing to do")
    return 0


def _confirm(context: Context, frame: dict[str, Any], does: str) -> None:
    """One server: y. Several: their number."""
    if getattr(context.options, "yes", False):
        return
    if not context.as_json:
        plans.show(context, frame)
        context.say()
    names = [row["name"] for row in plans.acting(frame)]
    if not names:
        context.confirm("Turn the rollout around?", "y")
    elif len(names) > 1 or frame["needs"].get("typed_number"):
        context.confirm(f"{does} {len(names)} servers?", str(len(names)))
    else:
        context.confirm(f"{does} {names[0]}?", "y")


def _started(context: Context, answer: dict[str, Any]) -> int:
    rollout = str(answer.get("rollout", ""))
    if answer.get("proposed"):
        context.answer(answer)
        return NEEDS_PERSON
    if not context.options.wait:
        context.answer(answer)
        if not context.as_json and rollout:
            context.note(f"`anew rollout wait {rollout}` waits for its end")
        return 0
    if not context.as_json:
        context.answer(answer)
    return wait_for(context, rollout, drive=True)


def find(context: Context, word: str, *, ended: bool = False) -> dict[str, Any]:
    """The rollout of an id, the beginning of one, or a pool's that is under way (with `ended`, else its latest)."""
    rows: list[dict[str, Any]] = context.client.get("/v1/rollouts")["rollouts"]
    of_pool = [row for row in rows if row["pool"] == word and (ended or not row["ended_at"])]
    exact = [row for row in rows if row["id"] == word] or of_pool[:1]
    found = exact or [row for row in rows if row["id"].startswith(word)]
    if not found:
        raise Invalid(f"there is no rollout of this id, and no pool of this name with a rollout under way"
                      f"{nearest(word, [row['id'] for row in rows])}", where=word, code="unknown-rollout")
    if not exact and len(found) > 1:
        raise Invalid(f"this is the beginning of {len(found)} rollouts; give more of it", where=word, code="unknown-rollout")
    return found[0]


def list_all(context: Context) -> int:
    """All rollouts."""
    rows = context.client.get("/v1/rollouts")["rollouts"]
    if context.as_json:
        context.data({"rollouts": rows})
    elif not rows:
        context.say("no rollout yet")
    else:
        context.rows(("id", "pool", "image", "state", "started", "by"), [
            (row["id"], row["pool"], f"{row.get('from') or '-'}→{row['to']}", phrase(row), local(row["started_at"]), row["author"])
            for row in rows])
    return 0


def show(context: Context) -> int:
    """One rollout."""
    row = context.client.get(f"/v1/rollouts/{find(context, context.options.rollout, ended=True)['id']}")
    if context.as_json:
        context.data(row)
        return 0
    context.say(f"{row['id']}  {row['pool']} {row.get('from') or 'nothing'} → {row['to']}  {phrase(row)}", "bold")
    if row["reason"]:
        context.say(row["reason"])
    context.say(f"started   {local(row['started_at'])} by {row['author']}"
                + (f", ended {local(row['ended_at'])}" if row["ended_at"] else ""))
    budget = row["budget"]
    context.say(f"budget    extra {budget['surge_used']} of {budget['max_surge']}, missing {budget['missing']} of "
                f"{budget['max_unavailable']}, failures {row['failures']} of {row['max_failures']}")
    if row.get("changed"):
        for line, change in enumerate(row["changed"].split("; ")):
            context.say(f"{'' if line else 'set':<10}{change}")
    if row.get("outside"):
        context.say(f"windows   outside the windows: {row['outside']} (said {row['outside_by']})", "yellow")
    if row["approvals"]:
        context.say(f"approved  by {', '.join(row['approvals'])}")
    if row["eta_seconds"] is not None and not row["ended_at"]:
        context.say(f"eta       {age(row['eta_seconds'])}, between {age(row['eta_low_seconds'])} and {age(row['eta_high_seconds'])}")
    if row["rollback_cost"]:
        context.say(f"undo      {row['rollback_cost']}")
    context.say()
    context.rows(("", "server", "step", "why"), [
        (run["cell"], run["name"] + (" (canary)" if run["canary"] else ""), run["step"],
         (f"{run['error']} ", "red") if run["error"] else run["reason"]) for run in row["servers"]])
    return 0


def wait(context: Context) -> int:
    """Wait for a rollout's end."""
    return wait_for(context, find(context, context.options.rollout, ended=True)["id"], drive=context.options.drive)


def _steer(context: Context, command: str, **fields: Any) -> int:
    rollout = find(context, context.options.rollout)["id"]
    wait = getattr(context.options, "wait", False)
    answer = context.client.command(command, rollout=rollout, driven=wait or None, **fields)
    if wait:
        return wait_for(context, rollout, drive=True)
    context.answer(answer)
    return 0


def pause(context: Context) -> int:
    """No new step starts."""
    return _steer(context, "rollout.pause", why=context.options.why)


def resume(context: Context) -> int:
    """Go on."""
    return _steer(context, "rollout.resume", outside=_outside(context))


def set_settings(context: Context) -> int:
    """Change settings of a rollout under way."""
    return _steer(context, "rollout.set", overrides=plans.overrides_from(context.options), outside=_outside(context))


def promote(context: Context) -> int:
    """The canaries are good."""
    return _steer(context, "rollout.promote")


def abort(context: Context) -> int:
    """Stop, and leave what is done."""
    return _steer(context, "rollout.abort", why=context.options.why)
