"""The line to the daemon: lost, found, resumed, refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.clocks import run_virtual
from tests.tui import story
from tests.tui.canned import CannedDaemon
from tests.tui.desktop import desk
from tests.tui.slowlink import PIECE, SlowLink
from tests.tui.stage import session
from tui.errors import LinkError
from tui.link import ANSWER, Link, refusal, sentence


async def test_a_lost_daemon_leaves_everything_on_the_screen(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        before = user.row("body")
        await user.daemon.close()
        await user.see("stale since 14:02, reconnecting")
        assert user.row("body") == before
        await user.press("P")
        await user.see("The daemon does not answer (stale since 14:02): nothing can be changed until it does.")
        await user.press("2", "j", "7", "1")
        user.daemon.events.append(story.event(111, 0, "remark", "while you were away", actor="ben@pts/9"))
        await user.daemon.open()
        await user.see("while you were away")
        assert "stale" not in user.row("head")
        assert user.daemon.since == [110, 110]


def test_why_there_is_no_line_is_not_hidden_and_what_was_said_without_it_goes_when_it_is_back() -> None:
    made = desk()
    made.came_life()
    made.say("keys.x: there is no action 'x'.", "warn")
    made.lost("the host does not answer")
    trouble = made.standing()
    assert not made.flash.words and trouble is not None and trouble.words == "the host does not answer"
    made.key("P", "P")
    assert "nothing can be changed until it does" in made.flash.words
    made.came_life()
    assert not made.flash.words
    other = desk()
    other.came_life()
    other.say("web-1: it was refused.", "bad")
    other.lost("the host does not answer")
    other.came_life()
    assert other.flash.words == "web-1: it was refused.", "what became of a command stays"


async def test_it_resumes_after_the_last_event_it_saw(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.push({"frame": "event", "seq": 150, "row": story.event(150, 0, "remark", "the last word", actor="ben@x")})
        await user.see("the last word")
        user.daemon.drop()
        await user.until(lambda: len(user.daemon.since) == 2, "a second stream")
        assert user.daemon.since[1] == 150


async def test_another_journal_begins_anew(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.daemon.close()
        await user.see("stale")
        user.daemon.status["seq"] = 3
        user.daemon.events = [story.event(3, 0, "remark", "a new book", actor="ben@x")]
        await user.daemon.open()
        await user.see("a new book")
        assert user.app.desk.model.tip == 3


async def test_no_daemon_yet_is_said_and_healed(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.daemon.close()
        await user.see("stale")
        user.daemon.status["fleet"] = "elsewhere"
        await user.daemon.open()
        await user.see(" elsewhere ")


@pytest.mark.parametrize("line", [b"not json\n", b"[1,2]\n", b'{"frame": 5}\n', b'"x"\n', b'{"frame":"rollout","row":{"id":7}}\n', b"[" * 9000 + b"\n"])
async def test_a_broken_frame_ends_one_session_at_most(tmp_path: Path, line: bytes) -> None:
    async with session(tmp_path) as user:
        user.daemon.push_bytes(line)
        user.daemon.push({"frame": "event", "seq": 151, "row": story.event(151, 0, "remark", "still here", actor="ben@x")})
        await user.see("still here")


async def test_frames_may_fall_apart_anywhere(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        row = story.event(152, 0, "remark", "in pieces", actor="ben@x")
        data = json.dumps({"frame": "event", "seq": 152, "row": row}).encode() + b"\n"
        for at in range(0, len(data), 7):
            user.daemon.push_bytes(data[at : at + 7])
            await asyncio.sleep(0)
        await user.see("in pieces")


async def test_a_command_without_an_answer_is_sent_once_more_under_its_name(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.swallow = 1
        await user.press("P")
        await user.sent(2)
        assert user.daemon.commands[0] == user.daemon.commands[1]
        await user.see("rollout.pause was taken.")


async def test_a_command_that_never_had_an_answer_may_have_been_taken(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.swallow = 5
        await user.press("P")
        await user.see("It may have been taken")


async def test_a_refusal_is_a_sentence(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.refuse = (403, {"code": "role", "message": "maria may look, but not pause.", "where": "web", "exit_code": 5})
        await user.press("P")
        await user.see("maria may look, but not pause. (web)")


async def test_a_rollout_seen_in_part_is_asked_for(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        whole = story.rollout("db", [story.run(f"db-{n}", "b" if n == 1 else ".") for n in (1, 2, 3)], **{"from": "14", "to": "15"})
        user.daemon.rollouts["db-r1"] = whole
        part = {**whole, "servers": whole["servers"][:1], "partial": True, "counts": {"booting": 1, "waiting": 2}}
        user.daemon.push({"frame": "rollout", "row": part})
        await user.until(lambda: "db-r1" in user.app.desk.model.rollouts and user.app.desk.model.rollouts["db-r1"].whole, "all of it")
        assert len(user.app.desk.model.rollouts["db-r1"].runs) == 3


def first_loss(folder: Path, **how: Any) -> tuple[str, bool]:
    """Why the line to a canned daemon was first lost, and whether a status came before; in virtual time, in which a status comes at once."""
    heard: list[str] = []
    came: list[object] = []

    class Ear:
        resume_from = 0

        def came_status(self, frame: object) -> None:
            came.append(frame)

        def came_frame(self, frame: object) -> None: ...
        def came_events(self, rows: object) -> None: ...
        def came_life(self) -> None: ...

        def lost(self, why: str) -> None:
            heard.append(why)

    async def listened() -> None:
        async with CannedDaemon(folder / "s") as daemon:
            work = asyncio.create_task(Link(str(daemon.socket), back_off=(5.0,), **how).run(Ear()))
            while not heard:
                await asyncio.sleep(0.01)
            work.cancel()

    run_virtual(listened())
    return heard[0], bool(came)


def test_a_daemon_that_falls_silent_is_lost(tmp_path: Path) -> None:
    assert first_loss(tmp_path, silence=0.2) == ("it took too long", True)


def test_a_line_that_is_to_be_an_observers_takes_no_daemon_that_makes_it_more(tmp_path: Path) -> None:
    """An older daemon does not know the header, and would do what is pressed."""
    said, came = first_loss(tmp_path, observer=True)
    assert said.endswith("is older than this and would take this line for an operator's: restart it") and not came


@pytest.mark.parametrize(("error", "said"), [
    (FileNotFoundError(2, "No such file"), "no daemon listens at /run/s"),
    (ConnectionRefusedError(111, "refused"), "nobody answers at /run/s"),
    (PermissionError(13, "Permission denied"), "/run/s may not be opened by you: ask to be in its group"),
    (TimeoutError(), "it took too long"),
    (ValueError("bad \x1b]0;x\x07"), "bad ]0;x"),
    (LinkError("A sentence."), "A sentence."),
])
def test_errors_are_words(error: Exception, said: str) -> None:
    assert sentence(error, "/run/s") == said


def test_a_refusal_without_words_still_says_something() -> None:
    assert refusal({}, 500).sentence == "The daemon answered 500 without a reason."
    assert refusal({"error": {"message": "No.", "difference": ["a", 3]}}, 409).difference == ("a",)


def over_a_slow_link(folder: Path, bytes_per_second: float) -> float:
    """Seconds that a whole status takes over it, in virtual time: all ends of the link live in one loop."""
    async def asked() -> float:
        status = story.large(200)
        assert len(json.dumps(status)) > 2 * ANSWER * 1000.0, "or nothing is shown"
        async with CannedDaemon(folder / "anew.sock", status) as daemon, SlowLink(daemon.socket, folder / "slow", bytes_per_second) as slow:
            line, began = Link(str(slow.path)), asyncio.get_running_loop().time()
            try:
                assert (await line.get("/v1/status"))["fleet"] == status["fleet"]
            finally:
                await line.close()
            return asyncio.get_running_loop().time() - began

    return run_virtual(asked())


def test_a_slow_link_may_take_its_time_as_long_as_something_comes(tmp_path: Path) -> None:
    """A whole status over 1 kB/s takes longer than any deadline for it: what counts is the silence."""
    assert over_a_slow_link(tmp_path, 1000.0) > 2 * ANSWER


def test_a_link_on_which_nothing_comes_for_too_long_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="it took too long"):
        over_a_slow_link(tmp_path, PIECE / (ANSWER + 1.0))
