"""A strict reader of Prometheus' text format 0.0.4: what the format asks for, and what its naming conventions ask for.

Written from the format's own description, for tests; it refuses more than Prometheus does (which takes samples without HELP and TYPE).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?)|[+-]Inf|NaN)")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
Labels = tuple[tuple[str, str], ...]


@dataclass
class Found:
    """A family as it was read: label values by sample name."""

    name: str
    help: str
    kind: str = ""
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def value(self, **labels: str) -> float:
        """The value of the one sample of the family's own name with these labels."""
        return self.samples[self.name, tuple(sorted(labels.items()))]


def read(text: str) -> dict[str, Found]:
    """The families of a page; AssertionError says what is wrong with it."""
    assert text.endswith("\n"), "the last line must end"
    families: dict[str, Found] = {}
    now: Found | None = None
    for line in text[:-1].split("\n"):
        assert not CONTROL.search(line), f"a control character in {line!r}"
        if line.startswith("# HELP "):
            name, _, words = line[7:].partition(" ")
            assert re.fullmatch(NAME, name) and words, line
            assert name not in families, f"{name} comes twice, or in two groups"
            now = families[name] = Found(name, words)
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            assert now is not None and name == now.name and not now.kind and not now.samples, f"TYPE out of place: {line}"
            assert kind in ("counter", "gauge", "histogram"), line
            now.kind = kind
        else:
            assert now is not None and now.kind, f"a sample without HELP and TYPE: {line}"
            _take(now, line)
    for found in families.values():
        _check(found)
    return families


def _take(family: Found, line: str) -> None:
    matched = SAMPLE.fullmatch(line)
    assert matched, f"no sample: {line!r}"
    name, inside, number = matched.groups()
    suffixes = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
    assert name in {family.name + suffix for suffix in suffixes}, f"{name} among the samples of {family.name}"
    labels, at = [], 0
    while inside and at < len(inside):
        label = LABEL.match(inside, at)
        assert label, f"no label at {inside[at:]!r} of {line!r}"
        labels.append((label[1], re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), label[2])))
        at = label.end()
    assert len(dict(labels)) == len(labels), f"a label comes twice: {line}"
    key = name, tuple(sorted(labels))
    assert key not in family.samples, f"the same sample twice: {line}"
    family.samples[key] = {"+Inf": inf, "-Inf": -inf}.get(number) or float(number)


def _check(family: Found) -> None:
    assert family.samples, f"{family.name} has no sample"
    assert (family.kind == "counter") == family.name.endswith("_total"), f"{family.name} is a {family.kind}"
    assert not re.search(r"_(bucket|sum|count)$", family.name), f"{family.name} could be mistaken for a part of a histogram"
    assert not re.search(r"(milli|micro)seconds|_(ms|minutes|hours|days|kib|mib|percent)\b", family.name), f"{family.name} has no base unit"
    if family.kind == "counter":
        assert all(value >= 0 for value in family.samples.values())
    if family.kind == "histogram":
        _check_histogram(family)


def _check_histogram(family: Found) -> None:
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for (name, labels), value in family.samples.items():
        if name.endswith("_bucket"):
            bound = dict(labels)["le"]
            rest = tuple(pair for pair in labels if pair[0] != "le")
            groups.setdefault(rest, []).append((inf if bound == "+Inf" else float(bound), value))
    assert groups
    for rest, buckets in groups.items():
        assert buckets == sorted(buckets) and len({bound for bound, _ in buckets}) == len(buckets), f"{family.name}{rest}: bounds must rise"
        counts = [count for _, count in buckets]
        assert counts == sorted(counts), f"{family.name}{rest}: buckets are cumulative"
        assert buckets[-1] == (inf, family.samples[f"{family.name}_count", rest]), f"{family.name}{rest}: +Inf is the count"
        assert (f"{family.name}_sum", rest) in family.samples
