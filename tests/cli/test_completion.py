"""Completion as a person meets it: in real shells, with names of a daemon, and with names that would be commands."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.cli.completion import script
from tests.cli.running import DEADLINE, PROGRAM, call, environment, run
from tests.wire.office import machine_row, server_row
from tests.wire.running import Served

ROOT = Path(__file__).parents[2]
SHELLS = [pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")) for shell in ("bash", "zsh", "fish")]
ZSHRC = """
fpath=($ZDOTDIR $fpath)
autoload -Uz compinit && compinit -u -D
report() {
  compadd() { local -a got; builtin compadd -O got "$@"; (( $#got )) && print -rl -- $got >> $ZDOTDIR/found; builtin compadd "$@" }
  _main_complete
}
zle -C report list-choices report
zle-line-init() { BUFFER=$LINE; CURSOR=$#BUFFER; zle report; exit }
zle -N zle-line-init
"""
"""An interactive zsh that completes one line, writes what it would offer, and ends."""


def completes(shell: str, typed: str, folder: Path, served: Served | None) -> set[str]:
    """What the shell offers for the word under the cursor, at the end of `typed`."""
    program = folder / "bin" / "anew"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{PROGRAM}' \"$@\"\n")
    program.chmod(0o755)
    around = {**environment(served, LINE=typed), "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    if shell == "bash":
        words = typed.split(" ")
        asked = f"{script('bash')}\nCOMP_WORDS=({' '.join(words[:-1])} '{words[-1]}'); COMP_CWORD={len(words) - 1}; _shtab_anew 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "--norc"], input=asked, cwd=folder, env=around, capture_output=True, text=True, timeout=DEADLINE, check=True)
        return set(done.stdout.split())
    if shell == "fish":
        (folder / "anew.fish").write_text(script("fish"))
        done = subprocess.run(["fish", "--no-config", "-c", 'source anew.fish; complete -C "$LINE"'], cwd=folder, env=around, capture_output=True, text=True, timeout=DEADLINE, check=True)
        return {line.partition("\t")[0] for line in done.stdout.splitlines()}
    (folder / "_anew").write_text(script("zsh"))
    (folder / ".zshrc").write_text(ZSHRC)
    (folder / "found").write_text("")
    _in_a_terminal(["zsh", "-i"], {**around, "ZDOTDIR": str(folder)}, folder)
    return set((folder / "found").read_text().splitlines())


def _in_a_terminal(command: list[str], around: dict[str, str], folder: Path) -> None:
    """Run it to its end with a terminal that only listens."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, around)
    heard = select.poll()
    heard.register(master, select.POLLIN)
    try:
        while heard.poll(DEADLINE * 1000) and os.read(master, 65536):
            pass
    except OSError:
        pass  # what a terminal says when its last process has ended
    os.close(master)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("typed", "some"), [
    ("anew ro", {"rollout", "rollback", "root"}), ("anew rollout s", {"start", "show", "set"}), ("anew rollout start web --max-s", {"--max-surge"}),
    ("anew completion ", {"bash", "zsh", "fish"}), ("anew metrics --w", {"--write"}), ("anew root web ", {"read-only", "ephemeral", "writable"})])
def test_words_and_options(shell: str, typed: str, some: set[str], tmp_path: Path) -> None:
    assert some <= completes(shell, typed, tmp_path, None)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("typed", "some"), [
    ("anew status ", {"web"}), ("anew hold web-", {"web-1", "web-2", "web-3"}), ("anew rollout pause ", {"r-0123456789abcdef"}),
    ("anew image show ", {"web/1", "web/2"}), ("anew machine pin ", {"rack1"}), ("anew rollout start web --to ", {"1", "2"}), ("anew root web", {"web", "web-1"})])
def test_names_of_what_there_is(shell: str, typed: str, some: set[str], tmp_path: Path, served: Served) -> None:
    served.office.machine_rows = [machine_row("rack1")]
    assert some <= completes(shell, typed, tmp_path, served)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_name_that_would_be_a_command_is_not_offered_and_runs_nothing(shell: str, tmp_path: Path, served: Served) -> None:
    evil = ["$(touch owned)", "`touch owned`", "web-9;touch owned", "web-9\ntouch owned", "web-9 & touch owned", "--yes", "-rf", "../x\x1b[2J", "web-9'", 'web-9"', "~root", "*"]
    served.office.pool_servers = [server_row("web-1"), *(server_row(name) for name in evil)]
    assert completes(shell, "anew hold ", tmp_path, served) >= {"web-1"}
    assert not {word for word in completes(shell, "anew hold web-", tmp_path, served) if word.startswith("web-9")}
    assert not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize("kind", ["pools", "servers", "roots", "rollouts", "images", "versions", "machines", "plans"])
def test_without_a_daemon_there_are_no_names_none_is_started_and_nothing_is_said(kind: str, tmp_path: Path) -> None:
    ended = run(None, "completion", "--names", kind, ANEW_SOCKET=str(tmp_path / "s"))
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_a_daemon_that_answers_nonsense_gives_no_names(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.office.pool_more = {"servers": [{"name": None}, {}]}
    assert call("completion", "--names", "servers") == 0
    assert capsys.readouterr() == ("", "")


def test_it_wants_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("completion") == 2
    assert "name a shell: bash, zsh or fish" in capsys.readouterr().err
