"""Prometheus' text format, version 0.0.4: families with HELP and TYPE, in the order of their table, values in full precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isinf, isnan
from typing import Literal

from fleet.core.printable import printable
from fleet.engine.tally import Histogram

MAX_LABEL = 128


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: what it is called, of what kind, what it means, and which labels its samples have."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


class Page:
    """Samples of a table of families. A name or a number of labels that is not the table's is a fault of anew's own."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = {family.name: family for family in families}
        self._lines: dict[str, list[str]] = {name: [] for name in self._families}

    def add(self, name: str, value: float, *labels: str) -> None:
        """One sample of a gauge or a counter. The same labels must not come twice."""
        self._lines[name].append(_sample(name, zip(self._families[name].labels, labels, strict=True), value))

    def histogram(self, name: str, values: Histogram, *labels: str) -> None:
        """The samples of one histogram."""
        mine = list(zip(self._families[name].labels, labels, strict=True))
        total = 0
        for bound, count in zip((*values.bounds, inf), values.counts, strict=True):
            total += count
            self._lines[name].append(_sample(f"{name}_bucket", [*mine, ("le", number(bound))], total))
        self._lines[name] += [_sample(f"{name}_sum", mine, values.sum), _sample(f"{name}_count", mine, total)]

    def text(self) -> str:
        """The whole page; families without a sample are left out."""
        found = []
        for name, lines in self._lines.items():
            family = self._families[name]
            if lines:
                found += [f"# HELP {name} {_escaped(family.help, quotes=False)}", f"# TYPE {name} {family.kind}", *lines]
        return "\n".join(found) + "\n"


def label_value(text: str) -> str:
    """A label's value from anywhere, as it is counted by: without control characters, not endless."""
    return printable(text, MAX_LABEL)


def number(value: float) -> str:
    """A number as the format has it; whole ones without a fraction."""
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _sample(name: str, labels: Iterable[tuple[str, str]], value: float) -> str:
    inside = ",".join(f'{label}="{_escaped(text, quotes=True)}"' for label, text in labels)
    return f"{name}{{{inside}}} {number(value)}" if inside else f"{name} {number(value)}"


def _escaped(text: str, *, quotes: bool) -> str:
    plain = text.replace("\\", "\\\\").replace("\n", "\\n")
    return plain.replace('"', '\\"') if quotes else plain
