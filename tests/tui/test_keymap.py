"""Keys of one's own: wishes that cannot be are refused in a sentence, the others hold, and nobody is locked out."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.cli.terminal import from_file
from tests.tui import story
from tests.tui.canned import CannedDaemon
from tests.tui.desktop import desk, picture
from tests.tui.stage import session
from tests.tui.terminal import Terminal
from tui import theme
from tui.keymap import Keymap
from tui.keys import KEYS, label
from tui.screens import SCREENS


def action(made: Keymap, name: str, screen: str = "rollout") -> str:
    found = made.find(name, screen)
    return "" if found is None else found.action


def test_as_delivered_no_key_does_two_things_on_one_view_and_every_name_is_known() -> None:
    made = Keymap.made({f"keys.{key.action}": " ".join(key.keys) for key in KEYS if key.action not in ("next", "previous")})
    assert made.problems == ()
    for screen in SCREENS:
        names = [name for key in made.keys if key.on(screen) for name in key.keys]
        assert len(names) == len(set(names)), screen


def test_every_action_can_be_given_another_key() -> None:
    for key in KEYS:
        made = Keymap.made({f"keys.{key.action}": "f9"})
        assert made.problems == ()
        screen = next(iter(key.words)).replace("*", "rollout")
        assert action(made, "f9", screen) == key.action
        assert made.label(key.action) == "f9"


def test_a_key_that_is_taken_is_refused_with_both_places() -> None:
    made = Keymap.made({"keys.rollback": "P", "keys.copy": "Y"})
    assert made.problems == ('keys.rollback = "P" is refused: pause (built in) has that key on rollout, fleet, servers, server. u still does it.',)
    assert (action(made, "P"), action(made, "u"), action(made, "Y")) == ("pause", "rollback", "copy")


def test_of_two_wishes_for_one_key_the_first_holds() -> None:
    made = Keymap.made({"keys.abort": "z", "keys.copy": "z"})
    assert made.problems == ('keys.copy = "z" is refused: keys.abort = "z" has that key on rollout, fleet. y still does it.',)
    assert (action(made, "z"), action(made, "y")) == ("abort", "copy")


def test_two_keys_change_places() -> None:
    made = Keymap.made({"keys.pause": "u", "keys.rollback": "P"})
    assert made.problems == ()
    assert (action(made, "u"), action(made, "P")) == ("pause", "rollback")


def test_a_refused_wish_takes_back_its_key_from_another_wish() -> None:
    """`u` is free only as long as rollback moves away; it cannot."""
    made = Keymap.made({"keys.pause": "u", "keys.rollback": "q"})
    assert [words.partition(" ")[0] for words in made.problems] == ["keys.rollback", "keys.pause"]
    assert (action(made, "u"), action(made, "P"), action(made, "q")) == ("rollback", "pause", "back")


def test_the_same_key_on_different_views_is_no_conflict() -> None:
    assert Keymap.made({"keys.mark": "X"}).problems == ()  # aborting is not for Servers


def test_signs_names_and_several_keys() -> None:
    made = Keymap.made({"keys.filter": "=", "keys.pause": "Z ctrl+p", "keys.down": "PgDn", "keys.mark": "SPACE"})
    assert [words.partition(" ")[0] for words in made.problems] == ["keys.down"]
    assert action(made, "equals_sign", "servers") == action(made, "=", "servers") == "filter"
    assert action(made, "slash", "servers") == ""
    assert action(made, "Z") == action(made, "ctrl+p") == "pause"
    assert label(next(key for key in made.keys if key.action == "filter")) == "="


def test_nobody_is_locked_out() -> None:
    made = Keymap.made({"keys.back": "b", "keys.open": "O", "keys.down": "J"})
    assert [action(made, name) for name in ("b", "escape", "ctrl+c", "q")] == ["back", "back", "back", ""]
    assert [action(made, name) for name in ("O", "enter", "J", "down", "j")] == ["open", "open", "down", "down", ""]


@pytest.mark.parametrize(("keys", "leaves"), [("b", "b"), ("Q escape", "Q")])
def test_escape_does_not_leave_the_first_view_under_another_key_either(keys: str, leaves: str) -> None:
    made = desk(None, **{"keys.back": keys})
    made.key("escape", None)
    assert made.stage.left == 0  # type: ignore[attr-defined]
    assert made.flash.words.startswith(f"This is the first view: {leaves} leaves.")
    made.key(leaves, leaves)
    assert made.stage.left == 1  # type: ignore[attr-defined]


def test_where_escape_is_all_there_is_it_leaves() -> None:
    made = desk(None, **{"keys.back": "escape"})
    made.key("escape", None)
    assert made.stage.left == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(("option", "value", "words"), [
    ("keys.rolback", "z", "there is no action 'rolback'. Is it 'rollback'?"),
    ("keys.zzz", "z", "there is no action 'zzz'. ? and docs/keys.md name them."),
    ("keys.pause", "hyper+q", "there is no key 'hyper+q'"),
    ("keys.pause", "", "there is no key ''"),
    ("keys.pause", "\x1b", "there is no key"),
])
def test_what_is_no_action_or_key_is_said(option: str, value: str, words: str) -> None:
    made = Keymap.made({option: value})
    assert len(made.problems) == 1
    assert words in made.problems[0]
    assert made.keys == KEYS


def test_the_sentences_name_the_key_of_ones_own() -> None:
    made = desk(None, **{"keys.arm": "W"})
    made.key("2", "2")
    assert "read-only, W arms" in "".join(picture(made, 80, 24))
    made.key("H", "H")
    assert made.flash.words == "Read-only: press W to arm for ten minutes, then H again."


def test_no_sentence_names_a_key_that_does_something_else() -> None:
    own = {"plan": "f1", "seat": "f2", "abort": "f3", "approve": "f4", "filter": "f5", "next": "f6", "previous": "f7", "bottom": "f8", "down": "f9",
           "back": "f11", "pause": "ctrl+p", "rollback": "ctrl+r", "faults": "ctrl+x", "hold": "ctrl+o", "show-images": "ctrl+y"}
    made = desk({**story.status(), "pools": [story.pool("db", [], "", size=2, image={"family": "db"}, versions={}),
                                             story.pool("web", [story.server("web", 1, "1", 60.0, held="disk test")], "1", proposal=story.proposal(1))]},
                **{f"keys.{action}": key for action, key in own.items()})
    assert made.keymap.problems == ()
    screens = {}
    for name, size in (("fleet", (80, 24)), ("servers", (80, 24)), ("plan", (80, 24)), ("rollout", (50, 15))):
        made.open(name)
        screens[name] = "\n".join(picture(made, *size))
    assert "f1 plans the birth" in screens["fleet"]
    assert "ctrl+p pause ctrl+r back" in screens["rollout"]
    made.open("fleet")
    picture(made, 80, 24)
    made.key("d", "d")
    assert made.flash.words.endswith("to compare: ctrl+y lists all.")
    made.key("f6", None)
    assert made.flash.words == "There is no filter yet: f5 makes one, f6 and f7 go along its matches."
    made.key("question_mark", "?")
    assert " f9 k g f8, arrows, PgUp, PgDn move · f11 goes back, on Fleet it leaves" in "\n".join(picture(made, 80, 24))


@pytest.mark.parametrize(("text", "options", "problem"), [
    ('theme = "light"\nascii = true\n[keys]\npause = "Z"\ncopy = ["Y", "f5"]\n',
     {"theme": "light", "ascii": "yes", "keys.pause": "Z", "keys.copy": "Y f5"}, ""),
    ("theme = 3\n[keys]\npause = 3\nabort = \"K\"\n", {"keys.abort": "K"}, "theme must be"),
    ("theme = \n", {}, "is not TOML, so nothing of it holds"), ("\xff", {}, "terminal.toml"),
    ("[keys]\npause = []\n", {}, "keys.pause must be the name of a key"),
])
def test_a_bad_file_keeps_nobody_from_the_terminal(tmp_path: Path, text: str, options: dict[str, str], problem: str) -> None:
    path = tmp_path / "terminal.toml"
    path.write_bytes(text.encode("latin-1"))
    found = from_file(str(path))
    problems = found.pop("problems", "")
    assert found == options
    assert problem in problems
    assert bool(problem) == bool(problems)


def test_without_a_file_or_with_a_closed_one(tmp_path: Path) -> None:
    assert from_file(str(tmp_path / "none.toml")) == {}
    assert "cannot be read" in from_file(str(tmp_path))["problems"]


def test_an_unknown_theme_is_named_with_those_there_are() -> None:
    assert theme.problem("drak") == "There is no theme 'drak': there are dark, light, ansi-dark, ansi-light, mono, colourblind."
    assert theme.problem("") == theme.problem("mono") == ""


async def test_the_first_thing_seen_is_what_was_refused(tmp_path: Path) -> None:
    async with session(tmp_path, (80, 24), None, problems="terminal.toml: size must be theme", **{"keys.rollback": "P"}) as user:
        assert "! terminal.toml: size must be theme And 1 more." in user.text
        await user.press("P")  # the key does what it did, and the sentence has been read
        assert (await user.sent())["command"] == "rollout.pause"
        assert "terminal.toml" not in user.text


async def test_keys_of_ones_own_in_a_real_terminal(tmp_path: Path) -> None:
    options = {"theme": "drak", "keys.abort": "=", "keys.remark": "5"}
    async with CannedDaemon(tmp_path / "anew.sock") as daemon, Terminal(daemon.socket, tmp_path, options=options) as terminal:
        await terminal.until(lambda: daemon.listeners and "lately" in terminal.text, "the fleet")
        await terminal.until(lambda: "There is no theme 'drak'" in terminal.text and "And 1 more." in terminal.text, "the sentence")
        terminal.type(b"X=")
        await terminal.until(lambda: daemon.commands, "a command")
        assert [row["command"] for row in daemon.commands] == ["rollout.abort"]
        terminal.type(b"5")
        await terminal.until(lambda: "budget" in terminal.text, "the rollout")
