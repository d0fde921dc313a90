"""Replay at the terminal: the keys, the pictures, what a quiet stretch costs, and that nothing of it reaches the daemon."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.engine.replay import Film, Reel
from tests.tui import diary, story
from tests.tui.canned import CannedDaemon
from tests.tui.desktop import MadeUp, Seat, picture
from tests.tui.stage import Session, session
from tests.tui.terminal import Terminal
from tests.tui.test_storms import KEY, SIZE
from tests.tui.test_terminal import ATTACKS, check
from tui.clock import FrozenClock
from tui.desk import Desk
from tui.ink import width_of
from tui.player import LONGEST, SHOWN, Player

PICTURES = Path(__file__).with_name("pictures")
SIZES = ((80, 24), (60, 20), (132, 40), (200, 60))
NIGHT = json.loads(json.dumps(diary.night()))
ID = diary.ID


def film(rows: list[Any] = NIGHT) -> Film:
    reel = Reel(ID)
    for row in rows:
        reel.take(row)
    assert reel.fault == ""
    return reel.film()


def desk(rows: list[Any] = NIGHT) -> Desk:
    """A desk on a film and on nothing else, standing at the first event."""
    made = Desk(FrozenClock(story.NOW.timestamp(), UTC), MadeUp(), Seat(), {})
    made.play(film(rows))
    made.key("space", " ")
    return made


def shown(made: Desk, size: tuple[int, int] = (80, 24)) -> str:
    return "\n".join(row.rstrip() for row in picture(made, *size)) + "\n"


def press(made: Desk, *names: str) -> None:
    for name in names:
        made.key(name, name if len(name) == 1 else None)


# --- where it stands


def player(*times: float) -> Player:
    return Player(times, ())


def test_time_runs_at_its_speed_from_event_to_event() -> None:
    it = player(0.0, 10.0, 10.0, 30.0)
    it.toggle(100.0)
    it.advance(100.5)
    assert (it.n, it.at) == (1, 5.0)
    it.advance(101.0)
    assert (it.n, it.at) == (3, 10.0), "what happened in one moment is seen in one"
    it.faster(-1)
    it.advance(102.0)
    assert (it.n, it.at) == (3, 15.0)
    it.pause()
    it.advance(110.0)
    assert it.at == 15.0


def test_a_quiet_stretch_is_shortened_and_says_how_long_it_was() -> None:
    it = player(0.0, 580.0, 581.0)
    it.toggle(0.0)
    it.advance(SHOWN - 0.1)
    assert (it.n, it.waited(SHOWN)) == (1, "")
    it.advance(SHOWN + 0.05)
    assert (it.n, it.waited(SHOWN + 0.05)) == (2, "waited 9m 40s")
    assert it.waited(SHOWN + 10) == ""


def test_a_wait_that_is_short_for_the_viewer_is_not_shortened() -> None:
    it = player(0.0, 10 * LONGEST - 1, 1000.0)
    it.toggle(0.0)
    for tenth in range(int(10 * LONGEST) - 2):
        it.advance(tenth / 10)
        assert (it.n, it.waited(tenth / 10)) == (1, "")


def test_a_night_does_not_take_a_night() -> None:
    shot = film()
    it = Player(shot.times, shot.failures)
    for _ in range(10):
        it.faster(1)
    assert it.speed == 60
    it.toggle(0.0)
    ticks = 0.0
    while it.playing:
        ticks += 0.5
        it.advance(ticks)
    assert it.ended
    assert ticks < 60 < shot.times[-1] - shot.times[0]


def test_a_terminal_that_was_stopped_goes_on_where_it_was() -> None:
    it = player(0.0, 40.0, 80.0, 120.0)
    it.toggle(0.0)
    it.advance(3600.0)
    assert it.n == 1


def test_speed_has_its_ends() -> None:
    it = player(0.0, 1.0)
    for by, speed in ((-1, 5), (-1, 2), (-1, 1), (-1, 1), (1, 2)):
        it.faster(by)
        assert it.speed == speed


# --- the keys


def test_the_foot_says_time_speed_and_event() -> None:
    made = desk()
    assert "stopped 10x  2026-11-20 23:00:00  0s of 2h 17m  event 1 of 115" in shown(made)
    press(made, ".", "right", "plus", ",", "=")
    assert "stopped 40x  2026-11-20 23:00:00  0s of 2h 17m  event 2 of 115" in shown(made)
    press(made, "minus", "end")
    assert "ended 20x  2026-11-21 01:17:" in shown(made)
    press(made, "left")
    assert "event 114 of 115" in shown(made)
    press(made, "home")
    assert "event 1 of 115" in shown(made)


def test_from_failure_to_failure() -> None:
    made = desk()
    press(made, "!")
    assert "! web-4: proving failed: no answer on port 22 within 5m" in shown(made)
    assert "web-4      proving     5m 00s  typical 10s, past its deadline" in shown(made)
    press(made, "exclamation_mark")
    assert "web 1→2 paused 3/8" in shown(made)
    before = shown(made)
    press(made, "!")
    assert "There is no failure after this moment: home goes to the beginning." in shown(made)
    assert before.splitlines()[:20] == shown(made).splitlines()[:20]
    press(made, "home", "!")
    assert "proving failed" in shown(made)


def test_playing_shows_what_happens_and_tells_of_waits() -> None:
    made = desk()
    clock = cast(FrozenClock, made.clock)
    press(made, "space")
    seen = []
    while made.view.moving():
        clock.advance(0.5)
        seen.append(shown(made))
    assert any("waits for a person to promote the canaries" in one for one in seen)
    assert any("waited 9m 40s, maria" in one or "waited 9m 40s, web" in one for one in seen)
    assert any("waited 2h 00m," in one for one in seen)
    assert "web 1→2 done" in seen[-1]
    press(made, "space")
    assert "plays 10x" in shown(made)
    assert "event 3 of 115" in shown(made), "at the end, space begins anew"


def test_a_step_by_hand_tells_of_the_wait_too() -> None:
    made = desk()
    press(made, "!", "!", *["."] * 20)
    press(made, "home")
    for _ in range(114):
        press(made, ".")
        if "waited" in shown(made):
            break
    assert "waited 9m 40s, web: rolling (promoted): promoted" in shown(made)


def test_the_cursor_walks_over_the_servers_of_then() -> None:
    made = desk()
    press(made, "!", "j", "j")
    assert "›web-5" in shown(made)
    press(made, "escape")
    assert "›" not in shown(made)
    assert cast(Seat, made.stage).left == 0
    press(made, "escape")
    assert cast(Seat, made.stage).left == 1


def test_nothing_but_the_film_can_be_had_from_a_film() -> None:
    made = desk()
    for name in ("A", "P", "u", "X", "c", "m", "H", "o", "p", "a", ":", "1", "5", "R", "l", "e"):
        press(made, name)
        assert made.view.name == "replay"
        assert made.prompt is None
        assert made.armed_left == 0
    press(made, "1")
    assert "This is a replay without a daemon" in shown(made)
    press(made, "?", "A")
    assert "This is a replay: nothing can be changed from here." in shown(made)
    press(made, ":")
    assert made.prompt is None
    press(made, "q")
    assert made.view.name == "replay"
    assert cast(MadeUp, made.calls).commands == []


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(("name", "keys"), [
    ("start", ()), ("failure", ("!",)), ("paused", ("!", "!", *["."] * 4)), ("came-back", ("!", "!", *["."] * 6)), ("end", ("end",)), ("walk", ("!", "j", "j")),
    ("help", ("?",))])
def test_the_replay_reads_as_it_did(name: str, keys: tuple[str, ...], size: tuple[int, int]) -> None:
    made = desk()
    made.size = size
    press(made, *keys)
    drawn = shown(made, size)
    path = PICTURES / f"replay-{name}-{size[0]}x{size[1]}.txt"
    if os.environ.get("ANEW_DRAW"):
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8"), f"{path} was drawn differently; ANEW_DRAW=1 draws it anew"


def test_a_terminal_too_small_says_that_it_is_the_past_and_pauses_nothing() -> None:
    made = desk()
    press(made, "!")
    made.size = (59, 20)
    assert shown(made, (59, 20)).startswith(" REPLAY  web 1→2 rolling 3/8")
    press(made, "P", "u")
    assert cast(MadeUp, made.calls).commands == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.just("key"), KEY), st.tuples(st.just("size"), SIZE), st.tuples(st.just("time"), st.sampled_from([0.1, 0.6, 5.0]))),
                max_size=40))
def test_any_keys_at_any_size_in_a_replay(steps: list[tuple[str, Any]]) -> None:
    made, size = desk(), (80, 24)
    for kind, value in steps:
        if kind == "key":
            made.key(value, value if len(value) == 1 else None)
        elif kind == "size":
            size = value
        else:
            cast(FrozenClock, made.clock).advance(value)
        for row in picture(made, *size):
            assert width_of(row) == size[0]
    assert cast(MadeUp, made.calls).commands == []


# --- from the screens of now


@asynccontextmanager
async def at_a_rollout(folder: Path, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Session]:
    """A session on the Rollout screen, with a daemon whose journal has the night."""
    async with session(folder, size) as user:
        user.daemon.past = [{**row, "rollout": "web-r1"} if row["rollout"] else row for row in NIGHT]
        await user.press("5")
        yield user


async def test_r_replays_the_rollout_that_is_looked_at(tmp_path: Path) -> None:
    async with at_a_rollout(tmp_path) as user:
        await user.press("n", "N", "R")
        await user.see("event 3 of 115")
        assert "REPLAY" in user.row("head")
        assert "now: edge" in user.row("flash"), "what needs somebody now is said as such"
        asked = [query for query in user.daemon.journal_asked if query.get("whole")]
        assert asked[0]["since"] == "0"
        await user.press("space", "exclamation_mark")
        await user.see("proving failed")
        await user.press("escape")
        await user.see("budget    extra 1 of 1")
        assert "read-only, A arms" in user.row("head")
        assert user.daemon.commands == []


async def test_r_on_an_event_replays_its_rollout(tmp_path: Path) -> None:
    async with at_a_rollout(tmp_path) as user:
        await user.press("7", "R")
        await user.see("event 3 of 115")
        await user.press("q")
        await user.see("healthy 10 s")
        for _ in range(9):
            await user.press("j")
        await user.press("R")
        await user.see("There is no rollout here to replay")


async def test_a_screen_of_now_ends_the_replay(tmp_path: Path) -> None:
    async with at_a_rollout(tmp_path) as user:
        await user.press("R")
        await user.see("event 3 of 115")
        await user.press("A")
        await user.see("nothing can be changed from here; esc goes back to now")
        await user.press("5")
        await user.see("budget    extra 1 of 1")
        await user.arm()
        await user.press("escape", "escape")
        assert "REPLAY" not in user.text


async def test_it_plays_by_itself_and_stands_still_when_told(tmp_path: Path) -> None:
    async with at_a_rollout(tmp_path) as user:
        await user.press("R")
        await user.see("plays 10x")
        user.clock.advance(1.0)
        await user.pilot.pause(0.7)  # nobody presses a key
        await user.see("web-3: proving incarnation 2")
        await user.press("space")
        at = user.row("body")
        user.clock.advance(1.0)
        await user.pilot.pause(0.7)
        assert user.row("body") == at


@pytest.mark.parametrize(("past", "words"), [
    ([], "There is no rollout in it"), (NIGHT, "There is no rollout web-r1 in it, but 1 others."),
    ([{**row, "data": {key: value for key, value in row["data"].items() if key != "runs"}} for row in NIGHT], "There is no rollout in it")])
async def test_a_rollout_that_the_journal_does_not_have_is_a_sentence(tmp_path: Path, past: list[Any], words: str) -> None:
    async with session(tmp_path) as user:
        user.daemon.past = past
        await user.press("5", "R")
        await user.see(words)
        await user.press("space", "!", "escape")
        await user.see("budget    extra 1 of 1")


async def test_a_daemon_that_refuses_is_a_sentence(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("5")
        await user.daemon.close()
        user.app.desk.model.connection = user.app.desk.model.connection.__class__("live", 1.0)
        await user.press("R")
        await user.see("The daemon gave no answer")


# --- a real terminal


def command(*words: str) -> list[str]:
    """`anew …` behind a pipe: stdin is the record, the keyboard is the terminal's own."""
    run = f"{sys.executable} -c 'import sys; from fleet.cli.main import main; sys.exit(main())' {' '.join(words)}"
    return ["sh", "-c", run]


async def test_an_export_is_replayed_from_a_pipe_with_the_keyboard_of_the_terminal(tmp_path: Path) -> None:
    record = tmp_path / "night.jsonl"
    record.write_text("".join(json.dumps(row) + "\n" for row in NIGHT), encoding="utf-8")
    async with Terminal(tmp_path / "no.sock", tmp_path, command=command("replay", "-", "<", str(record))) as terminal:
        await terminal.until(lambda: "REPLAY" in terminal.text, "the replay")
        await terminal.until(lambda: "plays" in terminal.text, "that it plays")
        for keys, seen in ((b" ", "stopped"), (b"!", "proving failed"), (b"!", "paused"), (b"\x1b[H", "event 1 "), (b".", "trying canaries"), (b"\x1b[C", "preparing"),
                           (b",", "nothing to undo"), (b"+t", "20x"), (b"-t", "10x"), (b"\x1b[F", "done"), (b"?", "Keys of replay"), (b"q", "ended")):
            start = len(terminal.output)
            terminal.type(keys)
            await terminal.until(lambda seen=seen, start=start: seen in terminal.since(start), f"{seen} after {keys!r}")  # type: ignore[misc]
            await terminal.quiet(0.3)
        before = len(terminal.output)
        await terminal.quiet(1.0)
        assert len(terminal.output) == before, "what stands still sends nothing"
        terminal.type(b"q")
        assert terminal.child is not None
        assert await asyncio.to_thread(terminal.child.wait, 10) == 0
        check(terminal)
        assert "The daemon goes on" not in terminal.text
    assert not (tmp_path / "no.sock").exists()


async def test_anew_itself_brings_the_means_to_replay(tmp_path: Path) -> None:
    daemon = CannedDaemon(tmp_path / "anew.sock")
    daemon.past = [{**row, "rollout": "web-r1"} if row["rollout"] else row for row in NIGHT]
    async with daemon, Terminal(daemon.socket, tmp_path, command=command("--socket", str(daemon.socket), "--no-start")) as terminal:
        await terminal.until(lambda: daemon.listeners and "lately" in terminal.text, "the fleet")
        for keys, seen in ((b"5", "budget"), (b"R", "REPLAY"), (b" !", "proving failed"), (b"P", "nothing can be changed from here"), (b"\x1b", "arms"), (b"7", "about"),
                           (b"R", "REPLAY"), (b"q", "about")):
            start = len(terminal.output)
            terminal.type(keys)
            await terminal.until(lambda seen=seen, start=start: seen in terminal.since(start), f"{seen} after {keys!r}")  # type: ignore[misc]
            await terminal.quiet(0.7)
        terminal.type(b"qqq")
        assert terminal.child is not None
        assert await asyncio.to_thread(terminal.child.wait, 10) == 0
    assert daemon.commands == []


async def test_hostile_words_of_a_record_arrive_as_words(tmp_path: Path) -> None:
    spite = "".join(ATTACKS).replace("\ud800", "")
    rows = json.loads(json.dumps(NIGHT))
    for row in rows:
        for key in ("reason", "error", "last_words", "text", "words", "plan_hash"):
            if isinstance(row["data"].get(key), str):
                row["data"][key] += spite
    record = tmp_path / "evil.jsonl"
    record.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"seq": 9', encoding="utf-8")
    async with Terminal(tmp_path / "no.sock", tmp_path, command=command("replay", "-", "<", str(record))) as terminal:
        await terminal.until(lambda: "The last line is torn off, and left out." in terminal.text, "what was left out")
        for keys in (b" ", b"!", b"!", b"\x1b[F"):
            terminal.type(keys)
            await terminal.quiet(0.3)
        check(terminal)
        terminal.type(b"q")
        assert terminal.child is not None
        assert await asyncio.to_thread(terminal.child.wait, 10) == 0

