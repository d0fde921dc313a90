"""Frozen values with some of their fields changed.

`changed` is `dataclasses.replace` for slotted dataclasses in half the time: the fields are copied, not given to a constructor that
sets each one by name. To fold a journal is little else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")


@cache
def _shape(cls: type[Any]) -> tuple[Callable[[Any], tuple[Any, ...]], tuple[Callable[[Any, Any], None], ...]]:
    """(what reads all fields of a value, what sets each of them in one that is being made). Refuses a class that `changed` is not for."""
    names = [field.name for field in fields(cls)]
    if len(names) < 2 or hasattr(cls, "__post_init__") or {*cls.__dict__.get("__slots__", ())} != {*names}:
        raise TypeError(f"{cls.__name__} has no two slots, or is made by more than setting them: use dataclasses.replace")
    return attrgetter(*names), tuple(getattr(cls, name).__set__ for name in names)


def changed(value: T, /, **changes: Any) -> T:
    """The value with these fields changed. Its class has two slots and more, and no `__post_init__`."""
    cls: Any = type(value)
    read, setters = _shape(cls)
    new: T = object.__new__(cls)
    for put, old in zip(setters, read(value), strict=True):
        put(new, old)
    for name, item in changes.items():
        object.__setattr__(new, name, item)
    return new


__all__ = ["changed"]
