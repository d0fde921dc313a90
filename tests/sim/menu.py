"""What may go wrong, and how a case is drawn from its seed: `random.Random(seed)`, and nothing else.

The menu is reliability.md's, as far as a simulated world can do it. New choices are added at the end of `draw`, so that old seeds
stay what they were; a seed that was kept is kept with its case (seeds.txt) all the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from drivers.sim import Faults
from drivers.sim.chance import chance
from drivers.sim.faults import Outcome
from tests.sim.case import Blow, Case, Kind, Mode, Order, VerbFault

AMOUNTS = ("0", "1", "1", "2", "3", "10%", "25%", "50%", "100%")
OUTCOMES: dict[str, tuple[Outcome, ...]] = {
    "stage": ("transient", "permanent", "lost", "late"),
    "birth": ("transient", "permanent", "hang", "lost", "done-then-hang", "late"),
    "commit": ("transient", "permanent", "hang", "lost", "done-then-hang", "late"),
    "retire": ("transient", "permanent", "hang", "lost", "done-then-hang", "late"),
    "revive": ("transient", "permanent", "hang", "lost", "done-then-hang", "late"),
    "bury": ("transient", "permanent", "lost", "late"),
    "observe": ("transient", "permanent", "hang"),
    "probe": ("transient", "permanent", "hang"),
}
"""How each verb may end. A `stage` that hangs has an hour, and an oracle no patience."""

IMAGES = ("", "", "", "", "never-healthy", "never-boots", "dies-after 1s", "dies-after 6s", "writable-root")
KEYS = ("pause", "resume", "promote", "rollback", "abort", "start 2", "start 3")
OPPOSITES = (("pause", "resume"), ("promote", "abort"), ("promote", "rollback"), ("start 2", "start 3"), ("start 2", "rollback"),
             ("resume", "rollback"), ("pause", "promote"), ("abort", "resume"), ("promote", "promote"))
STRANGE = 300
"""Seconds of the longest time for which a daemon is stopped."""


@dataclass(slots=True)
class Menu(Faults):
    """Faults that strike by their number or by chance. Drawn by hashing the call, so that no other call changes it.

    `struck`: operation -> the faults that its calls met, for the table of what was reached.
    """

    seed: int = 0
    rates: tuple[VerbFault, ...] = ()
    op: str = ""
    struck: dict[str, set[str]] = field(default_factory=dict)

    def draw(self, verb: str, server: str) -> Outcome:
        """What becomes of this call."""
        outcome = Faults.draw(self, verb, server)
        if outcome == "none":
            for rate in self.rates:
                if rate.verb == verb and chance(self.seed, rate.outcome, verb, server, self.calls[verb]) * 100 < rate.percent:
                    outcome = rate.outcome
                    self.used.append((verb, server, outcome))
                    break
        if outcome != "none" and self.op:
            self.struck.setdefault(self.op, set()).add(outcome)
        self.op = ""
        return outcome

    def calm(self) -> None:
        """No fault strikes any more."""
        self._rules.clear()
        self.rates = ()
        self.unreachable.clear()
        self.deaf = False


def menu_of(case: Case) -> Menu:
    """The faults of a case."""
    menu = Menu(late_by=case.late_by, seed=case.seed, rates=tuple(fault for fault in case.faults if fault.percent))
    for fault in case.faults:
        if not fault.percent:
            menu.fail(fault.verb, fault.outcome, nth=fault.nth, times=fault.times)
    return menu


def draw(seed: int, mode: Mode, servers: int | None = None) -> Case:
    """The case of a seed. `servers`: a size for all, for measuring."""
    chance_of = random.Random(seed)
    size = _size(chance_of)
    case = _settings(chance_of, seed, mode, servers or size)
    level = chance_of.random()
    faults = () if level < 0.25 else tuple(_fault(chance_of) for _ in range(chance_of.randint(1, 4)))
    blows = [] if level < 0.15 else [blow for _ in range(chance_of.choice((0, 0, 1, 1, 2, 3))) for blow in _blow(chance_of, case)]
    case = replace(case, faults=faults, blows=tuple(sorted(blows, key=lambda blow: blow.at)))
    case = replace(case, orders=_orders(chance_of, case))
    return _approved(chance_of, case) if chance_of.random() < 0.1 else case


def _approved(chance_of: random.Random, case: Case) -> Case:
    """A pool whose plans need other people's approval: what was a start proposes; some say yes, too early, too late, or to another plan."""
    pick = chance_of.choice
    more = [Order(round(0.6 + 2.0 * chance_of.random(), 2), chance_of.randrange(4), pick(("approve", "approve", "approve", "start 2", "start 3", "withdraw")),
                  twice=chance_of.random() < 0.2) for _ in range(chance_of.randint(2, 6))]
    more += [Order(round(2.6 + chance_of.random(), 2), chance_of.randrange(4), "start 2") for _ in range(2)]
    orders = sorted((*case.orders, *more), key=lambda order: order.at)
    return replace(case, approvals=pick((1, 1, 2)), expiry=pick((1.0, 60.0, 60.0)), orders=tuple(orders))


def _size(chance_of: random.Random) -> int:
    draw = chance_of.random()
    if draw < 0.08:
        return chance_of.randint(1, 2)
    return chance_of.randint(3, 12) if draw < 0.97 else chance_of.randint(13, 60)


def _settings(chance_of: random.Random, seed: int, mode: Mode, servers: int) -> Case:
    pick = chance_of.choice
    kind: Kind = pick(("", "", "", "data", "in-place"))
    surge = "0" if kind else pick(AMOUNTS)
    unavailable = pick([text for text in AMOUNTS if surge != "0" or text != "0"])
    points = pick(((), (), (), (25,), (50,), (20, 60), (10, 30, 80)))
    values: dict[str, Any] = {
        "surge": surge, "unavailable": unavailable, "canaries": pick(("0", "1", "1", "2", "25%")), "promotion": pick(("manual", "auto", "auto")),
        "order": pick(("oldest", "name", "newest")), "max_failures": pick((0, 0, 1, 2)), "on_failure": pick(("pause", "rollback")),
        "kind": kind, "places": 1 if kind == "in-place" else pick((1, 1, 2, 3)), "image": pick(IMAGES), "boot": pick((0.5, 1.0, 2.0)),
        "jitter": pick((0.0, 0.3, 0.9)), "min_healthy": pick((0.5, 1.0, 2.0, 3.0)), "healthy_deadline": pick((5.0, 8.0, 15.0)),
        "progress_deadline": pick((15.0, 30.0, 60.0)), "retain": pick((0.0, 3.0, 10.0, 300.0)), "checkpoints": points,
        "checkpoint_pause": pick((None, 2.0, 5.0)) if points else None, "late_by": pick((1.0, 4.0, 10.0)),
        "cure": pick(("rollback", "rollback", "resume", "resume", "abort")), "span": 15.0 + 10.0 * chance_of.random(),
    }
    return Case(seed=seed, mode=mode, servers=servers, **values)


def _fault(chance_of: random.Random) -> VerbFault:
    verb = chance_of.choice(("stage", "birth", "birth", "commit", "retire", "retire", "revive", "bury", "observe", "probe"))
    outcome = chance_of.choice(OUTCOMES[verb])
    if chance_of.random() < 0.3 and outcome not in ("hang", "done-then-hang"):
        return VerbFault(verb, outcome, percent=chance_of.choice((5, 20, 50)))
    return VerbFault(verb, outcome, chance_of.randint(1, 8), chance_of.choice((1, 1, 2, 3)))


def _blow(chance_of: random.Random, case: Case) -> list[Blow]:
    """One, but daemons sometimes die twice in a row."""
    what = chance_of.choice(("dies", "dies", "flaps", "flaps", "deaf", "away", "kill", "crash", "crash", "crash", "stop"))
    at = round(chance_of.random() * 15.0, 2)
    server = chance_of.randint(1, case.servers)
    if what == "crash":
        first = Blow(round(0.4 + 0.5 * at, 2), what, chance_of.randint(1, 8), chance_of.choice((0.0, 1.0)))
        again = [Blow(round(first.at + chance_of.choice((0.3, 1.0, 2.0)), 2), what, chance_of.randint(1, 3), chance_of.choice((0.0, 1.0)))]
        return [first, *(again if chance_of.random() < 0.3 else ())]
    if what == "stop":
        return [Blow(at, what, 0, chance_of.choice((3.0, 8.0, 60.0, float(STRANGE))))]
    if what == "away":
        return [Blow(at, what, chance_of.randint(1, case.servers if case.kind == "in-place" else case.places), chance_of.choice((2.0, 8.0, 20.0)))]
    return [Blow(at, what, server, chance_of.choice((1.0, 4.0, 12.0)) if what in ("flaps", "deaf") else 0.0)]


def _orders(chance_of: random.Random, case: Case) -> tuple[Order, ...]:
    """One of them starts the rollout; then each gives some, and now and then two press opposite keys at the same instant."""
    people = chance_of.randint(1, 4)
    orders = [Order(0.5, 0, "start 2", "now" if chance_of.random() < 0.3 else "")]
    for _ in range(chance_of.choice((0, 1, 2, 3, 5, 8))):
        at = round(0.5 + 14.0 * chance_of.random(), 2)
        orders.append(_press(chance_of, case, at, chance_of.randrange(people), ""))
        if chance_of.random() < 0.5:
            first, second = chance_of.choice(OPPOSITES)
            orders += [_press(chance_of, case, at, chance_of.randrange(people), first), _press(chance_of, case, at, chance_of.randrange(people), second)]
    return tuple(sorted(orders, key=lambda order: order.at))


def _press(chance_of: random.Random, case: Case, at: float, who: int, what: str) -> Order:
    if not what:
        server = chance_of.randint(1, case.servers)
        what = chance_of.choice((*KEYS, f"hold {server}", f"release {server}", "reject 3", "unreject 2", "look"))
    seen = chance_of.choice(("", "", "now", "stale"))
    return Order(at, who, what, seen, chance_of.random() < 0.15)  # type: ignore[arg-type]
