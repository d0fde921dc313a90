"""Several people at their terminals: who is here, who drives, the seat by keys, following."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tui import story
from tests.tui.stage import Session, session

MARIA, BEN, EVE = 7, 8, 9


def person(number: int, user: str, role: str = "co-driver", **more: Any) -> dict[str, Any]:
    return {"id": number, "user": user, "terminal": f"pts/{number}", "role": role, "since": story.at(60), "asks_until": None, "place": {}, **more}


def people(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"frame": "people", "people": list(rows)}


def three(driver: int = 0, asks: int = 0, ben: dict[str, Any] | None = None) -> dict[str, Any]:
    """maria is at this terminal; ben and eve are elsewhere."""
    rows = [person(MARIA, "maria"), person(BEN, "ben", place=ben or {}), person(EVE, "eve", "observer")]
    for row in rows:
        row["role"] = "driver" if row["id"] == driver else row["role"]
        row["asks_until"] = story.at(-30) if row["id"] == asks else None
    return people(*sorted(rows, key=lambda row: row["id"] != driver))


async def gather(user: Session, frame: dict[str, Any]) -> None:
    """The daemon tells who is here, and who one is."""
    user.daemon.push({"frame": "hello", "seq": 110, "fleet": "lab", "you": MARIA})
    user.daemon.push(frame)
    wanted = [row["id"] for row in frame["people"]]
    await user.until(lambda: list(user.app.desk.model.people) == wanted and user.app.desk.model.me == MARIA, "the people are known")


@pytest.mark.parametrize(("width", "driver", "shown"), [
    (80, 0, "maria +2"), (80, MARIA, "maria* +2"), (80, BEN, "maria, ben* +1"), (132, BEN, "maria, ben*, eve"), (132, MARIA, "maria*, ben, eve")])
async def test_line_1_says_who_is_here_and_marks_the_driver(tmp_path: Path, width: int, driver: int, shown: str) -> None:
    async with session(tmp_path, (width, 24), {**story.status(), "rollouts": []}) as user:
        assert "maria operator" in user.row("head")
        await gather(user, three(driver))
        await user.until(lambda: shown in user.row("head"), shown)
        user.daemon.push(people(person(MARIA, "maria")))
        await user.until(lambda: "maria operator" in user.row("head"), "alone again")


@pytest.mark.parametrize(("driver", "shown"), [(0, "you +2"), (MARIA, "you* +2"), (BEN, "you +2*")])
async def test_beside_a_long_rollout_the_people_become_a_number(tmp_path: Path, driver: int, shown: str) -> None:
    async with session(tmp_path, status={**story.status(), "fleet": "a-fleet-with-a-long-name"}) as user:
        await gather(user, three(driver))
        await user.until(lambda: shown in user.row("head") and "maria" not in user.row("head"), shown)


async def test_arming_takes_a_free_seat_and_T_takes_it_too(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("T")
        await user.see("has not said that this terminal is here")
        await gather(user, three())
        await user.press("A")
        assert (await user.sent())["command"] == "seat.take"
        await user.see("Armed for ten minutes, in the driver's seat")
        await user.press("T")
        assert (await user.sent(2))["command"] == "seat.take"


async def test_who_drives_is_said_where_a_start_would_be_refused_and_pausing_works(tmp_path: Path) -> None:
    status = story.status()
    status["rollouts"] = [story.rollout("web", [story.run("web-1", "+", canary=True), story.run("web-2", ".")], state="awaiting-promotion")]
    async with session(tmp_path, status=status) as user:
        await gather(user, three(BEN))
        await user.press("A")
        await user.see("ben@pts/8 has the driver's seat and alone starts things: T asks for it.")
        assert not user.daemon.commands
        await user.press("5", "c")
        await user.see("ben@pts/8 has the driver's seat, and alone starts things: T asks for it.")
        await user.press("u")
        await user.see("alone starts things: T asks for it.")
        await user.press("1", "p")
        await user.see("nothing has happened yet")
        await user.press("enter")
        await user.see("alone starts things: T asks for it.")
        await user.press("5", "P")
        assert (await user.sent())["command"] == "rollout.pause"
        await user.press("T")
        assert (await user.sent(2))["command"] == "seat.take"


async def test_the_daemons_refusal_is_a_sentence_whatever_the_screen_thought(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await gather(user, three())
        user.daemon.refuse = (409, {"code": "seat", "message": "ben@pts/8 has the driver's seat, and only the driver starts things", "where": "", "exit_code": 5})
        await user.press("A")
        await user.see("Armed, without the driver's seat: ben@pts/8 has the driver's seat")


@pytest.mark.parametrize(("key", "command"), [("y", "seat.give"), ("n", "seat.keep"), ("escape", "seat.keep")])
async def test_the_driver_is_told_who_asks_and_answers_by_a_key(tmp_path: Path, key: str, command: str) -> None:
    async with session(tmp_path) as user:
        await gather(user, three(MARIA))
        user.daemon.push(three(MARIA, asks=BEN))
        await user.see("ben@pts/8 asks for the driver's seat: T answers. Silence gives it away at 14:02:30.")
        await user.press("j")
        await user.see("! ben@pts/8 asks for the driver's seat until 14:02:30: T answers")
        await user.press("T")
        await user.see("Hand the driver's seat to ben@pts/8?")
        await user.answer(key)
        assert (await user.sent())["command"] == command
        user.daemon.push(three(BEN) if key == "y" else three(MARIA))
        await user.gone("until 14:02:30")
        if key == "y":
            await user.see("ben@pts/8 has the driver's seat now.")


async def test_a_key_held_down_gives_nothing_away(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await gather(user, three(MARIA, asks=BEN))
        await user.press("T", "y", "y", "T")
        assert not user.daemon.commands
        await user.see("Hand the driver's seat to ben@pts/8?")


async def test_who_asked_hears_the_answer(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await gather(user, three(BEN, asks=MARIA))
        user.daemon.push(three(BEN))
        await user.see("ben@pts/8 keeps the driver's seat.")
        user.daemon.push(three(BEN, asks=MARIA))
        user.daemon.push(three(MARIA))
        await user.see("You have the driver's seat.")
        await user.press("T")
        assert (await user.sent())["command"] == "seat.give", "with nobody asking it is left"


async def test_an_observer_may_follow_and_may_not_sit(tmp_path: Path) -> None:
    async with session(tmp_path, status={**story.status(), "you": {"user": "maria", "role": "observer"}}) as user:
        await gather(user, three(BEN, ben={"screen": "server", "server": "web-6"}))
        await user.press("T")
        await user.see("You are an observer here")
        await user.press("f")
        await user.see("web-6")
        assert user.app.desk.view.name == "server"
        assert not user.daemon.commands


async def test_following_goes_where_the_other_goes_until_a_key_of_ones_own(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await gather(user, three(BEN, ben={"screen": "fleet", "pool": "edge"}))
        await user.press("f")
        await user.see("You follow ben@pts/8")
        await user.see("› edge")
        user.daemon.push(three(BEN, ben={"screen": "servers", "server": "web-9"}))
        await user.see("› web-9")
        user.daemon.push(three(BEN, ben={"screen": "rollout", "rollout": "edge-r1", "server": "edge-5"}))
        await user.until(lambda: user.app.desk.view.name == "rollout", "the rollout")
        await user.see("edge-5")
        await user.press("P")
        await user.see("alone starts things")
        user.daemon.push(three(BEN, ben={"screen": "plan", "plan": {"pool": "web", "to": "2"}}))
        await user.see("nothing has happened yet")
        assert user.daemon.plans[-1] == {"pool": "web", "to": "2"}, "the very plan that ben looks at"
        user.daemon.push(three(BEN, ben={"screen": "fleet", "pool": "db"}))
        await user.see("› db")
        await user.press("2")
        await user.until(lambda: user.app.desk.view.name == "servers" and not user.app.desk.following, "on one's own again")
        user.daemon.push(three(BEN, ben={"screen": "images"}))
        user.daemon.push({"frame": "event", "seq": 200, "row": story.event(200, 0, "remark", "look here", actor="ben@pts/8")})
        await user.until(lambda: user.app.desk.model.tip == 200, "the frames were heard")
        assert user.app.desk.view.name == "servers"


async def test_f_goes_from_one_to_the_next_and_then_to_nobody(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("f")
        await user.see("has not said that this terminal is here")
        await gather(user, people(person(MARIA, "maria")))
        await user.press("f")
        await user.see("Nobody else is here to follow.")
        await gather(user, three(EVE))
        for words in ("You follow eve@pts/9", "You follow ben@pts/8", "You no longer follow ben@pts/8", "You follow eve@pts/9"):
            await user.press("f")
            await user.see(words)
        user.daemon.push(people(person(MARIA, "maria")))
        await user.see("Who you followed went away.")


async def test_the_colon_line_has_both(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await gather(user, three(BEN))
        await user.press("colon", *"follow", "space", "e", "tab", "enter")
        await user.see("You follow eve@pts/9")
        await user.press("colon", *"follow", "space", *"zoe", "enter")
        await user.see("There is no 'zoe' here to follow: ben@pts/8, eve@pts/9.")
        await user.press("colon", *"seat", "enter")
        assert (await user.sent())["command"] == "seat.take"


async def test_the_rollouts_tail_tells_of_the_seat(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await user.press("5")
        user.daemon.push({"frame": "event", "seq": 111, "row": story.event(111, 0, "seat-taken", "ben@pts/8 has the driver's seat: handed over", actor="maria@pts/7")})
        await user.see("ben@pts/8 has the driver's seat: handed over")


async def test_a_question_on_the_screen_stays_with_what_it_is_about(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await gather(user, three(BEN, ben={"screen": "servers", "server": "web-9"}))
        await user.press("f", "m")
        user.daemon.push(three(BEN, ben={"screen": "fleet", "pool": "db"}))
        await user.until(lambda: user.app.desk.model.people[BEN].place["screen"] == "fleet", "ben went on")
        assert user.app.desk.view.name == "servers"
        await user.press(*"hm", "enter")
        await user.until(lambda: user.app.desk.view.name == "fleet", "and now so does maria")


async def test_where_one_looks_is_told_only_if_somebody_is_there(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        await gather(user, people(person(MARIA, "maria")))
        await user.press("2", "j")
        assert not user.daemon.places
        await gather(user, three(BEN))
        await user.until(lambda: user.daemon.places, "the place is told")
        assert user.daemon.places[-1]["screen"] == "servers"
        await user.press("1", "j")
        await user.until(lambda: user.daemon.places[-1] == {"screen": "fleet", "pool": "db"}, "where it is now")
        await user.press("p")
        await user.until(lambda: user.daemon.places[-1].get("plan", {}).get("pool"), "the plan is told by what it was asked with")


async def test_hostile_names_of_people_are_words(tmp_path: Path) -> None:
    async with session(tmp_path, status={**story.status(), "rollouts": []}) as user:
        await gather(user, people(person(MARIA, "maria"), person(BEN, "ben\x1b[2J[bold]", "driver", place={"screen": "\x1b]0;x\x07", "server": 7, "plan": "no"})))
        await user.press("f")
        assert "\x1b" not in user.text
        await user.until(lambda: "[bold]*" in user.row("head"), "the name as it is")
