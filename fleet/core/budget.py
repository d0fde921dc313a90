"""How many servers may be missing or extra at a moment: the arithmetic of rollout.md rule 1.

surge = ceil(p*n/100), unavailable = floor(p*n/100). Both resolve to 0: unavailable becomes 1. Both *written* as 0 is
refused. Neither is ever more than the pool's size.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet.core.desired import Amount
from fleet.core.errors import Invalid


@dataclass(frozen=True, slots=True)
class Budget:
    """`surge`: incarnations beyond the pool's size; `unavailable`: servers that may be missing. Both in servers."""

    surge: int
    unavailable: int


def resolve(surge: Amount, unavailable: Amount, servers: int) -> Budget:
    """The budget in servers. Raises Invalid if both are written as 0."""
    if surge.value == 0 and unavailable.value == 0:
        raise Invalid("max_surge and max_unavailable are both 0, so no server could ever be replaced; allow one of them")
    extra = min(_up(surge, servers), servers)
    missing = min(_down(unavailable, servers), servers)
    if extra == 0 and missing == 0:
        missing = 1
    return Budget(extra, missing)


def canaries(amount: Amount, servers: int) -> int:
    """How many servers go first. Never rounded to 0 unless written 0 (BOSH floors 10 % of 9 to none, silently)."""
    return min(_up(amount, servers), servers)


def _up(amount: Amount, servers: int) -> int:
    return -(-amount.value * servers // 100) if amount.percent else amount.value


def _down(amount: Amount, servers: int) -> int:
    return amount.value * servers // 100 if amount.percent else amount.value
