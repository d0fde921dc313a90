"""What a pool's servers are made from, as a word in the journal that the next release reads, too."""

from __future__ import annotations

from dataclasses import field, make_dataclass, replace
from typing import Any

import pytest

from fleet.core.desired import Pool, SimSettings, redefined

POOL = Pool("web", "sim", 3, "web", sim=SimSettings(seed=5, faults={"3": "never-boots"}))


def later(cls: type[Any]) -> type[Any]:
    """The class as a later anew may have it: with one more setting, at its default."""
    return make_dataclass(cls.__name__, [("brand_new", bool, field(default=False))], bases=(cls,), frozen=True)


def test_a_setting_that_a_later_release_brings_redefines_no_pool() -> None:
    of_today = {item: getattr(POOL, item) for item in Pool.__dataclass_fields__}
    sim = later(SimSettings)(seed=5, faults={"3": "never-boots"})
    assert later(Pool)(**of_today | {"sim": sim}).definition == POOL.definition
    assert later(Pool)(**of_today, brand_new=True).definition != POOL.definition


@pytest.mark.parametrize("change", [{"servers": 4}, {"root": "ephemeral"}, {"image": "api"}, {"sim": SimSettings(seed=6)}, {"sim": None}])
def test_what_makes_other_servers_is_another_definition(change: dict[str, Any]) -> None:
    assert redefined(POOL.definition, replace(POOL, **change))


@pytest.mark.parametrize("change", [{"mode": "auto"}, {"max_age": 60.0}, {"approvals": 2}, {"after": ("db",)}, {"breaker": None}])
def test_what_only_says_when_and_by_whom_is_none(change: dict[str, Any]) -> None:
    assert not redefined(POOL.definition, replace(POOL, **change))


def test_words_of_another_kind_say_nothing() -> None:
    assert not redefined("", POOL)
    assert not redefined("0123456789abcdef", POOL), "as journals had it that hold every setting's name"
