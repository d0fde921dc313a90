"""Plans that wait for approval at the terminal: seen, proposed, approved by another person's key, and refused in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tui import story
from tests.tui.stage import Session, session


def waiting(left: int = 1, role: str = "operator", **more: Any) -> dict[str, Any]:
    """A fleet of one pool whose plan waits."""
    db = story.pool("db", [story.server("db", n, "1", 7800.0) for n in range(1, 4)], "1", proposal=story.proposal(left, **more))
    return {**story.status(), "pools": [db], "rollouts": [], "you": {"name": "maria", "role": role}}


def needing(user: Session, count: int = 2) -> None:
    user.daemon.plan = {**user.daemon.plan, "pool": "db", "needs": {"approvals": count, "approvals_left": count, "approved_by": [], "proposed_by": ""}}


async def test_the_pool_says_that_its_plan_waits_and_the_key_shows_it(tmp_path: Path) -> None:
    async with session(tmp_path, status=waiting()) as user:
        assert "approved 1/2" in user.text
        assert "plan 7f3a9c51 of ana: 1 of 2 approvals (eve); a shows it" in user.text
        user.daemon.proposals = [story.proposal()]
        needing(user)
        await user.press("a")
        await user.see("1 approval of another person: a, or anew plan approve 7f3a9c51d0")
        assert user.daemon.plans == [{"pool": "db", "to": "2"}], "drawn from what was asked for"
        assert "1 of 2 approvals (eve), proposed by ana" in user.text
        assert user.daemon.commands == []


async def test_the_same_key_on_the_plan_approves_its_hash_once_the_number_is_typed(tmp_path: Path) -> None:
    async with session(tmp_path, status=waiting(role="approver")) as user:
        user.daemon.proposals = [story.proposal()]
        needing(user)
        await user.press("a")
        await user.see("nothing has happened yet")
        await user.press("a")
        await user.see("Approve ana's plan, 3 servers of db to 2? type 3:")
        await user.answer("y", "enter")
        assert user.daemon.commands == []
        await user.press("a")
        await user.answer("3", "enter")
        sent = await user.sent()
        assert (sent["command"], sent["pool"], sent["plan_hash"]) == ("plan.approve", "db", "7f3a9c51d0")
        assert not {"uid", "by", "author"} & sent.keys()


async def test_the_author_is_told_that_another_person_approves_before_anything_is_typed(tmp_path: Path) -> None:
    status = {**waiting(), "you": {"name": "ana", "role": "operator"}}
    async with session(tmp_path, status=status) as user:
        user.daemon.proposals = [story.proposal()]
        needing(user)
        await user.press("a")
        await user.see("1 approval of another person, by anew plan approve 7f3a9c51d0")
        await user.press("a")
        await user.see("You proposed this plan; another person approves it")
        assert user.daemon.commands == []


async def test_who_is_neither_approver_nor_operator_is_told_so(tmp_path: Path) -> None:
    async with session(tmp_path, status=waiting(role="observer")) as user:
        await user.press("a")
        await user.see("You are an observer here")
    async with session(tmp_path) as user:
        await user.press("a")
        await user.see("No plan of web waits for approval.")


async def test_a_start_proposes_and_says_so_before_and_after(tmp_path: Path) -> None:
    async with session(tmp_path, status={**waiting(), "pools": [{**waiting()["pools"][0], "proposal": None}]}) as user:
        needing(user, 1)
        user.daemon.answer = {"message": "plan 7f3a9c51d0 is proposed, nothing is started", "proposed": "7f3a9c51d0"}
        await user.press("p")
        await user.see("enter, then type 3 to propose, nothing is started")
        await user.see("by nobody yet: 1 approval of other people needed")
        await user.arm()
        await user.press("enter")
        await user.see("Propose: replace 3 servers? type 3:")
        await user.answer("3", "enter")
        assert (await user.sent())["command"] == "rollout.start"
        await user.see("is proposed, nothing is started")
        assert "plan 7f3a9c51" in user.text, "still on the plan"


async def test_enter_on_a_plan_that_waits_says_what_for_and_starts_it_once_it_is_approved(tmp_path: Path) -> None:
    async with session(tmp_path, status=waiting()) as user:
        needing(user)
        await user.press("p")
        await user.arm()
        await user.press("enter")
        await user.see("It waits for 1 approval of other people")
        assert user.daemon.commands == []
        row = {**waiting(0)["pools"][0]}
        row.pop("servers")
        user.daemon.push({"frame": "pool", "row": row})
        await user.see("2 of 2 approvals (eve, bob), proposed by ana")
        await user.press("enter")
        await user.see("Replace 3 servers? type 3:")
        await user.answer("3", "enter")
        assert (await user.sent())["command"] == "rollout.start"


async def test_a_plan_that_the_fleet_has_left_behind_is_shown_with_the_difference(tmp_path: Path) -> None:
    async with session(tmp_path, status=waiting(hash="ffff000011112222")) as user:
        user.daemon.proposals = [story.proposal(hash="ffff000011112222", difference=["db-2: was replace (6d), now hold (held: x)"])]
        await user.press("a")
        await user.see("db-2: was replace (6d), now hold (held: x)")
        await user.press("a")
        await user.settle()
        assert user.daemon.commands == [], "another plan than the one that waits is never approved by this key"


async def test_a_plan_that_nobody_can_come_and_approve_says_so(tmp_path: Path) -> None:
    async with session(tmp_path, (80, 24), status=waiting()) as user:
        needing(user)
        user.daemon.plan["needs"]["closed"] = "it cannot get 2 approvals: only root can reach the daemon, whose socket /run/user/0/anew/anew.sock is closed to others"
        await user.press("p")
        await user.see("but       it cannot get 2 approvals: only root can reach the daemon")
        await user.see("is closed to others")


async def test_a_rollout_names_who_approved_it(tmp_path: Path) -> None:
    status = story.status()
    status["rollouts"][0]["approvals"] = ["eve@pts/2"]
    async with session(tmp_path, (132, 40), status=status) as user:
        await user.press("5")
        await user.see("by maria, approved by eve")


async def test_the_command_line_of_the_ui_does_the_same(tmp_path: Path) -> None:
    async with session(tmp_path, status=waiting()) as user:
        user.daemon.proposals = [story.proposal()]
        needing(user)
        await user.press("colon", *"approve", "space", *"db", "enter")
        await user.see("nothing has happened yet")
        await user.press("colon", *"approve", "enter")
        await user.see("type 3:")


async def test_the_footer_names_the_key_that_approves_where_a_plan_waits(tmp_path: Path) -> None:
    async with session(tmp_path, status=waiting(role="approver")) as user:
        user.daemon.proposals = [story.proposal()]
        needing(user)
        assert "a approve" in user.text.splitlines()[-1]
        await user.press("a")
        await user.see("nothing has happened yet")
        assert "a approve" in user.text.splitlines()[-1]
        assert "enter start" not in user.text.splitlines()[-1]
    async with session(tmp_path) as user:
        assert "a approve" not in user.text


async def test_a_plan_on_the_screen_says_when_the_pool_has_changed_since(tmp_path: Path) -> None:
    async with session(tmp_path, status=waiting(0)) as user:
        needing(user)
        await user.press("p")
        await user.see("2 of 2 approvals (eve, bob)")
        await user.arm()
        row = {**waiting(0)["pools"][0], "generation": 43}
        row.pop("servers")
        user.daemon.plan = {**user.daemon.plan, "generation": 43}
        user.daemon.push({"frame": "pool", "row": row})
        await user.settle()
        assert "has changed since" not in user.text, "another generation, and the same plan"
        was = user.daemon.plan
        user.daemon.plan = {**was, "hash": "0badc0de77", "generation": 44, "difference": ["db-2: was replace (6d), now hold (held: x)"]}
        user.daemon.push({"frame": "pool", "row": {**row, "generation": 44}})
        await user.see("db-2: was replace (6d), now hold (held: x)")
        assert "the fleet changed since; p plans anew:" in user.text
        assert user.daemon.plans[-1] == {"pool": "db", "looked_at": was["hash"]}
        assert f"plan {was['hash'][:8]}" in user.text, "the plan that was looked at stays"
        await user.press("enter")
        await user.see("The pool has changed since this plan was drawn")
        assert user.daemon.commands == []
        await user.press("p")
        await user.see("plan 0badc0de")
        assert "has changed since" not in user.text
        assert user.daemon.plans[-1] == {"pool": "db"}
