"""From raw TOML tables to the models, with every error told in the file's own terms.

Each table is validated by itself. One that has errors is validated once more without the faulty keys and entries of lists,
so that the checks between keys (`checks.py`) still run on what is right and all problems are told in one go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from fleet.core.grammar import describe
from fleet.settings import models
from fleet.settings.lines import Lines
from fleet.settings.problems import MOST_TOLD, Key, Problem, did_you_mean, dotted, nearest

T = TypeVar("T", bound=BaseModel)


class _Missing:
    """A value that no type allows: it makes pydantic say what a missing key should have been."""


_MISSING = _Missing()


class EnoughProblems(Exception):
    """More problems than are told at once: looking further would only cost time."""


@dataclass(slots=True)
class Report:
    """Collects the problems of one file. `broken` has the dotted keys that are already told of; `left` of each list without
    its faulty entries, where in the file's list the others stood."""

    file: str
    lines: Lines
    problems: list[Problem] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    left: dict[str, list[int]] = field(default_factory=dict)

    def add(self, key: Key, found: str, allowed: str, hint: str = "") -> None:
        """Tell of one problem at `key`."""
        self.problems.append(Problem(self.file, self.lines.of(key), dotted(key), found, allowed, hint))
        self.broken.add(dotted(key))
        if len(self.problems) > MOST_TOLD:
            raise EnoughProblems

    def touched(self, key: Key) -> bool:
        """Is there a problem at this key, or below or above it?"""
        name = dotted(key)
        return any(name == bad or _within(name, bad) or _within(bad, name) for bad in self.broken)

    def lost(self, key: Key) -> bool:
        """Is there a problem at this key itself, or above it? Its entries, those that are right, can be looked at if not."""
        name = dotted(key)
        return any(name == bad or _within(name, bad) for bad in self.broken)

    def whole(self, key: Key) -> bool:
        """Has this list all the entries that the file has?"""
        return dotted(key) not in self.left

    def original(self, key: Key) -> Key:
        """The key as the file has it: entries of a list are counted with the faulty ones that were left out."""
        found: tuple[str | int, ...] = ()
        for part in key:
            kept = self.left.get(dotted(found)) if isinstance(part, int) else None
            found = (*found, kept[part] if kept is not None and isinstance(part, int) else part)
        return found


def _within(inner: str, outer: str) -> bool:
    return inner.startswith((outer + ".", outer + "["))


def read_table(model: type[T], raw: object, key: Key, report: Report) -> T | None:
    """The valid model of a raw table, or None with its problems reported at `key`."""
    if not isinstance(raw, dict):
        report.add(key, describe(raw), "a table")
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as wrong:
        _tell(model, raw, key, report, wrong)
        return None


def read_partly(model: type[T], raw: dict[str, Any], key: Key, report: Report, stand_ins: Mapping[str, Any]) -> T | None:
    """What is right of a table that has problems: faulty keys and entries are left out, required keys get a stand-in.

    Only for the checks, which ask `report.touched` or `report.lost` before they believe a value.
    """
    left = _right_of(model, raw, key, report)
    for name, value in stand_ins.items():
        left.setdefault(name, value)
    try:
        return model.model_validate(left)
    except ValidationError:
        return None


def _right_of(model: type[BaseModel] | None, raw: dict[str, Any], key: Key, report: Report) -> dict[str, Any]:
    """What is right of a table, or of a mapping by names (`model` None)."""
    left: dict[str, Any] = {}
    for name, value in raw.items():
        place = (*key, name)
        if not report.touched(place):
            left[name] = value
            continue
        inner = model.model_fields.get(name) if model is not None else None
        if inner is None or report.lost(place):
            continue
        table = _table_of(inner.annotation)
        if isinstance(value, dict) and (table is None or _all_optional(table)):
            left[name] = _right_of(table, value, place, report)
        elif isinstance(value, list):
            kept = [index for index in range(len(value)) if not report.touched((*place, index))]
            report.left[dotted(place)] = kept
            left[name] = [value[index] for index in kept]
    return left


def _all_optional(model: type[BaseModel] | None) -> bool:
    return model is not None and not any(inner.is_required() for inner in model.model_fields.values())


def _tell(model: type[BaseModel], raw: dict[str, Any], key: Key, report: Report, wrong: ValidationError) -> None:
    errors = wrong.errors(include_url=False)
    missing = [error["loc"] for error in errors if error["type"] == "missing"]
    if missing:
        try:
            model.model_validate(_with_stand_ins(raw, missing))
        except ValidationError as again:
            errors = again.errors(include_url=False)
    for error in errors:
        _tell_one(model, key, report, error)


def _with_stand_ins(raw: dict[str, Any], missing: list[tuple[int | str, ...]]) -> dict[str, Any]:
    """A copy of `raw` (copied only along the paths) with `_MISSING` at each missing key."""
    copy: Any = dict(raw)
    for loc in missing:
        table = copy
        for part in loc[:-1]:
            inner = table[part]
            table[part] = {"command": inner} if isinstance(inner, str) else inner.copy()
            table = table[part]
        table[loc[-1]] = _MISSING
    return dict(copy)


def _tell_one(model: type[BaseModel], key: Key, report: Report, error: Any) -> None:
    loc: Key = tuple(error["loc"])
    if loc and loc[-1] == "[key]":
        loc = loc[:-1]
        if error["type"] == "setting":
            report.add((*key, *loc), describe(loc[-1]), error["ctx"]["allowed"], error["ctx"]["hint"])
            return
    place = (*key, *loc)
    if error["type"] == "extra_forbidden":
        _tell_unknown(_model_at(model, loc[:-1]), key, loc, report)
    elif error["type"] == "literal_error" and (later := _later(loc, error["input"])):
        report.add(place, describe(error["input"]), _allowed(error), later)
    else:
        report.add(place, found_of(error["input"]), _allowed(error), _hint(error))


def _later(loc: Key, value: object) -> str:
    """The sentence for a value that the contract has and this release has not, or ""."""
    if loc == ("channel",) and isinstance(value, str):
        return "Other channels come with a later release"
    return ""


def found_of(value: object) -> str:
    """What was found, in words; a secret that does not belong in the file is not repeated in a message."""
    if isinstance(value, _Missing):
        return "nothing"
    if isinstance(value, str) and "PRIVATE KEY" in value:
        return "a private key"
    if isinstance(value, str) and "://" in value and "@" in value and ":" in value.split("://", 1)[1].split("@")[0]:
        return "a URI with a password"
    return describe(value)


def _allowed(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "setting":
        return str(context["allowed"])
    if kind == "literal_error":
        return str(context["expected"]).replace("'", '"')
    plain = {"list_type": "a list", "dict_type": "a table", "model_type": "a table", "too_short": "a list with an entry"}
    if kind == "too_long":
        return f"at most {context['max_length']} entries"
    return plain.get(kind, str(error["msg"]))


def _hint(error: Any) -> str:
    if error["type"] == "literal_error":
        return did_you_mean(error["input"], [word.strip() for word in _allowed(error).replace('"', "").replace(" or ", ",").split(",")])
    return str(error.get("ctx", {}).get("hint", ""))


def _tell_unknown(model: type[BaseModel] | None, key: Key, loc: Key, report: Report) -> None:
    name, place = loc[-1], (*key, *loc)
    known = sorted(model.model_fields) if model is not None else []
    belongs, close = _belongs(model, name, key), nearest(name, known)
    report.add(place, "an unknown key", "one of " + ", ".join(known), belongs or did_you_mean(name, known))
    if close and not belongs:
        report.broken.add(dotted((*place[:-1], close)))


def _belongs(model: type[BaseModel] | None, name: object, key: Key) -> str:
    """A key in the wrong table is not a typing error: say where it goes."""
    if model is models.PoolTable and name in models.RolloutTable.model_fields:
        return f"It belongs in [{dotted((*key, 'rollout'))}]"
    if model is models.RolloutTable and name in models.PoolTable.model_fields:
        return f"It belongs in [{dotted(key)}]"
    if model in (models.BmcTable, models.MachineTable) and name == "password":
        return "A password has no place in a fleet file; " + (
            "name the file that holds it in password_file" if model is models.BmcTable else "log in with a key")
    return ""


def _model_at(model: type[BaseModel], loc: Key) -> type[BaseModel] | None:
    """The model of the table at `loc` inside `model`."""
    here: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int) or here is None:
            continue
        inner = here.model_fields.get(part)
        here = _table_of(inner.annotation) if inner is not None else None
    return here


def _table_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _table_of(inner)
        if found is not None:
            return found
    return None
