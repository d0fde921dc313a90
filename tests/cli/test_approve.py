"""`anew plan list · approve · withdraw`, and a start that only proposes."""

from __future__ import annotations

import json

import pytest

from fleet.cli.tree import typed_words
from tests.cli.running import at_terminal, call, run
from tests.wire.office import HASH, proposal_row
from tests.wire.running import Served

NEEDS = {"approvals": 2, "approvals_left": 2, "approved_by": [], "proposed_by": "", "typed_number": True}


@pytest.mark.parametrize(("typed", "words"), [
    ("plan web", ("plan", "web")), ("plan list", ("plan", "list")), ("--json plan --color never list", ("plan", "list")),
    ("plan --fleet=x approve web", ("plan", "approve")), ("plan --to list web", ("plan", "")), ("plan", ("plan", "")), ("", ("", "")),
    ("--socket s plan --socket t approve", ("plan", "approve")), ("status --json", ("status", "")),
])
def test_the_word_after_the_command_is_found_among_options(typed: str, words: tuple[str, str]) -> None:
    assert typed_words(typed.split()) == words


def test_a_plan_of_a_pool_is_still_asked_for_as_ever(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", "web", "--to", "2") == 0
    assert call("plan", "--to", "2", "web") == 0
    assert "plan 7f3a9c" in capsys.readouterr().out
    assert call("plan") == 2
    assert call("plan", "aprove", "web") == 2


def test_a_start_that_needs_approvals_proposes_says_how_it_goes_on_and_ends_with_4(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.office.plan_answer["needs"] = NEEDS
    assert call("rollout", "start", "web", "--yes", "--wait") == 4
    assert "is proposed, nothing is started" in capsys.readouterr().out
    assert call("rollout", "start", "web", "--yes", "--json") == 4
    assert json.loads(capsys.readouterr().out)["proposed"] == HASH
    assert [command["command"] for command in served.office.commands] == ["rollout.start"] * 2


def test_a_proposal_is_asked_about_with_the_plan_before_it(served: Served) -> None:
    served.office.plan_answer["needs"] = NEEDS
    code, shown = at_terminal(served, "n\n", "rollout", "start", "web")
    assert (code, served.office.commands) == (5, [])
    assert "needs     2 approvals of others: a start proposes it, and starts nothing" in shown
    code, shown = at_terminal(served, "y\n", "rollout", "start", "web")
    assert (code, len(served.office.commands)) == (4, 1)


def test_an_approved_plan_has_its_number_typed_as_any(served: Served) -> None:
    served.office.plan_answer["needs"] = NEEDS | {"approvals_left": 0, "approved_by": ["eve@pts/2", "bob@pts/3"], "proposed_by": "ana@pts/1"}
    code, shown = at_terminal(served, "3\n", "rollout", "start", "web")
    assert code == 0
    assert "approved  2 of 2 (eve@pts/2, bob@pts/3), proposed by ana@pts/1" in shown


def test_a_plan_that_waits_says_who_approved_it_and_what_is_to_be_typed(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.office.plan_answer["needs"] = NEEDS | {"approvals_left": 1, "approved_by": ["eve@pts/2"], "proposed_by": "ana@pts/1"}
    assert call("plan", "web") == 0
    said = capsys.readouterr().out
    assert "approved  1 of 2 (eve@pts/2), proposed by ana@pts/1\nneeds     `anew plan approve 7f3a9c000000` by somebody else\n" in said
    assert max(map(len, said.splitlines())) <= 80


def test_the_status_shows_the_plan_that_waits_and_the_command(served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = served.office.status
    monkeypatch.setattr(served.office, "status", lambda caller: {**(frame := dict(plain(caller))), "rollouts": [], "pools": [
        {**frame["pools"][0], "rollout": None, "proposal": proposal_row()}]})
    assert call("status") == 0
    said = capsys.readouterr().out
    assert "plan 7f3a9c00 approved 1/2" in said
    assert "web: plan 7f3a9c000000 of ana@pts/1, 3 servers to 2, waits for 1 approval of other people until 2026-11-22 20:30:00: " \
           "`anew plan approve 7f3a9c000000`" in said


def test_plans_that_wait_are_listed_with_what_they_wait_for(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", "list") == 0
    assert capsys.readouterr().out == "no plan waits for approval\n"
    served.office.proposal_rows = [proposal_row(), proposal_row(2, pool="db", hash="ab" * 32, difference=["db-2: was replace (6d), now hold (held: x)"])]
    assert call("plan", "list") == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split() == ["plan", "pool", "image", "servers", "by", "approvals", "until", "note"]
    assert second.split() == ["7f3a9c000000", "web", "1→2", "3", "ana@pts/1", "1", "of", "2", "(eve@pts/2)", "2026-11-22", "20:30:00"]
    assert "0 of 2" in third
    assert call("plan", "list", "--json") == 0
    assert [row["left"] for row in json.loads(capsys.readouterr().out)["proposals"]] == [1, 2]


@pytest.mark.parametrize("word", ["web", HASH, HASH[:6]])
def test_approving_shows_the_plan_asks_for_the_number_and_names_the_hash(served: Served, word: str) -> None:
    served.office.proposal_rows = [proposal_row()]
    code, shown = at_terminal(served, "2\n", "plan", "approve", word)
    assert (code, served.office.commands) == (5, [])
    code, shown = at_terminal(served, "3\n", "plan", "approve", word)
    assert code == 0, shown
    assert "proposed by ana@pts/1" in shown and "web-1" in shown and "Approve that 3 servers of web go to 2?" in shown
    (command,) = served.office.commands
    assert (command["command"], command["pool"], command["plan_hash"]) == ("plan.approve", "web", HASH)


def test_a_plan_that_is_stale_is_not_approved_and_the_difference_is_shown(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.office.proposal_rows = [proposal_row(hash="ab" * 32, difference=["web-2: was replace (6d), now hold (held: x)"])]
    assert call("plan", "approve", "web", "--yes") == 5
    said = capsys.readouterr().err
    assert "nothing was approved" in said and "web-2: was replace (6d), now hold (held: x)" in said
    assert not served.office.commands
    assert call("rollout", "start", "web", "--plan", "ab" * 6, "--yes") == 5
    assert "web-2: was replace (6d), now hold (held: x)" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["0123456789ab", "db", HASH[:5]])
@pytest.mark.parametrize("verb", ["approve", "withdraw"])
def test_a_foreign_hash_gets_a_sentence_with_what_waits(served: Served, capsys: pytest.CaptureFixture[str], verb: str, word: str) -> None:
    served.office.proposal_rows = [proposal_row()]
    assert call("plan", verb, word) == 2
    assert "no plan of this hash or pool waits for approval (7f3a9c000000 of web)" in capsys.readouterr().err
    assert not served.office.commands


def test_withdrawing_says_why(served: Served) -> None:
    served.office.proposal_rows = [proposal_row()]
    assert call("plan", "withdraw", "web", "--why", "not today") == 0
    assert [(one["command"], one["plan_hash"], one["why"]) for one in served.office.commands] == [("plan.withdraw", HASH, "not today")]


def test_nothing_is_approved_without_a_terminal_or_a_yes(served: Served) -> None:
    served.office.proposal_rows = [proposal_row()]
    ended = run(served, "plan", "approve", "web")
    assert (ended.code, served.office.commands) == (2, [])
    assert "--yes answers it" in ended.err
