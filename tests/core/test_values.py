"""`changed` is `dataclasses.replace`, and refuses the classes for which it would not be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import pytest

from fleet.core import automatic, state
from fleet.core.state import Target
from fleet.core.values import changed
from tests.core.picture import V1

OF_THE_FOLD = [kind for module in (state, automatic) for kind in vars(module).values()
               if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__]


@pytest.mark.parametrize("kind", OF_THE_FOLD, ids=lambda kind: kind.__name__)
def test_whatever_the_fold_keeps_is_changed_as_it_is_replaced(kind: type[Any]) -> None:
    """Field by field, each with a value of its own."""
    value = kind(**{field.name: object() for field in dataclasses.fields(kind)})
    assert changed(value) == value
    assert changed(value) is not value
    for field in dataclasses.fields(kind):
        before, other = getattr(value, field.name), object()
        after = changed(value, **{field.name: other})
        assert after == replace(value, **{field.name: other})
        assert getattr(value, field.name) is before, "the old value stays as it was"
    with pytest.raises(AttributeError):
        changed(value, of_no_field=1)


def test_what_is_changed_is_as_frozen_and_as_good_a_key_as_what_was_made() -> None:
    moved = changed(Target("birth", 1, V1), number=2)
    assert {moved} == {Target("birth", 2, V1)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        moved.number = 3  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class One:
    only: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Loose:
    one: int = 1
    other: int = 2


@dataclass(frozen=True, slots=True)
class Checked:
    one: int = 1
    other: int = 2

    def __post_init__(self) -> None:
        assert self.one < self.other


@pytest.mark.parametrize("value", [One(), Loose(), Checked()], ids=lambda value: type(value).__name__)
def test_a_class_that_it_is_not_for_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="use dataclasses.replace"):
        changed(value)
