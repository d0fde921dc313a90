"""`anew status`: the fleet at a glance, in 80 columns."""

from __future__ import annotations

from fleet.cli.text import age, count, local, printable
from fleet.core.errors import Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fleet.cli.context import Context

ASIDE = ("skipped", "held")
"""Servers that a rollout is not about."""
SITS = 8
"""People that are listed; --json has them all."""
MANY = 40
"""A fleet of more servers shows only pools and what is not well; `anew status POOL` shows a pool's servers."""


def status(context: Context) -> int:
    """Show the fleet, or one pool."""
    frame = context.client.get("/v1/status")
    wanted = context.options.pool
    if wanted:
        frame["pools"] = [pick_pool(frame, wanted)]
        frame["rollouts"] = [row for row in frame.get("rollouts", ()) if row["pool"] == wanted]
    if context.as_json:
        context.data(frame)
    else:
        show(context, frame, everything=bool(wanted))
    return 0


def pick_pool(frame: dict[str, Any], name: str) -> dict[str, Any]:
    """A pool's row of a StatusFrame; Invalid with the nearest name if there is none."""
    for row in frame["pools"]:
        if row["name"] == name:
            found: dict[str, Any] = row
            return found
    raise Invalid(f"there is no pool of this name{nearest(name, [row['name'] for row in frame['pools']])}", where=name,
                  code="unknown-pool")


def nearest(name: str, known: list[str]) -> str:
    """What was probably meant, as the end of a sentence."""
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(known[:12])}" if known else "; there are none"


def show(context: Context, frame: dict[str, Any], *, everything: bool = False, most: int = MANY) -> None:
    """The fleet in words; of more than `most` servers only those that are not well, and of them the first, unless `everything`."""
    pools = frame["pools"]
    you = frame.get("you", {})
    context.say(f"{frame['fleet']} · you are {you.get('user', '?')} ({you.get('role', '?')})")
    if frame.get("read_only"):
        context.say(f"read-only: {frame['read_only']}", "red")
    if frame.get("failpoints"):
        context.say(f"this daemon fails on purpose ({', '.join(frame['failpoints'])}): take ANEW_FAILPOINT out of its environment", "red")
    _people(context, frame.get("people", ()))
    context.say()
    context.rows(("pool", "size", "health", "image", "oldest", "root", "rollout"), [_pool(row, frame) for row in pools], right=(1,))
    servers = [row for pool in pools for row in pool.get("servers", ())]
    shown = servers if everything or len(servers) <= most else [row for row in servers if not _well(row)][:most]
    if shown:
        context.say()
        context.rows(("server", "image", "age", "state", "health", "root", "address"), [_server(row) for row in shown])
    if len(shown) < len(servers):
        context.say(f"{count(len(servers) - len(shown), 'more server')}; `anew status POOL` shows them")
    _reasons(context, pools, servers)
    for found in frame.get("rollouts", ()):
        if found.get("outside") and not found["ended_at"] and found["state"] != "paused":
            context.say(f"! {found['pool']}: its rollout goes on outside the windows: {found['outside']} (said {found['outside_by']})", "yellow")


def _people(context: Context, people: Sequence[dict[str, Any]]) -> None:
    """Who sits at a terminal, the driver first; nothing if nobody does."""
    if people:
        context.say()
        context.rows(("here", "role", "since"), [_person(row) for row in people[:SITS]])
    if len(people) > SITS:
        context.say(f"and {count(len(people) - SITS, 'more terminal')}; --json has them all")


def _person(row: dict[str, Any]) -> list[Any]:
    asks = f", asks for the seat: theirs at {local(row['asks_until'], date=False)} unless the driver answers" if row.get("asks_until") else ""
    role = f"{row['role']}{asks}"
    return ["@".join(part for part in (row["user"], row["terminal"]) if part), (role, "yellow") if asks else role, local(row["since"])]


def _pool(row: dict[str, Any], frame: dict[str, Any]) -> list[Any]:
    down = row["size"] - row["healthy"]
    health = (f"{row['healthy']} ok, {down} not", "red") if down else (f"{row['healthy']} ok", "green")
    if not row["versions"] and not row["healthy"] and not row["image"].get("stable"):
        health = ("none yet", "yellow")
    late = row.get("max_age_seconds") is not None and (row["oldest_age_seconds"] or 0) > row["max_age_seconds"]
    oldest = age(row["oldest_age_seconds"]) + (" !" if late else "")
    return [row["name"], row["size"], health, _image(row), oldest, row["root"], _rollout(row, frame)]


def _image(row: dict[str, Any]) -> str:
    """`1`, `1→2` while a rollout is under way, `1 and 2` for a mixture nobody is moving."""
    image = row["image"]
    if image.get("target") and row.get("rollout"):
        return f"{image.get('stable') or 'none'}→{image['target']}"
    return " and ".join(row["versions"]) if row["versions"] else "-"


def _rollout(row: dict[str, Any], frame: dict[str, Any]) -> str:
    if not row.get("rollout"):
        waits = row.get("proposal")
        return f"plan {waits['hash'][:8]} approved {waits['needed'] - waits['left']}/{waits['needed']}" if waits else "-"
    for found in frame.get("rollouts", ()):
        if found["id"] == row["rollout"]:
            return phrase(found)
    return str(row["rollout"])


def phrase(row: dict[str, Any]) -> str:
    """A rollout in one phrase: `rolling 5/12, eta 1m 15s`, or why the whole of it waits. The servers done, of those it is about, as the terminal UI has it."""
    counts = row["counts"]
    about = sum(counts.values()) - sum(counts.get(step, 0) for step in ASIDE)
    eta = f", eta {age(row['eta_seconds'])}" if row.get("eta_seconds") is not None and not row.get("ended_at") else ""
    waits = f", {row['waits']}" if row.get("waits") else ""
    return f"{row['state']} {counts.get('serving', 0)}/{about}{waits or eta}"


def _well(row: dict[str, Any]) -> bool:
    return bool(row["healthy"]) and not row["tainted"] and not row["held"]


def _server(row: dict[str, Any]) -> list[Any]:
    marks = [word for word, on in (("held", row["held"]), ("tainted", row["tainted"]), ("unlocked", row.get("unlocked"))) if on]
    state = " ".join([row["state"], *marks])
    colour = "" if _well(row) else "red" if not row["healthy"] else "yellow"
    root = (row["root"], "red") if row["root"] == "writable" else row["root"]
    return [row["name"], row["version"] or "-", age(row["age_seconds"]), (state, colour),
            ("ok", "green") if row["healthy"] else ("down", "red"), root, row["address"] or "-"]


def _reasons(context: Context, pools: list[dict[str, Any]], servers: list[dict[str, Any]]) -> None:
    """What somebody should know: a line for each reason, naming the servers it is about."""
    alike: dict[tuple[str, str], list[str]] = {}
    lines = [f"! {place}: {why}" for pool in pools for place, why in pool.get("unreachable", {}).items()]
    lines += [f"! {', '.join(pool['surplus'][:5])}: still there, and beyond the {pool['size']} servers of the fleet file; `anew doctor --fix` removes them"
              for pool in pools if pool.get("surplus")]
    lines += [_due(pool) for pool in pools if pool.get("due") or pool.get("auto")]
    for row in servers:
        said = [printable(row["reason"] or ("" if row["healthy"] else row.get("health_words", "")))]
        said += [f'held: "{row["held"]}"'] if row["held"] else []
        said += [f"tainted: {', '.join(row['tainted'])}"] if row["tainted"] else []
        said += [f"locked again at {local(row['unlocked']['until'])}"] if row.get("unlocked") else []
        text = " · ".join(part for part in said if part)
        if text:
            alike.setdefault(("  " if row["healthy"] else "! ", text), []).append(row["name"])
    lines += [f"{mark}{_names(names)}: {text}" for (mark, text), names in alike.items()]
    for pool in pools:
        lines += [f"  {pool['name']}: image {one.get('version', '?')} is rejected: {one.get('reason', '')}"
                  for one in pool["image"].get("rejected", ())]
    lines += [("! {0}: nothing of it runs any more" if pool["image"].get("stable") else "  {0}: nothing of it runs yet").format(pool["name"])
              + f": `anew rollout start {pool['name']}` brings it up" for pool in pools
              if not (pool["versions"] or pool["healthy"] or pool.get("rollout") or pool.get("proposal")) and pool.get("mode") != "observe"]
    lines += [f"  {waits['pool']}: {proposal_words(waits)}" for pool in pools if (waits := pool.get("proposal"))]
    if lines:
        context.say()
    for line in lines[:MANY]:
        context.say(line)
    if len(lines) > MANY:
        context.say(f"and {len(lines) - MANY} more; --json has them all")


def proposal_words(row: dict[str, Any]) -> str:
    """A plan that waits for approval, and what is to be done about it."""
    what = f"plan {row['hash'][:12]} of {row['author']}, {count(row['servers'], 'server')} to {row['to']}"
    until = f"until {local(row['expires_at'])}"
    if row["left"]:
        return f"{what}, waits for {count(row['left'], 'approval')} of other people {until}: `anew plan approve {row['hash'][:12]}`"
    return f"{what}, is approved and may be started {until}"


def _due(pool: dict[str, Any]) -> str:
    """`  web: due: image 2; auto: waits for the window, opens Sat 02:00`."""
    waits = pool.get("auto", "")
    said = [f"due: {pool['due']}"] if pool.get("due") else []
    said += [f"auto: {waits}"] if waits else []
    return f"{'! ' if waits.startswith('stopped') else '  '}{pool['name']}: {printable('; '.join(said))}"


def _names(names: list[str]) -> str:
    """Up to three names, then how many more."""
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"
