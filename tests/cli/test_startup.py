"""Start-up is felt: what must not be imported, and that help and completion cover every command."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fleet.cli.births import first_version
from fleet.cli.completion import script
from fleet.cli.text import age, fit, local, printable, size, width
from fleet.cli.tree import COMMANDS, Word
from tests.cli.running import DEADLINE, call, environment
from tests.wire.running import Served

HEAVY = ("textual", "rich", "asyncssh", "libvirt", "aiohttp", "asyncio", "pydantic", "typing", "dataclasses", "http.client",
         "importlib.metadata", "subprocess", "ssl", "email", "shutil", "logging")


def paths() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def walk(words: tuple[Word, ...], before: tuple[str, ...]) -> None:
        for word in words:
            found.append((*before, word.name))
            walk(word.words, (*before, word.name))

    walk(COMMANDS, ())
    return found


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["status", "--json"], ["rollout", "list"], ["journal", "show"]])
def test_quick_commands_import_nothing_heavy(served: Served, arguments: list[str]) -> None:
    program = ("import sys\nfrom fleet.cli.main import main\n"
               "try: code = main()\nexcept SystemExit as left: code = left.code\n"
               f"heavy = sorted(name for name in {HEAVY!r} if name in sys.modules)\n"
               "sys.exit(f'imported {heavy}' if heavy else code)")
    done = subprocess.run([sys.executable, "-c", program, *arguments], env=environment(served), capture_output=True, text=True,
                          timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [(), *paths()], ids=lambda path: " ".join(path) or "anew")
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], path: tuple[str, ...]) -> None:
    assert call(*path, "--help") == 0
    assert "usage: anew" in capsys.readouterr().out


def test_every_command_leads_somewhere() -> None:
    def walk(words: tuple[Word, ...]) -> None:
        for word in words:
            if word.run:
                module, _, function = word.run.partition(":")
                assert callable(getattr(__import__(f"fleet.cli.{module}", fromlist=[function]), function))
            walk(word.words)

    walk(COMMANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_option(shell: str) -> None:
    text = script(shell)
    for path in paths():
        assert path[-1] in text
    for option in ("min-healthy-time", "no-start", "older-than"):
        assert option in text


def test_the_bash_completion_parses_and_completes() -> None:
    text = script("bash")
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=DEADLINE)
    asked = text + '\nCOMP_WORDS=(anew rollout st); COMP_CWORD=2; _shtab_anew 2>/dev/null; echo "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash"], input=asked, capture_output=True, text=True, check=True, timeout=DEADLINE)
    assert done.stdout.split() == ["start"]


@pytest.mark.parametrize(("seconds", "said"), [(None, "-"), (0, "0s"), (-3, "0s"), (59.9, "59s"), (60, "1m"), (311, "5m 11s"),
                                               (3600, "1h"), (7805, "2h 10m"), (532800, "6d 4h"), (86400 * 400, "400d"), (86460, "1d")])
def test_ages(seconds: float | None, said: str) -> None:
    assert age(seconds) == said


def test_sizes_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    assert [size(n) for n in (None, 0, 1023, 1024, 3678208, 5 << 30)] == ["-", "0 B", "1023 B", "1.0 KiB", "3.5 MiB", "5.0 GiB"]
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    assert local("2026-11-21T21:00:00Z") == "2026-11-21 17:30:00"
    assert local("2024-02-29T23:59:59.123Z") == "2024-02-29 20:29:59"
    monkeypatch.undo()
    time.tzset()
    for spite in ("", "yesterday", "2026-13-99T99:99:99Z", "\x1b[31m", "9999999-01-01"):
        assert local(spite).isprintable()


def test_printable_and_fit() -> None:
    assert printable("a\x1b[31mb\r\nc\u202e\u200bd\x9be\x7f") == "a[31mb  cde"
    assert printable(None) == ""
    assert printable("x" * 1000) == "x" * 399 + "…"
    assert width("日本") == 4
    assert width(fit("日本語日本語", 5)) <= 5
    assert fit("abc", 2) == "a…"


def test_the_first_version_counts_numbers_as_numbers() -> None:
    def images(*versions: str) -> list[dict[str, object]]:
        return [{"family": "web", "version": version} for version in versions]

    assert first_version(images("10", "2", "3-panics"), "web") == "2"
    assert first_version(images("1.10", "1.9"), "web") == "1.9"
