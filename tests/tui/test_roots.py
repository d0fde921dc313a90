"""The key o: a root locked or unlocked in place, after what writes there was seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tui import story
from tests.tui.stage import session
from tests.tui.test_every_key import sitting


async def test_read_only_it_shows_the_root_and_asks_nothing(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2", "o")
        await user.see("is read-only inside. Read-only: press A to arm for ten minutes, then o again.")
        assert user.app.desk.prompt is None and user.daemon.commands == []


async def test_the_writers_are_listed_above_the_question(tmp_path: Path) -> None:
    async with session(tmp_path, size=(120, 30)) as user:
        user.daemon.root = {"observed": "writable", "writers": [f"daemon{n} {n} /var/log/{n}" for n in range(7)]}
        await user.press("2")
        await user.arm()
        await user.press("o")
        await user.see("read-only, now and after each boot? y:")
        await user.see("daemon0 0 /var/log/0 · daemon1 1 /var/log/1")
        await user.see("and 3 more things")
        await user.answer("y")
        sent = await user.sent()
        assert (sent["command"], sent["mode"]) == ("root.set", "read-only")
        assert sent["server"]
        await user.see("root.set was taken.")


async def test_any_other_key_leaves_it(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.root = {"observed": "writable"}
        await user.press("2")
        await user.arm()
        await user.press("o")
        await user.see("Nothing is open for writing")
        await user.answer("n")
        await user.see("Cancelled: nothing was done.")
        assert user.daemon.commands == []


async def test_unlocking_asks_why_and_says_that_it_taints(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2")
        await user.arm()
        await user.press("o")
        await user.see("tainted: due for replacement")
        await user.press(*"disk", "enter")
        await user.see("For how long until it is locked? (20m, 2d)")
        await user.see("enter alone: 1h · esc cancels")
        assert user.daemon.commands == []
        await user.press(*"20m", "enter")
        sent = await user.sent()
        assert (sent["command"], sent["mode"], sent["why"], sent["lasts"]) == ("root.set", "writable", "disk", "20m")


async def test_the_usual_time_is_one_key_and_escape_leaves_it(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2")
        await user.arm()
        for last, count in (("escape", 0), ("enter", 1)):
            await user.press("o")
            await user.see("Why make the root of")
            await user.press(*"disk", "enter")
            await user.see("For how long")
            await user.press(last)
            await user.settle()
            assert len(user.daemon.commands) == count
        assert (await user.sent())["lasts"] == "1h"


async def test_a_root_by_construction_is_a_sentence_and_no_question(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.root = {"why_not": "it has A/B slots (rauc): its root is the image itself, read-only by construction"}
        await user.press("2")
        await user.arm()
        await user.press("o")
        await user.see("read-only by construction")
        assert user.app.desk.prompt is None


async def test_an_answer_that_comes_late_asks_nothing_elsewhere(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.root = {"observed": "writable"}
        await user.press("2")
        await user.arm()
        user.app.desk.act("root")
        user.app.desk.act("show-images")
        await user.settle()
        await user.pilot.pause(0.2)
        assert user.app.desk.prompt is None


async def test_the_line_does_what_the_key_does(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.root = {"observed": "writable"}
        await user.press("2")
        await user.arm()
        await user.press("colon", *"root", "enter")
        await user.see("now and after each boot? y:")


def unlocked(number: int) -> dict[str, Any]:
    """A status in which the glass of a server of web is broken."""
    status = story.status()
    web = next(pool for pool in status["pools"] if pool["name"] == "web")
    web["servers"][number - 1] |= {"root": "writable", "tainted": ["root unlocked by ana@pts/1, 2026-11-21 13:40Z, for 1h: disk"],
                                   "unlocked": {"until": "2026-11-21T14:40:00Z", "by": "ana@pts/1", "why": "disk"}}
    return status


async def test_broken_glass_is_told_on_fleet_servers_and_server(tmp_path: Path) -> None:
    async with session(tmp_path, status=unlocked(3)) as user:
        await user.see("1 rw !")
        await user.see("1 server, 1 with an unlocked root  due for replacement")
        await user.press("colon", *"web-3", "enter")
        await user.see("tainted   root unlocked by ana@pts/1")
        await user.see("until 14:40  by ana: disk; then it is locked again")


async def test_a_key_on_a_pool_tells_what_each_server_takes(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.roots = {"web-1": {"observed": "writable", "takes": "remount"}, "web-2": {"observed": "writable", "takes": "remount"},
                             "web-4": {"observed": "writable", "takes": "replacement", "why_not": "from the image"}}
        await user.press("o")
        await user.see("web: 9 of 12 read-only as promised · remount web-1, web-2 · replace web-4")
        await user.see("Read-only: press A to arm")
        await user.arm()
        await user.press("o")
        await user.see("Remount 2 roots of web read-only, under the budget? type 2:")
        await user.answer("2", "enter")
        sent = await user.sent()
        assert (sent["command"], sent["pool"], sent["mode"], sent.get("server")) == ("root.set", "web", "read-only", None)


async def test_what_must_be_replaced_becomes_an_ordinary_plan_onto_the_stable_image(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.roots = {"web-4": {"observed": "writable", "takes": "replacement", "why_not": "from the image"}}
        await user.press("o")
        await user.see("Plan the replacement of web-4? y:")
        await user.answer("y")
        await user.until(lambda: user.daemon.plans, "a plan was asked for")
        asked = user.daemon.plans[-1]
        assert (asked["pool"], asked["servers"], asked["to"]) == ("web", ["web-4"], "1")
        await user.until(lambda: user.app.desk.view.name == "plan", "the plan is shown")
        assert user.daemon.commands == [], "the plan has its own ladder"


async def test_a_pool_that_is_as_promised_is_one_sentence(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.arm()
        await user.press("o")
        await user.see("web: 12 of 12 read-only as promised: nothing to do.")
        assert user.app.desk.prompt is None


async def test_the_line_takes_a_pool_or_a_server_from_anywhere(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("7", "colon", *"root web", "enter")
        await user.see("12 of 12 read-only as promised")
        user.daemon.root = {"why_not": "its root comes from the image"}
        await user.press("colon", *"root edge-2", "enter")
        await user.see("edge-2: its root comes from the image.")


async def test_broken_glass_is_told_before_a_pool_is_locked(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        user.daemon.roots = {"web-3": {"observed": "writable", "takes": "remount", "unlocked_until": "2026-11-21T14:40:00Z"}}
        await user.press("o")
        await user.see("remount web-3, 1 of them unlocked by somebody for a while")


async def test_real_keys_break_the_glass_of_a_server(tmp_path: Path) -> None:
    async with sitting(tmp_path) as person:
        person.terminal.type(b"o")
        await person.see("12 of 12 read-only as promised")
        person.terminal.type(b":web-3\r")
        await person.see("\u203a web-3 ")
        person.terminal.type(b"o")
        await person.see("The root of web-3 is read-only inside.")
        person.terminal.type(b"A")
        await person.see("ARMED")
        person.terminal.type(b"o")
        await person.see("Why make the root of web-3 writable?")
        person.terminal.type(b"disk\r")
        await person.see("For how long")
        person.terminal.type(b"\r")
        await person.terminal.until(lambda: person.daemon.commands, "the command")
        sent = person.daemon.commands[-1]
        assert (sent["command"], sent["server"], sent["mode"], sent["why"], sent["lasts"]) == ("root.set", "web-3", "writable", "disk", "1h")
