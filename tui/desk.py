"""What the user sits at: the model, the stack of views, the question being asked, the sentence being said.

`Desk` knows no Textual: keys go in, lines come out, effects (paint, quit, clipboard, theme) go through `Stage`. The app
is a thin stage; the tests may be another.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from tui import actions, commands, fields, pairing
from tui.clock import Clock
from tui.errors import LinkError
from tui.fields import Raw
from tui.ink import Line
from tui.keymap import Keymap
from tui.keynames import shown
from tui.keys import NOT_IN_THE_PAST, QUIET, Situation, label, why_not
from tui.offers import Plan
from tui.phrases import when
from tui.recall import Recall
from tui.screens import make
from tui.screens.base import View
from tui.theme import THEMES
from tui.view_model import Connection, Trouble, ViewModel
from tui.widgets.flash import Flash
from tui.widgets.prompt import Kind, Prompt

if TYPE_CHECKING:
    from tui.lending import Lender
    from tui.player import Film, Reel

ARMED_SECONDS = 600.0
PAGE = 1000
"""Events asked for at once: the most that the daemon gives."""
TINY = (60, 20)
"""Below this many columns or rows there is one line of status and the keys that matter."""


class Calls(Protocol):
    """What the desk asks of the daemon. Every method raises LinkError with a sentence for the user."""

    async def plan(self, request: Raw) -> Raw: ...
    async def command(self, request: Raw) -> Raw: ...
    async def get(self, path: str, **query: str) -> Raw: ...
    async def here(self, place: Raw) -> None: ...
    async def drive(self, rollout: str, since: int, go_on: Any) -> None: ...
    async def console(self, server: str, sink: Any) -> None: ...


class Stage(Protocol):
    """Where the desk stands."""

    def paint(self) -> None: ...
    def paint_soon(self) -> None: ...
    def leave(self) -> None: ...
    def wear(self, theme: str) -> None: ...
    def copy(self, text: str) -> str: ...
    def lender(self) -> Lender | None: ...
    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


class Desk:
    """The state of one terminal's session."""

    def __init__(self, clock: Clock, calls: Calls, stage: Stage, options: Mapping[str, str], reel: Callable[[str], Reel] | None = None) -> None:
        self.clock, self.calls, self.stage, self.reel = clock, calls, stage, reel
        self.film_only = False
        self.options = options
        self.keymap = Keymap.made(options)
        self.model = ViewModel(self.keymap.label)
        self.flash = Flash()
        self.prompt: Prompt | None = None
        self.armed_until: float | None = None
        self.theme = options.get("theme", "dark")
        self.plan: Plan | None = None
        self.difference: tuple[str, ...] = ()
        self.left_behind = False
        self.away = False
        """Is the terminal lent to a shell, or about to be?"""
        self.size = (80, 24)
        self.views: list[View] = [make("fleet", self)]
        self._asked: set[str] = set()
        self.mine: set[str] = set()
        self._driving: set[str] = set()
        self._reading = False
        self.following = 0
        self.seen_place: Raw = {}
        self.shared: Raw = {}
        self.sharing = False
        self.recall = Recall(options.get("history", ""))
        self._kept: dict[str, View] = {"fleet": self.views[0]}
        if problems := [*filter(None, options.get("problems", "").split("\n")), *self.keymap.problems]:
            more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
            self.flash.say(problems[0] + more, "warn")

    # where we are

    @property
    def view(self) -> View:
        return self.views[-1]

    @property
    def now(self) -> float:
        return self.clock.now()

    @property
    def tiny(self) -> bool:
        return self.size[0] < TINY[0] or self.size[1] < TINY[1]

    @property
    def armed_left(self) -> float:
        """Seconds that changes are still possible; 0 when read-only."""
        return 0.0 if self.armed_until is None else max(0.0, self.armed_until - self.clock.ticks())

    def situation(self) -> Situation:
        return self.situation_of(self.view)

    def situation_of(self, view: View) -> Situation:
        """All that decides whether a key works while `view` is on top."""
        link = self.model.connection
        stale = f"stale since {when(link.since, self.now, self.clock.zone)}" if link.since else "not connected yet"
        rollout, pool = view.rollout(), view.pool()
        if self.tiny and not view.past and (rollout is None or not rollout.active):
            rollout = next(iter(self.model.active()), None)
            pool = self.model.pools.get(rollout.pool) if rollout is not None else None
        return Situation(
            screen="rollout" if self.tiny and not self.prompt and not view.past else view.name, live=link.live, stale_words=stale,
            role=self.model.role, daemon_read_only=self.model.read_only, armed=self.armed_left > 0, pool=pool,
            server=view.server(), rollout=rollout, plan=self.plan, marks=len(view.marks()), rows=0, playing=view.moving(),
            past=view.replays(),
            web=self.options.get("web") == "yes", driver="" if (driver := self.model.driver) is None or self.model.drives else driver.name, here=bool(self.model.me),
            key_of=self.model.key_of,
        )

    # views

    def open(self, name: str, **what: str) -> None:
        """Put a view on top; one that is already below is brought up again, so `esc` never loops. What it takes off, a replay too
        (from the past one goes back to now), is left; the keys of a view, help, lie over it.
        """
        view = self._kept.get(name)
        if view is None:
            view = self._kept[name] = make(name, self)
        before = self.view
        above = self.views[self.views.index(view):] if view in self.views else []
        for gone in [one for one in self.views if one in above or (one.past and name != "help")]:
            self.views.remove(gone)
            if gone is not view:
                gone.leave()
        self.views.append(view)
        if self.views[0] is not self._kept["fleet"] and not self.film_only:
            self.views.insert(0, self._kept["fleet"])
        if view is not before:
            before.covered()
        view.enter(before, **what)
        pairing.share(self)
        self.stage.paint()

    def play(self, film: Film) -> None:
        """Show a film and nothing else, for there is no daemon."""
        from tui.screens.replay import ReplayView

        self.film_only, view = True, ReplayView(self)
        self._kept["replay"] = view
        self.views = [view]
        view.show(film)

    def at(self, name: str) -> View | None:
        """The view of that name, if it was ever opened."""
        return self._kept.get(name)

    def back(self) -> None:
        if len(self.views) == 1:
            self.stage.leave()
            return
        gone = self.views.pop()
        gone.covered()
        gone.leave()
        self.stage.paint()

    def crumbs(self) -> list[str]:
        """The way from Fleet to the view on top, a name each."""
        return [view.crumb() for view in self.views]

    # words

    def say(self, words: str, tone: str = "plain", rollout: str = "", seq: int = 0) -> None:
        """A sentence on the flash line; it stays until the next one, until a key is pressed, or until the rollout whose state it tells moves on:
        an answer over a slow link may come later than that.
        """
        self.flash.say(words, tone, rollout, seq)
        for event in self.model.after(seq) if rollout else ():
            self.flash.heard(event)
        self.stage.paint()

    def ask(self, question: str, accept: Any, kind: Kind = "text", remember: str = "", **more: Any) -> None:
        """Ask; `remember` names the history that the answer goes into and that up and down walk through."""
        kept = self.model.role in ("operator", "approver")
        past = self.recall.of(remember, kept) if remember else []
        if self.recall.problem:
            self.flash.say(self.recall.problem, "warn")
            self.recall.problem = ""

        def taken(answer: str) -> None:
            if remember and answer:
                self.recall.add(remember, answer, kept)
            accept(answer)

        self.prompt = Prompt(question, taken, kind, opened=self.clock.ticks(), history=past, **more)
        self.stage.paint()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.stage.spawn(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that talks to the daemon; what it refuses is a sentence on the flash line."""
        try:
            await work
        except LinkError as error:
            self.difference = error.difference
            self.say(error.sentence, "bad")

    # keys

    def key(self, name: str, char: str | None) -> None:
        """A key was pressed: it belongs to the question if there is one, else to the view."""
        if self.prompt is not None:
            self._answer(self.prompt, name, char)
        else:
            self._pressed(name)
        pairing.go_along(self)
        pairing.share(self)

    def _pressed(self, name: str) -> None:
        situation = self.situation()
        key = self.keymap.find(name, situation.screen)
        if key is None:
            known = self.keymap.elsewhere(name)
            if known is not None and (known.needs or known.action in NOT_IN_THE_PAST) and (why := self._not_in_a_replay("arm")):
                self.say(why, "dim")
            elif known is not None and known.action not in QUIET:
                self.say(f"{label(known)} ({known.action}) does nothing on this view.", "dim")
            return
        self.flash.clear()
        if why := self._not_in_a_replay(key.action):
            self.say(why, "dim")
            return
        ways = [label for label in map(shown, key.keys) if label not in ("esc", "ctrl+c")]
        if key.action == "back" and name == "escape" and ways and len(self.views) == 1 and not self.film_only:
            if not self.view.act("back"):
                self.say(f"This is the first view: {ways[0]} leaves. " + (
                    f"{', '.join(self.driven)} will pause then." if self.driven else "A rollout goes on without you."), "dim")
            self.stage.paint()
            return
        if why := why_not(key, situation):
            self.say(why, "warn")
            return
        if self.following and key.action not in pairing.QUIETLY:
            pairing.stop_following(self)
        self.act(key.action)
        self.stage.paint()

    def _not_in_a_replay(self, action: str) -> str:
        """"" or why the key does nothing in a replay, nor in the help over one. No command reaches the daemon from there."""
        if self.film_only and action.startswith("show-"):
            return f"This is a replay without a daemon: there is no other screen, {self.model.key_of('back')} leaves."
        if action in NOT_IN_THE_PAST and any(view.past for view in self.views):
            return "This is a replay: nothing can be changed from here" + ("." if self.film_only else "; esc goes back to now.")
        return ""

    def _answer(self, prompt: Prompt, name: str, char: str | None) -> None:
        outcome = prompt.key(name, char, self.clock.ticks())
        if outcome != "open" and self.prompt is prompt:
            self.prompt = None
        if outcome == "cancelled" and prompt.kind != "text":
            self.say("Cancelled: nothing was done.", "dim")
        self.stage.paint()

    def paste(self, text: str) -> None:
        if self.prompt is not None:
            self.prompt.paste(text)
            self.stage.paint()

    def act(self, action: str) -> None:
        """Do what a key stands for. The view comes first, then what is the same everywhere."""
        if action.startswith("show-"):
            self.open(action[5:])
        elif self.view.act(action):
            return
        elif action == "back":
            self.back()
        elif action == "arm":
            self.arm()
        elif action == "theme":
            self.wear(THEMES[(THEMES.index(self.theme) + 1) % len(THEMES)] if self.theme in THEMES else THEMES[0])
        elif action == "copy":
            self.say(self.stage.copy(self.view.copy_text()))
        elif action == "command":
            commands.ask(self)
        elif action == "help":
            self.open("help")
        elif action == "replay":
            self.open("replay", rollout=self.situation().past)
        elif action == "seat":
            pairing.seat(self)
        elif action == "follow":
            pairing.follow(self)
        else:
            actions.act(self, action)

    def arm(self) -> None:
        if self.armed_left > 0:
            self.armed_until = None
            self.say("Read-only again.")
            return
        self.armed_until = self.clock.ticks() + ARMED_SECONDS
        pairing.armed(self)

    def wear(self, theme: str) -> None:
        self.theme = theme
        self.stage.wear(theme)
        self.say(f"Theme {theme}.", "dim")

    # what the link brings (link.Sink)

    def came_status(self, frame: Raw) -> None:
        if fields.whole(frame, "seq") < self.model.tip:
            self.model.forget_events()  # another journal: numbers of the old one mean nothing in it
        self.model.status(frame, self.now)
        self._alive()
        self.view.heard()

    def came_frame(self, frame: Raw) -> None:
        driver, asks, me = self.model.driver, self.model.asks, self.model.me
        self.model.frame(frame, self.now)
        match fields.text(frame, "frame"):
            case "hello":
                self.shared = {}
                if self.model.me != me:  # another daemon, perhaps: the numbers of people mean nothing in it
                    self.following = 0
            case "people":
                pairing.heard(self, driver, asks)
            case "event":
                self.flash.heard(self.model.events[-1])
        self._alive()
        self.view.heard()
        for rollout in self.mine - self._driving:
            if self._needs_me(rollout):
                self._driving.add(rollout)
                self.stage.spawn(self._drive(rollout))
        for rollout in self.model.incomplete - self._asked:
            self._asked.add(rollout)
            self.spawn(self._complete(rollout))

    def _needs_me(self, rollout: str) -> bool:
        """True for a rollout of this terminal's that would pause if it were gone."""
        row = self.model.rollouts.get(rollout)
        return row is not None and row.active and row.on_disconnect == "pause"

    async def _drive(self, rollout: str) -> None:
        """Hold the reins until the rollout ends; a line that broke is taken up with the next frame that comes."""
        try:
            await self.calls.drive(rollout, self.model.tip, lambda: self._needs_me(rollout))
        except LinkError:
            pass  # the header tells of the line
        finally:
            self._driving.discard(rollout)

    @property
    def driven(self) -> tuple[str, ...]:
        """Pools whose rollout pauses when this terminal goes."""
        return tuple(sorted(self.model.rollouts[rollout].pool for rollout in self._driving if self._needs_me(rollout)))

    async def _complete(self, rollout: str) -> None:
        """The stream told of a part of a rollout whose beginning was not seen here: ask for all of it."""
        try:
            row = await self.calls.get(f"/v1/rollouts/{quote(rollout, safe='')}")
        finally:
            self._asked.discard(rollout)
        self.model.add_rollout(row, self.now)
        self.stage.paint_soon()

    def came_events(self, rows: Sequence[Raw]) -> None:
        self.model.add_events(list(rows))
        self.stage.paint_soon()
        self.read_history()

    def read_history(self) -> None:
        """Fetch older events in the background, page by page, until all are here or no more are kept."""
        if self.model.history_wanted and self.model.events and not self._reading:
            self._reading = True
            self.stage.spawn(self._read_history())

    async def _read_history(self) -> None:
        """A line that breaks meanwhile is no news (the header says it); Events asks again when it is opened."""
        model = self.model
        try:
            while model.history_wanted and model.events:
                first = model.events[0].seq
                since = max(0, first - 1 - PAGE)
                page = await self.calls.get("/v1/journal", since=str(since), limit=str(PAGE))
                if not model.events or model.events[0].seq != first:
                    continue  # another journal, or trimmed: ask again from there
                model.add_history(fields.rows(page, "events"), since)
                if model.events[0].seq == first and since:
                    break  # the journal has a gap of a page here: it was cut, nothing older is to be had
        except LinkError:
            pass
        finally:
            self._reading = False
        self.stage.paint_soon()

    def came_life(self) -> None:
        """A blank line: the daemon is there and has nothing to say. Not a reason to draw."""
        if self.model.connection.state == "stale" and self.flash.tone == "warn":
            self.flash.clear()  # "nothing can be changed until it answers": it does
        self.model.connection = Connection("live", self.now)

    def _alive(self) -> None:
        self.came_life()
        self.stage.paint_soon()

    def lost(self, why: str) -> None:
        """Everything stays visible; only the header changes."""
        before = self.model.connection
        state = "connecting" if before.state == "connecting" else "stale"
        after = Connection(state, before.since, why)
        if after != before:
            if before.state == "live" and self.flash.tone != "bad":
                self.flash.clear()  # why there is no line is said in its place
            self.model.connection = after
            self.stage.paint_soon()

    def standing(self) -> Trouble | None:
        """What still needs somebody, where nothing else is said: why the line is cut before all; on Fleet the fleet's own troubles are on the
        screen already. Over a replay it says that it is of now.
        """
        if (line := self.model.connection).state == "stale" and line.why:
            return Trouble("no line:", line.why, "stale", "")
        if (asked := pairing.standing(self)) is not None or self.view.name in ("fleet", "help"):
            return asked
        first = next(iter(self.model.troubles()), None)
        return replace(first, name=f"now: {first.name}") if first is not None and self.view.past else first

    @property
    def resume_from(self) -> int:
        """The newest event seen: a new stream goes on after it. 0 when none was."""
        return self.model.tip

    def lines(self, width: int, height: int) -> list[Line]:
        """The body of the view on top."""
        return self.view.lines(width, height) if width > 0 and height > 0 else []
