"""`anew completion SHELL`: made from the same table as the parser, so that it knows every option; and the names that it asks for later.

Rule: a shell evaluates what completion gives it (bash expands the words of `compgen -W`). So a name with any character that means something
to a shell is not offered, whoever made it up, and a daemon that does not answer soon is not waited for.
"""

from __future__ import annotations

import re

from fleet.core.errors import AnewError, Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from fleet.api.client import Client
    from fleet.cli.context import Context

PATIENCE = 2.0
"""Seconds that a shell waits for names."""
MOST = 2000
HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,127}")
_FILES = {"--fleet", "--socket", "file", "what", "--write"}
_FOLDERS = {"path", "--state"}
_KIND_OF = {
    "pool": "pools", "of_pool": "pools", "server": "servers", "of_server": "servers", "rollout": "rollouts", "of_rollout": "rollouts",
    "image": "images", "a": "images", "b": "images", "machine": "machines", "machines": "machines", "plan": "plans", "to": "versions",
}
"""What an argument is the name of, by where the parser puts it."""


def completion(context: Context) -> None:
    """Print the completion script of a shell, or the names that such a script asks for."""
    options = context.options
    if options.names:
        print("".join(f"{name}\n" for name in _names(context.running(), options.names)), end="")
        return
    if not options.shell:
        raise Invalid("name a shell: bash, zsh or fish", code="usage")
    print(script(options.shell))


def script(shell: str) -> str:
    """The completion script: bash, zsh or fish."""
    import shtab

    from fleet.cli.tree import build

    parser = build()
    for action in _actions(parser):
        names = {*action.option_strings, action.dest}
        if names & _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif names & _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif kind := "roots" if action.metavar == "POOL|SERVER" else _KIND_OF.get(action.dest):
            action.complete = {"bash": f"_anew_{kind}", "zsh": f"_anew_{kind}", "fish": f"(anew completion --names {kind} 2>/dev/null)"}  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell, preamble=_functions(shell)))


_BASH = '_anew_{kind}() {{ compgen -W "$(anew completion --names {kind} 2>/dev/null)" -- "$1"; }}'
_ZSH = '_anew_{kind}() {{ local -a found; found=(${{(f)"$(anew completion --names {kind} 2>/dev/null)"}}); compadd -a found }}'


def _functions(shell: str) -> str:
    """What the script calls for names; fish calls anew itself."""
    from fleet.cli.tree import KINDS

    text = {"bash": _BASH, "zsh": _ZSH}.get(shell, "")
    return "\n".join(text.format(kind=kind) for kind in KINDS if text)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                yield from _actions(inner)


def _names(client: Client, kind: str) -> list[str]:
    """Names of this kind, as the daemon knows them now; none without a daemon. Starts none, and says nothing: a person is typing."""
    client.patience = PATIENCE
    try:
        found = [str(name) for name in _ask(client, kind)]
    except (AnewError, LookupError, TypeError):
        return []
    return list(dict.fromkeys(name for name in found if HARMLESS.fullmatch(name)))[:MOST]


def _ask(client: Client, kind: str) -> list[Any]:
    if kind in ("images", "versions"):
        images = client.get("/v1/images")["images"]
        return [f"{row['family']}/{row['version']}" if kind == "images" else row["version"] for row in images]
    if kind == "machines":
        return [row["name"] for row in client.get("/v1/machines")["machines"]]
    if kind == "rollouts":
        rows = client.get("/v1/rollouts")["rollouts"]
        return [row["id"] for row in rows if not row["ended_at"]] + [row["id"] for row in rows if row["ended_at"]]
    if kind == "plans":
        return [word for row in client.get("/v1/proposals")["proposals"] for word in (row["pool"], row["hash"][:12])]
    pools = client.get("/v1/status")["pools"]
    servers = [server["name"] for pool in pools for server in pool["servers"]]
    return ([pool["name"] for pool in pools] if kind != "servers" else []) + (servers if kind != "pools" else [])


__all__ = ["completion", "script"]
