"""What mode auto would begin now for a pool that has no rollout under way, or the named reason why it waits. Pure.

Rules
- Only mode auto acts; the other modes are told what is due.
- Due is the newest image that the pool did not reject, if it is not the stable one; then the servers whose incarnation is older
  than `max_age`, on the *stable* image (rollout.md rule 11). Nothing is due where nothing was ever made stable: the first rollout
  of a pool is a person's.
- Servers come of age one after another: each a share of a tenth of `max_age` after it is due, by a hash of fleet, pool, server and
  incarnation. So 500 that were born together do not fall due together, and a restart changes nothing.
- It begins nothing outside the windows, nor with too little left of one for even one server; nothing while the breaker is open;
  nothing while a pool that comes first rolls or is behind; never again an image whose rollout did not end well, nor for its age a
  server whose replacement failed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from fleet.core import approvals, breaker, timing
from fleet.core.errors import Refused
from fleet.core.observed import Image, ImageRef
from fleet.core.proposal import Ask, Plan, draw
from fleet.core.sight import Sight, span
from fleet.core.state import PoolState
from fleet.core.windows import spoken

SPREAD = 0.1
"""Share of `max_age` over which the re-births of one generation are spread."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a pool's sight does not hold. `offered`: the newest image that its channel offers; `surge`: its driver can run old and new
    side by side; `first`: "" or why a pool that comes first keeps this one waiting.
    """

    fleet: str
    fleet_size: int
    surge: bool
    offered: ImageRef | None
    first: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`due`: what is due, in words. `waits`: why mode auto does not begin it, "" if it does or has nothing to do; `opens`: engine time
    of the window it waits for. `plan`: what to begin now.
    """

    due: str = ""
    waits: str = ""
    opens: float | None = None
    plan: Plan | None = None


def newer(state: PoolState, images: Mapping[str, Image], offered: ImageRef | None) -> ImageRef | None:
    """The image that is due for a pool, None if it has the newest. A stable image that is not catalogued any more tells nothing about
    what is newer.
    """
    if state.stable is None or offered is None or state.stable.digest not in images or offered.digest == state.stable.digest:
        return None
    return offered


def due_at(sight: Sight, fleet: str, server: str, max_age: float) -> float | None:
    """Engine time at which the incarnation in service is due for re-birth; None if there is none, or nobody knows its age.

    A machine cannot make itself older than the journal knows it to be.
    """
    seen = sight.serving(server)
    if seen is None or not seen.born_at:
        return None
    return max(seen.born_at, sight.known(server).admitted_at) + max_age * (1.0 + SPREAD * share(fleet, sight.pool.name, server, seen.number))


@lru_cache(maxsize=16_384)
def share(fleet: str, pool: str, server: str, number: int) -> float:
    """From 0 to 1, evenly over the servers, and always the same for one incarnation."""
    digest = hashlib.sha256(f"{fleet}/{pool}/{server}/{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def of_age(sight: Sight, fleet: str) -> tuple[str, ...]:
    """The servers that are due for re-birth; held ones are nobody's business."""
    limit = sight.pool.max_age
    if limit is None or sight.pool_state.stable is None:
        return ()
    names = (name for name in sight.pool.server_names if (at := due_at(sight, fleet, name, limit)) is not None and at <= sight.now)
    return tuple(name for name in names if name not in sight.held)


def busy(sight: Sight) -> Verdict:
    """While a rollout is under way nothing is due."""
    stopped = breaker.open_reason(sight)
    return Verdict(waits=f"stopped by {stopped}" if stopped else "")


def judge(sight: Sight, around: Around) -> Verdict:
    """What is due, and what mode auto does about it now."""
    pool, state = sight.pool, sight.pool_state
    if sight.rollout is not None or sight.observed is None:
        return busy(sight)
    stopped = breaker.open_reason(sight)
    image, aged = newer(state, sight.images, around.offered), of_age(sight, around.fleet)
    due = _words(sight, image, aged)
    if pool.mode != "auto":
        return Verdict(due)
    if stopped:
        return Verdict(due, f"stopped by {stopped}")
    if state.stable is None:
        return Verdict(due, "waits for the first rollout, which a person starts: no image is stable here yet")
    declined = state.automatic.declined
    spent = next((f"{one.version} not again by itself: {declined[one.digest]}" for one in (image, state.stable)
                  if one is not None and one.digest in declined), "")
    if image is not None and image.digest in declined:
        image = None
    tried = tuple(name for name in aged if _tried(sight, name))
    if tried and not spent:
        spent = f"{_some(tried)} not again by itself: the last replacement failed"
    aged = () if state.stable.digest in declined else tuple(name for name in aged if not _tried(sight, name))
    if aged and sight.clock_in_doubt:
        aged, spent = (), spent or LEAPT
    if image is None and not aged:
        return Verdict(due, spent if due else "")
    return _begin(sight, around, due, image, aged)


LEAPT = "age waits until a person starts a rollout here: the clock was more than 30 days ahead when the daemon started, which may be wrong"
"""Nobody knows whether the fleet or the clock is old: a person looks once (docs/decisions/journal-engine-time.md)."""


def _tried(sight: Sight, name: str) -> bool:
    """True if a replacement of the incarnation in service failed, so that another try would only fail again."""
    seen = sight.serving(name)
    return seen is not None and sight.pool_state.automatic.spared.get(name) == seen.number


def _some(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _words(sight: Sight, image: ImageRef | None, aged: tuple[str, ...]) -> str:
    parts = [f"image {image.version}"] if image is not None else []
    if aged and sight.pool.max_age is not None:
        who = aged[0] if len(aged) == 1 else f"{len(aged)} servers"
        parts.append(f"re-birth of {who}, older than {span(sight.pool.max_age)}")
    return " and ".join(parts)


def _begin(sight: Sight, around: Around, due: str, image: ImageRef | None, aged: tuple[str, ...]) -> Verdict:
    """All gates in turn; the plan if every one is open."""
    waits = around.first or _approvals(sight) or _unseen(sight)
    if waits:
        return Verdict(due, waits)
    closed, opens = timing.shut(sight, 0.0)
    if closed:
        return Verdict(due, _for_the_window(sight, opens), opens)
    try:
        plan = _draw(sight, around, image, aged)
    except Refused as error:
        return Verdict(due, error.message)
    takes = min(seconds for run, seconds in zip(plan.runs, plan.estimates, strict=True) if run.target is not None)
    closed, opens = timing.shut(sight, takes)
    if closed:
        return Verdict(due, f"{_for_the_window(sight, opens)}: one server takes about {span(takes)}", opens)
    return Verdict(due, plan=plan)


def _draw(sight: Sight, around: Around, image: ImageRef | None, aged: tuple[str, ...]) -> Plan:
    """The same plan that a person would be shown, by the pool's own settings."""
    pool, stable = sight.pool, sight.pool_state.stable
    assert stable is not None
    if image is not None:
        return draw(sight, Ask("rollout", image, pool.rollout, around.surge, around.fleet_size))
    return draw(sight, Ask("rollout", stable, pool.rollout, around.surge, around.fleet_size, aged, pool.max_age))


def _approvals(sight: Sight) -> str:
    """Where plans are approved, a person starts them: an approval is for a plan that people have read."""
    count = approvals.needed(sight.pool, "rollout")
    return f"waits for {count} approval{'s' if count > 1 else ''}, and for a person to start it" if count else ""


def _unseen(sight: Sight) -> str:
    """Nothing is begun on a picture with holes. Who is held is not looked at, so that a person can let it go on without a dead machine."""
    for name in sight.pool.server_names:
        if name in sight.held:
            continue
        if why := sight.unreachable(name):
            return f"waits: {name} is out of reach ({why}); hold it to go on without it"
        if sight.unknown(name):
            return f"waits: the health of {name} is not known yet"
    return ""


def _for_the_window(sight: Sight, opens: float | None) -> str:
    return f"waits for the window, opens {spoken(sight.pool.windows, opens)}" if opens is not None else "waits for the window"


__all__ = ["SPREAD", "Around", "Verdict", "busy", "due_at", "judge", "newer", "of_age", "share"]
