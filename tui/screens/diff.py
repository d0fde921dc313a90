"""Diff: what changes from one image to another, a row per package; kernel, command line and size above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from tui import fields, phrases
from tui.errors import LinkError
from tui.fields import Raw
from tui.ink import Line, Span
from tui.screens.base import TableView, View, fact
from tui.widgets.table import Column, Table

if TYPE_CHECKING:
    from tui.desk import Desk

SIGNS = {"added": ("+", "good"), "removed": ("-", "bad"), "changed": ("~", "warn")}


@dataclass(frozen=True, slots=True)
class Change:
    name: str
    kind: str
    before: str
    after: str


class DiffView(TableView[Change]):
    """Asked for when it opens: images never change, so it is never stale."""

    name = "diff"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.family = self.a = self.b = ""
        self.found: Raw = {}
        self.asked = ""
        self._rows: dict[str, Change] = {}
        self.table = Table(
            (
                Column("kind", "", lambda row: (Span(SIGNS[row.kind][0], SIGNS[row.kind][1]),), 1, words=lambda row: row.kind),
                Column("package", "package", lambda row: row.name, 12, 40, order=lambda row: row.name, words=lambda row: row.name),
                Column("before", "before", lambda row: (Span(row.before or "-", "dim"),), 12, 28, words=lambda row: row.before),
                Column("after", "after", lambda row: row.after or "-", 0, words=lambda row: row.after),
            ),
            fixed=2,
        )

    def enter(self, before: View, **what: str) -> None:
        if not what:
            return
        self.family, self.a, self.b = what["family"], what["a"], what["b"]
        self.found, self._rows, self.asked = {}, {}, ""
        self.table.set_filter("")
        self.table.cursor = ""
        self.desk.spawn(self._ask(self.family, self.a, self.b))

    async def _ask(self, *pair: str) -> None:
        family, a, b = (quote(part, safe="") for part in pair)
        try:
            found = await self.desk.calls.get(f"/v1/images/{family}/{a}/diff/{b}")
        except LinkError:
            self.asked = "cannot be compared now"
            raise
        if pair != (self.family, self.a, self.b):
            return
        self.found, self.asked = found, "yes"
        self._rows = {}
        for kind in SIGNS:
            for name, version in fields.mapping(found, kind).items():
                pair_of = [str(part) for part in version] if isinstance(version, list) and len(version) == 2 else [str(version)] * 2
                self._rows[f"{kind} {name}"] = Change(name, kind, "" if kind == "added" else pair_of[0], "" if kind == "removed" else pair_of[1])
        self.desk.stage.paint()

    def crumb(self) -> str:
        return f"{self.a}→{self.b}"

    def lines(self, width: int, height: int) -> list[Line]:
        title: Line = (Span(f" {self.family} {self.a} → {self.b}", "title"), Span(f"  {self._summary()}", "dim"))
        if not self.found:
            return [title]
        head = [title, *self._facts(), ()]
        self.table.update(self._rows, id(self._rows))
        if not self._rows:
            return [*head, (Span("  no package differs" if self.found.get("packages_known") is not False else
                                 "  one of the two names no packages", "dim"),)][:height]
        if not self.table.order:
            return [*head, (Span(f"  {self.no_match('package')}", "dim"),)][:height]
        rows = self.table.lines(width, max(2, height - len(head) - 1))
        if words := self.filter_words():
            rows.append((Span(f" {words}", "accent"), Span(" · esc shows all", "dim")))
        return [*head, *rows][:height]

    def _summary(self) -> str:
        if not self.found:
            return self.asked or "asking"
        if self.found.get("packages_known") is False:
            return "what changes inside is not known"
        counts = ((kind, sum(1 for row in self._rows.values() if row.kind == kind)) for kind in SIGNS)
        return ", ".join(f"{count} {kind}" for kind, count in counts)

    def _facts(self) -> list[Line]:
        before, after = (fields.number(self.found, key) for key in ("size_a", "size_b"))
        rows: list[Line] = []
        if before is not None and after is not None:
            rows.append(fact("size", f"{phrases.size(int(before))} → {phrases.size(int(after))}"))
        for name in ("kernel", "cmdline"):
            value = self.found.get(name)
            if isinstance(value, list) and len(value) == 2:
                rows.append(fact(name, Span(" → ".join(str(part) or "none" for part in value), "warn")))
        return rows


def make(desk: Desk) -> DiffView:
    return DiffView(desk)
