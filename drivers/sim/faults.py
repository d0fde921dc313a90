"""The fault menu: what a test makes go wrong, apart from what is wrong with an image.

A menu outlives the driver that reads it (pass the same one to the next daemon's driver), so "fail the 3rd
birth" counts across a crash. Rule from SQLite: fail call 1, then call 2, … of every verb until a run ends
with no fault injected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["none", "transient", "permanent", "hang", "lost", "done-then-hang", "late"]
"""How a call ends: `transient` and `permanent` do nothing and raise; `hang` does nothing and never returns;
`lost` does it and reports a time-out; `done-then-hang` does it and never returns; `late` reports a time-out,
and does it later.
"""


@dataclass(slots=True)
class _Rule:
    verb: str
    outcome: Outcome
    nth: int
    times: int
    server: str
    calls: int = 0


@dataclass(slots=True)
class Faults:
    """Mutable on purpose: tests turn faults on and off while the world runs.

    `unreachable`: place -> the sentence why. `deaf`: every health check fails, though the servers are well;
    `mute`: those of these servers do.
    `late_by`: seconds after which a `late` call takes effect. `used`: (verb, server, outcome) of each fault
    that struck.
    """

    unreachable: dict[str, str] = field(default_factory=dict)
    deaf: bool = False
    mute: set[str] = field(default_factory=set)
    late_by: float = 5.0
    used: list[tuple[str, str, Outcome]] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    _rules: list[_Rule] = field(default_factory=list)
    _deaths: dict[tuple[str, int], float] = field(default_factory=dict)

    def fail(self, verb: str, outcome: Outcome, *, nth: int = 1, times: int = 1, server: str = "") -> None:
        """Let the nth call of `verb` (of that server, if named), and the following `times - 1`, end with
        `outcome`.
        """
        self._rules.append(_Rule(verb, outcome, nth, times, server))

    def crash(self, server: str, number: int, after: float) -> None:
        """Let this incarnation die `after` seconds after each of its starts, however well it is."""
        self._deaths[(server, number)] = after

    def death_of(self, server: str, number: int) -> float | None:
        """Seconds from a start to the death asked for, None if it may live."""
        return self._deaths.get((server, number))

    def draw(self, verb: str, server: str) -> Outcome:
        """Count a call and say how it ends."""
        self.calls[verb] = self.calls.get(verb, 0) + 1
        outcome: Outcome = "none"
        for rule in self._rules:
            if rule.verb == verb and rule.server in ("", server):
                rule.calls += 1
                if rule.nth <= rule.calls < rule.nth + rule.times:
                    outcome = rule.outcome
        if outcome != "none":
            self.used.append((verb, server, outcome))
        return outcome
