"""Fleet, the home: a row per pool, then the pool under the cursor, what needs a look, and what happened last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui import phrases
from tui.ink import Line, Span
from tui.screens.base import TableView, event_line, fact, section
from tui.shapes import Pool, Rollout
from tui.widgets.table import Column, Shown, Table

if TYPE_CHECKING:
    from tui.desk import Desk


class FleetView(TableView[Pool]):
    """A table of pools; a fleet has few, so the rest of the screen tells more about them."""

    name = "fleet"
    rows = "pool"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        model = desk.model
        self._lead = 1
        self.table = Table(
            (
                Column("pool", "pool", lambda pool: (Span(pool.name, "title"),), 4, 18, words=lambda pool: pool.name,
                       order=lambda pool: pool.name),
                Column("size", "size", lambda pool: f"{pool.size:,}", 4, 6, align="right", order=lambda pool: -pool.size,
                       words=lambda pool: f"{pool.size:,}", value=lambda pool: pool.size),
                Column("health", "health", self._health, 14, order=lambda pool: pool.healthy - pool.size,
                       words=lambda pool: "down" if pool.healthy < pool.size else "ok", value=lambda pool: pool.healthy),
                Column("image", "image", lambda pool: phrases.version_bar(pool, 14, self._lead), 14,
                       words=lambda pool: " ".join(pool.versions), order=lambda pool: pool.stable,
                       value=lambda pool: [f"{version}: {count}" for version, count in pool.versions.items()]),
                Column("oldest", " oldest", self._oldest, 9,
                       order=lambda pool: -(model.oldest(pool, desk.now) or 0.0), words=lambda pool: "",
                       value=lambda pool: round(model.oldest(pool, desk.now) or 0)),
                Column("root", "root", self._root, 6, words=lambda pool: pool.root, order=lambda pool: pool.root),
                Column("rollout", "rollout", self._rollout, 0),
                Column("mode", "mode", lambda pool: (Span(pool.mode, "dim"),), 8, at=120, words=lambda pool: pool.mode),
                Column("driver", "driver", lambda pool: (Span(pool.driver, "dim"),), 9, at=120,
                       words=lambda pool: pool.driver),
                Column("data", "data kept", lambda pool: (Span(", ".join(pool.data) or "-", "dim"),), 14, at=160,
                       words=lambda pool: " ".join(pool.data), value=lambda pool: list(pool.data)),
            ),
        )

    # cells

    def _health(self, pool: Pool) -> Shown:
        rollout = self.desk.model.rollout_of(pool.name)
        return phrases.health(pool, born=rollout is None or not rollout.active or rollout.kind != "birth")

    def _oldest(self, pool: Pool) -> Shown:
        seconds = self.desk.model.oldest(pool, self.desk.now)
        mark, tone = phrases.heat(seconds, pool.max_age)
        return (Span(f"{phrases.age(seconds):>7} {mark}", tone),)

    def _root(self, pool: Pool) -> Shown:
        roots = self.desk.model.tally(pool.name).roots
        writable = roots.get("writable", 0)
        return (Span(f"{writable} rw !", "bad"),) if writable else (Span(phrases.root_mode(pool, roots)),)

    def _rollout(self, pool: Pool) -> Shown:
        rollout = self.desk.model.rollout_of(pool.name)
        zone = self.desk.clock.zone
        if rollout is not None and rollout.active:
            tone = phrases.ROLLOUT_TONES.get(rollout.state, "accent")
            done, total = phrases.progress(rollout)
            if rollout.state == "rolling":
                return (Span(f"{done}/{total} ", "accent"), Span(rollout.waits or phrases.eta(rollout, zone)))
            return (Span(phrases.rollout_state(rollout), tone), Span(f" {done}/{total}"))
        if pool.proposal is not None:
            return (Span(f"approved {pool.proposal.needed - pool.proposal.left}/{pool.proposal.needed}", "warn"),)
        if pool.unreachable:
            return (Span("unreachable: " + ", ".join(pool.unreachable), "bad"),)
        if pool.auto:
            return (Span(phrases.auto_words(pool), phrases.auto_tone(pool)),)
        if pool.stable and (ready := phrases.offered(pool)):
            return (Span(f"{ready} is ready", "accent"),)
        return (Span("-", "dim"),)

    # drawing

    def lines(self, width: int, height: int) -> list[Line]:
        model = self.desk.model
        self.table.update(model.pools, object())
        if not model.pools:
            return [(), (Span("  no pools: the fleet file describes none" if model.connection.live else "  waiting for the daemon", "dim"),)]
        self._lead = min(6, max(len(phrases.lead_version(pool)) for pool in model.pools.values()))
        most = max(4, height - 9)
        rows = self.table.lines(width, min(len(self.table.order) + 1, most, height))
        if words := self.filter_words():
            rows.append((Span(f" {words}", "accent"), Span(" · esc shows all", "dim")))
        if not self.table.order:
            rows.append((Span(f"  {self.no_match('pool')}", "dim"),))
        pool = self.table.current
        rest = height - len(rows)
        if pool is not None and rest >= 5:
            rows += [(), *self.about(pool, width)]
        rows += self.needs(width, height - len(rows))
        return (rows + self.lately(width, height - len(rows)))[:height]

    def about(self, pool: Pool, width: int) -> list[Line]:
        """The pool under the cursor in a few sentences."""
        model = self.desk.model
        rollout = model.rollout_of(pool.name)
        found = [section(pool.name, width, f"{pool.driver}, {pool.mode}" if pool.mode else pool.driver)]
        found.append(fact("image", *self._images(pool)))
        found.append(fact("rollout", *self._last(rollout)))
        if rollout is not None and rollout.active and rollout.reason:
            found.append(fact("", Span(rollout.reason, phrases.ROLLOUT_TONES.get(rollout.state, "plain"))))
        if pool.due:
            found.append(fact("due", Span(pool.due)))
        if pool.auto:
            found.append(fact("auto", Span(pool.auto, phrases.auto_tone(pool))))
        if tainted := model.tally(pool.name).tainted:
            broken = model.tally(pool.name).unlocked
            found.append(fact("tainted", Span(phrases.plural(tainted, "server"), "bad"), Span(f", {broken} with an unlocked root" if broken else "", "bad"),
                              Span("  due for replacement", "dim")))
        back = model.tally(pool.name).returnable
        if back and pool.previous and not (rollout is not None and rollout.active):  # there the way back is the rollout's own
            found.append(fact("way back", f"{phrases.plural(back, 'server')} can return to {pool.previous} in seconds"))
        return found

    def _images(self, pool: Pool) -> Line:
        spans = [Span(f"{pool.family} {pool.stable}" if pool.stable else f"{pool.family}, none stable yet")]
        if pool.target and pool.target != pool.stable:
            spans.append(Span(f", going to {pool.target}", "accent"))
        elif ready := phrases.offered(pool):
            spans.append(Span(f", {ready} is newer", "accent"))
        elif pool.newest and pool.newest == pool.stable:
            spans.append(Span(", the newest not rejected" if pool.rejected else ", the newest", "dim"))
        if pool.previous:
            spans.append(Span(f" · before it {pool.previous}", "dim"))
        for version, why in pool.rejected[:2]:
            spans.append(Span(f" · {version} rejected: {why}" if why else f" · {version} rejected", "warn"))
        return tuple(spans)

    def _last(self, rollout: Rollout | None) -> Line:
        if rollout is None:
            return (Span("none yet", "dim"),)
        zone, now = self.desk.clock.zone, self.desk.now
        done, total = phrases.progress(rollout)
        tone = phrases.ROLLOUT_TONES.get(rollout.state, "accent")
        head = (Span(f"{phrases.movement(rollout)} "), Span(phrases.rollout_state(rollout), tone))
        if not rollout.active:
            ended = phrases.when(self.desk.model.local(rollout.ended), now, zone)
            return (*head, Span(f" {ended}, {done} of {total}", "dim"))
        since = phrases.when(self.desk.model.local(rollout.started), now, zone)
        return (*head, Span(f", {done} of {total} done"), Span(f" · since {since} by {phrases.who(rollout.author)}", "dim"))

    def needs(self, width: int, room: int) -> list[Line]:
        """What needs a person. Nothing is worth a line too: it is what one hopes to read."""
        if room < 3:
            return []
        troubles = self.desk.model.troubles()
        if not troubles:
            return [section("needs a look", width), (Span(" nothing", "good"),)]
        most = max(1, min(len(troubles), room // 2))
        rows: list[Line] = [section("needs a look", width, str(len(troubles)) if len(troubles) > most else "")]
        for trouble in troubles[:most]:
            rows.append((Span(" ! ", trouble.tone), Span(f"{trouble.name:<12} "), Span(trouble.words, trouble.tone)))
        return rows

    def lately(self, width: int, room: int) -> list[Line]:
        events = [item for item in self.desk.model.events[-400:] if phrases.milestone(item)]
        if room < 2 or not events:
            return []
        return [section("lately", width), *(event_line(self.desk, item) for item in reversed(events[-(room - 1):]))]

    # doing

    def pool(self) -> Pool | None:
        return self.table.current

    def act(self, action: str) -> bool:
        if action == "open":
            if self.table.cursor:
                self.desk.open("servers", pool=self.table.cursor)
            return True
        if action == "faults":
            self.desk.open("servers", faults="yes")
            return True
        return super().act(action)


def make(desk: Desk) -> FleetView:
    return FleetView(desk)
