"""`anew doctor`: what is left over, foreign or unknown; with --fix it asks, then does only what it listed."""

from __future__ import annotations

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context


def doctor(context: Context) -> int:
    """List the findings; mend those that can be, if asked. 1 if something is left for a person."""
    found: list[dict[str, Any]] = context.client.get("/v1/leftovers")["findings"]
    fixable = [row for row in found if row["fix"]]
    if not context.as_json:
        _show(context, found)
    if not context.options.fix or not fixable:
        if context.as_json:
            context.data({"findings": found})
        elif fixable:
            context.say(f"{len(fixable)} of them can be mended: `anew doctor --fix` asks, then does just that")
        return 1 if found else 0
    context.confirm(f"Do these {len(fixable)}?" if len(fixable) > 1 else "Do it?", str(len(fixable)) if len(fixable) > 1 else "y")
    answers = [_fix(context, row) for row in fixable]
    if context.as_json:
        context.data({"findings": found, "fixed": answers})
    return 0 if len(fixable) == len(found) else 1


def _fix(context: Context, row: dict[str, Any]) -> dict[str, Any]:
    answer = context.client.command("doctor.fix", place=row["place"], kind=row["kind"], key=row["key"], pool=row["pool"])
    if not context.as_json:
        context.say(str(answer.get("message") or f"{row['key']}: done"))
    return answer


def _show(context: Context, found: list[dict[str, Any]]) -> None:
    if not found:
        context.say("nothing is left over, foreign or unknown")
        return
    context.rows(("where", "what", "which", "pool"), [(row["place"], row["kind"], row["key"], row["pool"] or "-") for row in found])
    context.say()
    for row in found:
        context.say(f"{row['key']}: {row['note']}" + (f"; --fix would {row['fix']}" if row["fix"] else "; only a person can mend this"))
