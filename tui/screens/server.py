"""Server: one lasting identity; its facts, the step it is in, its lives, and what it could go back to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tui import fields, phrases
from tui.fields import Raw
from tui.ink import Line, Span, wrap
from tui.screens.base import View, event_line, fact, iso, section
from tui.shapes import Rollout, Run, Server

if TYPE_CHECKING:
    from tui.desk import Desk


class ServerView(View):
    """Facts come from the stream; the past lives are asked for once, when the view opens."""

    name = "server"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.named = ""
        self.detail: Raw = {}
        self.scroll = 0

    def enter(self, before: View, **what: str) -> None:
        found = before.server()
        name = what.get("server") or (found.name if found is not None else self.named)
        if not name:
            pool = before.pool()
            servers = self.desk.model.pool_servers(pool.name) if pool is not None else []
            name = servers[0].name if servers else next(iter(self.desk.model.servers), "")
        if name != self.named:
            self.named, self.detail, self.scroll = name, {}, 0
        if name:
            self.desk.spawn(self._ask(name))

    async def _ask(self, name: str) -> None:
        detail = await self.desk.calls.get(f"/v1/servers/{quote(name, safe='')}")
        if name == self.named:
            self.detail = detail
            self.desk.stage.paint()

    def crumb(self) -> str:
        return self.named or self.name

    def server(self) -> Server | None:
        return self.desk.model.servers.get(self.named)

    def place(self) -> dict[str, str]:
        return {"server": self.named}

    def goto(self, place: Raw) -> None:
        if (name := fields.text(place, "server")) and name != self.named:
            self.enter(self, server=name)

    def run(self) -> Run | None:
        rollout = self.rollout()
        if rollout is None or not rollout.active:
            return None
        return next((run for run in rollout.runs if run.name == self.named), None)

    def ticking(self) -> bool:
        run = self.run()
        return run is not None and run.cell in "dsbh"

    # drawing

    def lines(self, width: int, height: int) -> list[Line]:
        server = self.server()
        if server is None:
            words = f"{self.named} is gone: the pool has no such server now" if self.named else "there is no server yet"
            return [(), (Span(f"  {words}", "dim"),)]
        rows = [*self._title(server, width), *self._facts(server, width), *self._step(width)]
        rows += self._lives(server, width)
        events = [item for item in self.desk.model.events if item.server == server.name]
        rows.append(section("events", width))
        rows += [event_line(self.desk, item) for item in reversed(events[-200:])]
        if not events:
            reach = self.desk.model.reach()
            rows.append((Span(f" none in the {reach}" if reach else " none in the journal", "dim"),))
        self.scroll = max(0, min(self.scroll, len(rows) - height))
        return rows[self.scroll : self.scroll + height]

    def _title(self, server: Server, width: int) -> list[Line]:
        state = phrases.STEP_WORDS.get(server.state, server.state)
        name = (Span(f" {server.name}", "title"), Span(f"  pool {server.pool}  ", "dim"))
        rollout, run = self.rollout(), self.run()
        rows: list[Line] = []
        if rollout is not None and run is not None and run.cell in "dsbh":
            rows.append((*name, Span(f"being replaced, {phrases.movement(rollout)}: "),
                         Span(phrases.STEP_WORDS.get(run.step, run.step), "accent")))
            rows += self._two_lives(server, rollout, run)
        else:
            rows.append((*name, Span(state, phrases.server_tone(server)), Span(", "), self._health(server)))
        if words := phrases.server_words(server):
            rows += [(Span(f" {row}", "warn"),) for row in wrap(words, width - 2, 2)]
        return rows

    def _health(self, server: Server) -> Span:
        health = "healthy" if server.healthy else "not healthy"
        return Span(f"{health}: {server.health_words}" if server.health_words else health,
                    "good" if server.healthy else "bad")

    def _two_lives(self, server: Server, rollout: Rollout, run: Run) -> list[Line]:
        """Which incarnation serves, and so what `healthy` is about; and which one is on its way in or out."""
        if server.incarnation is None:
            serves = fact("serves", Span("nothing now", "warn"))
        else:
            serves = fact("serves", Span(f"incarnation {server.incarnation}, image {server.version}, "),
                          self._health(server))
        words = phrases.STEP_WORDS.get(run.step, run.step)
        if run.cell in "bh":
            other = fact(words, f"a new incarnation, image {rollout.to}", Span("; it serves when it is proved", "dim"))
        elif server.version == rollout.to:
            other = fact(words, "the incarnation before it")
        else:
            other = fact(words, "this one", Span(f"; image {rollout.to} comes after it", "dim"))
        return [serves, other]

    def _facts(self, server: Server, width: int) -> list[Line]:
        model, zone, now = self.desk.model, self.desk.clock.zone, self.desk.now
        life = "-" if server.incarnation is None else str(server.incarnation)
        born = phrases.when(model.local(server.born), now, zone)
        age = phrases.age(model.age_of(server, now))
        rows = [
            fact("image", Span(server.version or "-", "title"), Span(f"  {server.digest[:23]}", "dim")),
            fact("life", f"incarnation {life}, born {born}", Span(f"  {age} old", "dim")),
            fact("root", Span(server.root, "bad" if server.root == "writable" else "plain"),
                 Span("  as seen inside the running server", "dim")),
            fact("address", server.address or "-", Span(f"  on {server.hypervisor}" if server.hypervisor else "", "dim")),
        ]
        if server.held:
            rows.append(fact("held", Span(f'"{server.held}"', "warn"), Span(f"  skipped until {self.desk.model.key_of('hold')} releases it", "dim")))
        if server.tainted:
            rows.append(fact("tainted", Span(", ".join(server.tainted), "bad"), Span("  due for replacement", "dim")))
        if server.unlocked_until is not None:
            until = phrases.when(model.local(server.unlocked_until), now, zone)
            rows.append(fact("unlocked", Span(f"until {until}", "bad"), Span(f"  by {phrases.who(server.unlocked_by)}: {server.unlocked_why}", "plain"),
                             Span("; then it is locked again", "dim")))
        rows.append(fact("way back", *self._way_back(server)))
        if width >= 120:
            rows.append(fact("uuid", Span(server.uuid, "dim")))
        return rows

    def _way_back(self, server: Server) -> Line:
        zone, now = self.desk.clock.zone, self.desk.now
        if server.retained:
            kept = server.retained[0]
            until = phrases.when(self.desk.model.local(kept.until), now, zone)
            return (Span(f"image {kept.version}, incarnation {kept.incarnation}, in seconds"),
                    Span(f"  kept until {until}", "dim"))
        pool = self.pool()
        if pool is not None and pool.previous:
            return (Span(f"image {pool.previous}, by a new birth: nothing of it is retained", "dim"),)
        return (Span("nothing to go back to", "dim"),)

    def _step(self, width: int) -> list[Line]:
        run, rollout = self.run(), self.rollout()
        if run is None or rollout is None:
            return []
        now = self.desk.model.daemon_time(self.desk.now)
        typical = rollout.typical.get(run.step)
        parts = [phrases.elapsed(run, now) if run.cell in "dsbh" else "",
                 f"typical {phrases.span(typical)}" if typical and run.cell in "dsbh" else "", phrases.deadline(run, now)]
        words = phrases.STEP_WORDS.get(run.step, run.step)
        row = fact("step", Span(words, phrases.CELL_TONES[run.cell]),
                   Span("  " + ", ".join(part for part in parts if part), "dim"))
        rows = [section(f"rollout {phrases.movement(rollout)}", width, phrases.rollout_state(rollout)), row]
        if reason := phrases.run_reason(rollout, run):
            rows.append(fact("why", reason))
        if run.error:
            rows += [fact("error" if not index else "", Span(text, "bad"))
                     for index, text in enumerate(wrap(run.error, width - 12, 3))]
        if run.last_words:
            rows.append(fact("last words", Span(run.last_words.replace("\n", " ⋯ "), "dim"), width=10))
        return rows

    def _lives(self, server: Server, width: int) -> list[Line]:
        """Every incarnation the daemon tells of, the newest first; without a word from it, those retained."""
        zone, now, local = self.desk.clock.zone, self.desk.now, self.desk.model.local
        lives = fields.rows(self.detail, "incarnations")
        rows: list[Line] = [section("lives", width)]
        for life in sorted(lives, key=lambda item: -fields.whole(item, "incarnation", fields.whole(item, "number"))):
            numbered = fields.whole(life, "incarnation", fields.whole(life, "number"))
            born = phrases.when(local(fields.moment(life.get("born_at"))), now, zone)
            here = numbered == server.incarnation
            until = fields.moment(life.get("retained_until"))
            notes = [f"retained until {phrases.when(local(until), now, zone)}" if until else "",
                     "failed" if life.get("failed") is True else "", fields.text(life, "hypervisor"),
                     fields.text(life, "note")]
            state = "serving" if here and server.state == "serving" else fields.text(life, "state")
            rows.append((
                Span(f" {numbered:>4}  ", "title" if here else "plain"), Span(f"{fields.text(life, 'version'):<10} "),
                Span(f"born {born:<12} ", "dim"), Span(f"{state:<9} ", "good" if here else "dim"),
                Span(", ".join(note for note in notes if note), "dim"),
            ))
        if lives:
            return rows
        now_born = phrases.when(local(server.born), now, zone)
        rows.append((Span(f" {server.incarnation if server.incarnation is not None else '-':>4}  "),
                     Span(f"{server.version:<10}"), Span(f"born {now_born:<13}", "dim"), Span("now", "good")))
        for kept in server.retained:
            stays = phrases.when(local(kept.until), now, zone)
            rows.append((Span(f" {kept.incarnation:>4}  "), Span(f"{kept.version:<10}"),
                         Span(f"retained until {stays}", "dim")))
        return rows

    def records(self) -> list[dict[str, Any]]:
        """A row for every incarnation that the daemon tells of, or for the one of now."""
        server = self.server()
        if server is None:
            return []
        lives = [{"incarnation": fields.whole(life, "incarnation", fields.whole(life, "number")), "image": fields.text(life, "version"),
                  "state": fields.text(life, "state"), "born": fields.text(life, "born_at"), "retained_until": fields.text(life, "retained_until"),
                  "failed": life.get("failed") is True} for life in fields.rows(self.detail, "incarnations")]
        now: dict[str, Any] = {"incarnation": server.incarnation, "image": server.version, "state": server.state, "born": iso(server.born)}
        return [{"server": server.name, "pool": server.pool, "address": server.address, "on": server.hypervisor, **life} for life in lives or [now]]

    # doing

    def act(self, action: str) -> bool:
        steps = {"down": 1, "up": -1, "page-down": 15, "page-up": -15, "top": -100_000, "bottom": 100_000}
        if action in steps:
            self.scroll = max(0, self.scroll + steps[action])
            return True
        return False


def make(desk: Desk) -> ServerView:
    return ServerView(desk)
