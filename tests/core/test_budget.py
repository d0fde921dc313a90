"""rollout.md rule 1, with its own vectors."""

from __future__ import annotations

import pytest

from fleet.core import budget
from fleet.core.desired import Amount
from fleet.core.errors import Invalid


def percent(value: int) -> Amount:
    return Amount(value, percent=True)


@pytest.mark.parametrize(("servers", "surge", "unavailable", "extra", "missing"), [
    (1, percent(25), percent(25), 1, 0),
    (3, percent(25), percent(25), 1, 0),
    (5, percent(25), percent(25), 2, 1),
    (10, percent(25), percent(25), 3, 2),
    (19, percent(25), percent(25), 5, 4),
    (3, Amount(0), percent(10), 0, 1),
    (10, percent(39), percent(39), 4, 3),
    (3, Amount(10), Amount(10), 3, 3),
    (4, percent(100), percent(100), 4, 4),
    (4, percent(0), Amount(2), 0, 2),
    (0, Amount(1), Amount(1), 0, 1),
])
def test_amounts_become_servers(servers: int, surge: Amount, unavailable: Amount, extra: int, missing: int) -> None:
    assert budget.resolve(surge, unavailable, servers) == budget.Budget(extra, missing)


@pytest.mark.parametrize("zero", [Amount(0), percent(0)])
def test_both_written_as_nothing_is_refused(zero: Amount) -> None:
    with pytest.raises(Invalid, match="both 0"):
        budget.resolve(zero, Amount(0), 5)


@pytest.mark.parametrize(("amount", "servers", "first"), [
    (percent(10), 9, 1), (percent(1), 1, 1), (percent(0), 9, 0), (Amount(0), 9, 0), (Amount(5), 3, 3), (percent(34), 3, 2)])
def test_canaries_are_never_rounded_to_none(amount: Amount, servers: int, first: int) -> None:
    assert budget.canaries(amount, servers) == first
