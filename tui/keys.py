"""The one table of keys: footer, help, bindings and "why not" all read it.

A key has an action, words for each screen it works on, and needs: small questions about the situation that answer ""
or the sentence that says why the key does nothing now. Hiding a key is not protection: the daemon enforces all of it
by role; these answers only spare the user a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tui.keynames import shown
from tui.offers import Plan
from tui.phrases import rollout_state
from tui.shapes import Pool, Rollout, Server


def built_in(action: str) -> str:
    """What is printed on the key of an action, as delivered."""
    return next(label(key) for key in KEYS if key.action == action)


@dataclass(frozen=True, slots=True)
class Situation:
    """All that decides whether a key works: where the user is, what is under the cursor, what may be changed."""

    screen: str
    live: bool = True
    stale_words: str = ""
    role: str = "operator"
    daemon_read_only: str = ""
    armed: bool = False
    pool: Pool | None = None
    server: Server | None = None
    rollout: Rollout | None = None
    plan: Plan | None = None
    marks: int = 0
    rows: int = 0
    playing: bool = False
    past: str = ""
    """The rollout whose replay the view could show."""
    driver: str = ""
    """Who else has the driver's seat."""
    here: bool = True
    """Did the daemon say that this terminal is here?"""
    web: bool = False
    """Is this a view in a browser? Then it looks on, and leaves this machine alone."""
    key_of: Callable[[str], str] = built_in
    """What is printed on the key of an action: the user may have given it another one."""


Need = Callable[[Situation], str]


def reachable(at: Situation) -> str:
    return "" if at.live else f"The daemon does not answer ({at.stale_words}): nothing can be changed until it does."


def own_terminal(at: Situation) -> str:
    """For what writes files or starts programs here: who sits at a browser has no account on this machine."""
    return "This is a view in a browser: it writes no file and starts no program on the machine that serves it." if at.web else ""


def operator(at: Situation) -> str:
    if at.web:
        return "This is a view in a browser: it only looks on, and the daemon takes nothing from it."
    if at.daemon_read_only:
        return f"The daemon is read-only: {at.daemon_read_only}"
    if at.role in ("", "operator"):
        return ""
    return f"You are an {at.role} here: the daemon takes this from operators only."


def approver(at: Situation) -> str:
    """Approving starts nothing, so nobody arms for it; the author's own key is refused by the daemon, which knows who it is."""
    return "" if at.role == "approver" and not at.daemon_read_only else operator(at)


def waits_for_approval(at: Situation) -> str:
    if at.pool is None:
        return a_pool(at)
    if at.pool.proposal is None:
        return f"No plan of {at.pool.name} waits for approval."
    return ""


def armed(at: Situation) -> str:
    return "" if at.armed else f"Read-only: press {at.key_of('arm')} to arm for ten minutes, then again."


def in_seat(at: Situation) -> str:
    """With the seat empty nobody needs it; the daemon judges it again."""
    return f"{at.driver} has the driver's seat, and alone starts things: {at.key_of('seat')} asks for it." if at.driver else ""


def attached(at: Situation) -> str:
    return "" if at.here else "The daemon has not said that this terminal is here: it may be an older one."


def a_pool(at: Situation) -> str:
    return "" if at.pool is not None else "There is no pool under the cursor."


def a_server(at: Situation) -> str:
    return "" if at.server is not None else "There is no server under the cursor."


def a_root(at: Situation) -> str:
    return a_server(at) if at.screen in ("servers", "server") else a_pool(at)


def a_past(at: Situation) -> str:
    return "" if at.past else "There is no rollout here to replay: it needs one under the cursor."


def under_way(at: Situation) -> str:
    if at.rollout is not None and at.rollout.active:
        return ""
    where = at.pool.name if at.pool is not None else "This pool"
    return f"{where} has no rollout under way."


def waits_for_promotion(at: Situation) -> str:
    if why := under_way(at):
        return why
    assert at.rollout is not None
    if at.rollout.state in ("awaiting-promotion", "checkpoint"):
        return ""
    state = rollout_state(at.rollout)
    state = state if state.startswith("waits") else f"is {state}"
    return f"There is nothing to promote: {at.rollout.pool} {state}."


def armed_to_resume(at: Situation) -> str:
    """Pausing is for anybody at once; going on starts things."""
    return in_seat(at) or armed(at) if at.rollout is not None and at.rollout.state == "paused" else ""


def returnable(at: Situation) -> str:
    """Is there anything that a rollback could undo?"""
    if at.screen in ("servers", "server", "console"):
        if at.server is None:
            return a_server(at)
        previous = at.pool.previous if at.pool is not None else ""
        if at.server.retained or previous:
            return ""
        return f"{at.server.name} has nothing to go back to: no incarnation of it is retained."
    if at.pool is None:
        return a_pool(at)
    if at.rollout is not None and at.rollout.active:
        if at.rollout.state == "rolling-back":
            return f"{at.rollout.pool} is rolling back already."
        return "" if at.rollout.kind != "birth" else f"A birth has nothing to go back to: {at.key_of('abort')} aborts it."
    return "" if at.pool.previous else f"{at.pool.name} has no previous image to go back to."


def startable(at: Situation) -> str:
    if at.plan is None:
        return "There is no plan yet."
    return "" if at.plan.acting else "This plan would replace nothing: there is nothing to start."


@dataclass(frozen=True, slots=True)
class Key:
    """`words`: what the key does, by screen ("" stands for every other screen in `screens`)."""

    keys: tuple[str, ...]
    action: str
    words: Mapping[str, str]
    needs: tuple[Need, ...] = ()
    footer: bool = True
    label: str = ""
    long: str = ""

    def on(self, screen: str) -> bool:
        return screen in self.words or ("*" in self.words and not (screen == "replay" and self.action in NOT_IN_THE_PAST))

    def said(self, screen: str) -> str:
        return self.words.get(screen, self.words.get("*", ""))


ALL: Mapping[str, str] = {}
NOT_IN_THE_PAST = frozenset({"arm", "command", "seat", "follow"})
"""Actions that work everywhere but in a replay: nothing of the past can be changed, and nothing of now from there."""
LISTS = ("fleet", "servers", "images", "plan", "events", "diff", "help")
MOVING = (*LISTS, "rollout", "console", "server")
WALKING = (*MOVING, "replay")
SIDEWAYS = ("fleet", "servers", "images", "plan", "events", "diff", "rollout")


def _on(screens: Sequence[str], words: str) -> Mapping[str, str]:
    return dict.fromkeys(screens, words)


CHANGES: tuple[Need, ...] = (reachable, operator)

KEYS: tuple[Key, ...] = (
    Key(("a",), "approve", {"fleet": "approve", "plan": "approve"}, (reachable, approver, waits_for_approval),
        long="see another person's plan that waits for approval; again, on the plan: approve it"),
    Key(("enter",), "open", {"fleet": "servers", "servers": "open", "rollout": "server", "plan": "start",
                             "events": "open", "help": "run it"}, label="enter", long="open what the cursor is on"),
    Key(("p",), "plan", {"fleet": "plan", "servers": "plan", "server": "plan", "images": "plan", "plan": "plan anew"}, (reachable,),
        long="plan a rollout: of the marked servers, or of the pool under the cursor; on the plan: anew"),
    Key(("c",), "promote", {"rollout": "promote", "fleet": "promote"}, (*CHANGES, waits_for_promotion, in_seat, armed),
        long="the canaries are good: let the rollout go on"),
    Key(("P",), "pause", {"rollout": "pause", "fleet": "pause", "servers": "pause", "server": "pause"},
        (*CHANGES, under_way, armed_to_resume), long="pause the rollout at once, or let it go on"),
    Key(("u",), "rollback", {"rollout": "rollback", "fleet": "rollback", "servers": "back", "server": "back"},
        (*CHANGES, returnable, in_seat, armed), long="go back: the rollout, the pool, or this one server"),
    Key(("X",), "abort", {"rollout": "abort", "fleet": "abort"}, (*CHANGES, under_way),
        long="stop the rollout where it is; what is done stays"),
    Key(("l",), "console", {"server": "console", "servers": "console", "rollout": "console"},
        (reachable, a_server), long="the serial console of this server, live"),
    Key(("H",), "hold", {"servers": "hold", "server": "hold"}, (*CHANGES, a_server, armed),
        long="hold: skipped by everything; asks why. Again: release"),
    Key(("o",), "root", {"fleet": "roots", "servers": "root", "server": "root"}, (reachable, a_root), footer=False,
        long="the root as seen inside, of a server or a whole pool, and what it takes; then asks: lock it, unlock it for a while, replace"),
    Key(("e",), "shell", dict.fromkeys(("servers", "server", "rollout", "console"), "shell"), (*CHANGES, a_server, in_seat, armed), footer=False,
        long="log in over SSH with the pinned host key; taints the server, says so, then asks"),
    Key(("A",), "arm", {"*": "arm"}, CHANGES, long="arm for ten minutes: changes are possible, and a free driver's seat is yours; again: read-only"),
    Key(("T",), "seat", {"*": "seat"}, (*CHANGES, attached), footer=False,
        long="take the driver's seat, or ask for it; in it: hand it over, or leave it"),
    Key(("f",), "follow", {"*": "follow"}, (reachable, attached), footer=False,
        long="follow the driver's screen, or another person's; again: the next one"),
    Key(("d",), "diff", {"rollout": "diff", "fleet": "diff"}, (reachable,), footer=False,
        long="what the rollout or the newest image changes inside"),
    Key(("d",), "diff", {"images": "diff", "plan": "diff"}, (reachable,),
        long="what changes inside: between two marked images, or from the one that runs"),
    Key(("space",), "mark", {"servers": "mark", "images": "mark"}, label="space", long="mark this server for a plan, this image for a diff"),
    Key(("v",), "mark-range", {"servers": "mark to here"}, footer=False, long="mark from the last mark to here"),
    Key(("asterisk",), "mark-all", {"servers": "mark all"}, footer=False, long="mark all that are shown; again: none"),
    Key(("exclamation_mark",), "faults", {"fleet": "faults", "servers": "faults", "events": "faults", "images": "faults"}, label="!",
        long="only what needs a look"),
    Key(("slash",), "filter", {"servers": "filter", "images": "filter", "events": "filter", "plan": "filter", "diff": "filter", "fleet": "filter"},
        label="/", long="filter: a pattern, column:pattern (/image:2), a leading ! turns it round, & joins several"),
    Key(("slash",), "filter", {"console": "find"}, label="/", long="find a pattern in what the console said, and go along what matches it"),
    Key(("s",), "sort", {"servers": "sort", "images": "sort", "plan": "sort", "fleet": "sort", "diff": "sort"}, footer=False,
        long="sort by the next column"),
    Key(("S",), "reverse", {"servers": "reverse", "images": "reverse", "plan": "reverse", "fleet": "reverse", "diff": "reverse"},
        footer=False, long="turn the order round"),
    Key(("n",), "next", {"servers": "next match", "events": "next match", "images": "next match", "diff": "next match", "plan": "next match",
                        "fleet": "next match", "console": "next match"}, footer=False,
        long="the next row that matches the last filter"),
    Key(("N",), "previous", {"servers": "match before", "events": "match before", "images": "match before", "diff": "match before",
                            "plan": "match before", "fleet": "match before", "console": "match before"}, footer=False,
        long="the row before that matches it"),
    Key(("n",), "next", {"rollout": "next rollout"}, footer=False, long="the next rollout, those under way first"),
    Key(("N",), "previous", {"rollout": "rollout before"}, footer=False, long="the rollout before"),
    Key(("m",), "remark", {"rollout": "remark", "events": "remark", "fleet": "remark", "server": "remark",
                           "servers": "remark"}, CHANGES, long="write a line into the journal for everybody"),
    Key(("R",), "replay", {"rollout": "replay", "events": "replay"}, (reachable, a_past),
        long="the rollout as it was, from its first event on: at any speed, step by step, from failure to failure"),
    Key(("space",), "play", {"replay": "play"}, label="space", long="play, or stand still; at the end, from the beginning"),
    Key(("full_stop", "right"), "step", {"replay": "step"}, label=".", long="the next event"),
    Key(("comma", "left"), "step-back", {"replay": "back"}, label=",", long="the event before"),
    Key(("plus", "equals_sign"), "faster", {"replay": "faster"}, label="+", long="faster, up to 60 seconds in one"),
    Key(("minus",), "slower", {"replay": "slower"}, label="-", long="slower, down to a second in a second"),
    Key(("exclamation_mark",), "next-failure", {"replay": "next failure"}, label="!", long="the next moment at which something failed"),
    Key(("home", "g"), "to-start", {"replay": "start"}, label="home", long="to the first event"),
    Key(("end", "G"), "to-end", {"replay": "end"}, label="end", long="to the last event"),
    Key(("w",), "wide", {"servers": "wide", "events": "wide", "fleet": "wide", "plan": "wide", "images": "wide", "diff": "wide"},
        footer=False, long="all columns; left and right move along them"),
    Key(("y",), "copy", {"*": "copy"}, footer=False, long="copy the row, or the marked ones, to the clipboard and a file"),
    Key(("t",), "theme", {"*": "theme"}, footer=False, long="the next theme: dark, light, ansi-dark, ansi-light, mono, colourblind"),
    Key(("colon",), "command", {"*": "command"}, label=":", long="type a command; tab completes it, up brings back earlier ones"),
    Key(("question_mark",), "help", {"*": "help"}, label="?", long="the keys of this view; enter runs one"),
    Key(("escape", "q", "ctrl+c"), "back", {"*": "back"}, footer=False, label="q", long="back; on Fleet it leaves"),
    Key(("1",), "show-fleet", {"*": "Fleet"}, footer=False, long="all pools"),
    Key(("2",), "show-servers", {"*": "Servers"}, footer=False, long="all servers"),
    Key(("3",), "show-server", {"*": "Server"}, footer=False, long="the server under the cursor"),
    Key(("4",), "show-images", {"*": "Images"}, footer=False, long="all images"),
    Key(("5",), "show-rollout", {"*": "Rollout"}, footer=False, long="the rollout under way, or the last one"),
    Key(("6",), "show-plan", {"*": "Plan"}, footer=False, long="the plan last made, or one for the pool"),
    Key(("7",), "show-events", {"*": "Events"}, footer=False, long="the journal"),
    Key(("j", "down"), "down", _on(WALKING, "down"), footer=False, label="j", long="down"),
    Key(("k", "up"), "up", _on(WALKING, "up"), footer=False, label="k", long="up"),
    Key(("left",), "left", _on(SIDEWAYS, "left"), footer=False, label="left", long="left along wide columns or cells"),
    Key(("right",), "right", _on(SIDEWAYS, "right"), footer=False, label="right", long="right along them"),
    Key(("pagedown", "ctrl+f"), "page-down", _on(MOVING, "page down"), footer=False, label="PgDn", long="a page down"),
    Key(("pageup", "ctrl+b"), "page-up", _on(MOVING, "page up"), footer=False, label="PgUp", long="a page up"),
    Key(("g", "home"), "top", _on(MOVING, "top"), footer=False, label="g", long="to the first row"),
    Key(("G", "end"), "bottom", _on(MOVING, "bottom"), footer=False, label="G", long="to the last row"),
)

QUIET = frozenset({"down", "up", "left", "right", "page-down", "page-up", "top", "bottom"})
"""Actions that help shows once, as one line."""


def label(key: Key) -> str:
    return key.label or shown(key.keys[0])


def why_not(key: Key, at: Situation) -> str:
    """The sentence that says why a key does nothing now; "" when it works."""
    for need in key.needs:
        if why := need(at):
            return why.replace("then again.", f"then {label(key)} again.")
    return ""


def at_foot(key: Key, at: Situation) -> bool:
    """Does the footer name this key? Not the start of a plan that waits for other people: it would only say so."""
    waits = at.pool.proposal if at.pool is not None else None
    barred = key.action == "open" and at.screen == "plan" and waits is not None and waits.left and at.plan is not None and waits.hash == at.plan.hash
    return key.footer and not barred


def footer_words(key: Key, at: Situation) -> str:
    """What the footer says for a key; a few change with the situation."""
    if key.action == "pause" and at.rollout is not None and at.rollout.state == "paused":
        return "resume"
    if key.action == "play" and at.playing:
        return "stop"
    if key.action == "arm" and at.armed:
        return "disarm"
    if key.action == "hold" and at.server is not None and at.server.held:
        return "release"
    if key.action == "plan" and at.marks:
        return f"plan {at.marks}"
    return key.said(at.screen)
