"""`anew completion SHELL`: made from the same table as the parser, so that it knows every option."""

from __future__ import annotations

import shtab

from fleet.cli.tree import build

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from fleet.cli.context import Context

_FILES = {"--fleet", "--socket", "file", "what"}
_FOLDERS = {"path", "--state"}


def completion(context: Context) -> None:
    """Print the completion script of a shell."""
    print(script(context.options.shell))


def script(shell: str) -> str:
    """The completion script: bash, zsh or fish."""
    parser = build()
    for action in _actions(parser):
        names = {*action.option_strings, action.dest}
        if names & _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif names & _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                yield from _actions(inner)
