"""Keys pressed, effects seen: what arrives at the daemon, and what does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.tui import story
from tests.tui.desktop import desk
from tests.tui.stage import Session, session


async def test_it_starts_read_only_and_says_why_a_change_does_nothing(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        assert "read-only, A arms" in user.row("head")
        await user.press("2", "H")
        assert "Read-only: press A to arm for ten minutes, then H again." in user.text
        await user.press("A")
        assert "ARMED 10m left" in user.row("head")
        user.clock.advance(9.5 * 60)
        await user.settle()
        assert "ARMED <1m left" in user.row("head")
        user.clock.advance(31)
        await user.pilot.pause(1.3)  # the app sees to it by itself
        assert "read-only" in user.row("head")
        assert user.daemon.commands == []


async def test_pause_and_abort_are_one_key_even_read_only(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("P")
        sent = await user.sent()
        assert (sent["command"], sent["rollout"], sent["generation"]) == ("rollout.pause", "web-r1", 42)
        assert sent["request"]
        await user.see("rollout.pause was taken.")
        await user.press("X")
        assert (await user.sent(2))["command"] == "rollout.abort"
        assert user.daemon.commands[0]["request"] != user.daemon.commands[1]["request"]


async def test_what_is_said_of_a_rollout_goes_when_it_moves_on(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.answer = {"rollout": "web-r1", "message": "rollout web-r1 is paused"}
        await user.press("P")
        await user.see("+ rollout web-r1 is paused")
        for seq, rollout, kind in ((200, "web-r1", "rollout-moved"), (201, "web-r1", "step-done"), (202, "edge-r1", "rollout-ended"), (203, "web-r1", "rollout-driven")):
            user.daemon.push({"frame": "event", "seq": seq, "row": story.event(seq, 0, kind, f"heard {seq}", rollout=rollout)})
            await user.until(lambda seq=seq: user.app.desk.model.tip == seq, "it was heard")  # type: ignore[misc]
            assert "+ rollout web-r1 is paused" in user.text, "that is no news of it"
        user.daemon.push({"frame": "event", "seq": 204, "row": story.event(204, 0, "rollout-ended", "heard 204", rollout="web-r1")})
        await user.gone("+ rollout web-r1 is paused")


@pytest.mark.parametrize(("kind", "said"), [("rollout-driven", "taken"), ("rollout-moved", "")])
def test_an_answer_that_comes_after_what_it_tells_of_is_not_said(kind: str, said: str) -> None:
    made = desk()
    made.open("rollout", rollout="web-r1")
    made.came_events([story.event(111, 0, kind, "it went on", rollout="web-r1")])
    made.key("P", "P")
    assert made.flash.words == said


async def start_of_a_plan(user: Session) -> None:
    await user.press("p")
    await user.see("nothing has happened yet")
    await user.arm()
    await user.press("enter")
    await user.see("Replace 3 servers? type 3:")


async def test_a_plan_is_started_by_typing_the_number(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.answer = {"rollout": "web-r1"}
        await start_of_a_plan(user)
        assert user.daemon.plans == [{"pool": "web"}]
        await user.answer("3", "enter")
        sent = await user.sent()
        assert sent["command"] == "rollout.start"
        assert sent["plan_hash"] == "7f3a9c51d0"
        assert sent["generation"] == 42
        assert sent["plan"] == {"pool": "web"}
        await user.see("canary ++ │ +++b....==")


@pytest.mark.parametrize("keys", [("enter",), ("4", "enter"), ("3", "3", "enter"), ("escape",), ("y",), ("y", "enter")])
async def test_anything_but_the_number_starts_nothing(tmp_path: Path, keys: tuple[str, ...]) -> None:
    async with session(tmp_path) as user:
        await start_of_a_plan(user)
        await user.answer(*keys)
        if keys == ("y",):
            assert "type 3:" in user.text
        else:
            await user.see("Cancelled: nothing was done.")
        assert user.daemon.commands == []


async def test_a_held_key_confirms_nothing(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await start_of_a_plan(user)
        await user.press("3", "enter", "enter", "3", "enter")
        assert "type 3:" in user.text
        user.clock.advance(0.29)
        await user.press("3", "enter")
        assert user.daemon.commands == []
        user.clock.advance(0.02)
        await user.press("3", "enter")
        await user.sent()


async def test_pasted_text_confirms_nothing(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await start_of_a_plan(user)
        user.clock.advance(1)
        user.app.desk.paste("3\n")
        await user.press("enter")
        await user.see("Cancelled")
        assert user.daemon.commands == []


async def test_a_stale_plan_is_refused_in_a_sentence_with_the_difference(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await start_of_a_plan(user)
        user.daemon.refuse = (409, {"code": "stale-plan", "message": "The fleet changed since this plan was made.", "where": "",
                                    "exit_code": 5, "difference": ["web-4 is held now"]})
        await user.answer("3", "enter")
        await user.see("The fleet changed since this plan was made.")
        await user.see("web-4 is held now")


async def test_marks_become_a_plan(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("enter")
        await user.see("web-1 ")
        await user.press("space", "j", "space")
        await user.see("2 marked")
        assert "plan 2" in user.row("foot")
        await user.press("p")
        await user.see("nothing has happened yet")
        assert user.daemon.plans == [{"pool": "web", "servers": ["web-1", "web-3"]}]


async def test_marks_of_two_pools_make_no_plan(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2", "space", "G", "space", "p")
        await user.see("The marks are in 2 pools (ci, web): a plan is for one pool.")
        assert user.daemon.plans == []


async def test_marks_survive_a_refresh(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2", "j", "space")
        user.daemon.push({"frame": "server", "row": story.server("ci", 2, "4", 1.0, reason="born anew")})
        await user.see("born anew")
        assert "•ci-2" in user.text


async def test_one_server_is_a_key_then_y(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.arm()
        await user.press("enter", "u")
        await user.see("Roll web-1 back to 1, retained, in seconds? y:")
        await user.answer("y")
        sent = await user.sent()
        assert (sent["command"], sent["server"], sent["pool"]) == ("rollback.start", "web-1", "web")
        await user.press("u")
        await user.answer("n")
        await user.see("Cancelled: nothing was done.")
        assert len(user.daemon.commands) == 1


async def test_a_rollout_under_way_is_rolled_back_by_its_number(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.arm()
        await user.press("5", "u")
        await user.see("Roll back 6 servers of web, reject 2? type 6:")
        await user.answer("6", "enter")
        sent = await user.sent()
        assert (sent["command"], sent["rollout"]) == ("rollback.start", "web-r1")


async def test_a_pool_is_rolled_back_after_its_plan_was_seen(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.plan = {**story.plan("db"), "kind": "rollback"}
        await user.arm()
        await user.press("j", "u")
        await user.see("rollback of db")
        assert user.daemon.plans == [{"pool": "db", "kind": "rollback"}]
        await user.press("enter")
        await user.see("Roll back 3 servers of db, reject 1? type 3:")
        await user.answer("3", "enter")
        sent = await user.sent()
        assert (sent["command"], sent["pool"], sent["plan_hash"]) == ("rollback.start", "db", "7f3a9c51d0")


async def test_promote_asks_and_resume_asks(tmp_path: Path) -> None:
    status = story.status()
    status["rollouts"][0] |= {"state": "awaiting-promotion", "reason": "2 canaries are healthy"}
    async with session(tmp_path, status=status) as user:
        await user.arm()
        await user.press("5", "c")
        await user.see("Promote: let 4 more servers follow? y:")
        await user.answer("y")
        assert (await user.sent())["command"] == "rollout.promote"
        await user.press("1", "j", "j", "P")
        await user.see("Resume edge 6→7, 5 servers to go? y:")
        await user.answer("y")
        sent = await user.sent(2)
        assert (sent["command"], sent["rollout"]) == ("rollout.resume", "edge-r1")


async def test_hold_asks_why_and_a_held_server_is_released(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.arm()
        await user.press("enter", "H")
        await user.see("Why hold web-1?")
        await user.press(*"disk", "space", *"test", "enter")
        sent = await user.sent()
        assert (sent["command"], sent["server"], sent["why"]) == ("server.hold", "web-1", "disk test")
        await user.press("j", "H")
        await user.see('Release web-2, held: "disk test"? y:')
        await user.answer("y")
        assert (await user.sent(2))["command"] == "server.release"


async def test_a_remark_goes_into_the_journal_of_the_rollout(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("5", "m", *"all", "space", *"well", "enter")
        sent = await user.sent()
        assert (sent["command"], sent["text"], sent["rollout"]) == ("remark", "all well", "web-r1")
        user.daemon.push({"frame": "event", "seq": 111, "row": story.event(
            111, 0, "remark", "all well", actor="maria@pts/3", pool="web", rollout="web-r1")})
        await user.see("all well (maria)")


async def test_an_observer_is_told_so(tmp_path: Path) -> None:
    async with session(tmp_path, status={**story.status(), "you": {"user": "ben", "role": "observer"}}) as user:
        assert "observer" in user.row("head")
        for key in ("A", "P", "X"):
            await user.press(key)
            assert "You are an observer here" in user.text
        assert "abort" not in user.row("foot")
        assert user.daemon.commands == []


async def test_the_command_line_completes_and_does_what_keys_do(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("colon", *"pla", "tab", "space", *"ed", "tab", "enter")
        await user.see("nothing has happened yet")
        assert user.daemon.plans == [{"pool": "edge"}]
        await user.press("colon", *"pause", "space", *"web", "enter")
        assert (await user.sent())["rollout"] == "web-r1"
        await user.press("colon", *"wbe", "enter")
        await user.see("There is no command, pool or server 'wbe'. Is it 'web'?")
        await user.press("colon", *"web-3", "enter")
        await user.see("web-3  pool web")
        await user.press("colon", *"hold", "space", *"web-4", "space", *"why", "enter")
        await user.see("Read-only: press A")
        await user.press("colon", *"plan", "space", *"web", "space", "2", "enter")
        await user.until(lambda: user.daemon.plans[-1] == {"pool": "web", "to": "2"})
        assert len(user.daemon.commands) == 1


async def test_a_filter_works_as_it_is_typed(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2", "slash", *"web-1")
        assert "web-10" in user.text
        assert "ci-1 " not in user.text
        await user.press("enter")
        await user.see("57 servers hidden, esc shows all")
        await user.press("escape")
        assert "of 61" in user.text
        assert "› web-1 " in user.text
        await user.press("slash", *"web-[", "enter")
        await user.see("is not a pattern")


async def test_only_faults(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("exclamation_mark")
        await user.see("edge-4")
        assert "edge-6" in user.text
        assert "web-2" in user.text  # held
        assert "ci-" not in user.text


async def test_help_lists_the_keys_of_this_view_and_runs_them(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("5", "question_mark")
        await user.see("Keys of rollout")
        assert "not now: Read-only" in user.text
        await user.press("escape")
        await user.see("canary")
        await user.press("question_mark")
        while "› P" not in user.text:
            await user.press("j")
        await user.press("enter")
        assert (await user.sent())["command"] == "rollout.pause"


async def test_the_console_is_live_and_only_text(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("enter", "l")
        await user.see("Linux version 6.1.0")
        await user.see("web login:")
        assert "live" in user.text
        await user.press("escape")
        await user.see("web-1 ")


async def test_copy_says_where_it_is(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2", "y")
        await user.see("Copied to the clipboard and to")
        assert (tmp_path / "copied.txt").read_text().startswith("ci-1 ci 3")


async def test_themes_and_leaving(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        for theme in ("light", "ansi-dark", "ansi-light", "mono", "colourblind", "dark"):
            await user.press("t")
            assert f"Theme {theme}." in user.text
        await user.press("q")
        await user.until(lambda: not user.app.is_running, "the app ends")
        assert user.app.return_value == 0


async def test_a_key_of_another_view_says_so(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("7", "c")
        assert "c (promote) does nothing on this view." in user.text


async def test_many_views_deep_esc_leads_home(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("enter", "enter", "5", "7", "2", "4", "6", "1", "enter", "enter")
        for _ in range(12):
            if user.app.desk.view.name == "fleet":
                break
            await user.press("escape")
        assert user.app.desk.view.name == "fleet"


async def test_wide_keeps_the_name_and_ends_with_the_view(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2", "w", *["right"] * 12)
        assert "› ci-1 " in user.text
        assert "127.0.0.1" in user.text
        await user.press("1", "2")
        assert "image" in user.text.splitlines()[1]
        await user.press("w", "slash", *"state:ok", "enter")
        assert "ci-1 " in user.text
        await user.press("slash", "ctrl+u", *"nosuch", "enter")
        await user.see('no server matches "nosuch": esc clears the filter')


async def test_the_whole_journal_is_read_and_searched(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.daemon.close()
        await user.see("stale")
        rows = [story.event(seq, 9000 - seq, "remark", f"word {seq}", actor="ben@x") for seq in range(1, 2601)]
        user.daemon.events, user.daemon.status["seq"] = rows, 2600
        user.app.desk.model.forget_events()
        await user.daemon.open()
        await user.until(lambda: len(user.app.desk.model.events) == 2600, "all events")
        await user.press("7")
        await user.see("of 2,600")
        assert "last" not in user.row("body")
        await user.press("slash", *"word", "space", *"17$", "enter")
        await user.see("word 17")
        await user.press("slash", "ctrl+u", *"nosuch", "enter")
        await user.see('no event matches "nosuch": esc clears the filter')


async def test_esc_on_fleet_does_not_leave(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("escape", "escape")
        assert user.app.is_running
        assert "q leaves. A rollout goes on without you." in user.text


async def test_a_tiny_window_without_a_rollout_offers_nothing(tmp_path: Path) -> None:
    async with session(tmp_path, (50, 10), status={**story.status(), "rollouts": []}) as user:
        assert "too small, needs 60x20" in user.row("head")
        assert "P " not in user.text
        await user.press("A", "u")
        assert user.daemon.plans == []
    async with session(tmp_path, (59, 20)) as user:
        assert "too small, needs 60x20" in user.row("foot")


async def test_a_good_answer_never_looks_like_a_fault(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("A")
        assert "+ Armed for ten minutes" in user.text
        await user.press("P")
        await user.see("+ rollout.pause was taken.")


async def test_a_rollback_says_what_it_rejects_before_it_starts(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.plan = {**story.plan("db"), "kind": "rollback"}
        await user.arm()
        await user.press("j", "u")
        await user.see("1 for db: not chosen again before `anew image unreject`")


async def test_an_actor_is_named_once(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        row = story.event(111, 0, "remark", "rollout paused (root)", actor="root@pts/1", pool="web", rollout="web-r1")
        user.daemon.push({"frame": "event", "seq": 111, "row": row})
        await user.see("paused (root)")
        assert "(root) (root)" not in user.text


async def test_an_ended_rollout_does_not_speak_in_the_present(tmp_path: Path) -> None:
    status = story.status()
    runs = [story.run("web-1", "+", reason="booting incarnation 2"), story.run("web-3", "<", error="no route to host")]
    status["rollouts"] = [story.rollout("web", runs, state="rolled-back", reason="1 of 2 on 1", ended_at=story.at(5))]
    async with session(tmp_path, status=status) as user:
        await user.press("5", "left", "left")
        await user.see("no route to host")
        await user.press("j", "k")
        assert "booting incarnation" not in user.text
        assert "! 1 of 2 on 1" not in user.text


async def test_the_server_screen_says_which_life_is_healthy(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("colon", *"web-6", "enter")
        await user.see("being replaced, 1→2: booting")
        assert "serves    incarnation 1, image 1, healthy: tcp 22 in 3 ms" in user.text
        assert "booting   a new incarnation, image 2; it serves when it is proved" in user.text


async def test_a_plan_that_comes_late_takes_nobodys_view_away(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.plan_waits = asyncio.Event()
        await user.press("p")
        await user.see("Planning for web.")
        await user.press("2")
        user.daemon.plan_waits.set()
        await user.see("The plan of web is there: 6 shows it.")
        assert "› ci-1" in user.text
        await user.press("6")
        await user.see("nothing has happened yet")
        assert user.daemon.plans == [{"pool": "web"}]
