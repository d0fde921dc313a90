"""Approvals where nobody else can reach the daemon: a socket for one user, as a daemon has that a command started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.api.closed import closed_words
from tests.engine.daemons import FLEET, SHARED, Home, shared, until
from tests.engine.test_stale_plans import anew

GUARDED = FLEET.replace('mode = "manual"', 'mode = "manual"\napprovals = 2') + '[access]\noperators = ["group:anew"]\n'
WORDS = "it cannot get 2 approvals: only "


def test_a_plan_says_that_its_approvals_cannot_be_given_here(tmp_path: Path) -> None:
    home = Home(tmp_path, GUARDED)
    try:
        home.start()
        shown = until(lambda: anew(home, "plan", "web").stdout, "the pool is planned for")
        words = f"{home.folder / 's'} is closed to others; to let them in, stop it (`anew daemon stop`) and run it for a group (`anew daemon run --group GROUP`)"
        assert WORDS in " ".join(shown.split()) and words in " ".join(shown.split()), shown
        proposed = anew(home, "rollout", "start", "web", "--yes")
        assert proposed.returncode == 4 and f"\nBut {WORDS}" in proposed.stdout and words in proposed.stdout, proposed.stdout + proposed.stderr
    finally:
        home.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket to a group it is not in")
def test_where_a_group_may_connect_nothing_is_said() -> None:
    with shared(Home, GUARDED) as home:
        shown = until(lambda: anew(home, "plan", "web").stdout, "the pool is planned for")
        assert SHARED and "cannot get" not in shown
        proposed = anew(home, "rollout", "start", "web", "--yes")
        assert proposed.returncode == 4 and "closed to others" not in proposed.stdout


def test_a_pool_without_approvals_is_told_nothing(home: Home) -> None:
    shown = until(lambda: anew(home, "plan", "web").stdout, "the pool is planned for")
    assert "closed to others" not in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's socket")
def test_of_a_users_own_daemon_root_can_give_one_approval(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch(mode=0o600)
    os.chown(path, 1, 1)
    assert closed_words(str(path), 1).startswith(f"only root can approve what daemon proposes: the daemon's socket {path} is closed to others")
    assert closed_words(str(path), 2).startswith("it cannot get 2 approvals: only daemon and root can reach the daemon")
    assert closed_words(str(path), 0) == ""
