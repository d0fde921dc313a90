"""Replay: the Rollout screen of the past, moment by moment. Nothing is asked of the daemon but its journal, and no command leaves here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from tui import fields, phrases
from tui.clock import Clock
from tui.errors import LinkError
from tui.fields import Raw
from tui.ink import Line, Span, clip_line, line_width
from tui.player import Film, Player, Reel
from tui.screens.base import View, event_words
from tui.screens.rollout import RolloutView
from tui.shapes import Event, Rollout
from tui.untrusted import clean_value
from tui.view_model import ViewModel
from tui.widgets.header import people

if TYPE_CHECKING:
    from tui.desk import Desk

PAGE = 500
TAIL = 600
"""Events behind a moment that the tail is made of."""
ROOMY = 76
"""From this width on there is room for the whole length beside the time that has passed."""


@dataclass
class Past:
    """What the Rollout screen sees in place of the desk: a model of then, and the time that it was."""

    model: ViewModel
    clock: Clock
    now: float = 0.0


class ReplayView(View):
    """A film and where it stands; until it is read, how far the reading has come."""

    name = "replay"
    past = True
    pace = 0.5

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.words = ""
        self.film: Film | None = None
        self._player = Player((0.0,), ())
        self._reading: Reel | None = None
        self._then = Past(ViewModel(desk.model.key_of), desk.clock)
        self._screen = RolloutView(cast("Desk", self._then))
        self._drawn: tuple[int, float] | None = None
        self._event: Event | None = None

    # what is shown

    def enter(self, before: View, **what: str) -> None:
        if not (wanted := what.get("rollout", "")):
            return
        self.film, self.words = None, f"Reading what the journal has of rollout {wanted} …"
        if self.desk.reel is None:
            self.words = "This terminal was opened without the means to read a journal: `anew replay` has them."
            return
        self._reading = self.desk.reel(wanted)
        self.desk.spawn(self._read(wanted, self._reading))

    def show(self, film: Film) -> None:
        """Begin to play a film."""
        self.film, self._reading, self._drawn = film, None, None
        self._player = Player(film.times, film.failures)
        self._then.model = ViewModel(self.desk.model.key_of)
        self._screen = RolloutView(cast("Desk", self._then))
        self._screen.id = fields.text(clean_value({"id": film.id}), "id")
        if len(film.times) > 1:
            self._player.toggle(self.desk.clock.ticks())
        if film.notes:
            self.desk.say(" ".join(film.notes), "warn")

    async def _read(self, wanted: str, reel: Reel) -> None:
        """Page by page, as far as the journal reached when the reading began; a view that was left reads no further."""
        since, tip = 0, 1
        try:
            while since < tip and not reel.done and self._reading is reel:
                page = await self.desk.calls.get("/v1/journal", since=str(since), limit=str(PAGE), whole="1")
                rows = fields.rows(page, "events")
                tip = fields.whole(page, "tip") if not since else tip
                last = fields.whole(rows[-1], "seq") if rows else 0
                if last <= since:
                    break
                await asyncio.to_thread(_take, reel, rows)
                since = last
                self.words = f"Reading the journal for rollout {wanted}: {since:,} of {tip:,} events …"
                self.desk.stage.paint_soon()
        except LinkError as error:
            if self._reading is reel:
                self.words, self._reading = error.sentence, None
        if self._reading is not reel:
            return
        self._reading = None
        if reel.fault:
            self.words = reel.fault
        else:
            self.show(reel.film())
        self.desk.stage.paint()

    def covered(self) -> None:
        self._player.pause()

    def leave(self) -> None:
        self._reading = None

    def moving(self) -> bool:
        """Does the picture change by itself?"""
        return self.film is not None and (self._player.playing or bool(self._player.waited(self.desk.clock.ticks())))

    # drawing

    def _project(self) -> Rollout | None:
        """Bring the model to the moment; what comes from the film is a stranger's until it is cleaned."""
        if self.film is None:
            return None
        player, then = self._player, self._then
        player.advance(self.desk.clock.ticks())
        if self._drawn != (player.n, player.at):
            self._drawn, then.now = (player.n, player.at), player.at
            then.model.forget_events()
            then.model.rollouts.clear()
            then.model.add_rollout(clean_value(self.film.picture(player.n, player.at)), player.at)
            then.model.add_events(clean_value(self.film.rows(player.n, TAIL)))
            self._event = then.model.events[-1] if then.model.events else None
        return then.model.rollouts.get(self._screen.id)

    def head(self, width: int) -> Line:
        """Line 1: that this is not now, and the rollout as it was. In a terminal too small for more, all there is."""
        rollout, player = self._project(), self._player
        badge, zone = Span(" REPLAY ", "stale"), self.desk.clock.zone
        phrase = phrases.rollout_phrase(rollout, zone) if rollout is not None else ()
        if self.desk.tiny:
            place = f"  {player.n:,}/{len(player):,}  {player.speed}x" if rollout is not None else ""
            return clip_line((badge, Span(" "), *phrase, Span(place, "dim")), width)
        fleet = self.desk.model.fleet
        left: Line = (Span(" "), *((Span(fleet, "title"), Span(" · ", "dim")) if fleet else ()), badge, Span("  the past, read-only", "dim"))
        if rollout is None:
            return clip_line(left, width)
        right = people(self.desk.model)
        room = width - line_width(left) - 4
        if line_width(phrase) > room:
            left, room = left[:-1], width - line_width(left[:-1]) - 4
        body: Line = (*left, Span("   "), *clip_line(phrase, max(0, room)))
        gap = width - line_width(body) - line_width(right) - 1
        return (*body, Span(" " * gap), *right) if right and gap > 1 else clip_line(body, width)

    def lines(self, width: int, height: int) -> list[Line]:
        rollout = self._project()
        if self.film is None:
            return [(), (Span(f"  {self.words}", "dim"),)]
        foot = [self._bar(width), self._where(width), self._what(width)]
        room = max(1, height - len(foot))
        above = self._screen.lines(width, room) if rollout is not None else [(), (Span("  The record of this moment cannot be drawn.", "warn"),)]
        return ([*above[:room], *([()] * (room - len(above))), *foot])[:height]

    def _bar(self, width: int) -> Line:
        """How far it is, with the failures on the way: `=` is behind, `!` are failures."""
        player, size = self._player, max(1, width - 10)
        last = max(1, len(player) - 1)
        here = round((player.n - 1) * size / last) if len(player) > 1 else size
        marks = {min(size - 1, (n - 1) * size // last) for n in player.failures}
        spans: list[Span] = [Span(" replay ", "head")]
        for cell in range(size):
            glyph, tone = ("!", "bad") if cell in marks else ("=", "bar") if cell < here else ("─", "faint")
            if spans[-1].tone == tone:
                spans[-1] = Span(spans[-1].text + glyph, tone)
            else:
                spans.append(Span(glyph, tone))
        return tuple(spans)

    def _where(self, width: int) -> Line:
        """Speed, virtual time, how long it had been going on, event n of m."""
        player, began = self._player, self._player.times[0]
        state = "plays" if player.playing else "ended" if player.ended else "stopped"
        whole = f" of {phrases.span(player.times[-1] - began)}" if width >= ROOMY else ""
        count = f"event {player.n:,} of {len(player):,}" if width >= ROOMY else f"event {player.n:,}/{len(player):,}"
        return (Span(f" {state} {player.speed}x", "accent" if player.playing else "plain"),
                Span(f"  {_moment(player.at, self.desk.clock)}", "title"), Span(f"  {phrases.span(player.at - began)}{whole}  {count}"))

    def _what(self, width: int) -> Line:
        """What had just happened; after a wait that was skipped, how long it was."""
        waited, event = self._player.waited(self.desk.clock.ticks()), self._event
        skipped = (Span(f" {waited},", "warn"),) if waited else ()
        if event is None:
            return skipped
        glyph = " ! " if self._player.n in self._player.failures else " "
        return clip_line((*skipped, Span(f"{glyph}{event.server or event.pool or phrases.who(event.actor)}: ", "dim"),
                          Span(event_words(event), phrases.event_tone(event))), width)

    # doing

    def act(self, action: str) -> bool:
        if self.film is None:
            return action not in ("back", "theme", "help", "copy")
        player, ticks = self._player, self.desk.clock.ticks()
        match action:
            case "play":
                player.toggle(ticks)
            case "step" | "step-back":
                player.step(1 if action == "step" else -1, ticks)
            case "faster" | "slower":
                player.faster(1 if action == "faster" else -1)
            case "next-failure":
                self._to_failure()
            case "to-start":
                player.to_start()
            case "to-end":
                player.to_end()
            case "up" | "down":
                self._project()
                self._screen.act(action)
            case "back" if self._screen.walked:
                self._screen.walked = False
            case _:
                return False
        return True

    def _to_failure(self) -> None:
        if self._player.to_failure():
            return
        after = " after this moment: home goes to the beginning" if self._player.failures else " in this rollout"
        self.desk.say(f"There is no failure{after}.", "dim")


def _take(reel: Reel, rows: Sequence[Raw]) -> None:
    for row in rows:
        reel.take(row)


def _moment(at: float, clock: Clock) -> str:
    """`2026-11-21 23:14:05` on the clock of this terminal."""
    try:
        return datetime.fromtimestamp(at, clock.zone).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "-"


def make(desk: Desk) -> ReplayView:
    return ReplayView(desk)
