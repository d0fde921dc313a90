"""Overrides of one plan: `--max-surge 2 --min-healthy-time 30s`, with the names, grammar and limits of the settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fleet.core import grammar
from fleet.core.desired import Pool, RolloutSettings
from fleet.settings.problems import Problem, SettingsInvalid, did_you_mean


def override(pool: Pool, overrides: Mapping[str, str]) -> Pool:
    """`pool` with settings of its rollout replaced. Names in kebab or snake case. Raises SettingsInvalid with all problems."""
    problems: list[Problem] = []
    changes: dict[str, Any] = {}
    wrong: set[str] = set()
    for given, text in overrides.items():
        name = given.removeprefix("--").replace("-", "_")
        if name not in READERS:
            allowed = "one of " + ", ".join(READERS)
            problems.append(Problem("", 0, given[:80], "an unknown setting", allowed, did_you_mean(name, list(READERS))))
        elif name in changes or name in wrong:
            problems.append(Problem("", 0, given, f"{name} twice", "each setting once"))
        else:
            try:
                changes[name] = READERS[name](text if isinstance(text, str) else grammar.describe(text))
            except grammar.BadValue as refused:
                wrong.add(name)
                problems.append(Problem("", 0, given, refused.found, refused.allowed, refused.hint))
    rollout = dataclasses.replace(pool.rollout, **changes)
    problems += _check(pool, rollout, changes, wrong)
    if problems:
        raise SettingsInvalid(problems)
    return dataclasses.replace(pool, rollout=rollout)


def _check(pool: Pool, rollout: RolloutSettings, changes: Mapping[str, Any], wrong: Collection[str]) -> list[Problem]:
    """The limits between settings, told at a setting that was overridden; one that is wrong by itself is not believed."""
    problems: list[Problem] = []

    def refuse(names: tuple[str, ...], found: object, allowed: str) -> None:
        if any(name in wrong for name in names):
            return
        name = next((name for name in names if name in changes), names[0])
        problems.append(Problem("", 0, name, str(found), allowed))

    if pool.driver == "baremetal" and rollout.max_surge.value:
        refuse(("max_surge",), rollout.max_surge, "0 on bare metal: the two slots of a machine never run side by side")
    elif pool.data and rollout.max_surge.value:
        refuse(("max_surge",), rollout.max_surge, "0 for a pool with data: its disks have one incarnation at a time")
    if not rollout.max_surge.value and not rollout.max_unavailable.value:
        refuse(("max_unavailable", "max_surge"), 0, "at least one of max_unavailable and max_surge above 0")
    if not rollout.canaries.percent and rollout.canaries.value > max(pool.servers, 1) and "canaries" in changes:
        refuse(("canaries",), rollout.canaries, f"at most {pool.servers}, the number of servers")
    for limit in ("healthy_deadline", "progress_deadline"):
        if rollout.min_healthy_time >= getattr(rollout, limit):
            refuse(("min_healthy_time", limit), grammar.format_duration(rollout.min_healthy_time),
                   f"less than {limit}, which is {grammar.format_duration(getattr(rollout, limit))}")
    return problems


def _between(least: str, most: str) -> Callable[[str], float]:
    low, high = grammar.parse_duration(least), grammar.parse_duration(most)

    def read(text: str) -> float:
        seconds = grammar.parse_duration(text)
        if not low <= seconds <= high:
            raise grammar.BadValue(grammar.describe(text), f"a duration from {least} to {most}")
        return seconds

    return read


def _choice(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            quoted = [f'"{word}"' for word in words]
            allowed = f"{', '.join(quoted[:-1])} or {quoted[-1]}"
            raise grammar.BadValue(grammar.describe(text), allowed, did_you_mean(text, words))
        return text

    return read


def _failures(text: str) -> int:
    count = grammar.read_whole(text)
    if count > grammar.LARGEST_AMOUNT:
        raise grammar.BadValue(grammar.describe(text), f"an integer from 0 to {grammar.LARGEST_AMOUNT}")
    return count


READERS: Mapping[str, Callable[[str], Any]] = {
    "max_unavailable": grammar.read_amount,
    "max_surge": grammar.read_amount,
    "canaries": grammar.read_amount,
    "promotion": _choice("manual", "auto"),
    "min_healthy_time": _between("0s", "24h"),
    "healthy_deadline": _between("1s", "7d"),
    "progress_deadline": _between("1s", "7d"),
    "drain_deadline": _between("0s", "24h"),
    "max_failures": _failures,
    "on_failure": _choice("pause", "rollback"),
    "retain": _between("0s", "3650d"),
    "order": _choice("oldest", "name", "newest"),
    "checkpoints": grammar.parse_checkpoints,
    "checkpoint_pause": grammar.parse_pause,
    "on_disconnect": _choice("continue", "pause"),
}
