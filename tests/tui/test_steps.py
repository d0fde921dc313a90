"""The Server screen tells how long each step took, live, and which one was long, in words as well as in colour."""

from __future__ import annotations

from pathlib import Path

from tests.tui import story
from tests.tui.desktop import desk, picture
from tests.tui.stage import session
from tui.ink import plain
from tui.screens.server import ServerView
from tui.screens.steps import said, steps


def rows(*told: story.Row, width: int = 80) -> list[str]:
    return [plain(row).rstrip() for row in steps(story.replacement("r", list(told)), story.NOW.timestamp(), width)]


def test_a_long_step_says_so_and_its_bar_shows_what_is_beyond_the_median() -> None:
    _, quick, slow = rows(story.step("preparing", "done", 2.0, 4.0), story.step("booting", "done", 12.0, 4.0))
    assert "long" not in quick
    assert abs(quick.count("━") - quick.count("─")) <= 1
    assert "long 3.0x" in slow
    assert abs(slow.count("!") - 2 * slow.count("━")) <= 2


def test_a_step_under_way_becomes_long_while_one_looks() -> None:
    told = story.replacement("r", [story.step("booting", "now", 1.0, 4.0, since=1.0)])
    at = story.NOW.timestamp()
    words = [plain(steps(told, at + later, 80)[1]) for later in (0.0, 7.0, 11.0)]
    assert ["long" in text for text in words] == [False, False, True]
    assert "12s" in words[2]
    assert "now, long 3.0x" in words[2]


def test_without_a_median_nothing_is_judged_and_every_width_holds() -> None:
    assert "long" not in "".join(rows(story.step("booting", "done", 900.0)))
    long = [story.step("booting", how, 3600.0 * 99, 1.0) for how in ("done", "failed", "left")] + [story.step("proving", "now", 0.0, 1.0, since=3e5)]
    for width in (60, 80, 132, 200):
        assert max(map(len, rows(*long, width=width))) <= width


def test_a_panic_is_told_from_its_own_line_and_others_by_their_end() -> None:
    assert said("a\nb\n\nc", 2) == ["b", "c"]
    assert said("[1] Kernel panic - not syncing\ntrace 1\ntrace 2", 2) == ["[1] Kernel panic - not syncing", "trace 1"]


async def test_the_screen_asks_again_when_the_server_moved_on_and_not_otherwise(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("colon", *"web-6", "enter")
        await user.see("now")
        await user.settle()
        assert user.daemon.servers_asked == ["web-6"]
        user.daemon.push({"frame": "server", "row": story.server("web", 7, "1", 1.0)})
        ahead = user.daemon.replacements["web-6"]
        ahead["steps"][1:3] = [story.step("booting", "done", 31.0, 6.0), story.step("proving", "now", 0.0, 10.0, since=0)]
        rollout = story.web_rollout()
        rollout["servers"][5] |= {"step": "proving", "cell": "h", "since": story.at(0)}
        user.daemon.push({"frame": "rollout", "row": rollout})
        await user.see("long 5.2x")
        await user.settle()
        assert user.daemon.servers_asked == ["web-6", "web-6"]


async def test_a_failure_shows_the_end_of_the_console_and_the_probes_words_on_both_screens(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("colon", *"edge-4", "enter")
        for words in ("Kernel panic - not syncing", "no address after 60 s", "failed 6.0x"):
            await user.see(words)
        await user.press("q", "j", "j", "5")
        for words in ("Kernel panic - not syncing", "no address after 60 s"):
            await user.see(words)


def test_on_the_way_back_the_one_that_is_proved_is_the_retained_one_and_no_new_birth() -> None:
    status = story.status()
    row = next(item for item in status["rollouts"] if item["pool"] == "web")
    row |= {"state": "rolling-back"}
    next(run for run in row["servers"] if run["name"] == "web-1").update(step="proving", cell="h")
    made = desk(status)
    made.open("server", server="web-1")
    view = made.view
    assert isinstance(view, ServerView)
    assert "another incarnation; it serves when it is proved" in "\n".join(picture(made, 80, 24)), "the daemon has not answered yet"
    view.detail = {"incarnations": [{"incarnation": 2, "version": "2", "state": "running"}, {"incarnation": 1, "version": "1", "state": "running"}]}
    shown = "\n".join(picture(made, 80, 24))
    assert "proving   incarnation 1, image 1; it serves when it is proved" in shown
    assert "way back  under way: incarnation 1, image 1" in shown
    assert "new" not in shown.partition("events")[0]
