"""Changes to a fleet file's text that keep every other byte: a machine more, another pinned host key.

Each change is proved before it leaves: the new text must mean what the old one means, and that one change. A text in which
that does not come out is refused, with the lines that a person can write instead.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fleet.core.errors import Invalid, Refused
from fleet.core.grammar import parse_name
from fleet.settings.lines import Lines, Pair
from fleet.settings.models import MachineTable
from fleet.settings.problems import SettingsInvalid
from fleet.settings.validate import Report, read_table

_ADDRESS = re.compile(r"""(address|"address"|'address')[ \t]*$""")


def raw_of(text: str) -> dict[str, Any]:
    """The text's tables as they are written, valid or not. Invalid if it is no TOML."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as wrong:
        raise Invalid(f"this is not TOML ({str(wrong)[:200]}); mend it first", code="invalid-settings") from None


def check_machine(name: str, values: Mapping[str, str | int]) -> None:
    """Raise what a fleet file with such a table would be refused for, before anything is done with the values."""
    report = Report("", Lines())
    parse_name(name, where="name")
    read_table(MachineTable, dict(values), (), report)
    if report.problems:
        raise SettingsInvalid(replace(problem, line=0) for problem in report.problems)


def with_machine(text: str, name: str, values: Mapping[str, str | int]) -> str:
    """The text with a table `[machines.NAME]` of these values at its end."""
    raw, end = raw_of(text), _line_end(text)
    lines = machine_lines(name, values)
    before = text if text.endswith("\n") or not text else text + end
    wanted = copy.deepcopy(raw)
    machines = wanted.setdefault("machines", {})
    if not isinstance(machines, dict) or name in machines:
        raise Refused(f"there is a machine {name} in this file already; `anew machine pin {name}` pins its key", code="known-machine")
    machines[name] = dict(values)
    return _proved(before + end + end.join(lines) + end, wanted, lines)


def with_pin(text: str, name: str, pin: str) -> str:
    """The text with this `host_key` in the table of machine `name`: exchanged where there is one, else after its address."""
    raw = raw_of(text)
    wanted = copy.deepcopy(raw)
    line = f"host_key = {json.dumps(pin)}"
    try:
        wanted["machines"][name]["host_key"] = pin
        lines = Lines(text)
    except (KeyError, TypeError, ValueError, IndexError):
        raise Refused(f"there is no machine {name} in this file", code="unknown-machine") from None
    there, address = lines.pair(("machines", name, "host_key")), lines.pair(("machines", name, "address"))
    if there is not None:
        fresh = text[: there.value_start] + json.dumps(pin) + text[there.value_end :]
    elif address is not None:
        fresh = _after(text, address, line)
    else:
        fresh = text
    return _proved(fresh, wanted, [f"[machines.{name}]", line])


def machine_lines(name: str, values: Mapping[str, str | int]) -> list[str]:
    """The table as it is written."""
    return [f"[machines.{name}]", *(f"{key} = {_value(value)}" for key, value in values.items())]


def _value(value: str | int) -> str:
    """Of printable text a JSON string is a TOML string, too."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value).lower()


def _after(text: str, address: Pair, line: str) -> str:
    """A key beside `address`: within braces after its value, else on a line of its own below it, with the same way to write the table."""
    if address.inline:
        return f"{text[: address.value_end]}, {line}{text[address.value_end :]}"
    start = text.rfind("\n", 0, address.key_start) + 1
    before = text[start : address.key_start]
    table = _ADDRESS.sub("", text[address.key_start : address.key_end])
    at = text.find("\n", address.value_end)
    if at < 0:
        return f"{text}{_line_end(text)}{before}{table}{line}{_line_end(text)}"
    return f"{text[: at + 1]}{before}{table}{line}{_line_end(text)}{text[at + 1 :]}"


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _proved(fresh: str, wanted: Mapping[str, Any], lines: list[str]) -> str:
    try:
        if tomllib.loads(fresh) == wanted:
            return fresh
    except (ValueError, RecursionError):
        pass
    written = "\n".join(lines)
    raise Refused(f"this file writes its machines in a way that is not changed here; write this yourself, then `anew reload`:\n{written}",
                  code="not-editable")
