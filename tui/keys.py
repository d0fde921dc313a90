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
    arm_key: str = "A"


Need = Callable[[Situation], str]


def reachable(at: Situation) -> str:
    return "" if at.live else f"The daemon does not answer ({at.stale_words}): nothing can be changed until it does."


def operator(at: Situation) -> str:
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
    return "" if at.armed else f"Read-only: press {at.arm_key} to arm for ten minutes, then again."


def a_pool(at: Situation) -> str:
    return "" if at.pool is not None else "There is no pool under the cursor."


def a_server(at: Situation) -> str:
    return "" if at.server is not None else "There is no server under the cursor."


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
    return armed(at) if at.rollout is not None and at.rollout.state == "paused" else ""


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
        return "" if at.rollout.kind != "birth" else "A birth has nothing to go back to: X aborts it."
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
        return screen in self.words or "*" in self.words

    def said(self, screen: str) -> str:
        return self.words.get(screen, self.words.get("*", ""))


ALL: Mapping[str, str] = {}
LISTS = ("fleet", "servers", "images", "plan", "events", "diff", "help")
MOVING = (*LISTS, "rollout", "console", "server")
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
    Key(("c",), "promote", {"rollout": "promote", "fleet": "promote"}, (*CHANGES, waits_for_promotion, armed),
        long="the canaries are good: let the rollout go on"),
    Key(("P",), "pause", {"rollout": "pause", "fleet": "pause", "servers": "pause", "server": "pause"},
        (*CHANGES, under_way, armed_to_resume), long="pause the rollout at once, or let it go on"),
    Key(("u",), "rollback", {"rollout": "rollback", "fleet": "rollback", "servers": "back", "server": "back"},
        (*CHANGES, returnable, armed), long="go back: the rollout, the pool, or this one server"),
    Key(("X",), "abort", {"rollout": "abort", "fleet": "abort"}, (*CHANGES, under_way),
        long="stop the rollout where it is; what is done stays"),
    Key(("l",), "console", {"server": "console", "servers": "console", "rollout": "console"},
        (reachable, a_server), long="the serial console of this server, live"),
    Key(("H",), "hold", {"servers": "hold", "server": "hold"}, (*CHANGES, a_server, armed),
        long="hold: skipped by everything; asks why. Again: release"),
    Key(("o",), "root", {"servers": "root", "server": "root"}, (*CHANGES, a_server, armed), footer=False,
        long="lock the root read-only, or unlock it; shows what writes there, then asks"),
    Key(("A",), "arm", {"*": "arm"}, CHANGES, long="arm for ten minutes: changes are possible; again: read-only"),
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
    Key(("slash",), "filter", {"console": "find"}, label="/", long="find a pattern in what the console said; n and N go along"),
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
    Key(("w",), "wide", {"servers": "wide", "events": "wide", "fleet": "wide", "plan": "wide", "images": "wide", "diff": "wide"},
        footer=False, long="all columns; left and right move along them"),
    Key(("y",), "copy", {"*": "copy"}, footer=False, long="copy the row, or the marked ones, to the clipboard and a file"),
    Key(("t",), "theme", {"*": "theme"}, footer=False, long="the next theme: dark, light, ansi-dark, ansi-light, mono, colourblind"),
    Key(("colon",), "command", {"*": "command"}, label=":", long="type a command; tab completes it, up brings back earlier ones"),
    Key(("question_mark",), "help", {"*": "help"}, label="?", long="the keys of this view; enter runs one"),
    Key(("escape", "q", "ctrl+c"), "back", {"*": "back"}, footer=False, label="q", long="back; on Fleet q leaves"),
    Key(("1",), "show-fleet", {"*": "Fleet"}, footer=False, long="all pools"),
    Key(("2",), "show-servers", {"*": "Servers"}, footer=False, long="all servers"),
    Key(("3",), "show-server", {"*": "Server"}, footer=False, long="the server under the cursor"),
    Key(("4",), "show-images", {"*": "Images"}, footer=False, long="all images"),
    Key(("5",), "show-rollout", {"*": "Rollout"}, footer=False, long="the rollout under way, or the last one"),
    Key(("6",), "show-plan", {"*": "Plan"}, footer=False, long="the plan last made, or one for the pool"),
    Key(("7",), "show-events", {"*": "Events"}, footer=False, long="the journal"),
    Key(("j", "down"), "down", _on(MOVING, "down"), footer=False, label="j", long="down"),
    Key(("k", "up"), "up", _on(MOVING, "up"), footer=False, label="k", long="up"),
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
    if key.action == "arm" and at.armed:
        return "disarm"
    if key.action == "hold" and at.server is not None and at.server.held:
        return "release"
    if key.action == "plan" and at.marks:
        return f"plan {at.marks}"
    return key.said(at.screen)
