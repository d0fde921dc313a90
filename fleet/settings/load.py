"""`load`: a fleet file on disk -> a valid `Desired`, or every problem at once. Nothing of the file is used before all is valid."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from fleet.core.desired import Desired
from fleet.core.grammar import BadValue, describe, parse_name
from fleet.settings import models
from fleet.settings.build import build
from fleet.settings.case import Around, Case
from fleet.settings.checks import check_hypervisors, check_images, check_pool, check_ports
from fleet.settings.lines import Lines
from fleet.settings.metal import check_machines, check_names
from fleet.settings.ordering import check_after
from fleet.settings.problems import Problem, SettingsInvalid, did_you_mean
from fleet.settings.validate import EnoughProblems, Report, read_partly, read_table
from fleet.settings.values import LONGEST_POOL_NAME

LARGEST_FILE = 1_048_576
"""Bytes. A fleet of 10,000 pools fits; what is larger is no fleet file."""
MOST_TABLES = 1000
"""Pools, families, hypervisors: of each at most so many."""
MOST_MACHINES = 10_000
MOST_DOTS = 200
"""In one line: keys of very many parts take a parser quadratic time."""
STAND_INS: Mapping[str, Any] = {"driver": "sim", "image": "stand-in"}

T = TypeVar("T", bound=BaseModel)
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def load(path: str) -> Desired:
    """Read and validate a fleet file. Raises `SettingsInvalid` with all problems; never anything else."""
    data = _bytes_of(path)
    text = _text_of(path, data)
    try:
        raw = _parse(path, text)
        report = Report(path, _lines_of(text))
        desired = _examine(path, raw, hashlib.sha256(data).hexdigest(), report)
    except EnoughProblems:
        desired = None
    except RecursionError:
        raise _one(path, 0, "tables or lists nested too deeply", "a fleet file with a few levels") from None
    if desired is None or report.problems:
        raise SettingsInvalid(sorted(report.problems, key=lambda problem: problem.line))
    return desired


def _one(path: str, line: int, found: str, allowed: str, hint: str = "") -> SettingsInvalid:
    return SettingsInvalid([Problem(path, line, "", found, allowed, hint)])


def _bytes_of(path: str) -> bytes:
    """The file's bytes, at most `LARGEST_FILE`. Opened without blocking: a pipe in its place must not hang the daemon."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            raise _one(path, 0, "a folder" if stat.S_ISDIR(mode) else "something that is no file", "a fleet file")
        with open(descriptor, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _one(path, 0, "no such file", "a fleet file", "Name one with --fleet FILE or ANEW_FLEET") from None
    except (OSError, ValueError) as wrong:
        reason = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else "no path that could be opened"
        raise _one(path, 0, f"it cannot be read ({reason})", "a file that this user may read") from None
    if len(data) > LARGEST_FILE:
        raise _one(path, 0, "more than 1 MiB", "a fleet file of at most 1 MiB")
    return data


def _text_of(path: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise _one(path, data.count(b"\n", 0, wrong.start) + 1, "bytes that are not UTF-8", "UTF-8 text") from None
    if text.startswith("\ufeff"):
        raise _one(path, 1, "a byte-order mark before the first line", "UTF-8 text without one")
    if not text.strip():
        raise _one(path, 1, "an empty file", "a fleet file", "It begins with [fleet] and a name")
    return text


def _parse(path: str, text: str) -> dict[str, Any]:
    for number, words in enumerate(text.split("\n"), 1):
        if words.count(".") > MOST_DOTS:
            raise _one(path, number, f"a line with more than {MOST_DOTS} dots", "keys of a few parts")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        sentence, line, column = _placed(str(wrong), text)
        raise SettingsInvalid([Problem(path, line, "", "", "", f"this is not TOML{column}: {sentence}")]) from None
    except ValueError:
        # int() and date() raise bare ValueErrors for numbers of thousands of digits and the like.
        raise SettingsInvalid([Problem(path, 0, "", "", "", "this is not TOML: a number or date is out of range")]) from None


def _placed(message: str, text: str) -> tuple[str, int, str]:
    """tomllib's message as (sentence, line, " at column N")."""
    match = _POSITION.search(message)
    sentence = message[: match.start()] if match else message
    sentence = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in sentence[:200])
    if match and match[1]:
        return sentence, int(match[1]), f" (column {match[2]})"
    return sentence + ", at the end of the file", len(text.rstrip("\n").split("\n")), ""


def _examine(path: str, raw: dict[str, Any], digest: str, report: Report) -> Desired | None:
    _check_sections(raw, report)
    fleet = read_table(models.FleetTable, raw["fleet"], ("fleet",), report) if "fleet" in raw else None
    hypervisors = _read_section(models.HypervisorTable, raw, "hypervisors", report)
    machines = _read_section(models.MachineTable, raw, "machines", report, most=MOST_MACHINES)
    images = _read_section(models.ImageTable, raw, "images", report)
    access = read_table(models.AccessTable, raw.get("access", {}), ("access",), report)
    pools = _read_section(models.PoolTable, raw, "pools", report, LONGEST_POOL_NAME)
    partly = access or _partly(models.AccessTable, raw.get("access"), ("access",), report)
    check_images(_all_partly(models.ImageTable, raw, "images", images, report), report)
    check_hypervisors(_all_partly(models.HypervisorTable, raw, "hypervisors", hypervisors, report), report)
    check_machines(_all_partly(models.MachineTable, raw, "machines", machines, report), report)
    _check_pools(raw, pools, Around(images, hypervisors, machines, partly), report)
    if report.problems or fleet is None or access is None:
        return None
    folder = str(Path(path).absolute().parent)
    return build(
        fleet, _whole(hypervisors), _whole(images), _whole(pools), access, _whole(machines),
        folder=folder, path=os.path.abspath(path), digest=digest)


def _lines_of(text: str) -> Lines:
    try:
        return Lines(text)
    except (ValueError, IndexError, KeyError):
        # The second reading lost its way: problems are then told without lines rather than not at all.
        return Lines()


def _whole(tables: Mapping[str, T | None]) -> dict[str, T]:
    return {name: table for name, table in tables.items() if table is not None}


def _check_sections(raw: dict[str, Any], report: Report) -> None:
    known = list(models.FleetFile.model_fields)
    for name in raw:
        if name not in known:
            report.add((name,), "an unknown table", "one of " + ", ".join(known), did_you_mean(name, known))
    for name, needed in (("fleet", "[fleet] with a name"), ("images", "[images.FAMILY]"), ("pools", "[pools.NAME]")):
        if name not in raw:
            report.add((name,), "nothing", f"a table {needed}")


def _read_section(
    model: type[T], raw: dict[str, Any], section: str, report: Report, longest: int = 63, most: int = MOST_TABLES
) -> dict[str, T | None]:
    tables = raw.get(section, {})
    if not isinstance(tables, dict):
        report.add((section,), describe(tables), "a table")
        return {}
    if section == "pools" and not tables and section in raw:
        report.add((section,), "no pool", "at least one [pools.NAME]")
    if len(tables) > most:
        report.add((section,), f"{len(tables)} tables", f"at most {most}")
        return {}
    found: dict[str, T | None] = {}
    for name, table in tables.items():
        try:
            parse_name(name, longest=longest)
        except BadValue as wrong:
            report.add((section, name), f"the name {wrong.found}", wrong.allowed)
        found[name] = read_table(model, table, (section, name), report)
    return found


def _partly(model: type[T], raw: object, key: tuple[str, ...], report: Report) -> T | None:
    return read_partly(model, raw, key, report, {}) if isinstance(raw, dict) else None


def _all_partly(model: type[T], raw: dict[str, Any], section: str, tables: Mapping[str, T | None], report: Report) -> dict[str, T | None]:
    """The tables of a section, and of those that are wrong what is right of them."""
    return {name: table or _partly(model, raw[section][name], (section, name), report) for name, table in tables.items()}


def _check_pools(
    raw: dict[str, Any], pools: Mapping[str, models.PoolTable | None], around: Around, report: Report
) -> None:
    cases: list[Case] = []
    for name, table in pools.items():
        key = ("pools", name)
        if table is None and isinstance(raw["pools"][name], dict):
            table = read_partly(models.PoolTable, raw["pools"][name], key, report, STAND_INS)
        if table is not None:
            cases.append(Case(name, table, around, report))
    for case in cases:
        check_pool(case)
    check_ports(cases)
    check_names(cases)
    check_after(cases, list(pools))
