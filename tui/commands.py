"""The `:` line: a few verbs with completion, for those who type faster than they look for a key.

A name alone goes there: `:web` shows the pool's servers, `:web-3` the server. A verb does what its key does, with the
same questions; what is about the view alone is in tui/verbs.py. `set` is the one that has no key, for it needs values:
`:set web max_unavailable=2 outside=the fix cannot wait`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from tui import actions, pairing, roots, shells, verbs
from tui.keys import CHANGES, Situation, armed, in_seat, under_way, why_not
from tui.phrases import movement, offered
from tui.shapes import Rollout

if TYPE_CHECKING:
    from tui.desk import Desk

POOL_VERBS = ("plan", "approve", "rollback", "pause", "resume", "abort", "promote", "set")
SERVER_VERBS = ("hold", "release", "rollback", "root", "shell")
STEERS = ("pause", "resume", "abort", "promote", "set")
PLACES = ("fleet", "servers", "images", "rollout", "plan", "events", "help")
VERBS = ("plan", "approve", "rollback", "hold", "release", "pause", "resume", "abort", "promote", "set", "root", "shell", "remark", "seat", "follow", "quit")
SETTINGS = ("max_unavailable", "max_surge", "promotion", "min_healthy_time", "healthy_deadline", "progress_deadline", "drain_deadline",
            "max_failures", "on_failure", "retain", "checkpoints", "checkpoint_pause", "on_disconnect", "outside")
"""What `set` changes in mid-rollout; the last one, the reason to go on outside the windows, takes the rest of the line."""


def complete(desk: Desk, typed: str) -> list[str]:
    """Whole lines that `typed` may become."""
    model = desk.model
    head, space, last = typed.rpartition(" ")
    words = head.split()
    if not space:
        options: Sequence[str] = (*VERBS, *PLACES, *verbs.VERBS, *verbs.ABOUT, *verbs.keys(desk), *model.pools, *model.servers)
    elif len(words) == 1 and words[0] in (*verbs.VERBS, *verbs.ABOUT):
        options = verbs.complete(desk, words)
    elif words and words[0] == "plan" and len(words) == 2:
        pool = model.pools.get(words[1])
        options = sorted({*pool.versions, offered(pool)} - {""}) if pool is not None else ()
    elif words and words[0] == "follow" and len(words) == 1:
        options = [person.name for person in model.others]
    elif words and words[0] == "set" and len(words) > 1:
        options = () if " outside=" in typed else [f"{name}=" for name in SETTINGS]
    elif len(words) == 1:
        options = (*(model.pools if words[0] in POOL_VERBS else ()),
                   *(model.servers if words[0] in SERVER_VERBS else ()))
    else:
        options = ()
    return list(dict.fromkeys(head + space + option for option in options if option.startswith(last)))[:200]


def ask(desk: Desk) -> None:
    desk.ask(":", lambda text: run(desk, text), remember=":", complete=lambda typed: complete(desk, typed))


def run(desk: Desk, text: str) -> None:
    """Run one line. What is wrong with it is a sentence."""
    verb, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    if verb == "rollout" and rest.partition(" ")[0] in STEERS:  # as the command line says it
        verb, _, rest = rest.partition(" ")
        rest = rest.strip()
    if verb in ("quit", "q"):
        desk.stage.leave()
    elif verb == "plan" and rest:
        _plan(desk, rest)
    elif verb == "set":
        _set(desk, rest)
    elif verb in PLACES and not rest:
        desk.open(verb)
    elif verb == "remark":
        if rest:
            _checked(desk, "remark", desk.situation(), lambda: actions.send(desk, command="remark", text=rest))
        else:
            actions.remark(desk)
    elif verb == "seat":
        _checked(desk, "seat", desk.situation(), lambda: pairing.seat(desk))
    elif verb == "follow":
        _checked(desk, "follow", desk.situation(), lambda: pairing.follow(desk, rest))
    elif verb in VERBS:
        _verb(desk, verb, rest)
    elif verbs.run(desk, verb, rest):
        pass
    elif verb in desk.model.servers and not rest:
        desk.open("server", server=verb)
    elif verb in desk.model.pools and not rest:
        desk.open("servers", pool=verb)
    else:
        near = get_close_matches(verb, [*VERBS, *PLACES, *verbs.VERBS, *verbs.keys(desk), *desk.model.pools, *desk.model.servers], 1)
        desk.say(f"There is no command, pool or server {verb!r}." + (f" Is it {near[0]!r}?" if near else ""), "warn")


def _plan(desk: Desk, rest: str) -> None:
    pool, _, version = rest.partition(" ")
    if pool not in desk.model.pools:
        desk.say(f"There is no pool {pool!r}: tab completes the names.", "warn")
        return
    request: dict[str, Any] = {"pool": pool}
    if version.strip():
        request["to"] = version.strip()
    desk.spawn(actions.make_plan(desk, request))


def _set(desk: Desk, rest: str) -> None:
    """`set POOL NAME=VALUE … outside=WHY`, or in the command line's own words: settings of the pool's rollout, from the next decision on."""
    settings, _, why = _as_pairs(f" {rest}").partition(" outside=")
    name, *pairs = settings.split() or [""]
    at = desk.situation()
    pool = desk.model.pools.get(name)
    rollout = desk.model.rollout_of(name) if pool is not None else None
    about = replace(at, screen="rollout", pool=pool, server=None, rollout=rollout, plan=None)
    given = {key: value for key, equals, value in (pair.partition("=") for pair in pairs) if equals}
    refused = next((words for need in (*CHANGES, under_way, in_seat, armed) if (words := need(about))), "") or _unsettable(given, rollout)
    if pool is None or len(given) < len(pairs) or not (given or why.strip()):
        desk.say("set POOL NAME=VALUE …, as in `set web max_unavailable=2`: tab completes the names.", "warn")
    elif refused or rollout is None:
        desk.say(refused, "warn")
    else:
        outside = {"outside": why.strip()} if why.strip() else {}
        said = [f"{key} = {value}" for key, value in given.items()] + ["go on outside the windows"] * bool(outside)
        desk.ask(f"{pool.name} {movement(rollout)}: {', '.join(said)}? y:", lambda _: actions.send(
            desk, command="rollout.set", rollout=rollout.id, pool=rollout.pool, overrides=given, **outside), "yes")


def _as_pairs(line: str) -> str:
    """`--max-unavailable 2` as `max_unavailable=2`, as far as the reason, which is left alone."""
    settings, outside, why = re.sub(r" --outside-windows[ =]", " outside=", line, count=1).partition(" outside=")
    pairs = re.sub(r" --([a-z-]+)[ =]+", lambda found: f" {found[1].replace('-', '_')}=", settings)
    return pairs + outside + why


def _unsettable(given: Mapping[str, str], rollout: Rollout | None) -> str:
    """"" or why the daemon would surely refuse this, before a question is asked about it."""
    if unknown := next((name for name in given if name not in SETTINGS), ""):
        near = get_close_matches(unknown, SETTINGS, 1)
        return f"{unknown} cannot be set in mid-rollout." + (f" Is it {near[0]}?" if near else f" There are {', '.join(SETTINGS[:4])} and others: tab completes them.")
    extra, missing = (given.get(name, "" if rollout is None else str(was)) for name, was in (
        ("max_surge", rollout and rollout.max_surge), ("max_unavailable", rollout and rollout.max_unavailable)))
    if given.keys() & {"max_surge", "max_unavailable"} and {extra, missing} <= {"0", "0%"}:
        return "max_surge and max_unavailable cannot both be 0: nobody more could be begun; `pause` stops it."
    return ""


def _verb(desk: Desk, verb: str, rest: str) -> None:
    """A verb about a pool or a server: the one named, else the one under the cursor."""
    at = desk.situation()
    name, _, words = rest.partition(" ")
    model = desk.model
    if name and name not in model.pools and name not in model.servers:
        desk.say(f"There is no pool or server {name!r}: tab completes the names.", "warn")
        return
    server = model.servers.get(name) if name else at.server
    pool = model.pools.get(name) or (model.pools.get(server.pool) if server is not None else None) or at.pool
    rollout = model.rollout_of(pool.name) if pool is not None else at.rollout
    screen = "servers" if (name in model.servers or (not name and verb in ("hold", "release", "shell"))
                            or (not name and verb == "root" and server is not None)) else "rollout"
    about = replace(at, screen=screen, pool=pool, server=server, rollout=rollout, plan=None)
    _do(desk, verb, about, rollout, words.strip())


def _do(desk: Desk, verb: str, at: Situation, rollout: Rollout | None, words: str) -> None:
    key = {"resume": "pause", "release": "hold"}.get(verb, verb)
    server = at.server
    if verb in ("resume", "pause") and rollout is not None and rollout.active and (
            (rollout.state == "paused") is not (verb == "resume")):
        desk.say(f"{rollout.pool} is {'paused already' if verb == 'pause' else 'not paused'}.", "warn")
        return
    if verb in ("hold", "release") and server is not None and bool(server.held) is (verb == "hold"):
        desk.say(f"{server.name} is {'held already' if verb == 'hold' else 'not held'}.", "warn")
        return

    def go() -> None:
        match verb:
            case "approve" if at.pool is not None:
                actions.approve(desk, at.pool)
            case "pause" | "resume" if rollout is not None:
                actions.pause(desk, rollout)
            case "abort" if rollout is not None:
                actions.send(desk, command="rollout.abort", rollout=rollout.id, pool=rollout.pool)
            case "promote" if rollout is not None:
                actions.promote(desk, rollout)
            case "rollback":
                actions.rollback(desk, at.screen, at.pool, server, rollout)
            case "root":
                roots.change(desk, server if at.screen == "servers" else None, at.pool)
            case "shell" if server is not None:
                shells.ask(desk, server)
            case "hold" if server is not None and words:
                actions.send(desk, command="server.hold", pool=server.pool, server=server.name, why=words)
            case "hold" | "release" if server is not None:
                actions.hold(desk, server)

    _checked(desk, key, at, go)


def _checked(desk: Desk, action: str, at: Situation, go: Any) -> None:
    """The same needs as the key of this action has."""
    key = next(item for item in desk.keymap.keys if item.action == action)
    if why := why_not(key, at):
        desk.say(why, "warn")
    else:
        go()
