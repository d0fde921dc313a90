"""A plan that somebody looked at and the fleet has left behind: refused with the difference, by the command line of a real daemon."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.engine.daemons import FLEET, ROOT, Home, until


def anew(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ANEW_SOCKET": str(home.folder / "s"), "ANEW_FLEET": str(home.fleet), "TERM": "dumb", "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", "import sys; from fleet.cli.main import main; sys.exit(main())", *arguments], cwd=ROOT, env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


def looked_at(home: Home, *request: str) -> str:
    """The hash as `anew plan` prints it, shortened."""
    shown = until(lambda: anew(home, "plan", "web", *request), "the pool is planned for")
    assert shown.stdout.startswith("plan "), shown.stderr
    return str(shown.stdout.split()[1])


def hold(home: Home) -> None:
    assert anew(home, "hold", "web-2", "--why", "the disk is looked at").returncode == 0


def publish(home: Home) -> None:
    home.fleet.write_text(FLEET.replace('"3"]', '"3", "4"]'), encoding="utf-8")
    assert anew(home, "reload").returncode == 0


def widen(home: Home) -> None:
    home.fleet.write_text(FLEET.replace("max_surge = 1", "max_surge = 2"), encoding="utf-8")
    assert anew(home, "reload").returncode == 0


def restart(home: Home) -> None:
    hold(home)
    home.kill()
    home.start()
    until(lambda: anew(home, "plan", "web").returncode == 0, "the pool is observed again")


@pytest.mark.parametrize(("change", "words"), [
    (hold, "web-2: was birth (absent), now hold (held: the disk is looked at)"),
    (publish, "the target was web/3, now web/4"),
    (widen, "max_surge was 1, now 2"),
    (restart, "is not known here any more, so what changed since cannot be told"),
], ids=["another fleet", "another image", "another budget", "another daemon"])
def test_a_hash_that_held_and_holds_no_longer_is_refused_with_the_difference(home: Home, change: object, words: str) -> None:
    wanted = looked_at(home)
    assert callable(change)
    change(home)
    stale = anew(home, "rollout", "start", "web", "--plan", wanted, "--yes")
    assert stale.returncode == 5, stale.stdout
    assert f"--plan {wanted}: the plan is now" in stale.stderr and words in stale.stderr, stale.stderr
    assert not home.client.get("/v1/rollouts")["rollouts"]


def test_the_hash_of_another_request_names_what_is_asked_otherwise(home: Home) -> None:
    wanted = looked_at(home, "--to", "2", "--min-healthy-time", "2s")
    stale = anew(home, "rollout", "start", "web", "--plan", wanted, "--yes")
    assert stale.returncode == 5
    for words in ("the target was web/2, now web/3", "min_healthy_time was 2s, now 300ms"):
        assert words in stale.stderr, stale.stderr
    assert anew(home, "rollout", "start", "web", "--to", "2", "--min-healthy-time", "2s", "--plan", wanted, "--yes").returncode == 0


def test_a_plan_says_once_how_long_it_takes(home: Home) -> None:
    """Two figures of one estimate, each rounded in its own way, were two estimates to a reader."""
    shown = until(lambda: anew(home, "plan", "web").stdout, "the pool is planned for")
    assert shown.count("about ") == 1, shown
