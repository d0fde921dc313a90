"""The key o: a root locked or unlocked in place, after what writes there was seen."""

from __future__ import annotations

from pathlib import Path

from tests.tui.stage import session


async def test_it_changes_nothing_read_only(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("2", "o")
        assert "Read-only: press A to arm for ten minutes, then o again." in user.text
        assert user.daemon.commands == []


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
        sent = await user.sent()
        assert (sent["command"], sent["mode"], sent["why"]) == ("root.set", "writable", "disk")


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
