"""`anew plan`, and how a plan is asked for and shown wherever one is needed."""

from __future__ import annotations

from fleet.cli.text import count
from fleet.cli.tree import OVERRIDES
from fleet.core.errors import Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context

ACTING = ("replace", "birth")


def plan(context: Context) -> int:
    """Show what a rollout would do."""
    frame = ask(context, request_from(context.options))
    if context.as_json:
        context.data(frame)
    else:
        show(context, frame)
    return 0


def ask(context: Context, request: dict[str, Any]) -> dict[str, Any]:
    """The plan for a request."""
    frame: dict[str, Any] = context.client.post("/v1/plan", request)
    return frame


def request_from(options: Any) -> dict[str, Any]:
    """A PlanRequest of a command's selectors and overrides."""
    request: dict[str, Any] = {"pool": options.pool, "kind": "rollout"}
    if options.to:
        request["to"] = options.to
    if options.older_than:
        request["older_than"] = options.older_than
    if options.servers is not None:
        names = [name.strip() for name in options.servers.split(",") if name.strip()]
        if not names:
            raise Invalid("names no server; leave it out for all", where="--servers", code="usage")
        request["servers"] = names
    if given := overrides_from(options):
        request["overrides"] = given
    return request


def overrides_from(options: Any) -> dict[str, str]:
    """The settings of a rollout that a command's options name."""
    overrides = {name: getattr(options, "set_" + name) for name, _ in OVERRIDES}
    return {name: value for name, value in overrides.items() if value is not None}


def acting(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """The servers that the plan would touch."""
    return [row for row in frame["servers"] if row["action"] in ACTING]


def show(context: Context, frame: dict[str, Any]) -> None:
    """A plan in words: what, to whom in what order and why, and what it costs."""
    context.say(f"plan {frame['hash'][:12]}  {frame['pool']} {frame.get('from') or 'nothing'} → {frame['to']}", "bold")
    for line in frame["summary"]:
        context.say(line)
    context.say()
    context.rows(("server", "does", "image", "order", "data kept", "why"), [_server(row) for row in frame["servers"]])
    context.say()
    blast = frame["blast"]
    context.say(f"blast     {count(blast['servers'], 'server')} in {count(blast['domains'], 'failure domain')}, "
                f"worst loss at once: {blast['worst_loss']} of {len(frame['servers'])}")
    back = {row["rollback"] for row in acting(frame) if row["rollback"]}
    if back:
        context.say(f"undo      {' and '.join(sorted(back))}")
    for line in approval_lines(frame):
        context.say(line)


def approval_lines(frame: dict[str, Any]) -> list[str]:
    """What a plan still needs of other people, and who has approved it; nothing where nobody must."""
    needs = frame["needs"]
    import textwrap

    wanted, left, given = needs.get("approvals", 0), needs.get("approvals_left", 0), needs.get("approved_by", [])
    if not wanted:
        return []
    closed = textwrap.wrap(needs.get("closed", ""), 78, initial_indent="          but ", subsequent_indent=" " * 10, break_long_words=False, break_on_hyphens=False)
    if not needs.get("proposed_by"):
        return [f"needs     {count(wanted, 'approval')} of others: a start proposes it, and starts nothing", *closed]
    by = f" ({', '.join(given)})" if given else ""
    have = f"approved  {wanted - left} of {wanted}{by}, proposed by {needs['proposed_by']}"
    return [have, f"needs     `anew plan approve {frame['hash'][:12]}` by somebody else", *closed] if left else [have]


def _server(row: dict[str, Any]) -> list[Any]:
    moves = f"{row.get('from') or '-'}→{row['to']}" if row["action"] in ACTING else row.get("from") or "-"
    order = ("canary, " if row["canary"] else "") + row["order"] if row["action"] in ACTING else ""
    colour = "" if row["action"] in ACTING else "dim"
    return [row["name"], (row["action"], colour), moves, order, ", ".join(row["data_kept"]), row["reason"]]
