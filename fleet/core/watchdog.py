"""The watchdog: judges at every decision, by what is really there, that the promises hold which may never be broken (I1, I2, I10).

It shares no code with the budget's bookkeeping (slots.py), so that a fault there does not pass here too. Rule 1: a breach pauses the
rollout and names the promise and the facts. Rule 2: what servers do by themselves is nobody's breach; judged is what this rollout took
and what it is about to take. Rule 3: an act that would break a promise is not begun, whatever the rollout's state. Rule 4: only news
counts: whoever resumes or turns a rollout has read the facts, and is not stopped by the same ones again (except by two writers).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fleet.core.decision import Action
from fleet.core.lifecycle import TAKES_DOWN
from fleet.core.observed import Seen
from fleet.core.sight import Sight, some
from fleet.core.state import Rollout, Run

WATCHED = frozenset({"canary", "awaiting-promotion", "rolling", "checkpoint", "rolling-back"})


def breach(sight: Sight, rollout: Rollout) -> str:
    """"" or the sentence for a promise that is broken now."""
    if rollout.state not in WATCHED or sight.observed is None:
        return ""
    flying = _flying(sight)
    fresh = {seen.server for seen in sight.observed.incarnations if seen.born_at >= rollout.started_at and seen.state == "running"}
    return (_two_writers(sight) or _too_many_down(sight, rollout, flying) or _too_many_in_flight(sight, rollout, flying, fresh)
            or _too_many_twice(sight, rollout, fresh))


def sift(sight: Sight, rollout: Rollout, actions: Sequence[Action]) -> tuple[list[Action], dict[str, str]]:
    """(what may be begun, server -> the sentence why its action may not)."""
    kept: list[Action] = []
    barred: dict[str, str] = {}
    flight = {run.server for run in _flying(sight)} if actions else set()
    taken: set[str] = set()
    for action in actions:
        why = _over_budget(rollout, action, flight) or _over_minimum(sight, rollout, action, taken)
        if why:
            barred[action.server] = why
        else:
            kept.append(action)
    return kept, barred


# --- I10: one writer --------------------------------------------------------------------------------------------------

def _two_writers(sight: Sight) -> str:
    for server, mine in sight.by_server.items() if sight.pool.data else ():
        holders: dict[str, int] = {}
        for number, seen in mine.items():
            for disk in seen.data_held if seen.state == "running" else ():
                if disk in holders:
                    return (f"watchdog I10: incarnations {holders[disk]} and {number} of {server} both have its data disk {disk} attached "
                            "for writing; stop one of them by hand, then look at the disk")
                holders[disk] = number
    return ""


# --- I2: how many at once ---------------------------------------------------------------------------------------------

def _flying(sight: Sight) -> list[Run]:
    """Servers that the journal says are in flight: begun, not settled, and more than prepared."""
    return [run for run in sight.under_way if not (run.path in TAKES_DOWN and run.step in ("waiting", "preparing"))]


def _unaccounted(sight: Sight, rollout: Rollout, server: str) -> Seen | None:
    """What runs on the target since this rollout began, is not in service, and is none of a run's doing that the journal tells of."""
    run, admitted = rollout.runs.get(server), sight.known(server).admitted
    if admitted is None or (run is not None and (run.active or run.step in ("quarantined", "failed", "put-back"))):
        return None
    return next((seen for number, seen in sight.by_server[server].items()
                 if number != admitted and seen.state == "running" and seen.born_at >= rollout.told_at), None)


def _too_many_in_flight(sight: Sight, rollout: Rollout, flying: list[Run], fresh: set[str]) -> str:
    strays = [server for server in fresh if _unaccounted(sight, rollout, server) is not None]
    limit = rollout.budget.surge + rollout.budget.unavailable
    names = {*(run.server for run in flying), *strays}
    if len(names) <= limit or not (strays or _news(rollout, flying)):
        return ""
    return f"watchdog I2: {len(names)} servers in flight ({some(names)}), {limit} may be"


def _too_many_twice(sight: Sight, rollout: Rollout, fresh: set[str]) -> str:
    """`fresh`: servers on which something runs that was born in this rollout; what ran twice before it is none of its doing."""
    twice: dict[str, int] = {}
    news = False
    for server in fresh:
        running = [seen for seen in sight.by_server[server].values() if seen.state == "running"]
        if len(running) > 1:
            twice[server] = len(running) - 1
            news = news or (any(seen.born_at >= rollout.told_at for seen in running) and not _carried(rollout, server))
    if sum(twice.values()) <= rollout.budget.surge or not news:
        return ""
    times = "twice" if max(twice.values()) == 1 else "more than once"
    who = f"{some(twice)} runs {times}" if len(twice) == 1 else f"{len(twice)} servers run {times} ({some(twice)})"
    return f"watchdog I2: {who}, {rollout.budget.surge} may"


def _over_budget(rollout: Rollout, action: Action, flight: set[str]) -> str:
    """`flight` gains the server if its action may be begun."""
    if action.server in flight or (action.path in TAKES_DOWN and action.step == "preparing"):
        return ""
    limit = rollout.budget.surge + rollout.budget.unavailable
    if len(flight) < limit:
        flight.add(action.server)
        return ""
    return f"watchdog I2: {action.server} was to be begun beside {some(flight)}, {limit} may be in flight"


# --- I1: how many in service ------------------------------------------------------------------------------------------

def _too_many_down(sight: Sight, rollout: Rollout, flying: list[Run]) -> str:
    """Servers that this rollout emptied and that do not serve. One may always be: that a sick one is repaired takes nothing away."""
    down = [run for run in flying if run.planned in TAKES_DOWN and run.step != "draining" and not sight.available(run.server)]
    limit = max(1, rollout.budget.unavailable)
    if len(down) <= limit or not _news(rollout, down):
        return ""
    return f"watchdog I1: {len(down)} servers were taken down ({some(run.server for run in down)}), {limit} may be missing"


def _over_minimum(sight: Sight, rollout: Rollout, action: Action, taken: set[str]) -> str:
    """`taken` gains the server if its action takes it out of service and may be begun."""
    if not _takes_away(sight, rollout, action):
        return ""
    names = {name for name in sight.pool.server_names if name in rollout.runs or not rollout.whole}
    emptied = {run.server for run in _flying(sight) if run.path in TAKES_DOWN}
    away = {name for name in names if name in taken or name in emptied or not sight.available(name)} - {action.server}
    if len(away) < rollout.budget.unavailable:
        taken.add(action.server)
        return ""
    others = f" beside {some(away)}" if away else ""
    return f"watchdog I1: {action.server} was to be taken out of service{others}, {rollout.budget.unavailable} may be missing"


def _takes_away(sight: Sight, rollout: Rollout, action: Action) -> bool:
    """True if the action ends what serves and is well. One that an earlier daemon began was judged then."""
    run, serving = rollout.runs.get(action.server), sight.serving(action.server)
    if action.op or run is None or serving is None:
        return False
    if action.verb in ("birth", "revive"):
        return sight.pool.in_place and run.step != "draining" and serving.number != action.number and sight.available(action.server)
    if action.verb not in ("drain", "retire"):
        return False
    if serving.number == action.number:
        return sight.available(action.server)
    return run.path == "create-first" and not sight.available(action.server) and sight.healthy(action.server, action.number)


def _carried(rollout: Rollout, server: str) -> bool:
    """True for a run begun before a person last decided, who knew of it: a lowered budget takes nothing back."""
    run = rollout.runs.get(server)
    return run is not None and 0.0 < run.begun_at < rollout.told_at


# --- inside -----------------------------------------------------------------------------------------------------------

def _news(rollout: Rollout, runs: Iterable[Run]) -> bool:
    """True if one of them was begun after a person last decided about the rollout."""
    return any(run.begun_at >= rollout.told_at for run in runs)
