"""Rollout, the reason to exist: a cell per server, the budget, the reason of every wait, the tail of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui import phrases
from tui.fields import Raw, text
from tui.ink import Line, Span, line_width, wrap
from tui.screens.base import View, event_line, fact, iso, section
from tui.screens.steps import said
from tui.shapes import Pool, Rollout, Run, Server

if TYPE_CHECKING:
    from tui.desk import Desk

MARGIN = 1
BUSY = "dsbh"
PEOPLE = ("remark", "seat-asked", "seat-taken", "seat-kept", "seat-left")
"""Events about no rollout that people at one tell each other."""
STOPPED = ("paused", "awaiting-promotion", "awaiting-approval", "checkpoint", "failed")


class RolloutView(View):
    """Shows the rollout asked for, or the one that most needs a person. The cursor walks over the cells."""

    name = "rollout"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.id = ""
        self.cursor = ""
        self.per_row = 1
        self.walked = False

    def enter(self, before: View, **what: str) -> None:
        rollout = what.get("rollout", "")
        if not rollout:
            pool = before.pool()
            found = self.desk.model.rollout_of(pool.name) if pool is not None else None
            rollout = found.id if found is not None and found.active else ""
        if not rollout and self.id not in self.desk.model.rollouts:
            self.id = ""
        if rollout and rollout != self.id:
            self.id, self.cursor, self.walked = rollout, "", False

    def rollout(self) -> Rollout | None:
        """The one asked for (None until the stream tells of it), else the one that most needs a person."""
        if not self.id:
            newest = next(iter(self.desk.model.newest()), None)
            self.id = newest.id if newest is not None else ""
        return self.desk.model.rollouts.get(self.id)

    def crumb(self) -> str:
        rollout = self.rollout()
        return self.name if rollout is None else f"rollout {rollout.pool}"

    def pool(self) -> Pool | None:
        rollout = self.rollout()
        return None if rollout is None else self.desk.model.pools.get(rollout.pool)

    def server(self) -> Server | None:
        rollout = self.rollout()
        run = self._current(rollout) if rollout is not None else None
        return None if run is None else self.desk.model.servers.get(run.name)

    def place(self) -> dict[str, str]:
        return {"rollout": self.id, **({"server": self.cursor} if self.walked else {})}

    def goto(self, place: Raw) -> None:
        if (rollout := text(place, "rollout")) in self.desk.model.rollouts:
            self.id, self.cursor = rollout, text(place, "server")
            self.walked = bool(self.cursor)

    def ticking(self) -> bool:
        rollout = self.rollout()
        return rollout is not None and any(cell in BUSY for cell in rollout.cells)

    def _ordered(self, rollout: Rollout) -> list[Run]:
        """Canaries first, else as the daemon said it."""
        return sorted(rollout.runs, key=lambda run: not run.canary)

    def _current(self, rollout: Rollout) -> Run | None:
        """The server under the cursor; until somebody moves it, the one the rollout is at."""
        runs = self._ordered(rollout)
        if self.walked:
            found = next((run for run in runs if run.name == self.cursor), None)
            if found is not None:
                return found
        for cells in ("!", BUSY, "."):
            for run in runs:
                if run.cell in cells:
                    return run
        return runs[0] if runs else None

    # drawing

    def lines(self, width: int, height: int) -> list[Line]:
        rollout = self.rollout()
        if rollout is None:
            words = f"Rollout {self.id} begins." if self.id else (
                "No rollout yet. p on a pool (1) plans one; nothing happens before you say so.")
            return [(), (Span(f"  {words}", "dim"),)]
        rows = self._state(rollout, width)
        cells = self._cells(rollout, width, max(1, height - 6))
        gap: list[Line] = [()] if height - len(rows) - len(cells) >= 16 else []
        rows += [*gap, *cells, self._legend(rollout, width), *gap, self._budget(rollout)]
        tail_room = 3 if height - len(rows) >= 9 else 0
        rows += self._servers(rollout, width, max(1, height - len(rows) - 1 - tail_room))
        rows += [*self._forecast(rollout, width), *gap]
        rows += self._tail(rollout, width, height - len(rows))
        return rows[:height]

    def _state(self, rollout: Rollout, width: int) -> list[Line]:
        """What it is and, when it stands still, the reason: the line that matters most."""
        done, total = phrases.progress(rollout)
        kind = "" if rollout.kind == "rollout" else f"{rollout.kind} "
        started = phrases.when(self.desk.model.local(rollout.started), self.desk.now, self.desk.clock.zone)
        tone = phrases.ROLLOUT_TONES.get(rollout.state, "accent")
        family = f"{rollout.image} " if rollout.image != rollout.pool else ""
        approved = f", approved by {', '.join(map(phrases.who, rollout.approvals))}" if rollout.approvals else ""
        head: Line = (
            Span(f" {rollout.pool}", "title"),
            Span(f"  {kind}{family}{phrases.movement(rollout)}  "),
            Span(phrases.rollout_state(rollout), tone), Span(f", {done} of {total} done"),
            Span(f"  since {started} by {phrases.who(rollout.author)}{approved}", "dim"),
        )
        set_by: list[Line] = [(Span(f" {text}", shade),) for words, shade in (
            (f"outside the windows: {rollout.outside}" if rollout.outside and rollout.active else "", "warn"),
            (f"set: {rollout.changed}" if rollout.changed else "", "dim")) for text in wrap(words, width - 4, 2) if words]
        if not rollout.reason or (rollout.state not in STOPPED and rollout.active):
            return [head, *set_by]
        glyph = "! " if tone == "bad" or (tone == "warn" and rollout.active) else ""
        return [head, *((Span(f" {glyph}{text}" if not index else f"   {text}", tone),)
                        for index, text in enumerate(wrap(rollout.reason, width - 4, 2))), *set_by]

    def _cells(self, rollout: Rollout, width: int, most: int) -> list[Line]:
        """`canary ++ │ +++b....`: one cell a server, the cursor on one of them; 1,000 servers take 13 rows."""
        runs = self._ordered(rollout)
        canaries = [run for run in runs if run.canary]
        current = self._current(rollout)
        lead: list[Span] = [Span(" ")]
        if canaries and len(canaries) < width // 2:
            lead += [Span("canary ", "dim"), *self._glyphs(canaries, current), Span(" │ ", "faint")]
            runs = runs[len(canaries):]
        first = max(8, width - sum(len(span.text) for span in lead) - MARGIN)
        self.per_row = full = max(8, width - 2 * MARGIN)
        rows: list[Line] = [(*lead, *self._glyphs(runs[:first], current))]
        rest = runs[first:]
        rows += [(Span(" "), *self._glyphs(rest[at : at + full], current)) for at in range(0, len(rest), full)]
        if len(rows) <= most:
            return rows
        return self._window(rows, runs, first, full, most)

    def _window(self, rows: list[Line], runs: list[Run], first: int, full: int, most: int) -> list[Line]:
        """Too many for the screen: the rows around where work is, and how many are out of sight."""
        at = next((place for place, run in enumerate(runs) if run.cell in BUSY + "!"), 0)
        row = 0 if at < first else 1 + (at - first) // full
        room = max(1, most - 1)
        top = max(0, min(row - room // 2, len(rows) - room))
        hidden = len(rows) - room
        note = (Span(f" {hidden} more rows of cells are out of sight; widen the terminal to see them", "dim"),)
        return [*rows[top : top + room], note]

    def _glyphs(self, runs: list[Run], current: Run | None) -> list[Span]:
        """Neighbours of one tone are one span."""
        spans: list[Span] = []
        for run in runs:
            tone = phrases.CELL_TONES[run.cell]
            if run is current and self.walked:
                spans.append(Span(run.cell, f"{tone}+cursor"))
            elif spans and spans[-1].tone == tone:
                spans[-1] = Span(spans[-1].text + run.cell, tone)
            else:
                spans.append(Span(run.cell, tone))
        return spans

    def _legend(self, rollout: Rollout, width: int) -> Line:
        """Only what there is, plus failed: to read `failed 0` is worth its place. Closer together where it would not fit."""
        spans: list[Span] = [Span(" ")]
        for cell, words in phrases.CELL_WORDS.items():
            count = rollout.cells.get(cell, 0)
            if count or cell in "+!":
                tone = phrases.CELL_TONES[cell] if count else "dim"
                spans += [Span(cell, tone), Span(f" {words} {count}   ", "plain" if count else "dim")]
        return tuple(spans) if line_width(spans) <= width + 3 else tuple(Span(text.replace("   ", "  "), tone) for text, tone in spans)

    def _budget(self, rollout: Rollout) -> Line:
        over = rollout.failures > rollout.max_failures
        return fact(
            "budget", f"extra {rollout.surge_used} of {rollout.max_surge}   missing {rollout.missing} of "
            f"{rollout.max_unavailable}   ",
            Span(f"failures {rollout.failures} of {rollout.max_failures}", "bad" if over else "plain"),
        )

    def _servers(self, rollout: Rollout, width: int, most: int) -> list[Line]:
        """The failed, the busy, then the waiting by reason. Every wait has one. Who was put back because a person said so is no failure."""
        now = self.desk.model.daemon_time(self.desk.now)
        current = self._current(rollout) if self.walked else None
        runs = [run for run in rollout.runs if run.cell == "!" or (run.cell == "<" and run.error)] + [run for run in rollout.runs if run.cell in BUSY]
        if current is not None and current not in runs:
            runs.insert(0, current)
        waits = self.desk.model.waits(rollout)[:3] if rollout.active else []
        full = [self._run(rollout, run, now, "›" if run is current else " ", width) for run in runs[:most]]
        roomy = sum(map(len, full)) + len(waits) <= min(most, 12)
        room = most - min(len(waits), max(0, most - 1))
        if not roomy and len(runs) > room:
            runs, more = runs[: room - 1], len(runs) - room + 1
        else:
            more = 0
        rows = [row for rows in full for row in rows] if roomy else [
            row for run in runs for row in self._run(rollout, run, now, "›" if run is current else " ", 0)]
        if more:
            rows.append((Span(f" and {more} more: enter opens one, {self.desk.model.key_of('show-servers')} lists all", "dim"),))
        rows += [(Span(f" {name:<10} "), Span("waits: " if not why.startswith("wait") else "", "dim"), Span(why, "dim"))
                 for name, why in waits]
        return rows[:most]

    def _run(self, rollout: Rollout, run: Run, now: float, mark: str, roomy: int) -> list[Line]:
        """One server's step: how long, how long it takes as a rule, until when; its reason below if there is room (cells of a row; 0 for none).

        Of one that failed: why, in the words of who found it so, and the last lines of its console.
        """
        words = phrases.STEP_WORDS.get(run.step, run.step)
        head = (Span(mark, "key"), Span(f"{run.name:<10} "), Span(f"{words:<10} ", phrases.CELL_TONES[run.cell]))
        if run.cell not in BUSY:
            if not run.error or not roomy:
                return [(*head, Span(run.error or phrases.run_reason(rollout, run), "bad" if run.error else "dim"))]
            first, *rest = wrap(run.error, roomy - 24, 3)
            return [(*head, Span(first, "bad")), *((Span(f"{'':<23}{text}", "bad"),) for text in rest),
                    *((Span(f"{'' if index else '  console':<12}{text}", "dim"),) for index, text in enumerate(said(run.last_words, 2)))]
        typical = rollout.typical.get(run.step)
        parts = [f"typical {phrases.span(typical)}" if typical else "", phrases.deadline(run, now)]
        below: list[Line] = []
        if roomy and run.reason:
            below = [(Span(f"{'':<12}{run.reason}", "dim"),)]
        else:
            parts.append(run.reason)
        elapsed = phrases.elapsed(run, now)
        return [(*head, Span(f"{elapsed:>7}  "), Span(", ".join(part for part in parts if part), "dim")), *below]

    def _forecast(self, rollout: Rollout, width: int) -> list[Line]:
        """When it ends, and what it would cost to turn round now: on one line if both fit."""
        cost = f"rollback now: {rollout.rollback_cost}" if rollout.rollback_cost else ""
        if not rollout.active:
            ended = phrases.when(self.desk.model.local(rollout.ended), self.desk.now, self.desk.clock.zone)
            return [fact("ended", ended, Span(f"   {cost}" if cost else "", "dim"))]
        words = phrases.eta(rollout, self.desk.clock.zone, ranged=True).removeprefix("eta ")
        if rollout.state == "awaiting-promotion" or (rollout.state == "checkpoint" and rollout.opens is None):
            words = f"{phrases.about(rollout.eta)} after you promote" if rollout.eta else "when you promote"
        elif rollout.state == "paused":
            words = "none while it is paused"
        elif rollout.waits:
            words = f"-, it {rollout.waits}"
        words = words or "not known yet"
        if not cost or len(words) + len(cost) + 16 <= width:
            return [fact("eta", words, Span(f"     {cost}" if cost else "", "dim"))]
        return [fact("eta", words), fact("rollback", Span(cost.removeprefix("rollback "), "dim"))]

    def _tail(self, rollout: Rollout, width: int, room: int) -> list[Line]:
        if room < 2:
            return []
        events = [item for item in self.desk.model.events[-600:] if not phrases.bare(item) and (
            item.rollout == rollout.id or (item.type in PEOPLE and (item.at or 0) >= (rollout.started or 0)))]
        since = phrases.when(self.desk.model.local(rollout.started), self.desk.now, self.desk.clock.zone)
        others = len(self.desk.model.active()) - 1
        note = f"{phrases.plural(others, 'other rollout')}: {self.desk.model.key_of('next')}" if others > 0 else ""
        return [section(f"since {since}", width, note),
                *(event_line(self.desk, item) for item in reversed(events[-(room - 1):]))]

    def records(self) -> list[dict[str, Any]]:
        rollout = self.rollout()
        return [] if rollout is None else [
            {"rollout": rollout.id, "server": run.name, "cell": run.cell, "step": run.step, "canary": run.canary, "since": iso(run.since),
             "deadline": iso(run.deadline), "why": run.reason, "error": run.error, "last_words": run.last_words} for run in self._ordered(rollout)]

    # doing

    def act(self, action: str) -> bool:
        rollout = self.rollout()
        if rollout is None:
            return action in ("next", "previous")
        if action in ("next", "previous"):
            known = self.desk.model.newest()
            place = [item.id for item in known].index(rollout.id) + (1 if action == "next" else -1)
            self.id, self.walked = known[place % len(known)].id, False
            return True
        steps = {"down": self.per_row, "up": -self.per_row, "left": -1, "right": 1, "page-down": self.per_row * 5,
                 "page-up": -self.per_row * 5, "top": -100_000, "bottom": 100_000}
        if action in steps:
            self._walk(rollout, steps[action])
            return True
        if action == "open":
            if (current := self._current(rollout)) is not None:
                self.desk.open("server", server=current.name)
            return True
        if action == "back" and self.walked:
            self.walked = False
            return True
        return False

    def _walk(self, rollout: Rollout, step: int) -> None:
        runs = self._ordered(rollout)
        current = self._current(rollout)
        if current is None:
            return
        at = runs.index(current)
        if abs(step) == self.per_row and len(runs) <= self.per_row:
            step = 1 if step > 0 else -1
        self.cursor = runs[max(0, min(len(runs) - 1, at + (step if self.walked else 0)))].name
        self.walked = True


def make(desk: Desk) -> RolloutView:
    return RolloutView(desk)
