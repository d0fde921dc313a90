"""Images: what there is to roll out, where it is used, and where it was rejected and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui import fields, offers, phrases
from tui.ink import Line, Span, wrap
from tui.offers import Image
from tui.screens.base import TableView, View, fact, iso, section
from tui.screens.servers import natural
from tui.shapes import Pool
from tui.widgets.table import Column, Shown, Table

if TYPE_CHECKING:
    from tui.desk import Desk


class ImagesView(TableView[Image]):
    """Asked for when opened; the catalogue changes rarely."""

    name = "images"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.asked = False
        self.table = Table(
            (
                Column("family", "family", lambda item: item.family, 8, 18, words=lambda item: item.family,
                       order=lambda item: (item.family, natural(item.version))),
                Column("version", "version", lambda item: (Span(item.version, "title"),), 8, 16,
                       words=lambda item: item.version),
                Column("built", "built", self._built, 9, align="right",
                       order=lambda item: -(item.built or 0), words=lambda item: "", value=lambda item: iso(item.built)),
                Column("size", "size", lambda item: phrases.size(item.size), 8, align="right",
                       order=lambda item: -item.size, words=lambda item: "", value=lambda item: item.size),
                Column("packages", "packages", lambda item: "-" if item.packages is None else f"{item.packages:,}", 8,
                       align="right", order=lambda item: -(item.packages or 0), words=lambda item: "",
                       value=lambda item: item.packages),
                Column("state", "used by", self._state, 0, words=self._words),
                Column("kind", "kind", lambda item: (Span(item.kind, "dim"),), 9, at=120, words=lambda item: item.kind),
                Column("digest", "digest", lambda item: (Span(item.digest.removeprefix("sha256:")[:16], "dim"),), 16,
                       at=120, words=lambda item: item.digest),
            ),
            sort="family", fixed=2, marked=True,
        )

    def enter(self, before: View, **what: str) -> None:
        self.desk.spawn(self._ask())

    async def _ask(self) -> None:
        answer = await self.desk.calls.get("/v1/images")
        found = (offers.image(row) for row in fields.rows(answer, "images"))
        self.desk.model.images = {item.key: item for item in found}
        self.asked = True
        self.desk.stage.paint()

    def _built(self, item: Image) -> Shown:
        if item.built is None:
            return "-"
        return f"{phrases.age(max(0.0, self.desk.model.daemon_time(self.desk.now) - item.built))}"

    def _state(self, item: Image) -> Shown:
        spans = [Span(", ".join(item.used_by), "good")] if item.used_by else []
        if item.problem:
            spans.append(Span(("  " if spans else "") + f"! {item.problem}", "bad"))
        for pool, why in item.rejected:
            spans.append(Span(("  " if spans else "") + f"rejected for {pool}" + (f": {why}" if why else ""), "warn"))
        return tuple(spans) or (Span("-", "dim"),)

    def _words(self, item: Image) -> str:
        return " ".join((*item.used_by, item.problem, *("rejected " + pool for pool, _ in item.rejected)))

    def lines(self, width: int, height: int) -> list[Line]:
        images = self.desk.model.images
        self.table.update(images, id(images))
        if not images:
            words = "no images yet: `anew image add PATH` takes one in" if self.asked else "asking for the images"
            return [(), (Span(f"  {words}", "dim"),)]
        room = max(3, height - 7)
        rows = self.table.lines(width, room)
        rows += [()] * (room - len(rows))
        return (rows + self._about(width))[:height]

    def _about(self, width: int) -> list[Line]:
        item = self.table.current
        if item is None:
            none = self.no_match("image") if self.table.filter.pattern is not None else f"no image is broken or rejected: {self.desk.model.key_of('faults')} shows all again"
            return [(), (Span(f"  {none}", "dim"),)]
        built = phrases.when(self.desk.model.local(item.built), self.desk.now, self.desk.clock.zone)
        rows = [
            section(f"{item.family} {item.version}", width, self.filter_words()),
            fact("digest", Span(item.digest, "dim")),
            fact("made", f"{item.kind}, built {built}", Span(f"  {item.source}" if item.source else "", "dim")),
            fact("used by", ", ".join(item.used_by) or "no pool"),
        ]
        for pool, why in item.rejected[:1]:
            rows.append(fact("rejected", Span(f"for {pool}: {why or 'no reason was given'}", "warn")))
        if item.problem:
            rows += [fact("problem" if not at else "", Span(text, "bad"))
                     for at, text in enumerate(wrap(item.problem, width - 12, 2))]
        return rows

    def image(self) -> str:
        return "" if self.table.current is None else self.table.current.version

    def act(self, action: str) -> bool:
        if action == "faults":
            self.table.only = None if self.table.only is not None else _unusable
            return True
        if action == "back" and self.table.only is not None:
            self.table.only = None
            return True
        return super().act(action)

    def pool(self) -> Pool | None:
        """The first pool that runs this family: what `p` plans for."""
        item = self.table.current
        if item is None:
            return None
        return next((pool for pool in self.desk.model.pools.values() if pool.family == item.family), None)


def _unusable(item: Image) -> bool:
    return bool(item.problem or item.rejected)


def make(desk: Desk) -> ImagesView:
    return ImagesView(desk)
