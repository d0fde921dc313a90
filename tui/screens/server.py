"""Server: one lasting identity; its facts, the step it is in, how long each step took, its lives, and what it could go back to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tui import fields, phrases
from tui.fields import Raw
from tui.ink import Line, Span, wrap
from tui.screens.base import LABEL, View, event_line, fact, iso, section
from tui.screens.steps import failure, steps
from tui.shapes import Rollout, Run, Server

if TYPE_CHECKING:
    from tui.desk import Desk


class ServerView(View):
    """Facts come from the stream; past lives and step times are asked for when the view opens, and again when the server moved on."""

    name = "server"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.named = ""
        self.detail: Raw = {}
        self.scroll = 0
        self._asked: tuple[object, ...] = ()
        self._asking = False

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
            self._refresh()

    def heard(self) -> None:
        if self.named and self._asked != self._point():
            self._refresh()

    def _point(self) -> tuple[object, ...]:
        """Where the server is: what the daemon tells of its past changes with this, and with nothing else."""
        server, run = self.server(), self.run()
        return (self.named, server and (server.incarnation, server.state, server.retained), run and (run.step, run.since, run.error))

    def _refresh(self) -> None:
        """One question at a time; a server that moved on meanwhile is asked about again."""
        if not self._asking:
            self._asking, self._asked = True, self._point()
            self.desk.spawn(self._ask(self.named))

    async def _ask(self, name: str) -> None:
        try:
            detail = await self.desk.calls.get(f"/v1/servers/{quote(name, safe='')}")
        finally:
            self._asking = False
        if name == self.named:
            self.detail = detail
            self.desk.stage.paint()
        if self._asked != self._point():
            self._refresh()

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
        work, facts = self._work(width, height), self._facts(server, width)
        rows = [*self._title(server, width), *(work + facts if self._urgent() else facts + work)]
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
        why = phrases.run_reason(rollout, run) if rollout is not None and run is not None else ""
        if (words := phrases.server_words(server)) and words != why and not server.held and not words.startswith("tainted: "):
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
            other = fact(words, self._coming(server, rollout), Span("; it serves when it is proved", "dim"))
        elif server.version == rollout.to:
            other = fact(words, "the incarnation before it")
        else:
            other = fact(words, "this one", Span(f"; image {rollout.to} comes after it", "dim"))
        return [serves, other]

    def _coming(self, server: Server, rollout: Rollout) -> str:
        """The incarnation that does not serve yet: a new one, or on the way back one that was retained."""
        runs = [life for life in fields.rows(self.detail, "incarnations")
                if fields.text(life, "state") == "running" and fields.whole(life, "incarnation") != server.incarnation]
        found = max(runs, key=lambda life: fields.whole(life, "incarnation"), default=None)
        if found is not None:
            return f"incarnation {fields.whole(found, 'incarnation')}, image {fields.text(found, 'version')}"
        return "another incarnation" if _goes_back(rollout) else f"a new incarnation, image {rollout.to}"

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
            words = wrap(f"{', '.join(server.tainted)}; due for replacement", width - LABEL - 2, 2)
            rows += [fact("" if at else "tainted", Span(row, "bad")) for at, row in enumerate(words)]
        if server.unlocked_until is not None:
            until = phrases.when(model.local(server.unlocked_until), now, zone)
            rows.append(fact("unlocked", Span(f"until {until}", "bad"), Span(f"  by {phrases.who(server.unlocked_by)}: {server.unlocked_why}", "plain"),
                             Span("; then it is locked again", "dim")))
        rows.append(fact("way back", *self._way_back(server)))
        if width >= 120:
            rows.append(fact("uuid", Span(server.uuid, "dim")))
        return rows

    def _way_back(self, server: Server) -> Line:
        zone, now, rollout, run = self.desk.clock.zone, self.desk.now, self.rollout(), self.run()
        if rollout is not None and run is not None and run.cell in "dsbh" and _goes_back(rollout):
            return (Span(f"under way: {self._coming(server, rollout)}"),)
        if server.retained:
            kept = server.retained[0]
            until = phrases.when(self.desk.model.local(kept.until), now, zone)
            return (Span(f"image {kept.version}, incarnation {kept.incarnation}, in seconds"),
                    Span(f"  kept until {until}", "dim"))
        pool = self.pool()
        if pool is not None and pool.previous:
            return (Span(f"image {pool.previous}, by a new birth: nothing of it is retained", "dim"),)
        return (Span("nothing to go back to", "dim"),)

    def _urgent(self) -> bool:
        """Is the work on it worth more than its facts: while it goes on, and when it failed?"""
        run = self.run()
        return run is not None and run.cell in "dsbh!<"

    def _work(self, width: int, height: int) -> list[Line]:
        """The rollout that moves it, and its last replacement, which may be an earlier one's: step by step, and why it failed."""
        run, rollout, told = self.run(), self.rollout(), fields.mapping(self.detail, "replacement")
        most = 4 if height < 20 else 8 if height < 34 else 20
        rows: list[Line] = []
        here = run is not None and rollout is not None and (not told or fields.text(told, "rollout") == rollout.id)
        if run is not None and rollout is not None:
            rows = [section(f"rollout {phrases.movement(rollout)}", width, phrases.rollout_state(rollout)), self._step(rollout, run, told if here else {})]
            rows += [fact("why" if not index else "", text) for index, text in enumerate(wrap(phrases.run_reason(rollout, run), width - LABEL - 2, 2)) if text]
            rows += failure(run.error, run.last_words, width, most)
        if told and not here:
            rows += [section(*self._past(told, width)), *failure(fields.text(told, "error"), fields.text(told, "last_words"), width, most)]
        return rows + steps(told, self.desk.model.daemon_time(self.desk.now), width)

    def _past(self, told: Raw, width: int) -> tuple[str, int, str]:
        """The heading of a replacement that is over: what it was, how it ended, when, and in what time."""
        kind, origin, to = fields.text(told, "kind"), fields.text(told, "from"), fields.text(told, "to")
        ended = phrases.when(self.desk.model.local(fields.moment(told.get("ended_at"))), self.desk.now, self.desk.clock.zone)
        state = {"serving": "done"}.get(fields.text(told, "state"), phrases.STEP_WORDS.get(fields.text(told, "state"), ""))
        seconds = fields.number(told, "seconds")
        note = f"{state} {ended}".strip() + ("" if seconds is None else f", in {phrases.span(seconds)}")
        return f"last {kind or 'rollout'} {f'{origin}→' if origin and origin != to else ''}{to}", width, note

    def _step(self, rollout: Rollout, run: Run, told: Raw) -> Line:
        now = self.desk.model.daemon_time(self.desk.now)
        typical, took = rollout.typical.get(run.step), fields.number(told, "seconds")
        parts = [phrases.elapsed(run, now) if run.cell in "dsbh" else f"in {phrases.span(took)}" if took is not None else "",
                 f"typical {phrases.span(typical)}" if typical and run.cell in "dsbh" else "", phrases.deadline(run, now)]
        words = phrases.STEP_WORDS.get(run.step, run.step)
        return fact("step", Span(words, phrases.CELL_TONES[run.cell]), Span("  " + ", ".join(part for part in parts if part), "dim"))

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


def _goes_back(rollout: Rollout) -> bool:
    return rollout.kind == "rollback" or rollout.state == "rolling-back"


def make(desk: Desk) -> ServerView:
    return ServerView(desk)
